"""Books, units, meters, engines, workflows and rate cards: what a vendor sets up once.

Every change raises the book's revision, so that whoever caches a book's prices knows when to
read them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from django.db import transaction
from django.db.models import F

from ledger import prices
from ledger.errors import RateCardVersionEmpty, RateCardVersionPublished
from ledger.instants import to_us
from ledger.models import (
    Account,
    Book,
    Engine,
    Meter,
    Rate,
    RateCard,
    RateCardVersion,
    Unit,
    Workflow,
)
from ledger.units import MICROTOKENS_PER_TOKEN, shard_of


@dataclass(frozen=True, kw_only=True)
class NewRate:
    """`microtokens` for every `per_quantity` of a meter; engine None and workflow "" mean any."""

    meter: str
    engine: str | None = None
    workflow: str = ""
    microtokens: int = MICROTOKENS_PER_TOKEN
    per_quantity: int = 1
    block_quantity: int = 1
    minimum_microtokens: int = 0


@dataclass(frozen=True, kw_only=True)
class UnitFacts:
    id: int
    code: str
    name: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class RateFacts:
    """A rate of a published card. Engine and workflow "" mean any."""

    meter: str
    engine: str
    workflow: str
    microtokens: int
    per_quantity: int
    block_quantity: int
    minimum_microtokens: int

    @property
    def least_microtokens(self) -> int:
        """What the smallest run costs that it prices."""
        smallest = -(-self.microtokens * self.block_quantity // self.per_quantity)
        return max(smallest, self.minimum_microtokens)


@dataclass(frozen=True, kw_only=True)
class RateCardFacts:
    id: int
    code: str
    name: str
    unit_id: int


def create_book(*, code: str, name: str) -> int:
    return Book.objects.create(code=code, name=name).pk


def create_unit(*, book_id: int, code: str, name: str, sentence: str) -> int:
    return Unit.objects.create(book_id=book_id, code=code, name=name, sentence=sentence).pk


def create_meter(*, book_id: int, code: str, name: str, part_of: str | None = None) -> int:
    """A measured quantity. `part_of` names the meter whose count includes this one's."""
    whole = None if part_of is None else Meter.objects.get(book_id=book_id, code=part_of)
    meter = Meter.objects.create(book_id=book_id, code=code, name=name, part_of=whole)
    changed(book_id=book_id)
    return meter.pk


def create_engine(*, book_id: int, code: str, name: str) -> int:
    engine = Engine.objects.create(book_id=book_id, code=code, name=name)
    changed(book_id=book_id)
    return engine.pk


def create_workflow(*, book_id: int, code: str, name: str, default_cost_centre: str = "") -> int:
    workflow = Workflow.objects.create(
        book_id=book_id, code=code, name=name, default_cost_centre=default_cost_centre
    )
    changed(book_id=book_id)
    return workflow.pk


def publish_rate_card(
    *,
    book_id: int,
    unit_id: int,
    code: str,
    name: str,
    effective_at: datetime,
    rates: Sequence[NewRate],
    at: datetime,
) -> int:
    """Publish a new version of the rate card `code`, made if there is none; the card's id."""
    with transaction.atomic():
        card, _ = RateCard.objects.get_or_create(
            book_id=book_id, code=code, defaults={"unit_id": unit_id, "name": name}
        )
        version = RateCardVersion.objects.create(
            rate_card=card,
            number=next_version_number(rate_card_id=card.pk),
            effective_at=effective_at,
        )
        for rate in rates:
            Rate.objects.create(
                version=version,
                meter=Meter.objects.get(book_id=book_id, code=rate.meter),
                engine=(
                    None
                    if rate.engine is None
                    else Engine.objects.get(book_id=book_id, code=rate.engine)
                ),
                workflow=rate.workflow,
                microtokens=rate.microtokens,
                per_quantity=rate.per_quantity,
                block_quantity=rate.block_quantity,
                minimum_microtokens=rate.minimum_microtokens,
            )
        publish_version(version_id=version.pk, at=at)
        return card.pk


def publish_version(*, version_id: int, at: datetime) -> None:
    """Publish a drafted version; from then on the database refuses to change it.

    Raises RateCardVersionPublished and RateCardVersionEmpty.
    """
    with transaction.atomic():
        version = (
            RateCardVersion.objects.select_for_update(of=("self",))
            .select_related("rate_card")
            .get(pk=version_id)
        )
        if version.published_at is not None:
            raise RateCardVersionPublished(rate_card=version.rate_card.code, number=version.number)
        if not version.rates.exists():
            raise RateCardVersionEmpty(rate_card=version.rate_card.code, number=version.number)
        version.published_at = at
        version.save(update_fields=["published_at"])
        changed(book_id=version.rate_card.book_id)


def next_version_number(*, rate_card_id: int) -> int:
    latest = RateCardVersion.objects.filter(rate_card_id=rate_card_id).order_by("-number").first()
    return 1 if latest is None else latest.number + 1


def unit(*, unit_id: int) -> UnitFacts:
    return _unit_facts(Unit.objects.get(pk=unit_id))


def units(*, book_id: int) -> list[UnitFacts]:
    return [_unit_facts(row) for row in Unit.objects.filter(book_id=book_id).order_by("name")]


def rate_cards(*, book_id: int) -> list[RateCardFacts]:
    """The book's cards that have a published version, by name."""
    cards = RateCard.objects.filter(book_id=book_id, versions__published_at__isnull=False)
    return [
        RateCardFacts(id=card.pk, code=card.code, name=card.name, unit_id=card.unit_id)
        for card in cards.distinct().order_by("name")
    ]


def rates(*, rate_card_id: int, at: datetime) -> list[RateFacts]:
    """The rates in force at an instant; none before the card's first version."""
    version = (
        RateCardVersion.objects.filter(
            rate_card_id=rate_card_id, published_at__isnull=False, effective_at__lte=at
        )
        .order_by("-effective_at", "-published_at", "-number")
        .first()
    )
    rows = Rate.objects.filter(version=version).select_related("meter", "engine").order_by("pk")
    return [
        RateFacts(
            meter=row.meter.code,
            engine="" if row.engine is None else row.engine.code,
            workflow=row.workflow,
            microtokens=row.microtokens,
            per_quantity=row.per_quantity,
            block_quantity=row.block_quantity,
            minimum_microtokens=row.minimum_microtokens,
        )
        for row in rows
    ]


def engines(*, book_id: int) -> frozenset[str]:
    """The codes of what does the work."""
    return frozenset(Engine.objects.filter(book_id=book_id).values_list("code", flat=True))


def meters(*, book_id: int) -> frozenset[str]:
    """The codes of what is measured."""
    return frozenset(Meter.objects.filter(book_id=book_id).values_list("code", flat=True))


def times_dearer(*, account_id: int, rate_card_id: int, workflow: str, at: datetime) -> Fraction:
    """By how many times another rate card of its book asks more of an account for a workflow.

    1 if it is not the same for all that the account's card has a rate for, whatever the engine.
    """
    account = Account.objects.get(shard=shard_of(account_id), id=account_id)
    cards = prices.of_book(account.book_id).rate_cards
    found = [cards[one].version_at(to_us(at)) for one in (account.rate_card_id, rate_card_id)]
    own, other = found
    if own is None or other is None:
        return Fraction(1)
    ratios = {
        Fraction(theirs.microtokens * ours.per_quantity, theirs.per_quantity * ours.microtokens)
        for meter in {key[0] for key in own.rates}
        if (ours := own.rate(meter, "", workflow))
        and (theirs := other.rate(meter, "", workflow))
        and ours.microtokens
    }
    return ratios.pop() if len(ratios) == 1 else Fraction(1)


def changed(*, book_id: int) -> None:
    """Tell every process that caches this book's prices and names to read them again."""
    Book.objects.filter(pk=book_id).update(revision=F("revision") + 1)


def _unit_facts(row: Unit) -> UnitFacts:
    return UnitFacts(id=row.pk, code=row.code, name=row.name, sentence=row.sentence)
