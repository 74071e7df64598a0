"""The hot tables, their views, and what the database itself refuses.

Every primary, unique and foreign key of a hot table starts with the shard, so that the same
schema can be distributed over several PostgreSQL nodes by that column.
"""

from django.db import migrations

TABLES = """
CREATE SEQUENCE ledger_account_number;
CREATE SEQUENCE ledger_lot_number;

CREATE TABLE ledger_account (
    shard smallint NOT NULL,
    id bigint NOT NULL,
    book_id bigint NOT NULL,
    code varchar(100) NOT NULL,
    name varchar(200) NOT NULL,
    rate_card_id bigint NOT NULL,
    default_cost_centre varchar(100) NOT NULL,
    time_zone varchar(64) NOT NULL DEFAULT 'UTC',
    currency varchar(3) NOT NULL DEFAULT '',
    opened_at timestamptz NOT NULL,
    debt_lot_id bigint NOT NULL,
    PRIMARY KEY (shard, id),
    CONSTRAINT account_code_once UNIQUE (shard, book_id, code),
    CONSTRAINT account_lives_in_its_shard CHECK (shard = (id & 255) AND shard BETWEEN 0 AND 255),
    CONSTRAINT account_has_a_code CHECK (code <> '')
);

-- Written by every debit: a row as short as can be, on a page with room for its next version (and
-- it grows by half when a lot is first in use). What refers to an account refers to the row above,
-- so that nothing is checked when this one changes.
CREATE TABLE ledger_standing (
    account_id bigint NOT NULL,
    runs_count bigint NOT NULL DEFAULT 0,
    held_microtokens bigint NOT NULL DEFAULT 0,
    in_use_lot_id bigint,
    in_use_out_microtokens bigint,
    in_use_granted_microtokens bigint,
    in_use_price_micros bigint,
    in_use_from_at timestamptz,
    in_use_until_at timestamptz,
    mark bigint NOT NULL DEFAULT 0,
    overdue_since timestamptz,
    open_holds_count integer NOT NULL DEFAULT 0,
    limits_count integer NOT NULL DEFAULT 0,
    shard smallint NOT NULL,
    PRIMARY KEY (shard, account_id),
    CONSTRAINT standing_lot_in_use_whole CHECK (
        num_nonnulls(in_use_lot_id, in_use_out_microtokens, in_use_granted_microtokens,
                     in_use_price_micros, in_use_from_at, in_use_until_at) IN (0, 6)
    ),
    CONSTRAINT standing_holds_in_range CHECK (
        held_microtokens >= 0 AND open_holds_count >= 0 AND limits_count >= 0
    )
) WITH (fillfactor = 30);

CREATE TABLE ledger_lot (
    shard smallint NOT NULL,
    id bigint NOT NULL,
    account_id bigint NOT NULL,
    kind varchar(10) NOT NULL,
    source varchar(20) NOT NULL,
    priority smallint NOT NULL,
    issued_at timestamptz NOT NULL,
    effective_at timestamptz NOT NULL,
    expires_at timestamptz,
    closes_at timestamptz,
    granted_microtokens bigint NOT NULL,
    price_micros bigint NOT NULL,
    currency varchar(3) NOT NULL,
    tiers jsonb,
    rollover_microtokens_max bigint NOT NULL DEFAULT 0,
    rollover_expires_at timestamptz,
    rolled_from_lot_id bigint,
    out_microtokens bigint NOT NULL DEFAULT 0,
    open boolean NOT NULL DEFAULT true,
    PRIMARY KEY (shard, id),
    FOREIGN KEY (shard, account_id) REFERENCES ledger_account (shard, id) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (shard, rolled_from_lot_id) REFERENCES ledger_lot (shard, id),
    CONSTRAINT lot_lives_in_its_shard CHECK (shard = (id & 255)),
    CONSTRAINT lot_kind CHECK (kind IN ('prepaid', 'overage', 'debt')),
    CONSTRAINT lot_granted_in_range CHECK (
        granted_microtokens > 0
        AND (kind <> 'prepaid' OR granted_microtokens <= 1000000000000000)
        AND granted_microtokens <= 4000000000000000000
    ),
    CONSTRAINT lot_out_in_range CHECK (out_microtokens BETWEEN 0 AND granted_microtokens),
    CONSTRAINT lot_open_while_something_is_left CHECK (NOT open OR out_microtokens < granted_microtokens),
    CONSTRAINT lot_price_in_range CHECK (price_micros BETWEEN 0 AND 1000000000000000),
    CONSTRAINT lot_price_has_a_currency CHECK (price_micros = 0 OR length(currency) = 3),
    CONSTRAINT lot_only_prepaid_has_a_price CHECK (kind = 'prepaid' OR price_micros = 0),
    CONSTRAINT lot_only_overage_has_tiers CHECK ((kind = 'overage') = (tiers IS NOT NULL)),
    CONSTRAINT lot_tiers_name_their_model CHECK (
        tiers IS NULL OR coalesce(tiers ->> 'model' IN ('graduated', 'volume', 'package'), false)
    ),
    CONSTRAINT lot_expires_after_it_begins CHECK (expires_at > effective_at),
    CONSTRAINT lot_closes_after_it_expires CHECK (
        (expires_at IS NULL) = (closes_at IS NULL) AND closes_at >= expires_at
    ),
    CONSTRAINT lot_rollover_in_range CHECK (rollover_microtokens_max BETWEEN 0 AND granted_microtokens),
    -- A comparison with null is not false: a CHECK would let it pass.
    CONSTRAINT lot_rollover_has_an_expiry CHECK (
        rollover_microtokens_max = 0
        OR (kind = 'prepaid' AND coalesce(rollover_expires_at > expires_at, false))
    )
) WITH (fillfactor = 80);
-- A boolean that flips once keeps nearly every update on its page; an index on what is left would not.
CREATE INDEX lot_open ON ledger_lot (shard, account_id) WHERE open;
CREATE INDEX lot_account ON ledger_lot (shard, account_id, id);
CREATE INDEX lot_closing ON ledger_lot (closes_at) WHERE open;

CREATE TABLE ledger_operation (
    shard smallint NOT NULL,
    account_id bigint NOT NULL,
    key varchar(200) NOT NULL,
    kind varchar(20) NOT NULL,
    digest uuid NOT NULL,
    lot_id bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (shard, account_id, key),
    FOREIGN KEY (shard, lot_id) REFERENCES ledger_lot (shard, id),
    CONSTRAINT operation_kind CHECK (kind IN ('grant', 'open_overage', 'close', 'reverse', 'end'))
);

-- No foreign keys on entries and runs: a check for each row would cost more than the row.
-- `invariants` prove what they would say.
CREATE TABLE ledger_entry (
    shard smallint NOT NULL,
    id bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,
    account_id bigint NOT NULL,
    lot_id bigint NOT NULL,
    kind varchar(10) NOT NULL,
    out_before_microtokens bigint NOT NULL,
    microtokens bigint NOT NULL,
    run_key uuid,
    part bigint,
    operation_key varchar(200),
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (shard, id),
    CONSTRAINT entry_kind CHECK (
        kind IN ('grant', 'debit', 'expire', 'roll_over', 'repay', 'repaid', 'return', 'charge',
                 'freeze', 'thaw', 'revoke', 'restore', 'owe', 'forgive')
    ),
    CONSTRAINT entry_moves_something CHECK (microtokens > 0 AND out_before_microtokens >= 0),
    -- A run's debit, a correction of a run, or an operation on the account.
    CONSTRAINT entry_has_its_cause CHECK (
        (run_key IS NULL) = (part IS NULL)
        AND (run_key IS NOT NULL) = (kind IN ('debit', 'return', 'charge'))
        AND (operation_key IS NOT NULL) = (kind <> 'debit')
    )
);
CREATE INDEX entry_lot ON ledger_entry (shard, lot_id, out_before_microtokens);
CREATE INDEX entry_run ON ledger_entry (shard, account_id, run_key) WHERE run_key IS NOT NULL;

CREATE TABLE ledger_batch (
    id uuid PRIMARY KEY,
    book_id bigint NOT NULL,
    received_at timestamptz NOT NULL,
    runs_count integer NOT NULL CHECK (runs_count BETWEEN 1 AND 10000),
    shards bytea NOT NULL
);

CREATE TABLE ledger_submission (
    shard smallint NOT NULL,
    id bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,
    batch_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    runs_count integer NOT NULL CHECK (runs_count > 0),
    details bytea NOT NULL,
    PRIMARY KEY (shard, id)
);
CREATE INDEX submission_batch ON ledger_submission (shard, batch_id);

CREATE TABLE ledger_intake (
    shard smallint NOT NULL,
    id bigint NOT NULL,
    runs_count integer NOT NULL CHECK (runs_count > 0),
    runs bytea NOT NULL,
    PRIMARY KEY (shard, id)  -- its submission's: one statement writes both, see ledger.invariants
);

CREATE TABLE ledger_attribution (
    shard smallint NOT NULL,
    account_id bigint NOT NULL,
    key uuid NOT NULL,
    workflow varchar(100) NOT NULL,
    project varchar(100) NOT NULL,
    job varchar(100) NOT NULL,
    cost_centre varchar(100) NOT NULL CHECK (cost_centre <> ''),
    department varchar(100) NOT NULL,
    actor varchar(100) NOT NULL,
    PRIMARY KEY (shard, account_id, key),
    FOREIGN KEY (shard, account_id) REFERENCES ledger_account (shard, id)
);

CREATE TABLE ledger_block (
    shard smallint NOT NULL,
    number bigint NOT NULL CHECK (number > 0),
    recorded_at timestamptz NOT NULL,
    runs_count integer NOT NULL CHECK (runs_count >= 0),
    corrections_count integer NOT NULL CHECK (corrections_count >= 0),
    first_submission_id bigint,
    last_submission_id bigint,
    microtokens bigint NOT NULL,
    micros bigint NOT NULL,
    leaves bytea NOT NULL,
    totals bytea NOT NULL,
    root bytea NOT NULL CHECK (length(root) = 32),
    previous_hash bytea NOT NULL CHECK (length(previous_hash) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (shard, number),
    -- A leaf seals up to sixteen runs, or one correction.
    CONSTRAINT block_has_leaves CHECK (
        runs_count + corrections_count > 0 AND length(leaves) % 32 = 0
        AND length(leaves) / 32 BETWEEN corrections_count + (runs_count + 15) / 16
                                    AND corrections_count + runs_count
    ),
    CONSTRAINT block_has_submissions CHECK (
        num_nulls(first_submission_id, last_submission_id) = CASE runs_count WHEN 0 THEN 2 ELSE 0 END
        AND first_submission_id <= last_submission_id
    )
);

-- Columns stand in order of size, so that no byte is lost to alignment.
CREATE TABLE ledger_run (
    account_id bigint NOT NULL,
    run_key uuid NOT NULL,
    part bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    sequence bigint NOT NULL,
    microtokens bigint NOT NULL,
    micros bigint NOT NULL,
    lot_id bigint NOT NULL,
    out_before_microtokens bigint NOT NULL,
    attribution_key uuid NOT NULL,
    body_digest bigint NOT NULL,
    block_number bigint NOT NULL,
    submission_id bigint NOT NULL,
    submission_position integer NOT NULL,
    block_position integer NOT NULL,
    engine_id integer NOT NULL,
    slices_count smallint NOT NULL,
    flags smallint NOT NULL,
    shard smallint NOT NULL,
    PRIMARY KEY (shard, account_id, run_key, part),
    CONSTRAINT run_parts_have_no_number CHECK ((part = 0) = (sequence > 0) AND sequence >= 0),
    CONSTRAINT run_cost_in_range CHECK (microtokens >= 0 AND out_before_microtokens >= 0),
    CONSTRAINT run_slices_match_cost CHECK ((microtokens = 0) = (slices_count = 0) AND slices_count >= 0)
);

CREATE TABLE ledger_conflict (
    shard smallint NOT NULL,
    submission_id bigint NOT NULL,
    submission_position integer NOT NULL,
    account_id bigint NOT NULL,
    run_key uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (shard, submission_id, submission_position),
    FOREIGN KEY (shard, submission_id) REFERENCES ledger_submission (shard, id)
);

-- A run that waits for a rate belongs to the batch it came in: sent again it waits again, and is
-- debited once all the same.
CREATE TABLE ledger_parkedrun (
    shard smallint NOT NULL,
    batch_id uuid NOT NULL,
    position integer NOT NULL,
    account_id bigint NOT NULL,
    run_key uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    parked_at timestamptz NOT NULL,
    reason varchar(300) NOT NULL,
    body bytea NOT NULL,
    body_digest bigint NOT NULL,
    tried_revision bigint NOT NULL DEFAULT -1,
    priced_at timestamptz,
    PRIMARY KEY (shard, batch_id, position),
    FOREIGN KEY (shard, account_id) REFERENCES ledger_account (shard, id)
);
CREATE INDEX parked_run_waiting ON ledger_parkedrun (parked_at) WHERE priced_at IS NULL;
"""

# Bytes that are packed already: compressing them again costs more than it saves.
STORAGE = """
ALTER TABLE ledger_submission ALTER COLUMN details SET STORAGE EXTERNAL;
ALTER TABLE ledger_intake ALTER COLUMN runs SET STORAGE EXTERNAL;
ALTER TABLE ledger_block ALTER COLUMN leaves SET STORAGE EXTERNAL;
ALTER TABLE ledger_block ALTER COLUMN totals SET STORAGE EXTERNAL;
"""

VIEWS = """
-- Lots as they are now: the account's standing knows how much of the lot in use is out.
CREATE VIEW ledger_lot_now AS
SELECT lot.shard, lot.id, lot.account_id, lot.kind, lot.source, lot.priority, lot.issued_at,
       lot.effective_at, lot.expires_at, lot.closes_at, lot.granted_microtokens, lot.price_micros,
       lot.currency, lot.tiers, lot.rollover_microtokens_max, lot.rollover_expires_at,
       lot.rolled_from_lot_id, lot.open,
       CASE WHEN standing.in_use_lot_id = lot.id THEN standing.in_use_out_microtokens
            ELSE lot.out_microtokens END AS out_microtokens
FROM ledger_lot AS lot
JOIN ledger_standing AS standing
    ON standing.shard = lot.shard AND standing.account_id = lot.account_id;

-- All movements in one shape: what stands in a run's own row, and every entry but grants.
-- `sign` is +1 where tokens leave the lot and -1 where they come back.
CREATE VIEW ledger_movement AS
SELECT shard, account_id, lot_id, 'debit'::varchar(10) AS kind, 1 AS sign,
       out_before_microtokens, microtokens, run_key, part, NULL::varchar(200) AS operation_key,
       occurred_at
FROM ledger_run
WHERE slices_count = 1
UNION ALL
SELECT shard, account_id, lot_id, kind,
       CASE WHEN kind IN ('repaid', 'return', 'thaw', 'restore', 'forgive') THEN -1 ELSE 1 END,
       out_before_microtokens, microtokens, run_key, part, operation_key, occurred_at
FROM ledger_entry
WHERE kind <> 'grant';
"""

FACTS_ARE_IMMUTABLE = """
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % refused: it is a record of what happened', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write a new fact that corrects the old one.';
END $$;

CREATE TRIGGER entry_is_immutable BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER run_is_immutable BEFORE UPDATE OR DELETE ON ledger_run
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER block_is_immutable BEFORE UPDATE OR DELETE ON ledger_block
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER operation_is_immutable BEFORE UPDATE OR DELETE ON ledger_operation
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER submission_is_immutable BEFORE UPDATE OR DELETE ON ledger_submission
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER attribution_is_immutable BEFORE UPDATE OR DELETE ON ledger_attribution
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER conflict_is_immutable BEFORE UPDATE OR DELETE ON ledger_conflict
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER batch_is_immutable BEFORE UPDATE OR DELETE ON ledger_batch
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

-- Of a parked run only what was tried, why it still waits, and when it was priced, may change.
CREATE TRIGGER parked_run_is_immutable BEFORE UPDATE OF shard, batch_id, position, account_id,
        run_key, occurred_at, parked_at, body, body_digest
    ON ledger_parkedrun FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER parked_run_stays BEFORE DELETE ON ledger_parkedrun
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

-- Of a lot only the two caches may change, and it may end sooner.
CREATE TRIGGER lot_is_immutable BEFORE UPDATE OF shard, id, account_id, kind, source, priority,
        issued_at, effective_at, granted_microtokens, price_micros, currency,
        tiers, rollover_microtokens_max, rollover_expires_at, rolled_from_lot_id
    ON ledger_lot FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER lot_lives_no_longer BEFORE UPDATE OF expires_at, closes_at ON ledger_lot
    FOR EACH ROW WHEN (
        NEW.expires_at IS NULL OR NEW.closes_at IS NULL
        OR NEW.expires_at > OLD.expires_at OR NEW.closes_at > OLD.closes_at
    )
    EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER lot_stays BEFORE DELETE ON ledger_lot
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

CREATE FUNCTION ledger_refuse_change_of_published() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    version_ids bigint[];
BEGIN
    version_ids := CASE TG_OP
        WHEN 'INSERT' THEN ARRAY[NEW.version_id]
        WHEN 'DELETE' THEN ARRAY[OLD.version_id]
        ELSE ARRAY[OLD.version_id, NEW.version_id]
    END;
    -- Whoever changes a rate waits for whoever publishes its version, and then sees it published.
    PERFORM FROM ledger_ratecardversion WHERE id = ANY (version_ids) FOR SHARE;
    IF EXISTS (
        SELECT FROM ledger_ratecardversion
        WHERE id = ANY (version_ids) AND published_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'a rate of a published version never changes'
            USING ERRCODE = 'restrict_violation', HINT = 'Publish a new version.';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE TRIGGER rate_of_published_is_immutable BEFORE INSERT OR UPDATE OR DELETE ON ledger_rate
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change_of_published();
-- Which meter is part of which decides what published rates ask.
CREATE FUNCTION ledger_refuse_regrouping() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM ledger_rate AS rate
        JOIN ledger_ratecardversion AS version ON version.id = rate.version_id
        WHERE version.published_at IS NOT NULL
          AND rate.meter_id IN (OLD.id, OLD.part_of_id, NEW.part_of_id)
    ) THEN
        RAISE EXCEPTION 'published rates ask for this meter: what it is part of stays'
            USING ERRCODE = 'restrict_violation', HINT = 'Make a new meter.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER meter_stays_in_its_group BEFORE UPDATE OF part_of_id ON ledger_meter
    FOR EACH ROW WHEN (OLD.part_of_id IS DISTINCT FROM NEW.part_of_id)
    EXECUTE FUNCTION ledger_refuse_regrouping();
CREATE TRIGGER published_rate_card_is_immutable BEFORE UPDATE OR DELETE ON ledger_ratecardversion
    FOR EACH ROW WHEN (OLD.published_at IS NOT NULL) EXECUTE FUNCTION ledger_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]

    operations = [
        migrations.RunSQL(TABLES, migrations.RunSQL.noop),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
        migrations.RunSQL(VIEWS, migrations.RunSQL.noop),
        migrations.RunSQL(FACTS_ARE_IMMUTABLE, migrations.RunSQL.noop),
    ]
