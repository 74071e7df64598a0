"""Cards that customers keep: given on Stripe's pages, chosen to be charged, removed.

    begin_setup ─▶ Checkout in setup mode ─▶ kept ─▶ chosen ─▶ charged
                   a top-up that keeps the card ─┘ └▶ removed

Stripe keeps the card; here stand the facts of it. What an event says is never believed: `refresh`
asks Stripe which methods the customer has and which is its default, and writes down what is new,
whether it came about here, on the customer's own page at Stripe, or by the vendor's hand there. An
address that was given there lets invoices go on that waited for it.
"""

import uuid
from datetime import datetime
from typing import Final

from django.db import transaction

from billing import tax_location
from billing.errors import PaymentDoesNotMatch, UnknownCardSetup, UnknownPaymentMethod
from billing.models import CardSetup, Customer, PaymentMethod, PaymentMethodChoice, StripeCall
from billing.stripe import calls, gateway, tokens
from billing.stripe.facts import CustomerFacts, MethodFacts, SetupFacts

SHOWN: Final = ("kind", "brand", "last4", "expires_year", "expires_month")


def begin_setup(*, customer_id: int, idempotency_key: uuid.UUID, at: datetime) -> CardSetup:
    """Write down that a customer wants to give a card, with the call that opens the page for it.

    The key becomes the setup's id. Raises UnknownCardSetup if it is another customer's.
    """
    with transaction.atomic():
        customer = _locked(customer_id)
        setup, is_new = CardSetup.objects.get_or_create(
            id=idempotency_key, defaults={"customer": customer, "begun_at": at}
        )
        if setup.customer_id != customer_id:
            raise UnknownCardSetup(card_setup_id=idempotency_key)
        if is_new:
            calls.write_setup_create(setup=setup, at=at)
        return setup


def record_setup_session(
    *, card_setup_id: uuid.UUID, stripe_session_id: str, url: str, at: datetime
) -> None:
    """The page is open. Told again, nothing changes."""
    CardSetup.objects.filter(pk=card_setup_id, opened_at__isnull=True).update(
        stripe_session_id=stripe_session_id, url=url, opened_at=at
    )


def finish_setup(*, card_setup_id: uuid.UUID, stripe_session_id: str = "", at: datetime) -> bool:
    """Ask Stripe whether the card was given; if so it is kept, and charged from now on.

    Whoever calls, it is done once. False if a later question overtook ours. Raises
    UnknownCardSetup, PaymentDoesNotMatch, StripeUnavailable and StripeRefused.
    """
    token = tokens.draw(CardSetup, card_setup_id)
    if token is None:
        raise UnknownCardSetup(card_setup_id=card_setup_id)
    setup = CardSetup.objects.get(pk=card_setup_id)
    session_id = setup.stripe_session_id or stripe_session_id
    if setup.saved_at is not None or not session_id:
        return True
    facts = gateway.setup_session(session_id=session_id)
    with transaction.atomic():
        customer = _locked(setup.customer_id)
        setup = CardSetup.objects.select_for_update().get(pk=card_setup_id)
        if setup.sync_token != token:
            return False
        _apply_setup(setup, customer, facts, at=at)
        return True


def refresh(*, customer_id: int, at: datetime) -> bool:
    """Ask Stripe which methods a customer keeps, and write down what is new.

    False if a later question overtook ours. Raises StripeUnavailable and StripeRefused.
    """
    token = tokens.draw(Customer, customer_id)
    stripe_customer_id = Customer.objects.get(pk=customer_id).stripe_customer_id
    if not stripe_customer_id:
        return True
    facts = gateway.customer(stripe_customer_id=stripe_customer_id)
    methods = gateway.payment_methods(stripe_customer_id=stripe_customer_id)
    with transaction.atomic():
        customer = _locked(customer_id)
        if customer.sync_token != token:
            return False
        _apply(customer, facts, methods, at=at)
        Customer.objects.filter(pk=customer_id).update(asked_at=at)
        return True


def keep(*, customer: Customer, facts: MethodFacts, at: datetime) -> PaymentMethod:
    """The customer keeps this method and is charged with it from now on."""
    with transaction.atomic():
        customer = _locked(customer.pk)
        method = _record(customer, facts, at=at)
        _choose(customer, method, at=at)
        return method


def choose(*, customer_id: int, method_id: uuid.UUID, at: datetime) -> None:
    """Charge this one from now on. Choosing it again changes nothing.

    Raises UnknownPaymentMethod.
    """
    with transaction.atomic():
        customer = _locked(customer_id)
        _choose(customer, _own(customer, method_id), at=at)


def remove(*, customer_id: int, method_id: uuid.UUID, at: datetime) -> None:
    """Have Stripe forget a method; it is gone when Stripe says so. Again, it changes nothing.

    Raises UnknownPaymentMethod.
    """
    with transaction.atomic():
        customer = _locked(customer_id)
        calls.write_card_detach(method=_own(customer, method_id), at=at)


def record_detached(*, method_id: uuid.UUID, at: datetime) -> None:
    """Stripe has forgotten it."""
    PaymentMethod.objects.filter(pk=method_id, detached_at__isnull=True).update(detached_at=at)


def kept(*, customer: Customer) -> list[PaymentMethod]:
    """What a customer keeps, the latest first."""
    own = PaymentMethod.objects.filter(customer=customer, detached_at__isnull=True)
    return list(own.order_by("-attached_at", "-id"))


def charged(*, customer: Customer) -> PaymentMethod | None:
    """What a customer is charged with: what it chose last, if it still keeps that."""
    choices = PaymentMethodChoice.objects.filter(customer=customer).select_related("method")
    latest = choices.order_by("-id").first()
    return None if latest is None or latest.method.detached_at is not None else latest.method


def chosen_at(*, customer: Customer) -> datetime | None:
    """When the customer last chose what it is charged with."""
    latest = PaymentMethodChoice.objects.filter(customer=customer).order_by("-id").first()
    return None if latest is None else latest.chosen_at


def leaving(*, customer: Customer) -> set[uuid.UUID]:
    """Methods that are being removed: Stripe has been told, or will be."""
    under_way = StripeCall.objects.filter(
        operation=calls.CARD_DETACH,
        aggregate_id__in=[method.pk for method in kept(customer=customer)],
        refused_at__isnull=True,
    )
    return set(under_way.values_list("aggregate_id", flat=True))


def _apply_setup(setup: CardSetup, customer: Customer, facts: SetupFacts, *, at: datetime) -> None:
    for field, expected, found in (
        ("client_reference_id", str(setup.pk), facts.client_reference_id),
        ("customer", customer.stripe_customer_id, facts.customer_id),
        ("livemode", gateway.is_live(), facts.livemode),
    ):
        if expected != found:
            raise PaymentDoesNotMatch(field=field, expected=expected, found=found)
    if setup.opened_at is None:
        setup.stripe_session_id, setup.url, setup.opened_at = facts.stripe_id, facts.url, at
    if facts.status == "expired" and setup.expired_at is None:
        setup.expired_at = at
    if facts.method is not None and setup.saved_at is None:
        setup.method, setup.saved_at = _record(customer, facts.method, at=at), at
        _choose(customer, setup.method, at=at)
    setup.save()


def _apply(
    customer: Customer, facts: CustomerFacts, methods: list[MethodFacts], *, at: datetime
) -> None:
    if facts.country:
        tax_location.go_on(customer=customer, at=at)
    there = {one.stripe_id: _record(customer, one, at=at) for one in methods}
    gone = PaymentMethod.objects.filter(customer=customer, detached_at__isnull=True)
    gone.exclude(stripe_payment_method_id__in=there).update(detached_at=at)
    if calls.default_under_way(customer=customer):
        return  # what was chosen here is on its way to Stripe
    default = there.get(facts.default_method_id)
    ours = charged(customer=customer)
    if default is not None and default != ours:
        PaymentMethodChoice.objects.create(customer=customer, method=default, chosen_at=at)
    elif default is None and ours is not None:
        calls.write_card_default(method=ours, at=at)
    elif default is None and there and not customer.method_choices.exists():
        # The first that a customer keeps is there to be charged.
        _choose(customer, max(there.values(), key=lambda method: method.attached_at), at=at)


def _record(customer: Customer, facts: MethodFacts, *, at: datetime) -> PaymentMethod:
    """The row of a method: made when we first hear of it, and shown as Stripe shows it now."""
    shown = {name: getattr(facts, name) for name in SHOWN}
    method, is_new = PaymentMethod.objects.get_or_create(
        stripe_payment_method_id=facts.stripe_id,
        defaults={"customer": customer, "attached_at": at, **shown},
    )
    assert method.customer_id == customer.pk, "a method of Stripe's belongs to one customer"
    if not is_new and any(getattr(method, name) != value for name, value in shown.items()):
        PaymentMethod.objects.filter(pk=method.pk).update(**shown)
        method.refresh_from_db()
    return method


def _choose(customer: Customer, method: PaymentMethod, *, at: datetime) -> None:
    if charged(customer=customer) == method:
        return
    PaymentMethodChoice.objects.create(customer=customer, method=method, chosen_at=at)
    calls.write_card_default(method=method, at=at)


def _own(customer: Customer, method_id: uuid.UUID) -> PaymentMethod:
    own = PaymentMethod.objects.filter(customer=customer, detached_at__isnull=True)
    found = own.filter(pk=method_id).first()
    if found is None:
        raise UnknownPaymentMethod(method_id=method_id)
    return found


def _locked(customer_id: int) -> Customer:
    return Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
