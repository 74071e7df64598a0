"""Where Stripe posts its events."""

import structlog
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.errors import StripeEventInvalid
from billing.models import StripeEvent
from billing.stripe import gateway, inbox
from billing.tasks import act_on_stripe_events

BODY_BYTES_MAX = 1024 * 1024

logger = structlog.get_logger(__name__)


@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """Keep a signed event and answer at once; acting on it is a task's work.

    400 for what Stripe has not signed, 503 while we have no secret to tell by: Stripe then sends
    it again later (https://docs.stripe.com/webhooks#behaviors).
    """
    if not any(settings.STRIPE_WEBHOOK_SECRETS):
        return _text("STRIPE_WEBHOOK_SECRET is not set, so no event can be verified", 503)
    if int(request.headers.get("Content-Length") or 0) > BODY_BYTES_MAX:
        return _text(f"an event has at most {BODY_BYTES_MAX} bytes", 413)
    try:
        event = gateway.verified_event(
            body=request.body, signature=request.headers.get("Stripe-Signature", "")
        )
    except StripeEventInvalid as error:
        logger.warning("webhook refused", error=str(error))
        return _text(str(error), 400)
    with transaction.atomic():
        kept = inbox.receive(
            event=event,
            payload=request.body.decode(),
            source=StripeEvent.Source.WEBHOOK,
            at=timezone.now(),
        )
        if kept is not None and kept.ignored_at is None:
            # The broker may be away; the sweep finds the event all the same.
            transaction.on_commit(act_on_stripe_events.delay, robust=True)
    return _text("", 200)


def _text(message: str, status: int) -> HttpResponse:
    return HttpResponse(message, status=status, content_type="text/plain; charset=utf-8")
