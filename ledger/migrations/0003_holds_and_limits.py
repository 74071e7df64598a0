"""Holds and limits."""

import django.contrib.postgres.fields
from django.db import migrations, models

TABLES = """
CREATE SEQUENCE ledger_limit_number;

CREATE TABLE ledger_hold (
    shard smallint NOT NULL,
    account_id bigint NOT NULL,
    run_key uuid NOT NULL,
    run_id varchar(200) NOT NULL,
    body_digest bigint NOT NULL,
    microtokens bigint NOT NULL,
    micros bigint NOT NULL,
    workflow varchar(100) NOT NULL,
    project varchar(100) NOT NULL,
    job varchar(100) NOT NULL,
    cost_centre varchar(100) NOT NULL,
    department varchar(100) NOT NULL,
    actor varchar(100) NOT NULL,
    life_seconds integer NOT NULL,
    asked_at timestamptz NOT NULL,
    held_at timestamptz,
    expires_at timestamptz,
    claimed_at timestamptz,
    captured_at timestamptz,
    released_at timestamptz,
    lapsed_at timestamptz,
    refused_at timestamptz,
    refusal varchar(300) NOT NULL,
    review_id bigint,
    limit_ids bigint[] NOT NULL,
    counted_microtokens bigint NOT NULL,
    counted_micros bigint NOT NULL,
    due_at timestamptz,
    PRIMARY KEY (shard, account_id, run_key),
    FOREIGN KEY (shard, account_id) REFERENCES ledger_account (shard, id),
    CONSTRAINT hold_in_range CHECK (microtokens BETWEEN 0 AND 100000000000000 AND micros >= 0),
    CONSTRAINT hold_life_in_range CHECK (life_seconds BETWEEN 1 AND 86400),
    CONSTRAINT hold_counts_at_most_itself CHECK (
        counted_microtokens BETWEEN 0 AND microtokens AND counted_micros BETWEEN 0 AND micros
    ),
    CONSTRAINT hold_counts_while_it_is_open CHECK (
        (counted_microtokens = 0 AND counted_micros = 0)
        OR (held_at IS NOT NULL AND captured_at IS NULL AND released_at IS NULL AND lapsed_at IS NULL)
    ),
    CONSTRAINT hold_expires_after_it_begins CHECK (
        (held_at IS NULL) = (expires_at IS NULL) AND expires_at > held_at
    ),
    CONSTRAINT hold_is_held_refused_or_reviewed CHECK (
        NOT (held_at IS NOT NULL AND refused_at IS NOT NULL)
        AND (held_at IS NOT NULL OR refused_at IS NOT NULL OR review_id IS NOT NULL)
    )
) WITH (fillfactor = 80);
-- The open holds of an account, and those that a late run may still come for.
CREATE INDEX hold_due ON ledger_hold (shard, account_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX hold_waiting ON ledger_hold (shard, review_id)
    WHERE review_id IS NOT NULL AND held_at IS NULL AND refused_at IS NULL;

CREATE TABLE ledger_limit (
    shard smallint NOT NULL,
    id bigint NOT NULL,
    account_id bigint NOT NULL,
    scope varchar(20) NOT NULL,
    scope_value varchar(100) NOT NULL,
    period varchar(10) NOT NULL,
    unit varchar(10) NOT NULL,
    cap bigint NOT NULL,
    is_hard boolean NOT NULL,
    effective_at timestamptz NOT NULL,
    until_at timestamptz,
    idempotency_key varchar(200) NOT NULL,
    set_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (shard, id),
    FOREIGN KEY (shard, account_id) REFERENCES ledger_account (shard, id),
    CONSTRAINT limit_once UNIQUE (shard, account_id, idempotency_key),
    CONSTRAINT limit_lives_in_its_shard CHECK (shard = (id & 255)),
    CONSTRAINT limit_scope CHECK (
        scope IN ('run', 'actor', 'workflow', 'project', 'job', 'cost_centre', 'account')
    ),
    CONSTRAINT limit_on_everything_has_no_value CHECK (
        scope NOT IN ('run', 'account') OR scope_value = ''
    ),
    CONSTRAINT limit_period CHECK (period IN ('run', 'day', 'month', 'term')),
    CONSTRAINT limit_on_a_run_is_per_run CHECK (scope <> 'run' OR period = 'run'),
    CONSTRAINT limit_unit CHECK (unit IN ('tokens', 'money', 'overage')),
    CONSTRAINT limit_on_overage_is_the_accounts CHECK (
        unit <> 'overage' OR (scope = 'account' AND period = 'term')),
    CONSTRAINT limit_cap_in_range CHECK (cap BETWEEN 0 AND 1000000000000000000),
    CONSTRAINT limit_ends_after_it_begins CHECK (until_at > effective_at),
    CONSTRAINT limit_term_has_an_end CHECK (period <> 'term' OR until_at IS NOT NULL)
);
CREATE INDEX limit_of_account ON ledger_limit (shard, account_id) WHERE ended_at IS NULL;

CREATE TABLE ledger_limituse (
    shard smallint NOT NULL,
    limit_id bigint NOT NULL,
    scope_value varchar(100) NOT NULL,
    period_start timestamptz NOT NULL,
    -- In money it may be below 0: a run may make those of others cheaper (overage by volume).
    used bigint NOT NULL,
    held bigint NOT NULL CHECK (held >= 0),
    PRIMARY KEY (shard, limit_id, scope_value, period_start),
    FOREIGN KEY (shard, limit_id) REFERENCES ledger_limit (shard, id)
) WITH (fillfactor = 70);

CREATE TABLE ledger_limitexcess (
    shard smallint NOT NULL,
    limit_id bigint NOT NULL,
    account_id bigint NOT NULL,
    run_key uuid NOT NULL,
    part bigint NOT NULL,
    scope_value varchar(100) NOT NULL,
    period_start timestamptz NOT NULL,
    used_before bigint NOT NULL,
    used_after bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (shard, limit_id, run_key, part),
    FOREIGN KEY (shard, limit_id) REFERENCES ledger_limit (shard, id),
    CONSTRAINT limit_excess_uses_more CHECK (used_after > used_before)
);
CREATE INDEX limit_excess_of_account ON ledger_limitexcess (shard, account_id, recorded_at);

CREATE TABLE ledger_limitreview (
    shard smallint NOT NULL,
    id bigint NOT NULL,
    account_id bigint NOT NULL,
    limit_id bigint NOT NULL,
    scope_value varchar(200) NOT NULL,
    period_start timestamptz NOT NULL,
    opened_at timestamptz NOT NULL,
    run_key uuid NOT NULL,
    used bigint NOT NULL,
    held bigint NOT NULL,
    asked bigint NOT NULL,
    answered_at timestamptz,
    is_allowed boolean,
    reason varchar(500) NOT NULL,
    until_at timestamptz,
    PRIMARY KEY (shard, id),
    FOREIGN KEY (shard, limit_id) REFERENCES ledger_limit (shard, id),
    CONSTRAINT limit_review_lives_in_its_shard CHECK (shard = (id & 255)),
    CONSTRAINT limit_review_answered_whole CHECK (
        num_nonnulls(answered_at, is_allowed, until_at) IN (0, 3)
    )
);
CREATE UNIQUE INDEX limit_review_waits_once
    ON ledger_limitreview (shard, limit_id, scope_value, period_start) WHERE answered_at IS NULL;
CREATE INDEX limit_review_of_account ON ledger_limitreview (shard, account_id, opened_at);
"""

FACTS_ARE_IMMUTABLE = """
-- Of a hold only what became of it may change.
CREATE TRIGGER hold_is_immutable BEFORE UPDATE OF shard, account_id, run_key, run_id, body_digest,
        microtokens, workflow, project, job, cost_centre, department, actor, life_seconds, asked_at
    ON ledger_hold FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER hold_stays BEFORE DELETE ON ledger_hold
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

-- What became of a hold is said once.
CREATE FUNCTION ledger_refuse_change_of_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.held_at IS NOT NULL AND (OLD.held_at, OLD.expires_at, OLD.micros, OLD.limit_ids)
            IS DISTINCT FROM (NEW.held_at, NEW.expires_at, NEW.micros, NEW.limit_ids))
        OR (OLD.claimed_at IS NOT NULL AND OLD.claimed_at IS DISTINCT FROM NEW.claimed_at)
        OR (OLD.captured_at IS NOT NULL AND OLD.captured_at IS DISTINCT FROM NEW.captured_at)
        OR (OLD.released_at IS NOT NULL AND OLD.released_at IS DISTINCT FROM NEW.released_at)
        OR (OLD.lapsed_at IS NOT NULL AND OLD.lapsed_at IS DISTINCT FROM NEW.lapsed_at)
        OR (OLD.refused_at IS NOT NULL AND OLD.refused_at IS DISTINCT FROM NEW.refused_at)
    THEN
        RAISE EXCEPTION '% of % refused: it is a record of what happened', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold_says_it_once BEFORE UPDATE OF micros, limit_ids, held_at, expires_at,
        claimed_at, captured_at, released_at, lapsed_at, refused_at
    ON ledger_hold FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change_of_hold();

-- A limit is ended once, and never changed: another takes its place.
CREATE TRIGGER limit_is_immutable BEFORE UPDATE OF shard, id, account_id, scope, scope_value, period,
        unit, cap, is_hard, effective_at, until_at, idempotency_key, set_at
    ON ledger_limit FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER limit_ends_once BEFORE UPDATE OF ended_at ON ledger_limit
    FOR EACH ROW WHEN (OLD.ended_at IS NOT NULL) EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER limit_stays BEFORE DELETE ON ledger_limit
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

CREATE TRIGGER limit_excess_is_immutable BEFORE UPDATE OR DELETE ON ledger_limitexcess
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

CREATE TRIGGER limit_review_is_immutable BEFORE UPDATE OF shard, id, account_id, limit_id,
        scope_value, period_start, opened_at, run_key, used, held, asked
    ON ledger_limitreview FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER limit_review_is_answered_once BEFORE UPDATE ON ledger_limitreview
    FOR EACH ROW WHEN (OLD.answered_at IS NOT NULL) EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER limit_review_stays BEFORE DELETE ON ledger_limitreview
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_hot_tables")]

    operations = [
        migrations.RunSQL(TABLES, migrations.RunSQL.noop),
        migrations.RunSQL(FACTS_ARE_IMMUTABLE, migrations.RunSQL.noop),
        migrations.CreateModel(
            name='Hold',
            fields=[
                ('shard', models.SmallIntegerField()),
                ('account_id', models.BigIntegerField()),
                ('run_key', models.UUIDField()),
                ('run_id', models.CharField(max_length=200)),
                ('body_digest', models.BigIntegerField()),
                ('microtokens', models.BigIntegerField()),
                ('micros', models.BigIntegerField()),
                ('workflow', models.CharField(max_length=100)),
                ('project', models.CharField(max_length=100)),
                ('job', models.CharField(max_length=100)),
                ('cost_centre', models.CharField(max_length=100)),
                ('department', models.CharField(max_length=100)),
                ('actor', models.CharField(max_length=100)),
                ('life_seconds', models.IntegerField()),
                ('asked_at', models.DateTimeField()),
                ('held_at', models.DateTimeField(null=True)),
                ('expires_at', models.DateTimeField(null=True)),
                ('claimed_at', models.DateTimeField(null=True)),
                ('captured_at', models.DateTimeField(null=True)),
                ('released_at', models.DateTimeField(null=True)),
                ('lapsed_at', models.DateTimeField(null=True)),
                ('refused_at', models.DateTimeField(null=True)),
                ('refusal', models.CharField(max_length=300)),
                ('review_id', models.BigIntegerField(null=True)),
                ('limit_ids', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                ('counted_microtokens', models.BigIntegerField()),
                ('counted_micros', models.BigIntegerField()),
                ('due_at', models.DateTimeField(null=True)),
                ('pk', models.CompositePrimaryKey('shard', 'account_id', 'run_key', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='Limit',
            fields=[
                ('id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('shard', models.SmallIntegerField()),
                ('account_id', models.BigIntegerField()),
                ('scope', models.CharField(max_length=20)),
                ('scope_value', models.CharField(max_length=100)),
                ('period', models.CharField(max_length=10)),
                ('unit', models.CharField(max_length=10)),
                ('cap', models.BigIntegerField()),
                ('is_hard', models.BooleanField()),
                ('effective_at', models.DateTimeField()),
                ('until_at', models.DateTimeField(null=True)),
                ('idempotency_key', models.CharField(max_length=200)),
                ('set_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
            ],
            options={
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='LimitExcess',
            fields=[
                ('shard', models.SmallIntegerField()),
                ('limit_id', models.BigIntegerField()),
                ('account_id', models.BigIntegerField()),
                ('run_key', models.UUIDField()),
                ('part', models.BigIntegerField()),
                ('scope_value', models.CharField(max_length=100)),
                ('period_start', models.DateTimeField()),
                ('used_before', models.BigIntegerField()),
                ('used_after', models.BigIntegerField()),
                ('recorded_at', models.DateTimeField()),
                ('pk', models.CompositePrimaryKey('shard', 'limit_id', 'run_key', 'part', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='LimitReview',
            fields=[
                ('id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('shard', models.SmallIntegerField()),
                ('account_id', models.BigIntegerField()),
                ('limit_id', models.BigIntegerField()),
                ('scope_value', models.CharField(max_length=200)),
                ('period_start', models.DateTimeField()),
                ('opened_at', models.DateTimeField()),
                ('run_key', models.UUIDField()),
                ('used', models.BigIntegerField()),
                ('held', models.BigIntegerField()),
                ('asked', models.BigIntegerField()),
                ('answered_at', models.DateTimeField(null=True)),
                ('is_allowed', models.BooleanField(null=True)),
                ('reason', models.CharField(max_length=500)),
                ('until_at', models.DateTimeField(null=True)),
            ],
            options={
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='LimitUse',
            fields=[
                ('shard', models.SmallIntegerField()),
                ('limit_id', models.BigIntegerField()),
                ('scope_value', models.CharField(max_length=100)),
                ('period_start', models.DateTimeField()),
                ('used', models.BigIntegerField()),
                ('held', models.BigIntegerField()),
                ('pk', models.CompositePrimaryKey('shard', 'limit_id', 'scope_value', 'period_start', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'managed': False,
            },
        ),
    ]
