"""Open vendors and customers, let people in, and say who may see what.

A vendor is a book in the ledger; a customer is one account of it and, at Stripe, one customer. Both
are opened once: the same code and facts again give the same row.
"""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from billing import names
from billing.errors import CustomerCodeTaken, InvalidInput
from billing.models import Customer, CustomerMember, Vendor
from billing.stripe import calls
from ledger import accounts, moving
from ledger import catalog as ledger_catalog
from ledger.errors import Fault

PAYMENT_DAYS_MAX = 365


def open_vendor(*, code: str, name: str, at: datetime) -> Vendor:
    """A vendor with an empty book, or the one that the code names. Raises InvalidInput."""
    faults = _faults_of_names(code=code, name=name)
    if faults:
        raise InvalidInput(faults=faults)
    with transaction.atomic():
        known = Vendor.objects.filter(code=code).first()
        if known is not None:
            return known
        book_id = ledger_catalog.create_book(code=code, name=name)
        return Vendor.objects.create(code=code, name=name, book_id=book_id, opened_at=at)


def open_customer(
    *,
    vendor_id: int,
    code: str,
    name: str,
    email: str,
    currency: str,
    time_zone: str,
    rate_card_id: int,
    default_cost_centre: str = "",
    account_manager: Any = None,
    payment_days: int | None = None,
    stripe_payment_method_id: str = "",
    at: datetime,
) -> Customer:
    """A customer with an account of its own, or the one that the code names.

    `payment_days` None: invoices are charged to the customer's card; else the customer has so many
    days to pay. Raises InvalidInput, and CustomerCodeTaken if the code names another customer.
    """
    faults = [
        *_faults_of_names(code=code, name=name),
        *_faults_of_terms(currency=currency, time_zone=time_zone, payment_days=payment_days),
    ]
    with transaction.atomic():
        vendor = Vendor.objects.select_for_update(no_key=True).get(pk=vendor_id)
        faults += _faults_of_rate_card(vendor, rate_card_id)
        if faults:
            raise InvalidInput(faults=faults)
        known = Customer.objects.filter(vendor=vendor, code=code).first()
        if known is not None:
            if (known.name, known.currency) != (name, currency):
                raise CustomerCodeTaken(customer=code)
            return known
        account = accounts.open_account(
            book_id=vendor.book_id,
            code=code,
            name=name,
            rate_card_id=rate_card_id,
            default_cost_centre=default_cost_centre,
            time_zone=time_zone,
            at=at,
        )
        customer = Customer.objects.create(
            vendor=vendor,
            code=code,
            name=name,
            email=email,
            account_id=account.id,
            currency=currency,
            time_zone=time_zone,
            account_manager=account_manager,
            payment_days=payment_days,
            stripe_payment_method_id=stripe_payment_method_id,
            opened_at=at,
        )
        calls.write_customer_create(customer=customer, at=at)
        return customer


def change_customer(
    *,
    customer_id: int,
    name: str,
    email: str,
    time_zone: str,
    account_manager: Any,
    payment_days: int | None,
) -> Customer:
    """Change what may change of a customer; its account moves to the time zone along with it.

    Raises InvalidInput.
    """
    with transaction.atomic():
        customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        faults = [
            *_faults_of_names(code=customer.code, name=name),
            *_faults_of_terms(
                currency=customer.currency, time_zone=time_zone, payment_days=payment_days
            ),
        ]
        if faults:
            raise InvalidInput(faults=faults)
        customer.name, customer.email, customer.time_zone = name, email, time_zone
        customer.account_manager, customer.payment_days = account_manager, payment_days
        customer.save(
            update_fields=["name", "email", "time_zone", "account_manager", "payment_days"]
        )
        moving.move_account(account_id=customer.account_id, time_zone=time_zone)
        return customer


def add_member(*, customer_id: int, user: Any, role: str) -> CustomerMember:
    """Let a person into the customer's portal, or change the role they have there."""
    assert role in CustomerMember.Role.values
    member, _ = CustomerMember.objects.update_or_create(
        customer_id=customer_id, user=user, defaults={"role": role}
    )
    return member


def lock(*, customer_id: int, waits: bool = True) -> bool:
    """Be the only one who bills a customer, until the transaction ends. Before any lock on what is
    the customer's, so that no two wait for each other. False if somebody else is, and is not to be
    waited for."""
    locked = Customer.objects.select_for_update(no_key=True, skip_locked=not waits)
    return locked.filter(pk=customer_id).exists()


def record_at_stripe(*, customer_id: int, stripe_customer_id: str) -> None:
    """Stripe knows the customer under this id, from now on and for ever."""
    with transaction.atomic():
        customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        assert customer.stripe_customer_id in ("", stripe_customer_id)
        customer.stripe_customer_id = stripe_customer_id
        customer.save(update_fields=["stripe_customer_id"])


def of_person(*, user: Any) -> QuerySet[Customer]:
    """Customers for whom the person buys."""
    if not user.is_active or user.pk is None:
        return Customer.objects.none()
    return Customer.objects.filter(members__user_id=user.pk)


def _faults_of_names(*, code: str, name: str) -> list[Fault]:
    found = []
    for field, text, length_max in (("code", code, 100), ("name", name, 200)):
        if not text.strip() or len(text) > length_max:
            message = f"must have 1 to {length_max} characters"
            found.append(Fault(field=field, rule="length", message=message))
        elif not names.is_plain(text):
            message = "must be one line, without control characters"
            found.append(Fault(field=field, rule="plain", message=message))
    return found


def _faults_of_terms(*, currency: str, time_zone: str, payment_days: int | None) -> list[Fault]:
    found = []
    if currency not in settings.CURRENCIES:
        known = ", ".join(settings.CURRENCIES)
        found.append(Fault(field="currency", rule="choice", message=f"must be one of {known}"))
    if not accounts.is_time_zone(time_zone):
        message = f"{time_zone!r} is no time zone, such as Europe/Paris"
        found.append(Fault(field="time_zone", rule="exists", message=message))
    if payment_days is not None and not 1 <= payment_days <= PAYMENT_DAYS_MAX:
        message = f"must be from 1 to {PAYMENT_DAYS_MAX}"
        found.append(Fault(field="payment_days", rule="range", message=message))
    return found


def _faults_of_rate_card(vendor: Vendor, rate_card_id: int) -> list[Fault]:
    own = {card.id for card in ledger_catalog.rate_cards(book_id=vendor.book_id)}
    if rate_card_id in own:
        return []
    message = "names no published rate card of this vendor"
    return [Fault(field="rate_card_id", rule="exists", message=message)]
