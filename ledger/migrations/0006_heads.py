"""Heads of the chains of blocks, published."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ledger", "0005_usage")]

    operations = []
