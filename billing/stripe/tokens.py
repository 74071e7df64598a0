"""Which of several questions to Stripe about the same thing was asked last.

Whoever asks draws a token first, and applies the answer only if the row still has it: an answer
that was overtaken by a later question is older than that question's.
"""

import uuid

from django.db import connection

from billing.models import CardSetup, Customer, Invoice, TopUp

Asked = type[CardSetup] | type[Customer] | type[Invoice] | type[TopUp]


def draw(row: Asked, pk: uuid.UUID | int) -> int | None:
    """The next token of a row, nobody else's; None if there is no such row."""
    table = connection.ops.quote_name(row._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET sync_token = sync_token + 1 WHERE id = %s RETURNING sync_token",  # noqa: S608
            [pk],
        )
        drawn = cursor.fetchone()
    return None if drawn is None else int(drawn[0])
