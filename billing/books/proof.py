"""What must hold of the books: against themselves, and against the ledger's lots."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from django.db import connection, transaction

from billing.books import chart, days
from billing.books.rules import RULES
from billing.models import Vendor
from ledger.units import NEVER

INVARIANTS: Final[dict[str, str]] = {
    "a day of the journal is balanced, in each currency": """
        SELECT day_id, currency FROM billing_journalline
        GROUP BY day_id, currency HAVING sum(amount) <> 0 OR sum(micros) <> 0
    """,
    "what the books have of a thing is the sum of what they posted of it": """
        SELECT rule, subject, account
        FROM (
            SELECT rule, subject, account, micros_to_date,
                   sum(micros) OVER (PARTITION BY rule, subject, account) AS micros,
                   row_number() OVER (PARTITION BY rule, subject, account ORDER BY id DESC) AS place
            FROM billing_journalline
        ) AS line
        WHERE place = 1 AND abs(micros) <> abs(micros_to_date)
    """,
    "a booked balance is the exact one but for the part of a cent that is carried": """
        SELECT customer_id, account, currency
        FROM (
            SELECT customer_id, account, currency, unbooked_micros,
                   sum(micros) OVER series AS micros, sum(amount) OVER series AS amount,
                   row_number() OVER (
                       PARTITION BY customer_id, account, currency ORDER BY id DESC) AS place
            FROM billing_journalline
            WHERE account <> 'rounding'
            WINDOW series AS (PARTITION BY customer_id, account, currency)
        ) AS line
        WHERE place = 1 AND micros - amount * 1000000 <> unbooked_micros
    """,
    "the days of a vendor's books follow one another, and are over when they are closed": """
        SELECT id
        FROM (
            SELECT id, day, closed_at, lag(day) OVER (PARTITION BY vendor_id ORDER BY day) AS before
            FROM billing_journalday
        ) AS closed
        WHERE day <> before + 1 OR closed_at < (day + 1) AT TIME ZONE 'UTC'
    """,
    "a line of the journal is of a customer of its vendor, in that customer's currency": """
        SELECT line.id
        FROM billing_journalline AS line
        JOIN billing_journalday AS day ON day.id = line.day_id
        JOIN billing_customer AS customer ON customer.id = line.customer_id
        WHERE customer.vendor_id <> day.vendor_id OR customer.currency <> line.currency
           OR line.happened_on > day.day
    """,
}
DEFERRED: Final = "deferred revenue is the value of what is left in the lots"

_TOKENS: Final = tuple(
    rule for rule in RULES if rule.code in ("granted", "used", "expired", "revoked")
)
_BOOKED: Final = """
    SELECT line.customer_id, sum(line.micros)
    FROM billing_journalline AS line
    JOIN billing_journalday AS day ON day.id = line.day_id
    WHERE day.vendor_id = %s AND line.account = %s
    GROUP BY line.customer_id
"""
# As the ledger has it, by another way: what is out of each lot, whatever took it, and is frozen.
_LEFT: Final = """
    SELECT customer.id, lot.id,
           lot.price_micros - div(lot.price_micros::numeric * lot.out_microtokens,
                                  lot.granted_microtokens)
           + coalesce(frozen.micros, 0)
    FROM billing_customer AS customer
    JOIN ledger_lot_now AS lot
        ON lot.account_id = customer.account_id AND lot.shard = customer.account_id & 255
    LEFT JOIN LATERAL (
        SELECT sum(div(lot.price_micros::numeric * (out_before_microtokens + step),
                       lot.granted_microtokens)
                   - div(lot.price_micros::numeric * out_before_microtokens,
                         lot.granted_microtokens)) AS micros
        FROM ledger_entry AS entry
        CROSS JOIN LATERAL (
            SELECT CASE entry.kind WHEN 'freeze' THEN microtokens ELSE -microtokens END AS step
        ) AS moved
        WHERE entry.shard = lot.shard AND entry.lot_id = lot.id
          AND entry.kind IN ('freeze', 'thaw')
    ) AS frozen ON true
    WHERE customer.vendor_id = %s AND lot.price_micros > 0
"""


def not_deferred() -> list[tuple[object, ...]]:
    """Customers whose deferred revenue, as booked and still to book, is not what is left.

    It holds at every moment: what happened since the last closing is posted in thought. Reads one
    state of the database, unless it is within a transaction that has begun before.
    """
    with transaction.atomic():
        if not connection.savepoint_ids:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        vendors = Vendor.objects.order_by("id").values_list("pk", flat=True)
        return [row for vendor_id in vendors for row in _not_deferred(vendor_id)]


def _not_deferred(vendor_id: int) -> list[tuple[object, ...]]:
    day = days.as_lots_stand(vendor_id=vendor_id, day=NEVER.date())
    owed: dict[int, int] = defaultdict(int)
    for customer_id, micros in _rows(_BOOKED, vendor_id, chart.DEFERRED_TOKENS):
        owed[customer_id] += int(micros)
    for posting in days.to_post(day, rules=_TOKENS):
        sign = 1 if posting.debit == chart.DEFERRED_TOKENS else -1
        owed[posting.customer_id] += sign * posting.micros
    for customer_id, _, left in _rows(_LEFT, vendor_id):
        owed[customer_id] += int(left)
    return [(customer_id, micros) for customer_id, micros in sorted(owed.items()) if micros]


def _rows(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(parameters))
        return list(cursor.fetchall())


CHECKS: Final[dict[str, Callable[[], list[tuple[object, ...]]]]] = {DEFERRED: not_deferred}
