"""Parked runs are tried again when prices changed; three rules that left a gap are closed.

Meters form no circle; nobody adds a rate while its version is being published; and a lot that
rolls over says until when (a comparison with null is not false, so a CHECK let it pass).
"""

from django.db import migrations, models
from django.db.models import F, Q

PARKED_RUNS = """
ALTER TABLE ledger_parkedrun ADD COLUMN tried_revision bigint NOT NULL DEFAULT -1;
"""

LOTS = """
ALTER TABLE ledger_lot DROP CONSTRAINT lot_rollover_has_an_expiry;
ALTER TABLE ledger_lot ADD CONSTRAINT lot_rollover_has_an_expiry CHECK (
    rollover_microtokens_max = 0
    OR (kind = 'prepaid' AND coalesce(rollover_expires_at > expires_at, false))
);
"""

# Whoever adds a rate waits for whoever publishes its version, and then sees it published.
RATES = """
CREATE OR REPLACE FUNCTION ledger_refuse_change_of_published() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    version_ids bigint[];
BEGIN
    version_ids := CASE TG_OP
        WHEN 'INSERT' THEN ARRAY[NEW.version_id]
        WHEN 'DELETE' THEN ARRAY[OLD.version_id]
        ELSE ARRAY[OLD.version_id, NEW.version_id]
    END;
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
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_hot_tables")]

    operations = [
        migrations.RunSQL(PARKED_RUNS, migrations.RunSQL.noop),
        migrations.RunSQL(LOTS, migrations.RunSQL.noop),
        migrations.RunSQL(RATES, migrations.RunSQL.noop),
        migrations.RemoveConstraint(model_name="meter", name="meter_not_part_of_itself"),
        migrations.AddConstraint(
            model_name="meter",
            constraint=models.CheckConstraint(
                name="meter_part_of_an_older_one",
                condition=Q(part_of__isnull=True) | Q(part_of__lt=F("id")),
                violation_error_message="A meter can be part only of one that was made before it.",
            ),
        ),
    ]
