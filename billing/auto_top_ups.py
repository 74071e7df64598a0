"""Auto-top-up: tokens are bought when they run short, as the customer asked for, and not otherwise.

Off until a person of the customer turns it on. A sweep looks at what each such customer has:
tokens available, less what it owes, plus what is bought and not granted yet. Below the threshold
one purchase is begun of as many packs as bring it back to the threshold, or as many as the month's
ceiling has room for. Whatever stands against it is a reason with words, all of them at once: the
portal shows them, and each change of them is noted.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import F, Sum
from djmoney.money import Money

from billing import (
    disputes,
    explain,
    faults,
    money,
    packs,
    payment_methods,
    periods,
    sweeps,
    top_up_charges,
)
from billing.errors import (
    KeyReused,
    NotForSale,
)
from billing.models import (
    AutoTopUp,
    AutoTopUpPause,
    AutoTopUpWithheld,
    Customer,
    TopUp,
    TopUpCharge,
    TopUpPack,
)
from ledger import queries
from ledger.errors import Fault
from ledger.units import LOT_MICROTOKENS_MAX

CUSTOMERS_PER_LOOK_MAX: Final = 500


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Something that stands against buying: a code that never changes, and words for people."""

    code: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What would be bought at a moment: `packs`, unless it is not needed or reasons stand
    against it. `wanted_packs` may be more than the ceiling has room for."""

    level_microtokens: int
    wanted_packs: int
    packs: int
    spent: Money
    reasons: tuple[Reason, ...]

    @property
    def is_needed(self) -> bool:
        return self.wanted_packs > 0


def turn_on(
    *,
    customer_id: int,
    pack_id: int,
    threshold_microtokens: int,
    ceiling: Money,
    by: Any,
    idempotency_key: uuid.UUID,
    at: datetime,
) -> AutoTopUp:
    """Buy this pack from now on whenever tokens run short; what was on before is turned off.

    The key becomes its id: turning it on again under the same key changes nothing. Raises
    InvalidInput and KeyReused.
    """
    with transaction.atomic():
        customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        known = AutoTopUp.objects.filter(pk=idempotency_key).first()
        if known is not None:
            asked = (customer_id, pack_id, threshold_microtokens, ceiling)
            if _asked(known) != asked:
                raise KeyReused(idempotency_key=idempotency_key)
            return known
        wanted = check(
            customer=customer,
            pack_id=pack_id,
            threshold_microtokens=threshold_microtokens,
            ceiling=ceiling,
            at=at,
        )
        _turn_off(customer, by=by, at=at)
        wanted.id, wanted.turned_on_by = idempotency_key, by
        wanted.save(force_insert=True)
        return wanted


def _asked(known: AutoTopUp) -> tuple[object, ...]:
    return known.customer_id, known.pack_id, known.threshold_microtokens, known.ceiling


def check(
    *,
    customer: Customer,
    pack_id: int,
    threshold_microtokens: int,
    ceiling: Money,
    at: datetime,
) -> AutoTopUp:
    """The auto-top-up that these terms would be, not saved. Raises InvalidInput."""
    pack = TopUpPack.objects.filter(pk=pack_id, vendor_id=customer.vendor_id).first()
    found = [
        *_faults_of_pack(customer, pack, at=at),
        *_faults_of_amounts(customer, pack, threshold_microtokens, ceiling),
    ]
    if payment_methods.charged(customer=customer) is None:
        message = "there is no card to charge: add one first"
        found.append(Fault(field="card", rule="exists", message=message))
    faults.refuse(found)
    assert pack is not None
    return AutoTopUp(
        customer=customer,
        pack=pack,
        threshold_microtokens=threshold_microtokens,
        ceiling=ceiling,
        turned_on_at=at,
    )


def turn_off(*, customer_id: int, by: Any, at: datetime) -> None:
    """Buy nothing more by itself. What is under way is not stopped. Again, it changes nothing."""
    with transaction.atomic():
        customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        _turn_off(customer, by=by, at=at)


def resume(*, customer_id: int, by: Any, at: datetime) -> None:
    """Go on after a pause: somebody has looked into it. Again, it changes nothing."""
    with transaction.atomic():
        Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        paused = AutoTopUpPause.objects.filter(
            auto_top_up__customer_id=customer_id, resumed_at__isnull=True
        )
        paused.update(resumed_at=at, resumed_by=by)


def current(*, customer: Customer) -> AutoTopUp | None:
    """What the customer has turned on."""
    on = AutoTopUp.objects.filter(customer=customer, turned_off_at__isnull=True)
    return on.select_related("pack", "customer").first()


def pause_of(*, auto_top_up: AutoTopUp, at: datetime) -> AutoTopUpPause | None:
    """The pause that holds at a moment."""
    latest = AutoTopUpPause.objects.filter(auto_top_up=auto_top_up, resumed_at__isnull=True)
    return next(
        (one for one in latest.order_by("-id") if one.until is None or one.until > at), None
    )


def outlook(*, auto_top_up: AutoTopUp, at: datetime) -> Outlook:
    """What would be bought now, and what stands against it. `auto_top_up` need not be saved."""
    customer = auto_top_up.customer
    return _outlook(auto_top_up, levels(customers=[customer], at=at)[customer.pk], at=at)


def levels(*, customers: Sequence[Customer], at: datetime) -> dict[int, int]:
    """What customers have to spend, in microtokens: less their debts, plus what is paid for."""
    balances = queries.balances(account_ids=[one.account_id for one in customers], at=at)
    pending = _pending(customers)
    return {
        one.pk: balances[one.account_id].available_microtokens
        - balances[one.account_id].debt_microtokens
        + pending.get(one.pk, 0)
        for one in customers
    }


def evaluate(*, at: datetime) -> int:
    """Look at every customer who turned it on; how many purchases were begun.

    Several workers may look at once: the customer's row is locked, and one charge is under way.
    """
    return sum(_look_at(page, at=at) for page in _turned_on())


def _look_at(page: list[AutoTopUp], *, at: datetime) -> int:
    known = levels(customers=[one.customer for one in page], at=at)
    short = [one.pk for one in page if known[one.customer_id] < one.threshold_microtokens]
    return sweeps.each(short, lambda pk: _buy(pk, at=at), what="auto-top-up", items_max=len(short))


def _turned_on() -> Iterator[list[AutoTopUp]]:
    on = AutoTopUp.objects.filter(turned_off_at__isnull=True).select_related("customer")
    on = on.order_by("customer_id")
    page = list(on[:CUSTOMERS_PER_LOOK_MAX])
    while page:
        yield page
        page = list(on.filter(customer_id__gt=page[-1].customer_id)[:CUSTOMERS_PER_LOOK_MAX])


def _buy(auto_top_up_id: uuid.UUID, *, at: datetime) -> int:
    with transaction.atomic():
        customer_id = AutoTopUp.objects.get(pk=auto_top_up_id).customer_id
        Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        auto = AutoTopUp.objects.select_related("pack", "customer").get(pk=auto_top_up_id)
        if auto.turned_off_at is not None:
            return 0
        seen = outlook(auto_top_up=auto, at=at)
        if not seen.is_needed:
            return 0
        if seen.reasons:
            _note(auto, seen, at=at)
            return 0
        method = payment_methods.charged(customer=auto.customer)
        assert method is not None, "else it is among the reasons"
        top_up_charges.begin(
            auto_top_up=auto,
            quantity=seen.packs,
            method=method,
            month=_month(auto.customer, at),
            available_microtokens=seen.level_microtokens,
            at=at,
        )
        return 1


def _outlook(auto: AutoTopUp, level: int, *, at: datetime) -> Outlook:
    missing = auto.threshold_microtokens - level
    each = auto.pack.microtokens + auto.pack.bonus_microtokens
    wanted = -(-missing // each) if missing > 0 else 0
    spent = _spent(auto.customer, at=at)
    offer = packs.in_currency(pack=auto.pack, currency=auto.customer.currency)
    return Outlook(
        level_microtokens=level,
        wanted_packs=wanted,
        packs=offer.affordable(wanted, within=auto.ceiling - spent),
        spent=spent,
        reasons=tuple(_reasons(auto, spent, at=at)),
    )


def _reasons(auto: AutoTopUp, spent: Money, *, at: datetime) -> Iterator[Reason]:
    customer = auto.customer
    if auto.turned_off_at is not None:
        yield Reason(code="off", words="It is turned off.")
    under_way = TopUpCharge.objects.filter(customer=customer, ended_at__isnull=True).first()
    if under_way is not None:
        since = periods.date_text(under_way.begun_at, customer.time_zone)
        words = f"A purchase that was begun on {since} is still under way."
        yield Reason(code="in_flight", words=words)
    if disputes.holds_top_ups(customer_id=customer.pk):
        words = "A payment is disputed: nothing is bought until the bank has decided."
        yield Reason(code="disputed", words=words)
    pause = pause_of(auto_top_up=auto, at=at)
    if pause is not None:
        yield _paused(pause, customer)
    method = payment_methods.charged(customer=customer)
    if method is None or method.pk in payment_methods.leaving(customer=customer):
        yield Reason(code="card_missing", words="There is no card to charge.")
    yield from _reasons_of_sale(auto, spent, at=at)


def _reasons_of_sale(auto: AutoTopUp, spent: Money, *, at: datetime) -> Iterator[Reason]:
    """What the pack and its price have against it."""
    customer = auto.customer
    for fault in _faults_of_pack(customer, auto.pack, at=at):
        yield Reason(code="not_for_sale", words=f"{auto.pack} {fault.message}.")
    single = packs.in_currency(pack=auto.pack, currency=customer.currency).single.price
    price, ceiling = money.text(single), money.text(auto.ceiling)
    if single > auto.ceiling:
        words = f"One {auto.pack} costs {price}, more than your own maximum of {ceiling} a month."
        yield Reason(code="above_own_maximum", words=words)
    elif spent + single > auto.ceiling:
        words = (
            f"{money.text(spent)} of at most {ceiling} are spent this month:"
            f" another {price} would be too much."
        )
        yield Reason(code="ceiling_reached", words=words)


def _paused(pause: AutoTopUpPause, customer: Customer) -> Reason:
    since = periods.date_text(pause.paused_at, customer.time_zone)
    words = f"Paused since {since}: {pause.get_reason_display()}."
    if pause.until is not None:
        words += f" Tried again from {periods.date_text(pause.until, customer.time_zone)}."
    return Reason(code="paused", words=words)


def _note(auto: AutoTopUp, seen: Outlook, *, at: datetime) -> None:
    """Once, until something else stands against it, or something was bought in between."""
    latest = AutoTopUpWithheld.objects.filter(auto_top_up=auto).order_by("-id").first()
    reason = seen.reasons[0]
    bought = TopUpCharge.objects.filter(auto_top_up=auto).order_by("-id").first()
    is_old = latest is None or (bought is not None and bought.begun_at > latest.noted_at)
    if is_old or latest is None or latest.reason != reason.code:
        AutoTopUpWithheld.objects.create(
            auto_top_up=auto,
            reason=reason.code,
            words=" ".join(one.words for one in seen.reasons),
            available_microtokens=seen.level_microtokens,
            noted_at=at,
        )


def _spent(customer: Customer, *, at: datetime) -> Money:
    """What was bought by itself this month, and what is being bought."""
    charges = TopUpCharge.objects.filter(
        customer=customer, month=_month(customer, at).date(), failed_at__isnull=True
    )
    total = charges.aggregate(total=Sum("top_up__price"))["total"]
    return Money(total or 0, customer.currency)


def _month(customer: Customer, at: datetime) -> datetime:
    return at.astimezone(ZoneInfo(customer.time_zone)).replace(day=1)


def _pending(customers: Sequence[Customer]) -> dict[int, int]:
    """Tokens that are bought and not granted yet: by itself, or by a person whose payment takes
    its time. A page that is merely open may never be paid, and does not count."""
    waiting = TopUp.objects.filter(customer__in=customers, fulfilment__isnull=True)
    by_itself = waiting.filter(charge__isnull=False, charge__ended_at__isnull=True)
    by_hand = waiting.filter(session__completed_at__isnull=False, session__failed_at__isnull=True)
    found: dict[int, int] = {}
    for rows in (by_itself, by_hand):
        brought = F("microtokens") + F("bonus_microtokens")
        for customer_id, tokens in rows.values_list("customer_id", brought):
            found[customer_id] = found.get(customer_id, 0) + tokens
    return found


def _turn_off(customer: Customer, *, by: Any, at: datetime) -> None:
    AutoTopUp.objects.filter(customer=customer, turned_off_at__isnull=True).update(
        turned_off_at=at, turned_off_by=by
    )


def _faults_of_pack(customer: Customer, pack: TopUpPack | None, *, at: datetime) -> Iterator[Fault]:
    if pack is None:
        yield Fault(field="pack", rule="exists", message="is none of the packs for sale")
        return
    try:
        packs.offer(pack=pack, customer=customer, at=at)
    except NotForSale as refusal:
        yield Fault(field="pack", rule="for_sale", message=f"is not for sale: {refusal.reason}")


def _faults_of_amounts(
    customer: Customer, pack: TopUpPack | None, threshold_microtokens: int, ceiling: Money
) -> Iterator[Fault]:
    if not 0 < threshold_microtokens <= LOT_MICROTOKENS_MAX:
        most = explain.tokens(LOT_MICROTOKENS_MAX)
        message = f"must be more than 0 and at most {most}"
        yield Fault(field="threshold", rule="range", message=message)
    if ceiling.currency.code != customer.currency:
        message = f"must be in {customer.currency}"
        yield Fault(field="ceiling", rule="currency", message=message)
    elif ceiling.amount > 0 and (unpayable := faults.of_money("ceiling", ceiling)):
        yield from unpayable
    elif ceiling.amount <= 0:
        yield Fault(field="ceiling", rule="range", message="must be more than 0")
    elif pack is not None:
        offer = packs.in_currency(pack=pack, currency=customer.currency)
        if offer.prices and ceiling < offer.single.price:
            message = f"must be at least {money.text(offer.single.price)}, what one {pack} costs"
            yield Fault(field="ceiling", rule="room", message=message)
