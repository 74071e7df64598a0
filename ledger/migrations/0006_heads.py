"""Heads of the chains of blocks, published."""

from django.db import migrations, models

TABLE = """
CREATE TABLE ledger_head (
    shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 255),
    number bigint NOT NULL CHECK (number > 0),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    published_at timestamptz NOT NULL,
    PRIMARY KEY (shard, number)
);

CREATE TRIGGER head_is_immutable BEFORE UPDATE OR DELETE ON ledger_head
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0005_usage")]

    operations = [
        migrations.RunSQL(TABLE, "DROP TABLE ledger_head"),
        migrations.CreateModel(
            name='Head',
            fields=[
                ('shard', models.SmallIntegerField()),
                ('number', models.BigIntegerField()),
                ('hash', models.BinaryField()),
                ('published_at', models.DateTimeField()),
                ('pk', models.CompositePrimaryKey('shard', 'number', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'managed': False,
            },
        ),
    ]
