"""A book's prices and names as the intake needs them: read once, kept until the book changes."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ledger.instants import to_us
from ledger.models import Book, Engine, Meter, Rate, RateCardVersion, Workflow
from ledger.rating import Rate as PureRate
from ledger.rating import RateCard, RateKey, Version

BOOKS_CACHED_MAX: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class BookPrices:
    """Everything that decides whether a run is valid and what it costs."""

    revision: int
    meters: frozenset[str]
    engines: Mapping[str, int]  # its id by its code
    whole_of: Mapping[str, str]  # part -> the meter whose count includes it
    default_cost_centres: Mapping[str, str]  # workflow -> cost centre
    rate_cards: Mapping[int, RateCard]


_cache: dict[int, BookPrices] = {}


def of_book(book_id: int) -> BookPrices:
    """The book's prices as of its present revision; one short query if they are known."""
    revision = _revision(book_id)
    known = _cache.get(book_id)
    while known is None or known.revision != revision:
        # Several statements read them: if they changed meanwhile, halves of two would be mixed.
        known = _read(book_id, revision)
        revision = _revision(book_id)
        if len(_cache) >= BOOKS_CACHED_MAX:
            _cache.clear()
        _cache[book_id] = known
    return known


def _revision(book_id: int) -> int:
    return Book.objects.values_list("revision", flat=True).get(pk=book_id)


def _read(book_id: int, revision: int) -> BookPrices:
    meters = Meter.objects.filter(book_id=book_id).select_related("part_of")
    whole_of = {meter.code: meter.part_of.code for meter in meters if meter.part_of is not None}
    engines = Engine.objects.filter(book_id=book_id).values_list("code", "id")
    workflows = Workflow.objects.filter(book_id=book_id).exclude(default_cost_centre="")
    return BookPrices(
        revision=revision,
        meters=frozenset(meter.code for meter in meters),
        engines=dict(engines),
        whole_of=whole_of,
        default_cost_centres=dict(workflows.values_list("code", "default_cost_centre")),
        rate_cards=_rate_cards(book_id, whole_of),
    )


def _rate_cards(book_id: int, whole_of: Mapping[str, str]) -> dict[int, RateCard]:
    parts: dict[str, list[str]] = defaultdict(list)
    for part, whole in whole_of.items():
        parts[whole].append(part)
    rates: dict[int, dict[RateKey, PureRate]] = defaultdict(dict)
    published = Rate.objects.filter(
        version__rate_card__book_id=book_id, version__published_at__isnull=False
    )
    for row in published.select_related("meter", "engine"):
        engine = None if row.engine is None else row.engine.code
        rates[row.version_id][(row.meter.code, engine, row.workflow)] = PureRate(
            microtokens=row.microtokens,
            per_quantity=row.per_quantity,
            block_quantity=row.block_quantity,
            minimum_microtokens=row.minimum_microtokens,
        )
    versions: dict[int, list[Version]] = defaultdict(list)
    for version in RateCardVersion.objects.filter(
        rate_card__book_id=book_id, published_at__isnull=False
    ).order_by("effective_at"):
        versions[version.rate_card_id].append(
            Version(
                id=version.pk,
                effective_at_us=to_us(version.effective_at),
                rates=rates[version.pk],
            )
        )
    return {card: RateCard(versions=listed, parts=parts) for card, listed in versions.items()}
