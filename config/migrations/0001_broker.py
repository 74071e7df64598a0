"""The tables and functions of the pgmq broker.

Their SQL is part of the `pgmq` package, which is pinned for it (docs/decisions/0002-broker.md).
A database on which pgmq stands already, as an extension, is left as it is.
"""

from django.db import migrations
from pgmq.install import get_embedded_install_sql


def install(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace('pgmq') IS NOT NULL")
        (installed,) = cursor.fetchone()
    if not installed:
        schema_editor.execute(get_embedded_install_sql(), params=None)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
