"""Open a Checkout session while the buyer waits."""

import uuid
from datetime import datetime

from billing import top_ups
from billing.errors import StripeRefused, StripeUnavailable
from billing.models import StripeCall, TopUpSession
from billing.stripe import calls, outbox


def start(
    *, customer_id: int, pack_id: int, idempotency_key: uuid.UUID, at: datetime
) -> TopUpSession:
    """Begin a top-up and open its session: the buyer goes on at its `url`.

    Starting it again under the same key gives the same session, so an impatient buyer pays once.
    Raises NotForSale, KeyReused, StripeRefused, and StripeUnavailable (try again, same key).
    """
    top_up = top_ups.begin(
        customer_id=customer_id, pack_id=pack_id, idempotency_key=idempotency_key, at=at
    )
    reference = top_up.customer.reference
    for aggregate_id in (reference, top_up.pk):
        for call in outbox.waiting().filter(
            aggregate_id=aggregate_id, operation__in=[calls.CUSTOMER_CREATE, calls.CHECKOUT_CREATE]
        ):
            outbox.send(call_id=call.pk, at=at)
    session = TopUpSession.objects.filter(top_up=top_up).first()
    if session is None:
        _explain(top_up.pk)
        raise StripeUnavailable("the payment page could not be opened; please try again")
    return session


def _explain(top_up_id: uuid.UUID) -> None:
    """Raises StripeRefused if that is why there is no session."""
    refused = StripeCall.objects.filter(
        operation=calls.CHECKOUT_CREATE, aggregate_id=top_up_id, refused_at__isnull=False
    ).first()
    if refused is not None:
        raise StripeRefused(refused.error_message, stripe_code=refused.error_code)
