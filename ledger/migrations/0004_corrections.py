"""Corrections of runs, and runs in parts."""

from django.db import migrations, models

TABLES = """
CREATE TABLE ledger_correction (
    account_id bigint NOT NULL,
    run_key uuid NOT NULL,
    version integer NOT NULL,
    block_position integer NOT NULL,
    block_number bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    microtokens bigint NOT NULL,
    micros bigint NOT NULL,
    digest uuid NOT NULL,
    shard smallint NOT NULL,
    kind varchar(10) NOT NULL,
    operation_key varchar(200) NOT NULL,
    details bytea NOT NULL,
    PRIMARY KEY (shard, account_id, run_key, version),
    CONSTRAINT correction_once UNIQUE (shard, account_id, kind, operation_key),
    FOREIGN KEY (shard, account_id) REFERENCES ledger_account (shard, id),
    CONSTRAINT correction_kind CHECK (kind IN ('void', 'outcome', 'retaken', 'part', 'rerate')),
    CONSTRAINT correction_follows_the_first CHECK (version >= 2)
);
CREATE INDEX correction_block ON ledger_correction (shard, block_number);

CREATE TABLE ledger_partedrun (
    account_id bigint NOT NULL,
    run_key uuid NOT NULL,
    first_at timestamptz NOT NULL,
    last_part_at timestamptz NOT NULL,
    ended_at timestamptz,
    waived_at timestamptz,
    shard smallint NOT NULL,
    PRIMARY KEY (shard, account_id, run_key),
    CONSTRAINT parted_run_ends_after_it_begins CHECK (
        last_part_at >= first_at AND coalesce(ended_at >= first_at, true)
    )
) WITH (fillfactor = 80);
CREATE INDEX parted_run_open ON ledger_partedrun (shard, last_part_at) WHERE ended_at IS NULL;

CREATE TABLE ledger_retake (
    account_id bigint NOT NULL,
    run_key uuid NOT NULL,
    retaken_key uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    marked_at timestamptz,
    shard smallint NOT NULL,
    run_id varchar(200) NOT NULL,
    PRIMARY KEY (shard, account_id, run_key)
);
CREATE INDEX retake_waiting ON ledger_retake (shard, recorded_at) WHERE marked_at IS NULL;
CREATE INDEX retake_of ON ledger_retake (shard, account_id, retaken_key);
"""

FACTS_ARE_IMMUTABLE = """
CREATE TRIGGER correction_is_immutable BEFORE UPDATE OR DELETE ON ledger_correction
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

-- Of a run in parts only what is not known yet, and when its last part came, may change.
CREATE TRIGGER parted_run_is_immutable BEFORE UPDATE OF shard, account_id, run_key, first_at
    ON ledger_partedrun FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER parted_run_ends_once BEFORE UPDATE ON ledger_partedrun
    FOR EACH ROW WHEN (
        OLD.ended_at IS NOT NULL AND NEW.ended_at IS DISTINCT FROM OLD.ended_at
        OR OLD.waived_at IS NOT NULL AND NEW.waived_at IS DISTINCT FROM OLD.waived_at
    ) EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER parted_run_stays BEFORE DELETE ON ledger_partedrun
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();

CREATE TRIGGER retake_is_immutable BEFORE UPDATE OF shard, account_id, run_key, run_id, retaken_key,
        recorded_at
    ON ledger_retake FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER retake_is_marked_once BEFORE UPDATE ON ledger_retake
    FOR EACH ROW WHEN (OLD.marked_at IS NOT NULL) EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER retake_stays BEFORE DELETE ON ledger_retake
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_holds_and_limits")]

    operations = [
        migrations.RunSQL(TABLES, migrations.RunSQL.noop),
        migrations.RunSQL(FACTS_ARE_IMMUTABLE, migrations.RunSQL.noop),
        # A version corrects another from the same instant on: the one published last rules.
        migrations.RemoveConstraint(
            model_name="ratecardversion", name="rate_card_one_version_an_instant"
        ),
        migrations.CreateModel(
            name="Correction",
            fields=[
                ("account_id", models.BigIntegerField()),
                ("shard", models.SmallIntegerField()),
                ("run_key", models.UUIDField()),
                ("version", models.IntegerField()),
                ("kind", models.CharField(choices=[("void", "tokens given back"), ("outcome", "failed after all"), ("retaken", "done again by another run"), ("part", "a part came after the end"), ("rerate", "priced anew")], max_length=10)),
                ("operation_key", models.CharField(max_length=200)),
                ("digest", models.UUIDField()),
                ("recorded_at", models.DateTimeField()),
                ("microtokens", models.BigIntegerField()),
                ("micros", models.BigIntegerField()),
                ("details", models.BinaryField()),
                ("block_number", models.BigIntegerField()),
                ("block_position", models.IntegerField()),
                ("pk", models.CompositePrimaryKey("shard", "account_id", "run_key", "version", blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={"managed": False},
        ),
        migrations.CreateModel(
            name="PartedRun",
            fields=[
                ("account_id", models.BigIntegerField()),
                ("shard", models.SmallIntegerField()),
                ("run_key", models.UUIDField()),
                ("first_at", models.DateTimeField()),
                ("last_part_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("waived_at", models.DateTimeField(null=True)),
                ("pk", models.CompositePrimaryKey("shard", "account_id", "run_key", blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={"managed": False},
        ),
        migrations.CreateModel(
            name="Retake",
            fields=[
                ("account_id", models.BigIntegerField()),
                ("shard", models.SmallIntegerField()),
                ("run_key", models.UUIDField()),
                ("run_id", models.CharField(max_length=200)),
                ("retaken_key", models.UUIDField()),
                ("recorded_at", models.DateTimeField()),
                ("marked_at", models.DateTimeField(null=True)),
                ("pk", models.CompositePrimaryKey("shard", "account_id", "run_key", blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={"managed": False},
        ),
    ]
