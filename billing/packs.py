"""Top-up packs: draft, check, publish, retire; what a customer may buy of them, and at what price.

A pack has a price in each currency it is sold in, and may cost less each if several are bought at
once: the price of the highest quantity that is reached holds for all of them. Its bonus is a free
lot of its own, beside the lot that is paid for. It may be sold in a season only, by the buyer's
calendar, and to customers of some plans only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Q
from djmoney.money import Money

from billing import explain, faults, money, periods, pricing
from billing.errors import AlreadyPublished, NotForSale
from billing.models import Customer, PackPrice, Plan, Subscription, TopUpPack
from billing.models.catalog import QUANTITY_MAX, VALIDITY_MONTHS_MAX
from ledger.errors import Fault
from ledger.units import LOT_MICROTOKENS_MAX


@dataclass(frozen=True, kw_only=True)
class PriceFrom:
    """What one pack costs if at least so many are bought at once."""

    price: Money
    from_quantity: int = 1

    @property
    def currency(self) -> str:
        return str(self.price.currency.code)


@dataclass(frozen=True, kw_only=True)
class Season:
    """Both days belong to it, where the customer is. Without one it has no such end."""

    from_on: date | None = None
    until_on: date | None = None

    def includes(self, day: date) -> bool:
        return (self.from_on is None or self.from_on <= day) and (
            self.until_on is None or day <= self.until_on
        )


ALL_YEAR: Final = Season()


@dataclass(frozen=True, kw_only=True)
class Quote:
    """So many packs: what they cost, and what they bring."""

    quantity: int
    price_each: Money
    microtokens: int
    bonus_microtokens: int

    @property
    def price(self) -> Money:
        return self.price_each * self.quantity


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A pack that a customer may buy now, with its prices in the customer's currency."""

    pack: TopUpPack
    prices: tuple[PriceFrom, ...]  # ascending by quantity

    @property
    def single(self) -> Quote:
        return self.quote(quantity=1)

    @property
    def quantity_max(self) -> int:
        """How many are sold at once: what they bring must fit a lot."""
        larger = max(self.pack.microtokens, self.pack.bonus_microtokens)
        return min(QUANTITY_MAX, LOT_MICROTOKENS_MAX // larger)

    def affordable(self, wanted: int, *, within: Money) -> int:
        """How many of the wanted packs an amount buys."""
        most = min(wanted, self.quantity_max)
        return next((n for n in range(most, 0, -1) if self.quote(quantity=n).price <= within), 0)

    def quote(self, *, quantity: int) -> Quote:
        """Raises InvalidInput for a quantity that is not sold at once."""
        if not 1 <= quantity <= self.quantity_max:
            message = f"must be from 1 to {self.quantity_max}"
            faults.refuse([faults.fault("quantity", "range", message)])
        reached = [price for price in self.prices if price.from_quantity <= quantity]
        return Quote(
            quantity=quantity,
            price_each=reached[-1].price,
            microtokens=self.pack.microtokens * quantity,
            bonus_microtokens=self.pack.bonus_microtokens * quantity,
        )


def create(
    *,
    vendor_id: int,
    code: str,
    name: str,
    microtokens: int,
    prices: Sequence[PriceFrom],
    bonus_microtokens: int = 0,
    validity_months: int = 12,
    season: Season = ALL_YEAR,
    plan_ids: Sequence[int] = (),
) -> TopUpPack:
    """A pack, not yet for sale; without `plan_ids` every customer may buy it.

    Raises InvalidInput.
    """
    pack = TopUpPack(
        vendor_id=vendor_id,
        code=code,
        name=name,
        microtokens=microtokens,
        bonus_microtokens=bonus_microtokens,
        validity_months=validity_months,
        season_from_on=season.from_on,
        season_until_on=season.until_on,
    )
    plans = list(Plan.objects.filter(pk__in=plan_ids))
    faults.refuse(found(pack=pack, prices=prices, plans=plans))
    with transaction.atomic():
        pack.save(force_insert=True)
        pack.plans.set(plans)
        PackPrice.objects.bulk_create(
            PackPrice(pack=pack, from_quantity=row.from_quantity, price=row.price) for row in prices
        )
    return pack


def publish(*, pack_id: int, at: datetime) -> TopUpPack:
    """Put a pack up for sale, and freeze it. Raises AlreadyPublished and InvalidInput."""
    with transaction.atomic():
        pack = TopUpPack.objects.select_for_update().get(pk=pack_id)
        if pack.published_at is not None:
            raise AlreadyPublished(what=str(pack))
        faults.refuse(found(pack=pack, prices=prices(pack=pack), plans=list(pack.plans.all())))
        pack.published_at = at
        pack.save(update_fields=["published_at"])
        return pack


def retire(*, pack_id: int, at: datetime) -> None:
    """End the sale of a pack; tokens that were bought stay. Again: changes nothing."""
    TopUpPack.objects.filter(
        pk=pack_id, published_at__isnull=False, retired_at__isnull=True
    ).update(retired_at=at)


def prices(*, pack: TopUpPack) -> list[PriceFrom]:
    """In the order of quantity, each currency after the other."""
    rows = [
        PriceFrom(price=row.price, from_quantity=row.from_quantity) for row in pack.prices.all()
    ]
    return sorted(rows, key=lambda row: (row.currency, row.from_quantity))


def season_of(pack: TopUpPack) -> Season:
    return Season(from_on=pack.season_from_on, until_on=pack.season_until_on)


def offers(*, customer: Customer, at: datetime) -> list[Offer]:
    """What the customer may buy now, the cheapest first."""
    published = TopUpPack.objects.filter(
        vendor_id=customer.vendor_id, published_at__lte=at
    ).prefetch_related("prices", "plans")
    plan_ids = _plan_ids(customer, at=at)
    found = [
        in_currency(pack=pack, currency=customer.currency)
        for pack in published
        if _why_not(pack, customer, plan_ids, at=at) is None
    ]
    return sorted(found, key=lambda offer: (offer.single.price, offer.pack.pk))


def offer(*, pack: TopUpPack, customer: Customer, at: datetime) -> Offer:
    """Raises NotForSale, with the reason, unless this customer can buy the pack now."""
    reason = _why_not(pack, customer, _plan_ids(customer, at=at), at=at)
    if reason is not None:
        raise NotForSale(what=str(pack), reason=reason)
    return in_currency(pack=pack, currency=customer.currency)


def in_currency(*, pack: TopUpPack, currency: str) -> Offer:
    """The pack at its prices in a currency, whether or not it is for sale now."""
    own = tuple(row for row in prices(pack=pack) if row.currency == currency)
    return Offer(pack=pack, prices=own)


def sentences(*, pack: TopUpPack, prices: Sequence[PriceFrom], plans: Sequence[Plan]) -> list[str]:
    """What buyers will read: from the data alone."""
    bonus = ""
    if pack.bonus_microtokens:
        bonus = f", and {explain.tokens(pack.bonus_microtokens)} for free"
    months = f"{pack.validity_months} month{'' if pack.validity_months == 1 else 's'}"
    lines = [f"A pack is {explain.tokens(pack.microtokens)}{bonus}, valid for {months}."]
    for currency in sorted({row.currency for row in prices}):
        rows = [row for row in prices if row.currency == currency]
        steps = [f"{money.text(rows[0].price)} each"]
        steps += [_step(row, rows[0]) for row in rows[1:]]
        lines.append(f"It costs {', '.join(steps)}.")
    lines += _of_season(season_of(pack))
    if plans:
        names = " and ".join(sorted(plan.name for plan in plans))
        lines.append(f"Customers on {names} can buy it.")
    return lines


def saving_basis_points(row: PriceFrom, *, against: PriceFrom) -> int:
    """How much less a pack costs from so many on, rounded down."""
    return pricing.discount_basis_points(
        micros=money.to_micros(row.price),
        microtokens=1,
        from_micros=money.to_micros(against.price),
        from_microtokens=1,
    )


def found(*, pack: TopUpPack, prices: Sequence[PriceFrom], plans: Sequence[Plan]) -> list[Fault]:
    """Everything that keeps a pack from being published, each at its field."""
    return [
        *faults.of_name(pack.name),
        *_of_tokens(pack),
        *_of_season_dates(season_of(pack)),
        *_of_plans(pack, plans),
        *faults_of_prices(prices=prices),
    ]


def faults_of_prices(*, prices: Sequence[PriceFrom]) -> list[Fault]:
    """What is wrong with the prices together, each fault at its currency and quantity."""
    if not prices:
        message = "there must be a price in at least one currency"
        return [faults.fault("prices", "required", message)]
    wrong = []
    for currency in dict.fromkeys(row.currency for row in prices):
        rows = [row for row in prices if row.currency == currency]
        rows.sort(key=lambda row: row.from_quantity)
        for before, row in zip([None, *rows], rows, strict=False):
            wrong += _of_price(row, before)
    return wrong


def _plan_ids(customer: Customer, *, at: datetime) -> set[int]:
    """Plans that the customer is on: one as a rule, two at the turn from one to the next."""
    runs = Q(cancelled_at__isnull=True) | Q(periods__ends_at__gt=at)
    on = Subscription.objects.filter(runs, customer=customer, starts_at__lte=at)
    return set(on.values_list("plan_version__plan_id", flat=True))


def _why_not(
    pack: TopUpPack, customer: Customer, plan_ids: set[int], *, at: datetime
) -> str | None:
    """Why the customer can't buy the pack now; None if it can."""
    plans = {plan.pk for plan in pack.plans.all()}
    today = at.astimezone(ZoneInfo(customer.time_zone)).date()
    rules = (
        (pack.vendor_id == customer.vendor_id, "another vendor sells it"),
        (pack.published_at is not None and pack.published_at <= at, "it is not published"),
        (pack.retired_at is None or pack.retired_at > at, "it is retired"),
        (_sells_in(pack, customer.currency), f"it is not sold in {customer.currency}"),
        (season_of(pack).includes(today), "it is not its season"),
        (not plans or bool(plans & plan_ids), "it is for customers of another plan"),
    )
    return next((reason for holds, reason in rules if not holds), None)


def _sells_in(pack: TopUpPack, currency: str) -> bool:
    return any(row.currency == currency for row in pack.prices.all())


def _step(row: PriceFrom, single: PriceFrom) -> str:
    saved = explain.percent(saving_basis_points(row, against=single))
    return f"from {row.from_quantity} packs on {money.text(row.price)} each ({saved} less)"


def _of_season(season: Season) -> list[str]:
    """By the calendar of whoever buys."""
    if season.from_on is None and season.until_on is None:
        return []
    begins = "" if season.from_on is None else f" from {periods.day_text(season.from_on)}"
    ends = "" if season.until_on is None else f" until {periods.day_text(season.until_on)}"
    return [f"It is for sale{begins}{ends}."]


def _of_tokens(pack: TopUpPack) -> list[Fault]:
    wrong = []
    if not 0 < pack.microtokens <= LOT_MICROTOKENS_MAX:
        wrong.append(faults.fault("microtokens", "range", "must be from 1 to a billion tokens"))
    if not 0 <= pack.bonus_microtokens <= LOT_MICROTOKENS_MAX:
        message = "must be from 0 to a billion tokens"
        wrong.append(faults.fault("bonus_microtokens", "range", message))
    if not 1 <= pack.validity_months <= VALIDITY_MONTHS_MAX:
        message = f"must be from 1 to {VALIDITY_MONTHS_MAX} months"
        wrong.append(faults.fault("validity_months", "range", message))
    return wrong


def _of_season_dates(season: Season) -> list[Fault]:
    if season.from_on is None or season.until_on is None or season.from_on <= season.until_on:
        return []
    return [faults.fault("season_until_on", "order", "must not be before the season begins")]


def _of_plans(pack: TopUpPack, plans: Sequence[Plan]) -> list[Fault]:
    if all(plan.vendor_id == pack.vendor_id for plan in plans):
        return []
    return [faults.fault("plans", "exists", "must be plans of the same vendor")]


def _of_price(row: PriceFrom, before: PriceFrom | None) -> list[Fault]:
    """A price, and the one for fewer packs."""
    path = f"prices.{row.currency}.{row.from_quantity}"
    unknown = faults.of_currency(f"{path}.currency", row.currency)
    if unknown:
        return unknown
    wrong = faults.of_money(f"{path}.price", row.price)
    rules = (
        (row.price.amount != 0, "price", "positive", "must be more than 0"),
        (1 <= row.from_quantity <= QUANTITY_MAX, "from_quantity", "range",
         f"must be from 1 to {QUANTITY_MAX}"),
        (before is not None or row.from_quantity == 1, "from_quantity", "first",
         "must be 1 for the first price in a currency"),
        (before is None or before.from_quantity < row.from_quantity, "from_quantity", "once",
         "has a price already"),
        (before is None or row.price < before.price, "price", "less",
         "must be less than for fewer packs"),
    )  # fmt: skip
    return wrong + [
        faults.fault(f"{path}.{field}", rule, message)
        for holds, field, rule, message in rules
        if not holds
    ]
