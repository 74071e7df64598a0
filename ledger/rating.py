"""Quantities times rates: what a run costs, in microtokens.

A rate card is a list of versions, each in force from an instant on; an inference takes the
version in force at its own time. From it each meter takes the most specific rate: for this
workflow and engine, else this workflow, else this engine, else any.

- A quantity is rounded up to the rate's block, then multiplied; the product is rounded half up
  to a whole microtoken, once for each meter of each inference.
- Where a meter is part of another (cached input tokens are input tokens too) and has a rate of
  its own, its quantity is taken out of the whole, so nothing is paid twice.
- A rate's minimum is what one run pays at least if it pays for anything at that rate; what is
  missing is added to the first inference that paid it, so that a run's cost is always the sum of
  its inferences. A run over a change of version pays a minimum once, that of its first version.
- What has no rate is never priced at 0: the run comes back as Unpriced, with the reason.

`price` is these rules. A Formula is the same worked out once for all inferences of one workflow
and engine that count the same meters, where no minimum asks for the other inferences of the run.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import mul


@dataclass(frozen=True, kw_only=True)
class Rate:
    """`microtokens` for every `per_quantity`, quantities rounded up to `block_quantity`."""

    microtokens: int
    per_quantity: int = 1
    block_quantity: int = 1
    minimum_microtokens: int = 0

    def charge_microtokens(self, quantity: int) -> int:
        billed = -(-quantity // self.block_quantity) * self.block_quantity
        return (2 * billed * self.microtokens + self.per_quantity) // (2 * self.per_quantity)


# A meter, an engine (None: any) and a workflow (empty: any).
RateKey = tuple[str, str | None, str]


@dataclass(frozen=True, kw_only=True)
class Version:
    """The rates in force from one instant on."""

    id: int
    effective_at_us: int
    rates: Mapping[RateKey, Rate]
    _resolved: dict[tuple[str, str, str], RateKey | None] = field(default_factory=dict)
    _workflows: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_workflows", frozenset(key[2] for key in self.rates))

    def names_workflow(self, workflow: str) -> bool:
        return workflow in self._workflows

    def key(self, meter: str, engine: str, workflow: str) -> RateKey | None:
        """Under which key the most specific rate for a meter stands; None if there is none."""
        # Workflows are named by whoever sends runs: only those with a rate are worth remembering.
        workflow = workflow if workflow in self._workflows else ""
        asked = (meter, engine, workflow)
        if asked not in self._resolved:
            candidates = (
                (meter, engine, workflow),
                (meter, None, workflow),
                (meter, engine, ""),
                (meter, None, ""),
            )
            found = (candidate for candidate in candidates if candidate in self.rates)
            self._resolved[asked] = next(found, None)
        return self._resolved[asked]

    def rate(self, meter: str, engine: str, workflow: str) -> Rate | None:
        """The most specific rate for a meter; None if there is none."""
        key = self.key(meter, engine, workflow)
        return None if key is None else self.rates[key]


@dataclass(frozen=True, kw_only=True)
class RateCard:
    """Versions in order of time, and which meters are part of which."""

    versions: Sequence[Version]
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def rated_workflow(self, workflow: str) -> str:
        """The workflow, if a rate names it; else "": it costs what any other does."""
        names_it = any(version.names_workflow(workflow) for version in self.versions)
        return workflow if names_it else ""

    def version_at(self, at_us: int) -> Version | None:
        position = bisect_right(self.versions, at_us, key=lambda version: version.effective_at_us)
        return self.versions[position - 1] if position else None


@dataclass(frozen=True, slots=True)
class Usage:
    """One inference, as far as its price depends on it."""

    engine: str
    occurred_at_us: int
    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Priced:
    """What a run costs, inference by inference, each with the version that priced it."""

    microtokens: int
    inference_microtokens: list[int]
    version_ids: list[int]


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Why a run has no price yet."""

    reason: str


def price(card: RateCard, workflow: str, usages: Sequence[Usage]) -> Priced | Unpriced:
    """Price a run. Every part's quantity must be at most its whole's: the caller checks."""
    costs: list[int] = []
    version_ids: list[int] = []
    subtotals: dict[RateKey, _Subtotal] = {}
    for position, usage in enumerate(usages):
        version = card.version_at(usage.occurred_at_us)
        if version is None:
            return Unpriced("no rate card version was in force at the inference's time")
        charges = _charges(card, version, workflow, usage)
        if isinstance(charges, Unpriced):
            return charges
        costs.append(sum(charge.microtokens for charge in charges))
        version_ids.append(version.id)
        for charge in charges:
            if charge.minimum_microtokens:
                first = _Subtotal(position, charge.minimum_microtokens)
                subtotals.setdefault(charge.key, first).microtokens += charge.microtokens
    for subtotal in subtotals.values():
        costs[subtotal.position] += max(0, subtotal.minimum_microtokens - subtotal.microtokens)
    return Priced(sum(costs), costs, version_ids)


def _charges(
    card: RateCard, version: Version, workflow: str, usage: Usage
) -> list["_Charge"] | Unpriced:
    """What each rate takes for one inference."""
    charges: list[_Charge] = []
    for meter, quantity in usage.quantities.items():
        key = version.key(meter, usage.engine, workflow)
        if key is None:
            if _is_priced_within_its_whole(card, version, meter, usage, workflow):
                continue
            return Unpriced(
                f"no rate for meter {meter!r} and engine {usage.engine!r} in workflow {workflow!r}"
            )
        if meter in card.parts:
            quantity -= sum(
                usage.quantities[part]
                for part in _priced_parts(card, version, meter, usage, workflow)
            )
        if quantity:
            rate = version.rates[key]
            cost = rate.charge_microtokens(quantity)
            charges.append(_Charge(key, cost, rate.minimum_microtokens))
    return charges


@dataclass(frozen=True, slots=True)
class _Charge:
    """What one meter of one inference pays, and the least that its rate asks of a run."""

    key: RateKey
    microtokens: int
    minimum_microtokens: int


@dataclass(slots=True)
class _Subtotal:
    position: int
    minimum_microtokens: int
    microtokens: int = 0


def _is_priced_within_its_whole(
    card: RateCard, version: Version, meter: str, usage: Usage, workflow: str
) -> bool:
    """A part without a rate of its own is paid as what it is part of, if that has one."""
    for whole, parts in card.parts.items():
        if meter in parts and whole in usage.quantities:
            return version.rate(
                whole, usage.engine, workflow
            ) is not None or _is_priced_within_its_whole(card, version, whole, usage, workflow)
    return False


def _priced_parts(
    card: RateCard, version: Version, whole: str, usage: Usage, workflow: str
) -> Iterator[str]:
    """The parts, and parts of parts, that pay by rates of their own."""
    for part in card.parts.get(whole, ()):
        if part not in usage.quantities:
            continue
        if version.rate(part, usage.engine, workflow) is not None:
            yield part
        else:
            yield from _priced_parts(card, version, part, usage, workflow)


# A meter, the parts that pay for themselves, and of its rate: block, 2 * microtokens, per quantity.
_Term = tuple[str, tuple[str, ...], int, int, int]


@dataclass(frozen=True, slots=True)
class Formula:
    """What one inference costs in [begins_at_us, ends_at_us), given its quantities."""

    begins_at_us: int
    ends_at_us: int
    version_id: int
    _terms: tuple[_Term, ...]
    # What a unit of each meter adds, where all of that is whole microtokens: nothing is rounded.
    _multipliers: tuple[int, ...] | None

    def cost_microtokens(self, quantities: Mapping[str, int]) -> int:
        """Of these meters' quantities, in the order in which the formula was asked for."""
        if self._multipliers is not None:
            return sum(map(mul, quantities.values(), self._multipliers))
        microtokens = 0
        for meter, parts, block, doubled, per in self._terms:
            quantity = quantities[meter]
            for part in parts:
                quantity -= quantities[part]
            if block != 1:
                quantity = -(-quantity // block) * block
            # As Rate.charge_microtokens, without a call.
            microtokens += (quantity * doubled + per) // (2 * per)
        return microtokens


def formulas(card: RateCard, workflow: str, engine: str, meters: Sequence[str]) -> list[Formula]:
    """The formulas of the versions that have one, in order of time.

    Where there is none, `price` says what such an inference costs, or that it has no price.
    """
    usage = Usage(engine, 0, dict.fromkeys(meters, 0))
    ends = [version.effective_at_us for version in card.versions[1:]]
    found: list[Formula] = []
    for version, ends_at_us in zip(card.versions, [*ends, _NEVER_US], strict=False):
        terms = _terms(card, version, workflow, usage)
        if terms is not None:
            found.append(
                Formula(
                    version.effective_at_us,
                    ends_at_us,
                    version.id,
                    tuple(terms),
                    _multipliers(meters, terms),
                )
            )
    return found


_NEVER_US = 2**63 - 1


def _multipliers(meters: Sequence[str], terms: Sequence[_Term]) -> tuple[int, ...] | None:
    """None if a quantity is rounded up to a block, or a product to a microtoken."""
    found = dict.fromkeys(meters, 0)
    for meter, parts, block, doubled, per in terms:
        multiplier, rest = divmod(doubled, 2 * per)
        if block != 1 or rest:
            return None
        found[meter] += multiplier
        for part in parts:
            found[part] -= multiplier
    return tuple(found.values())


def _terms(card: RateCard, version: Version, workflow: str, usage: Usage) -> list[_Term] | None:
    """None if a meter has no rate, or one with a minimum."""
    terms: list[_Term] = []
    for meter in usage.quantities:
        rate = version.rate(meter, usage.engine, workflow)
        if rate is None and _is_priced_within_its_whole(card, version, meter, usage, workflow):
            continue
        if rate is None or rate.minimum_microtokens:
            return None
        parts = tuple(_priced_parts(card, version, meter, usage, workflow))
        terms.append((meter, parts, rate.block_quantity, 2 * rate.microtokens, rate.per_quantity))
    return terms
