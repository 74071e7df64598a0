"""Usage totals by hour, day and month."""

from django.db import migrations, models

TABLES = """
CREATE TABLE ledger_usage (
    account_id bigint NOT NULL,
    begins_at timestamptz NOT NULL,
    attribution_key uuid NOT NULL,
    runs_count bigint NOT NULL,
    accepted_first_count bigint NOT NULL,
    failed_count bigint NOT NULL,
    retakes_count bigint NOT NULL,
    microtokens bigint NOT NULL,
    micros bigint NOT NULL,
    rework_microtokens bigint NOT NULL,
    rework_micros bigint NOT NULL,
    engine_id integer NOT NULL,
    rung smallint NOT NULL,
    shard smallint NOT NULL,
    PRIMARY KEY (shard, account_id, rung, begins_at, attribution_key, engine_id),
    CONSTRAINT usage_rung CHECK (rung BETWEEN 1 AND 5)
-- The newest row of each rung is added to all day.
) WITH (fillfactor = 80);

CREATE TABLE ledger_usagefold (
    shard smallint PRIMARY KEY,
    folded_number bigint NOT NULL CHECK (folded_number >= 0)
);

-- What runs of several engines cost each is in their details: whoever folds a block looks for its
-- runs of that kind, and for no others.
CREATE INDEX run_of_several_engines ON ledger_run (shard, block_number) WHERE engine_id = 0;
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_corrections")]

    operations = [
        migrations.RunSQL(TABLES, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="Usage",
            fields=[
                ("shard", models.SmallIntegerField()),
                ("account_id", models.BigIntegerField()),
                ("rung", models.SmallIntegerField(choices=[(1, "Hour"), (2, "Day"), (3, "Month"), (4, "Account Day"), (5, "Account Month")])),
                ("begins_at", models.DateTimeField()),
                ("attribution_key", models.UUIDField()),
                ("engine_id", models.IntegerField()),
                ("runs_count", models.BigIntegerField()),
                ("accepted_first_count", models.BigIntegerField()),
                ("failed_count", models.BigIntegerField()),
                ("retakes_count", models.BigIntegerField()),
                ("microtokens", models.BigIntegerField()),
                ("micros", models.BigIntegerField()),
                ("rework_microtokens", models.BigIntegerField()),
                ("rework_micros", models.BigIntegerField()),
                ("pk", models.CompositePrimaryKey("shard", "account_id", "rung", "begins_at", "attribution_key", "engine_id", blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={"managed": False},
        ),
        migrations.CreateModel(
            name="UsageFold",
            fields=[
                ("shard", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("folded_number", models.BigIntegerField()),
            ],
            options={"managed": False},
        ),
    ]
