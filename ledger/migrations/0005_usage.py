"""Usage totals by hour, day and month."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_corrections")]

    operations = []
