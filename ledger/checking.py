"""Check and price the runs of a submission, and pack them for their shards.

Most runs go the short way: their names have been met before, their inferences are of a kind that
has a formula, and nothing is wrong with them. Whatever is not that plain goes the long way, which
finds every fault, and prices by the rules themselves (rating.price). Both ways come to the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ledger import faults, reported
from ledger.accounts import AccountFacts
from ledger.errors import Fault, InvalidRuns
from ledger.familiar import Bearer, Familiar, Names
from ledger.instants import to_us
from ledger.packing import (
    NOT_CHARGED,
    InferenceDetails,
    RunDetails,
    details_digest,
    encode_details,
    pack_run,
)
from ledger.prices import BookPrices
from ledger.rating import Priced, RateCard, Unpriced, Usage, price
from ledger.reported import NewInference, NewRun
from ledger.units import RUN_MICROTOKENS_MAX, part_key, run_key_bytes

FAULTS_MAX: Final = 20


class AcceptedRun(msgspec.Struct, frozen=True, gc=False):
    """One run of an accepted batch. `microtokens` is None while no rate prices it."""

    id: str
    account: str
    microtokens: int | None
    unpriced_reason: str | None


@dataclass(slots=True)
class ShardPart:
    """The part of a submission that goes to one shard: runs packed, and their details."""

    runs: list[bytes] = field(default_factory=list)
    details: list[bytes] = field(default_factory=list)


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
    runs: list[AcceptedRun] = field(default_factory=list)
    shards: dict[int, ShardPart] = field(default_factory=lambda: defaultdict(ShardPart))
    parked: list[ParkedOne] = field(default_factory=list)
    new_bearers: dict[Names, Bearer] = field(default_factory=dict)

    def add_all(self, runs: Sequence[NewRun]) -> None:
        """Raises InvalidRuns, with at most FAULTS_MAX faults."""
        found: list[Fault] = []
        for position, run in enumerate(runs):
            if not self._add(run):
                found += self._look_closer(position, run)
                if len(found) >= FAULTS_MAX:
                    break
        if found:
            raise InvalidRuns(faults=found[:FAULTS_MAX])

    def _add(self, run: NewRun) -> bool:
        """The short way. False: the run has to go the long way, and nothing has been done."""
        bearer = self._bearer(run)
        at_us = to_us(run.occurred_at)
        if (
            bearer is None
            or not self.earliest_us <= at_us <= self.latest_us
            or "\x00" in run.id
            or not (_is_plain(run) or _is_sound(run))
        ):
            return False
        inferences: list[InferenceDetails] = []
        for inference in run.inferences:
            priced = self._priced(bearer, inference, at_us)
            if priced is None:
                return False
            inferences.append(priced)
        return self._take(bearer, run, at_us, inferences)

    def _bearer(self, run: NewRun) -> Bearer | None:
        """None if the names are faulty."""
        names = (
            run.account, run.workflow, run.project, run.job, run.cost_centre, run.department,
            run.actor,
        )  # fmt: skip
        return (
            self.familiar.bearers.get(names)
            or self.new_bearers.get(names)
            or self._new_bearer(run, names)
        )

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
    ) -> InferenceDetails | None:
        quantities = inference.quantities
        key = (bearer.rate_card_id, bearer.rated_workflow, inference.engine, tuple(quantities))
        usual = self.book.usuals.get(key) or self.book.usual(key)
        at_us = run_at_us
        if inference.occurred_at is not None:
            at_us = to_us(inference.occurred_at)
        if usual is None or not self.earliest_us <= at_us <= self.latest_us:
            return None
        formula = usual.formula_at(at_us)
        if formula is None or (usual.parts_of and not usual.is_whole(quantities)):
            return None
        return InferenceDetails(
            inference.engine,
            at_us,
            quantities,
            formula.version_id,
            formula.cost_microtokens(quantities),
        )

    def _take(
        self, bearer: Bearer, run: NewRun, at_us: int, inferences: list[InferenceDetails]
    ) -> bool:
        """False if the run costs more than a run may."""
        engine = inferences[0].engine
        microtokens = 0
        for inference in inferences:
            microtokens += inference.microtokens
            if inference.engine != engine:
                engine = ""  # several
        if microtokens > RUN_MICROTOKENS_MAX:
            return False
        is_plain = _is_plain(run)
        flags = 0 if is_plain else reported.flags(run)
        if flags & NOT_CHARGED:
            microtokens = 0
        details = encode_details(
            RunDetails(
                run.id, bearer.account_id, inferences, None if is_plain else reported.unusual(run)
            )
        )
        part = self.shards[bearer.shard]
        part.runs.append(
            pack_run(
                bearer.account_id,
                run_key_bytes(run.id),
                0 if run.part is None else part_key(run.part.id),
                at_us,
                microtokens,
                bearer.attribution_key,
                reported.body_digest_bytes(run),
                details_digest(details),
                self.book.engines[engine] if engine else 0,
                flags,
            )
        )
        part.details.append(details)
        self.runs.append(AcceptedRun(run.id, run.account, microtokens, None))
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
        bearer = self._bearer(run)
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
        elif not self._take(bearer, run, at_us, _details(usages, priced)):
            message = "costs more than 100,000,000 tokens"
            return [Fault(field=f"runs[{position}]", rule="cost_too_large", message=message)]
        return []

    def _park(self, bearer: Bearer, run: NewRun, reason: str) -> None:
        position = len(self.runs)
        self.runs.append(AcceptedRun(run.id, run.account, None, reason))
        self.parked.append(ParkedOne(position, bearer.account_id, bearer.shard, run, reason))


_NO_CARD: Final = RateCard(versions=())


def _is_plain(run: NewRun) -> bool:
    return run.part is None and run.outcome == "accepted" and not run.fault and not run.retake_of


def _is_sound(run: NewRun) -> bool:
    """Whether nothing is wrong with what a run says beyond what plain ones do."""
    part = "" if run.part is None else run.part.id
    return faults.has_good_outcome(run) and "\x00" not in run.retake_of + part


def _details(usages: Sequence[Usage], priced: Priced) -> list[InferenceDetails]:
    return [
        InferenceDetails(
            usage.engine, usage.occurred_at_us, dict(usage.quantities), version_id, microtokens
        )
        for usage, version_id, microtokens in zip(
            usages, priced.version_ids, priced.inference_microtokens, strict=True
        )
    ]
