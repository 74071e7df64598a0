"""A book's prices and names as the intake needs them: read once, kept until the book changes."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from ledger import sql
from ledger.instants import to_us
from ledger.models import Engine, Meter, Rate, RateCardVersion, Workflow
from ledger.rating import Formula, RateCard, RateKey, Version, formulas
from ledger.rating import Rate as PureRate

BOOKS_CACHED_MAX: Final = 1_000
USUALS_CACHED_MAX: Final = 10_000

# A rate card, a workflow that it names (or none), an engine, and the meters counted.
UsualKey = tuple[int, str, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Usual:
    """What is known of an inference before its quantities are: most are of a few kinds."""

    engine_id: int
    formulas: tuple[Formula, ...]
    parts_of: tuple[tuple[str, tuple[str, ...]], ...]  # whole -> what is counted of its parts

    def formula_at(self, at_us: int) -> Formula | None:
        for formula in self.formulas:
            if formula.begins_at_us <= at_us < formula.ends_at_us:
                return formula
        return None

    def is_whole(self, quantities: Mapping[str, int]) -> bool:
        """Whether the parts of a meter are together at most the meter's own quantity."""
        return all(
            sum([quantities[part] for part in parts]) <= quantities.get(whole, 0)
            for whole, parts in self.parts_of
        )


@dataclass(frozen=True, kw_only=True)
class BookPrices:
    """Everything that decides whether a run is valid and what it costs."""

    revision: int
    meters: frozenset[str]
    engines: Mapping[str, int]  # its id by its code
    whole_of: Mapping[str, str]  # part -> the meter whose count includes it
    default_cost_centres: Mapping[str, str]  # workflow -> cost centre
    rate_cards: Mapping[int, RateCard]
    usuals: dict[UsualKey, Usual | None] = field(default_factory=dict)

    def usual(self, key: UsualKey) -> Usual | None:
        """None if an engine or meter is not registered, or the card unknown."""
        if key not in self.usuals:
            if len(self.usuals) >= USUALS_CACHED_MAX:
                self.usuals.clear()
            self.usuals[key] = self._find_usual(key)
        return self.usuals.get(key)

    def _find_usual(self, key: UsualKey) -> Usual | None:
        rate_card_id, workflow, engine, meters = key
        card = self.rate_cards.get(rate_card_id)
        if card is None or engine not in self.engines or not self.meters.issuperset(meters):
            return None
        parts_of: dict[str, list[str]] = defaultdict(list)
        for meter in meters:
            if meter in self.whole_of:
                parts_of[self.whole_of[meter]].append(meter)
        return Usual(
            engine_id=self.engines[engine],
            formulas=tuple(formulas(card, workflow, engine, meters)),
            parts_of=tuple((whole, tuple(parts)) for whole, parts in parts_of.items()),
        )


_cache: dict[int, BookPrices] = {}


def of_book(book_id: int) -> BookPrices:
    """The book's prices as of its present revision; one short query if they are known."""
    return of_books([book_id])[book_id]


def of_books(book_ids: Collection[int]) -> dict[int, BookPrices]:
    """The prices of several books."""
    return of_revisions(revisions(book_ids))


def of_revisions(read: Mapping[int, int]) -> dict[int, BookPrices]:
    """The prices of books whose revisions, by their ids, were read just now."""
    return {book_id: _of_book(book_id, revision) for book_id, revision in read.items()}


def _of_book(book_id: int, revision: int) -> BookPrices:
    known = _cache.get(book_id)
    while known is None or known.revision != revision:
        # Several statements read them: if they changed meanwhile, halves of two would be mixed.
        known = _read(book_id, revision)
        revision = revisions([book_id])[book_id]
        if len(_cache) >= BOOKS_CACHED_MAX:
            _cache.clear()
        _cache[book_id] = known
    return known


def revisions(book_ids: Collection[int]) -> dict[int, int]:
    """How often the prices and names of books have changed, by their ids."""
    return dict(sql.rows("revisions", book_ids=list(book_ids)))


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
    ).order_by("effective_at", "published_at", "id"):
        versions[version.rate_card_id].append(
            Version(
                id=version.pk,
                effective_at_us=to_us(version.effective_at),
                rates=rates[version.pk],
            )
        )
    return {card: RateCard(versions=listed, parts=parts) for card, listed in versions.items()}
