"""Django's PostgreSQL engine, for the embedded server: it is found or started when it is needed.

So no list of commands "that need the database" has to be kept, and importing the settings starts
nothing. A connection that meets a server on its way up (after a crash) waits for it.
"""

from typing import Any

from django.db.backends.postgresql import base
from psycopg import OperationalError

from config.embedded.server import ensure, wait_until_ready


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        ensure()
        try:
            return super().get_new_connection(conn_params)
        except OperationalError:
            wait_until_ready()
            return super().get_new_connection(conn_params)
