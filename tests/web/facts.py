"""Facts of a company that pages show: an alert, a top-up that was begun."""

import uuid
from datetime import UTC, datetime

from billing import alerts, top_ups
from billing.models import AlertMessage, TopUp
from tests import builders
from tests.web.conftest import Company


def alert_and_top_up(of: Company) -> tuple[AlertMessage, TopUp]:
    """The customer has used 950 of its 1,000 tokens, and has set out to buy a pack."""
    now = datetime.now(UTC)
    builders.use(of.customer, 950, occurred_at=now, at=now)
    alerts.evaluate(at=now)
    bought = top_ups.begin(
        customer_id=of.customer.pk,
        pack_id=of.pack.pk,
        idempotency_key=uuid.uuid4(),
        at=now,
    )
    message = AlertMessage.objects.get(period__subscription=of.subscription)
    return message, bought
