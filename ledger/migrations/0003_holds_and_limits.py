"""Holds and limits."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_hot_tables")]

    operations = []
