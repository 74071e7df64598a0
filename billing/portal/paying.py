"""How a customer pays: its cards, which of them is charged, and the way to its page at Stripe."""

import uuid
from contextlib import suppress
from datetime import datetime

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from billing import auto_top_ups, customers, payment_methods
from billing.errors import (
    PaymentDoesNotMatch,
    StripeRefused,
    StripeUnavailable,
    UnknownCardSetup,
    UnknownPaymentMethod,
)
from billing.models import CardSetup, Customer, PaymentMethod
from billing.pages import show
from billing.portal.pages import shared
from billing.portal.people import may_buy, of_customer
from billing.stripe import checkout


@require_safe
@of_customer
def payment(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    charged = payment_methods.charged(customer=customer)
    leaving = payment_methods.leaving(customer=customer)
    context = {
        **shared(request, customer, tab="payment"),
        "methods": [
            {
                "method": method,
                "is_charged": method == charged,
                "is_leaving": method.pk in leaving,
                "is_over": _is_over(method, timezone.now()),
            }
            for method in payment_methods.kept(customer=customer)
        ],
        "auto": auto_top_ups.current(customer=customer),
        "key": uuid.uuid4(),
    }
    return show(request, "portal/payment.html", context, time_zone=customer.time_zone)


@require_POST
@of_customer
def add_card(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    """Leads on to Stripe's page, where the card is given. The key is the setup's: once is once."""
    _require_buyer(request, customer)
    with suppress(ValueError, UnknownCardSetup):
        key = uuid.UUID(request.POST.get("key", ""))
        try:
            setup = checkout.start_setup(
                customer_id=customer.pk, idempotency_key=key, at=timezone.now()
            )
        except (StripeUnavailable, StripeRefused):
            messages.error(
                request, "Stripe's page could not be opened. Nothing was saved; please try again."
            )
            return _back(customer)
        return redirect(setup.url)
    messages.error(request, "Please begin again: this form was not complete.")
    return _back(customer)


@login_required
@require_safe
def card_setup(request: HttpRequest, card_setup_id: uuid.UUID) -> HttpResponse:
    """Where Stripe sends the person back to, with a card given or not."""
    own = CardSetup.objects.filter(customer__in=customers.of_person(user=request.user))
    setup = get_object_or_404(own.select_related("customer"), pk=card_setup_id)
    with suppress(StripeUnavailable, StripeRefused, PaymentDoesNotMatch):
        payment_methods.finish_setup(card_setup_id=setup.pk, at=timezone.now())
    setup = own.select_related("customer", "method").get(pk=card_setup_id)
    if setup.method is not None:
        messages.success(request, f"{setup.method} is kept, and charged from now on.")
    elif "session_id" in request.GET:
        messages.success(request, "Your card is on its way: it appears here in a moment.")
    else:
        messages.error(request, "No card was saved. Nothing has changed.")
    return _back(setup.customer)


@require_POST
@of_customer
def choose_card(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    _require_buyer(request, customer)
    try:
        payment_methods.choose(
            customer_id=customer.pk, method_id=_method_id(request), at=timezone.now()
        )
        messages.success(request, "This card is charged from now on.")
    except UnknownPaymentMethod:
        messages.error(request, "This card is not kept any more.")
    return _back(customer)


@require_POST
@of_customer
def remove_card(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    _require_buyer(request, customer)
    try:
        payment_methods.remove(
            customer_id=customer.pk, method_id=_method_id(request), at=timezone.now()
        )
        messages.success(request, "The card is being removed. It takes a few seconds.")
    except UnknownPaymentMethod:
        messages.error(request, "This card is not kept any more.")
    return _back(customer)


@require_POST
@of_customer
def stripe_page(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    """On to the customer's own page at Stripe: invoices, address, tax number, cards."""
    _require_buyer(request, customer)
    back = settings.WEB_URL + reverse("payment", args=[customer.reference])
    try:
        url = checkout.open_portal(customer=customer, return_url=back, idempotency_key=uuid.uuid4())
    except (StripeUnavailable, StripeRefused):
        messages.error(request, "Your page at Stripe could not be opened. Please try again.")
        return _back(customer)
    return redirect(url)


def _require_buyer(request: HttpRequest, customer: Customer) -> None:
    if not may_buy(request=request, customer=customer):
        raise PermissionDenied


def _method_id(request: HttpRequest) -> uuid.UUID:
    try:
        return uuid.UUID(request.POST.get("method", ""))
    except ValueError as error:
        raise UnknownPaymentMethod(method_id=request.POST.get("method", "")) from error


def _is_over(method: PaymentMethod, now: datetime) -> bool:
    """A card is good to the end of the month that stands on it."""
    if method.expires_year is None or method.expires_month is None:
        return False
    return (method.expires_year, method.expires_month) < (now.year, now.month)


def _back(customer: Customer) -> HttpResponse:
    return redirect("payment", reference=customer.reference)
