"""Corrections of runs, and runs in parts."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_holds_and_limits")]

    operations = []
