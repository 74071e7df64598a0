"""Facts of a company that pages show: an alert, a top-up that was begun."""

import uuid
from datetime import UTC, datetime

from msgspec.structs import replace

from billing import alerts, top_ups
from billing.models import AlertMessage, TopUp
from ledger import catalog
from ledger.intake import NewInference
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


def waits_for_a_price(of: Company, *run_ids: str) -> None:
    """The customer has sent runs of a meter that no rate prices."""
    now = datetime.now(UTC)
    catalog.create_meter(book_id=of.shop.vendor.book_id, code="pages", name="Pages")
    pages = [NewInference(engine="engine", quantities={"pages": 3})]
    runs = [builders.new_run(of.customer, 1, occurred_at=now, run_id=one) for one in run_ids]
    builders.accept(of.customer, *(replace(run, inferences=pages) for run in runs), at=now)
