"""Buying tokens: packs, the way to Checkout, and the page one comes back to."""

import uuid
from contextlib import suppress

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from billing import customers, packs, top_ups
from billing.errors import (
    InvalidInput,
    KeyReused,
    NotForSale,
    PaymentDisputed,
    PaymentDoesNotMatch,
    StripeRefused,
    StripeUnavailable,
)
from billing.models import Customer, TopUp, TopUpPack
from billing.pages import show
from billing.portal.pages import shared
from billing.portal.people import may_buy, of_customer
from billing.stripe import checkout
from ledger import queries


@require_http_methods(["GET", "HEAD", "POST"])
@of_customer
def buy(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    """Choose a pack; choosing it leads on to the payment page."""
    if request.method == "POST":
        return _start(request, customer)
    return _packs(request, customer, key=uuid.uuid4())


@login_required
@require_safe
def top_up(request: HttpRequest, top_up_id: uuid.UUID) -> HttpResponse:
    """Where Checkout sends the buyer back to, paid or not."""
    bought = _own(request, top_up_id)
    context = {
        **shared(request, bought.customer, tab="buy"),
        **_progress(request, bought),
    }
    return show(request, "portal/top_up.html", context, time_zone=bought.customer.time_zone)


@login_required
@require_safe
def top_up_state(request: HttpRequest, top_up_id: uuid.UUID) -> HttpResponse:
    """The part of that page that changes, asked for again and again until it is final."""
    bought = _own(request, top_up_id)
    if "ask" in request.GET and top_ups.state(top_up=bought) in ("pending", "processing"):
        # The event is late. Whoever asks Stripe first grants; asking twice grants once.
        with suppress(StripeUnavailable, StripeRefused, PaymentDoesNotMatch):
            top_ups.fulfil(top_up_id=bought.pk, at=timezone.now())
        bought = _own(request, top_up_id)
    return show(
        request,
        "portal/top_up_state.html",
        {"customer": bought.customer, **_progress(request, bought)},
        time_zone=bought.customer.time_zone,
    )


def _start(request: HttpRequest, customer: Customer) -> HttpResponse:
    if not may_buy(request=request, customer=customer):
        raise PermissionDenied
    chosen = _choice(request)
    if chosen is None:
        messages.error(request, "Please choose one of the packs.")
        return redirect("buy", reference=customer.reference)
    pack_id, quantity, key = chosen
    try:
        session = checkout.start(
            customer_id=customer.pk,
            pack_id=pack_id,
            quantity=quantity,
            keeps_card="keeps_card" in request.POST,
            idempotency_key=key,
            at=timezone.now(),
        )
    except (NotForSale, KeyReused, TopUpPack.DoesNotExist):
        messages.error(request, "This pack cannot be bought any more. Please choose again.")
    except PaymentDisputed:
        messages.error(
            request,
            "A payment of yours is disputed. Packs can be bought again when your bank has decided.",
        )
    except InvalidInput as refusal:
        messages.error(request, f"How many packs {refusal.faults[0].message}.")
    except (StripeUnavailable, StripeRefused):
        messages.error(
            request, "The payment page could not be opened. Nothing was charged; please try again."
        )
        return _packs(request, customer, key=key, status=503)
    else:
        return redirect(session.url)
    return redirect("buy", reference=customer.reference)


def _choice(request: HttpRequest) -> tuple[int, int, uuid.UUID] | None:
    """The pack, how many of it, and the key."""
    pack, key = request.POST.get("pack", ""), request.POST.get("key", "")
    quantity = request.POST.get(f"quantity-{pack}", "1")
    if not all(number.isdecimal() and len(number) <= 18 for number in (pack, quantity)):
        return None
    try:
        return int(pack), int(quantity), uuid.UUID(key)
    except ValueError:
        return None


def _packs(
    request: HttpRequest, customer: Customer, *, key: uuid.UUID, status: int = 200
) -> HttpResponse:
    """The page's key is the purchase's: sent twice, it buys once."""
    context = {
        **shared(request, customer, tab="buy"),
        "offers": packs.offers(customer=customer, at=timezone.now()),
        "key": key,
    }
    return show(request, "portal/buy.html", context, time_zone=customer.time_zone, status=status)


def _own(request: HttpRequest, top_up_id: uuid.UUID) -> TopUp:
    own = TopUp.objects.filter(customer__in=customers.of_person(user=request.user))
    related = own.select_related("customer__vendor", "pack", "session", "fulfilment")
    return get_object_or_404(related, pk=top_up_id)


def _progress(request: HttpRequest, bought: TopUp) -> dict[str, object]:
    state = top_ups.state(top_up=bought)
    came_back = "session_id" in request.GET
    if state == "pending" and came_back:
        state = "processing"  # Checkout lets nobody through to this address unpaid
    lots = queries.lots(account_ids=[bought.customer.account_id]) if state == "granted" else []
    lot_id = bought.fulfilment.lot_id if lots else None
    return {
        "top_up": bought,
        "state": state,
        "is_paid": hasattr(bought, "fulfilment"),
        "came_back": came_back,
        "lot": next((lot for lot in lots if lot.id == lot_id), None),
    }
