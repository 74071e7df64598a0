"""Check and price the runs of a submission.

Most runs go the short way: their names have been met before, their inferences are of a kind that
has a formula, and nothing is wrong with them. Whatever is not that plain goes the long way, which
finds every fault, and prices by the rules themselves (rating.price). Both ways come to the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec.structs import astuple

from ledger import faults, reported
from ledger.accounts import AccountFacts
from ledger.errors import Fault, InvalidRuns
from ledger.familiar import Bearer, Familiar, Names
from ledger.instants import EPOCH, MICROSECOND, to_us
from ledger.packing import NOT_CHARGED, Unusual
from ledger.prices import BookPrices
from ledger.rating import Priced, RateCard, Unpriced, Usage, price
from ledger.reported import NewInference, NewRun
from ledger.units import RUN_MICROTOKENS_MAX

FAULTS_MAX: Final = 20
RUNS_AT_A_TIME: Final = 64

# What InferenceDetails says: engine, time, quantities, the version that priced it, microtokens.
# A tuple is made in half the time, and is written the same.
PricedInference = tuple[str, int, Mapping[str, int], int, int]


class CheckedRun(msgspec.Struct, frozen=True, gc=False):
    """A run that is sound and has a price."""

    run: NewRun
    bearer: Bearer
    at_us: int
    microtokens: int
    inferences: list[PricedInference]
    engine_id: int  # 0: several
    flags: int
    unusual: Unusual | None


@dataclass(frozen=True, slots=True)
class ParkedOne:
    """A run that no rate prices yet, by its position in the submission."""

    position: int
    account_id: int
    shard: int
    run: NewRun
    reason: str


@dataclass(slots=True)
class Checked:
    """A submission, while it is being checked and priced and after."""

    book: BookPrices
    familiar: Familiar
    accounts: Mapping[str, AccountFacts]
    earliest_us: int
    latest_us: int
    costs: list[int | None] = field(default_factory=list)  # None: parked
    priced: list[CheckedRun] = field(default_factory=list)  # not yet handed on by add_all
    parked: list[ParkedOne] = field(default_factory=list)
    new_bearers: dict[Names, Bearer] = field(default_factory=dict)

    def add_all(self, runs: Sequence[NewRun]) -> Iterator[list[CheckedRun]]:
        """Those that have a price, RUNS_AT_A_TIME at most: while they are in the processor's cache.

        Raises InvalidRuns, with at most FAULTS_MAX faults, once it has come to the end.
        """
        found: list[Fault] = []
        for begin in range(0, len(runs), RUNS_AT_A_TIME):
            for position, run in enumerate(runs[begin : begin + RUNS_AT_A_TIME], begin):
                if not self._add(run):
                    found += self._look_closer(position, run)
            if len(found) >= FAULTS_MAX:
                break
            yield self.priced
            self.priced = []
        if found:
            raise InvalidRuns(faults=found[:FAULTS_MAX])

    def _add(self, run: NewRun) -> bool:
        """The short way. False: the run has to go the long way, and nothing has been done."""
        (
            run_id, account, workflow, occurred_at, reported_inferences, project, job, cost_centre,
            department, actor, outcome, fault, retake_of, part,
        ) = astuple(run)  # fmt: skip
        names = (account, workflow, project, job, cost_centre, department, actor)
        bearer = self.familiar.bearers.get(names) or self._bearer(run, names)
        # As to_us, without a call.
        at_us = (occurred_at - EPOCH) // MICROSECOND
        is_plain = part is None and outcome == "accepted" and not fault and not retake_of
        if (
            bearer is None
            or not self.earliest_us <= at_us <= self.latest_us
            or "\x00" in run_id
            or not (is_plain or _is_sound(run))
        ):
            return False
        inferences: list[PricedInference] = []
        for inference in reported_inferences:
            priced = self._priced(bearer, inference, at_us)
            if priced is None:
                return False
            inferences.append(priced)
        return self._take(bearer, run, at_us, inferences, is_plain=is_plain)

    def _bearer(self, run: NewRun, names: Names) -> Bearer | None:
        """None if the names are faulty."""
        return self.new_bearers.get(names) or self._new_bearer(run, names)

    def _new_bearer(self, run: NewRun, names: Names) -> Bearer | None:
        account = self.accounts.get(run.account)
        cost_centre = self._cost_centre(run, account)
        if account is None or not cost_centre or any("\x00" in name for name in names):
            return None
        attribution = (
            run.workflow, run.project, run.job, cost_centre, run.department, run.actor,
        )  # fmt: skip
        card = self.book.rate_cards.get(account.rate_card_id, _NO_CARD)
        bearer = Bearer(
            account.id,
            account.shard,
            account.rate_card_id,
            card.rated_workflow(run.workflow),
            attribution,
            reported.attribution_key(attribution),
        )
        self.new_bearers[names] = bearer
        return bearer

    def _cost_centre(self, run: NewRun, account: AccountFacts | None) -> str:
        """The run's own, else its workflow's, else its account's."""
        return (
            run.cost_centre
            or self.book.default_cost_centres.get(run.workflow, "")
            or ("" if account is None else account.default_cost_centre)
        )

    def _priced(
        self, bearer: Bearer, inference: NewInference, run_at_us: int
    ) -> PricedInference | None:
        engine, quantities = inference.engine, inference.quantities
        key = (bearer.rate_card_id, bearer.rated_workflow, engine, tuple(quantities))
        usual = self.book.usuals.get(key) or self.book.usual(key)
        at_us = run_at_us
        if inference.occurred_at is not None:
            at_us = to_us(inference.occurred_at)
        if usual is None or not self.earliest_us <= at_us <= self.latest_us:
            return None
        formula = usual.formula_at(at_us)
        if formula is None or (usual.parts_of and not usual.is_whole(quantities)):
            return None
        microtokens = formula.cost_microtokens(quantities)
        return engine, at_us, quantities, formula.version_id, microtokens

    def _take(
        self,
        bearer: Bearer,
        run: NewRun,
        at_us: int,
        inferences: list[PricedInference],
        *,
        is_plain: bool,
    ) -> bool:
        """False if the run costs more than a run may."""
        engine, _, _, _, microtokens = inferences[0]
        if len(inferences) > 1:
            microtokens = sum([cost for _, _, _, _, cost in inferences])
            if any(other != engine for other, _, _, _, _ in inferences):
                engine = ""  # several
        if microtokens > RUN_MICROTOKENS_MAX:
            return False
        flags, unusual = 0, None
        if not is_plain:
            flags, unusual = reported.flags(run), reported.unusual(run)
            if flags & NOT_CHARGED:
                microtokens = 0
        engine_id = self.book.engines[engine] if engine else 0
        self.priced.append(
            CheckedRun(run, bearer, at_us, microtokens, inferences, engine_id, flags, unusual)
        )
        self.costs.append(microtokens)
        return True

    def _look_closer(self, position: int, run: NewRun) -> list[Fault]:
        """The long way. The run's faults; if it has none, it is taken or parked."""
        account = self.accounts.get(run.account)
        cost_centre = self._cost_centre(run, account)
        found = list(
            faults.find(
                run,
                position=position,
                rules=faults.Rules(self.book, self.earliest_us, self.latest_us),
                account_is_known=account is not None,
                cost_centre=cost_centre,
            )
        )
        if found:
            return found
        names = (
            run.account, run.workflow, run.project, run.job, run.cost_centre, run.department,
            run.actor,
        )  # fmt: skip
        bearer = self.familiar.bearers.get(names) or self._bearer(run, names)
        assert bearer is not None, "no fault was found"
        at_us = to_us(run.occurred_at)
        usages = [
            Usage(
                one.engine,
                at_us if one.occurred_at is None else to_us(one.occurred_at),
                one.quantities,
            )
            for one in run.inferences
        ]
        card = self.book.rate_cards.get(bearer.rate_card_id, _NO_CARD)
        priced = price(card, run.workflow, usages)
        if isinstance(priced, Unpriced):
            self._park(bearer, run, priced.reason)
        elif not self._take(bearer, run, at_us, _in_full(usages, priced), is_plain=_is_plain(run)):
            message = "costs more than 100,000,000 tokens"
            return [Fault(field=f"runs[{position}]", rule="cost_too_large", message=message)]
        return []

    def _park(self, bearer: Bearer, run: NewRun, reason: str) -> None:
        position = len(self.costs)
        self.costs.append(None)
        self.parked.append(ParkedOne(position, bearer.account_id, bearer.shard, run, reason))


_NO_CARD: Final = RateCard(versions=())


def _is_plain(run: NewRun) -> bool:
    return run.part is None and run.outcome == "accepted" and not run.fault and not run.retake_of


def _is_sound(run: NewRun) -> bool:
    """Whether nothing is wrong with what a run says beyond what plain ones do."""
    part = "" if run.part is None else run.part.id
    return faults.has_good_outcome(run) and "\x00" not in run.retake_of + part


def _in_full(usages: Sequence[Usage], priced: Priced) -> list[PricedInference]:
    return [
        (usage.engine, usage.occurred_at_us, usage.quantities, version_id, microtokens)
        for usage, version_id, microtokens in zip(
            usages, priced.version_ids, priced.inference_microtokens, strict=True
        )
    ]
