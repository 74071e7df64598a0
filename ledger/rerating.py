"""Price runs anew after a mistake in a price list.

A published version of a rate card never changes. A mistake is corrected by another version from the
same instant on, or from any other in the past: of two versions of one instant the one published
last rules. New runs of that time take it at once. Those that are debited already are priced anew
here, from the details they came with, each inference at its own time.

What became cheaper is given back, what became dearer is charged as to a run of the run's own time
(ledger.amending); the receipt's next version says so. Invoices are not touched: what was closed
stays closed, and the difference lands where tokens are counted next.

It goes submission by submission, each in its own transaction. Interrupted, it is called again and
goes on: what has the right price, or was priced anew under the same key, is left alone.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from ledger import prices, sql
from ledger.amending import Amending
from ledger.amends import Rated
from ledger.debiting import drain_shard
from ledger.errors import UnknownRateCardVersion
from ledger.history import History, RunName
from ledger.instants import to_us
from ledger.models import Account, Correction, RateCardVersion
from ledger.packing import RunDetails, unpack_details
from ledger.rating import Priced, RateCard, Unpriced, Usage, price
from ledger.units import RUN_MICROTOKENS_MAX, part_key, run_key

KEY_LENGTH_MAX: Final = 100
REASON_LENGTH_MAX: Final = 300
# No inference is reported so long before it occurs: clocks differ by minutes.
_AHEAD_MAX: Final = timedelta(hours=1)

Progress = Callable[[int], None]


@dataclass(kw_only=True)
class Difference:
    """What pricing anew changes for one account."""

    runs_count: int = 0
    cheaper_microtokens: int = 0
    dearer_microtokens: int = 0
    micros: int = 0


@dataclass(kw_only=True)
class Rerated:
    """What pricing anew changed, or would change, by the account's code."""

    accounts: dict[str, Difference] = field(default_factory=lambda: defaultdict(Difference))
    unpriced_count: int = 0  # the corrected version has no rate for them: they stay as they are


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which version corrects what, and whose runs are looked at."""

    book_id: int
    rate_card_id: int
    effective_at: datetime
    version_ids: frozenset[int]  # of the card: runs that took another card are left alone
    codes: Mapping[int, str]  # of the accounts, by their ids

    @property
    def received_from(self) -> datetime:
        """No inference of the version's time came sooner."""
        return self.effective_at - _AHEAD_MAX


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A debited run, or a part of one, with an inference of the version's time."""

    position: int
    name: RunName
    part: int
    details: RunDetails
    priced: Priced


def plan(*, book_id: int, rate_card: str, number: int, account: str | None = None) -> Plan:
    """What `rerate` would look at. Raises UnknownRateCardVersion."""
    version = RateCardVersion.objects.filter(
        rate_card__book_id=book_id,
        rate_card__code=rate_card,
        number=number,
        published_at__isnull=False,
    ).first()
    if version is None:
        raise UnknownRateCardVersion(rate_card=rate_card, number=number)
    accounts = Account.objects.filter(book_id=book_id)
    if account is not None:
        accounts = accounts.filter(code=account)
    versions = RateCardVersion.objects.filter(rate_card_id=version.rate_card_id)
    return Plan(
        book_id=book_id,
        rate_card_id=version.rate_card_id,
        effective_at=version.effective_at,
        version_ids=frozenset(versions.values_list("id", flat=True)),
        codes=dict(accounts.values_list("id", "code")),
    )


def runs_count(*, of: Plan) -> int:
    """How many runs there are to look at."""
    return sum(count for _, count in _shards(of))


def rerate(
    *,
    of: Plan,
    reason: str,
    idempotency_key: str,
    dry_run: bool = False,
    progress: Progress = lambda runs: None,
    at: datetime,
) -> Rerated:
    """Price the runs of a plan anew; under the same key each of them once.

    With `dry_run` nothing is written: tokens are told as they would change, and money as it would
    if nothing else moved meanwhile.
    """
    assert 0 < len(idempotency_key) <= KEY_LENGTH_MAX
    result = Rerated()
    said = {"reason": reason, "idempotency_key": idempotency_key}
    for shard, _ in _shards(of):
        if not dry_run:
            # What was accepted at the old price is debited first.
            drain_shard(shard=shard, at=at)
        for submission_id, details in _submissions(of, shard):
            candidates = _candidates(of, shard, submission_id, details, result)
            if candidates:
                with transaction.atomic():
                    sql.lock_shard(shard)
                    amending = _amended(of, shard, candidates, result, submission_id, at=at, **said)
                    if dry_run:
                        transaction.set_rollback(True)
                    else:
                        amending.write()
            progress(len(details))
    result.accounts = {code: one for code, one in result.accounts.items() if one.runs_count}
    return result


def _amended(
    of: Plan,
    shard: int,
    candidates: Sequence[_Candidate],
    result: Rerated,
    submission_id: int,
    *,
    reason: str,
    idempotency_key: str,
    at: datetime,
) -> Amending:
    """Corrections of one submission's runs, still to be written."""
    names = list({one.name: None for one in candidates})
    amending = Amending(shard=shard, names=names, at=at)
    known = _known(shard, names, idempotency_key, submission_id)
    for one in candidates:
        if one.position not in known:
            difference = result.accounts[of.codes[one.name[0]]]
            key = _key(idempotency_key, submission_id, one.position)
            _rerate_one(amending, one, difference, reason=reason, key=key)
    return amending


def _shards(of: Plan) -> list[tuple[int, int]]:
    rows = sql.rows("runs_to_rerate", book_id=of.book_id, received_from=of.received_from)
    return [(shard, count) for shard, count in rows]


def _submissions(of: Plan, shard: int) -> Iterator[tuple[int, list[RunDetails]]]:
    after_id = 0
    while rows := sql.rows(
        "submissions_to_rerate",
        shard=shard,
        book_id=of.book_id,
        received_from=of.received_from,
        after_id=after_id,
    ):
        [(after_id, runs_count, packed)] = rows
        yield after_id, unpack_details(bytes(packed), runs_count, range(runs_count))


def _candidates(
    of: Plan, shard: int, submission_id: int, details: Sequence[RunDetails], result: Rerated
) -> list[_Candidate]:
    """Runs of the submission that the version may price otherwise, with their price by now."""
    from_us = to_us(of.effective_at)
    names = {
        position: _name(one)
        for position, one in enumerate(details)
        if one.account_id in of.codes
        and any(inference.occurred_at_us >= from_us for inference in one.inferences)
        and all(inference.rate_card_version_id in of.version_ids for inference in one.inferences)
    }
    rows = sql.rows(
        "workflows_of_runs",
        shard=shard,
        submission_id=submission_id,
        account_ids=[account_id for account_id, _, _ in names.values()],
        run_keys=[key for _, key, _ in names.values()],
        parts=[part for _, _, part in names.values()],
    )
    card = prices.of_book(of.book_id).rate_cards[of.rate_card_id]
    candidates: list[_Candidate] = []
    for position, workflow in sorted(set(rows)):
        priced = _price(card, workflow, details[position])
        if isinstance(priced, Unpriced) or priced.microtokens > RUN_MICROTOKENS_MAX:
            result.unpriced_count += 1
        else:
            account_id, key, part = names[position]
            candidates.append(
                _Candidate(position, (account_id, key), part, details[position], priced)
            )
    return candidates


def _price(card: RateCard, workflow: str, details: RunDetails) -> Priced | Unpriced:
    usages = [Usage(one.engine, one.occurred_at_us, one.quantities) for one in details.inferences]
    return price(card, workflow, usages)


def _rerate_one(
    amending: Amending, one: _Candidate, difference: Difference, *, reason: str, key: str
) -> None:
    history = amending.histories[one.name]
    change = _change(history, one)
    if change == 0:
        return
    written = amending.correct(
        history,
        kind="rerate",
        operation_key=key,
        give_back=max(-change, 0),
        charge=max(change, 0),
        rated=[(one.part, _rated(one.priced))],
        reason=reason,
    )
    difference.runs_count += 1
    difference.cheaper_microtokens += max(-change, 0)
    difference.dearer_microtokens += max(change, 0)
    difference.micros += written.micros


def _change(history: History, one: _Candidate) -> int:
    """What the run costs more or (below 0) less; what was given back already stays so."""
    charged = sum(row.microtokens for row in history.rows if row.part == one.part)
    if charged == 0 and one.details.charged_microtokens == 0 and history.has_failed:
        return 0
    before = history.rated.get(one.part)
    known = (
        sum(inference.microtokens for inference in one.details.inferences)
        if before is None
        else sum(microtokens for _, microtokens in before)
    )
    change = one.priced.microtokens - known
    if history.left_microtokens == 0 and known > 0:
        return 0
    return max(change, -history.left_microtokens)


def _rated(priced: Priced) -> list[Rated]:
    return list(zip(priced.version_ids, priced.inference_microtokens, strict=True))


def _name(details: RunDetails) -> tuple[int, uuid.UUID, int]:
    part = "" if details.unusual is None else details.unusual.part
    return details.account_id, run_key(details.run_id), part_key(part)


def _key(key: str, submission_id: int, position: int) -> str:
    return f"{key}:{submission_id}:{position}"


def _known(shard: int, names: Sequence[RunName], key: str, submission_id: int) -> set[int]:
    """Positions of the submission that were priced anew under this key."""
    prefix = _key(key, submission_id, 0)[:-1]
    found = Correction.objects.filter(
        shard=shard,
        account_id__in={account_id for account_id, _ in names},
        kind=Correction.Kind.RERATE,
        operation_key__startswith=prefix,
    )
    return {
        int(operation_key.removeprefix(prefix))
        for operation_key in found.values_list("operation_key", flat=True)
    }
