"""Hold tokens for a run before it starts; capture them with what it really cost, or give them back.

    authorize ──▶ held ──▶ captured    the run came: debited, more or less than the hold
                    ├────▶ released    given back
                    └────▶ expired     its time was over, whether or not anybody noticed
              ──▶ waiting ──▶ held     a soft limit was reached: somebody is asked first
                          └─▶ refused

A hold is one for each run, under the run's id: the run settles it when it is debited, whichever way
it came. Work that has happened is never refused or lost: a run that comes late, or after its hold
was given back, is debited as any other, and the hold says so.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

import msgspec
from django.db import transaction

from ledger import familiar, intake, prices, sql
from ledger.accounts import AccountFacts
from ledger.counting import EndedHold, give_back_now
from ledger.deciding import (
    WATCHED,
    Ask,
    Round,
    decide,
    let_time_pass,
    lock,
    spendable,
)
from ledger.errors import (
    Fault,
    HoldReleased,
    HoldWaiting,
    InvalidHold,
    InvalidRuns,
    LedgerError,
    NothingHeld,
    UnknownAccount,
    UnknownHold,
)
from ledger.held import HoldNow, known
from ledger.intake import Accepted
from ledger.models import Hold
from ledger.prices import BookPrices
from ledger.reported import INFERENCES_PER_RUN_MAX, Name, NewInference, NewRun, RequiredName
from ledger.units import (
    NEVER,
    RUN_MICROTOKENS_MAX,
    Microtokens,
    run_key,
    shard_of,
)

LIFE_SECONDS: Final = 15 * 60
LIFE_SECONDS_MAX: Final = 24 * 3600
ACCOUNTS_PER_SWEEP_MAX: Final = 1_000
_RUN_HEAD: Final = struct.Struct("<q16s")  # with which a run that waits for its debit begins


class NewHold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens to be held for a run: so many, or what inferences as large as it may make would cost.

    `inferences` are priced as the run's own will be: name the most that each may use.
    """

    run: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    account: RequiredName
    workflow: RequiredName
    microtokens: Annotated[int, msgspec.Meta(ge=0, le=RUN_MICROTOKENS_MAX)] | None = None
    inferences: (
        Annotated[
            list[NewInference],
            msgspec.Meta(min_length=1, max_length=INFERENCES_PER_RUN_MAX),
        ]
        | None
    ) = None
    project: Name = ""
    job: Name = ""
    cost_centre: Name = ""
    department: Name = ""
    actor: Name = ""
    life_seconds: Annotated[int, msgspec.Meta(ge=1, le=LIFE_SECONDS_MAX)] = LIFE_SECONDS


@dataclass(frozen=True, kw_only=True)
class Request:
    """Somebody asks a book for a hold; `microtokens` is its estimate (see `estimate`)."""

    book_id: int
    hold: NewHold
    microtokens: int


@dataclass(frozen=True, kw_only=True)
class Available:
    """What an account can still hold or spend, at an instant."""

    spendable_microtokens: Microtokens
    held_microtokens: Microtokens

    @property
    def available_microtokens(self) -> int:
        """Less than 0 if runs cost more than was held for them."""
        return self.spendable_microtokens - self.held_microtokens


def estimate(*, book_id: int, hold: NewHold, at: datetime) -> Request:
    """Check what is asked for by itself, and price its inferences. Raises InvalidHold."""
    if any("\x00" in text for text in _texts(hold)):
        raise _invalid("", "text", "has a NUL character in one of its texts")
    if (hold.microtokens is None) == (hold.inferences is None):
        raise _invalid("microtokens", "estimate", "or 'inferences' says how much: one of the two")
    microtokens = hold.microtokens
    if microtokens is None:
        microtokens = _priced(book_id, hold, at=at)
    return Request(book_id=book_id, hold=hold, microtokens=microtokens)


def authorize(
    *, requests: Sequence[Request], revisions: Mapping[int, int] | None = None, at: datetime
) -> list[HoldNow | LedgerError | None]:
    """Decide holds, those that wait together in one transaction: each gets a hold or a refusal.

    A refusal writes nothing: ask again, and it is decided anew. The same request again gets what
    became of it. A request whose account is busy gets None, unless all are for one account: then
    we wait for it. (Whoever waits must hold nothing that others may wait for.)

    Refusals: UnknownAccount, InvalidHold, HoldConflict, RunDebited, InsufficientTokens,
    LimitReached, PaymentOverdue. `revisions` are the books', for who has read them in this
    transaction: the caller's, which should end at once.
    """
    if revisions is None:
        revisions = prices.revisions({request.book_id for request in requests})
    asks = _asks(requests, prices.of_revisions(revisions))
    valid = {place: ask for place, ask in enumerate(asks) if isinstance(ask, Ask)}
    outcomes: list[HoldNow | LedgerError | None] = [
        one if isinstance(one, LedgerError) else None for one in asks
    ]
    if not valid:
        return outcomes
    with transaction.atomic(savepoint=False):
        decided = Round.of_asks(list(valid.values()), at=at)
        free = {place: ask for place, ask in valid.items() if ask.account_id in decided.accounts}
        for place, outcome in zip(free, decide(list(free.values()), decided=decided), strict=True):
            outcomes[place] = outcome
    return outcomes


def authorize_one(*, book_id: int, hold: NewHold, at: datetime) -> HoldNow:
    """Decide one hold; raises what `authorize` would answer with."""
    [outcome] = authorize(requests=[estimate(book_id=book_id, hold=hold, at=at)], at=at)
    assert outcome is not None, "one account is waited for"
    if isinstance(outcome, LedgerError):
        raise outcome
    return outcome


def find(*, account: AccountFacts, run_id: str) -> HoldNow:
    """The hold for a run. Raises UnknownHold."""
    hold = _of(account, run_id)
    if hold is None:
        raise UnknownHold(account=account.code, run=run_id)
    return hold


def capture(*, account: AccountFacts, run: NewRun, at: datetime) -> Accepted:
    """Accept the run that settles its hold; the debit that follows captures it.

    From here on the hold is claimed: it stays held, whatever its deadline, until that debit, so
    that nobody gets its tokens in between. After its deadline it counts for nothing and the run is
    debited as any other. Again, it changes nothing.

    Raises NothingHeld, HoldReleased and HoldWaiting, and InvalidRuns.
    """
    with transaction.atomic():
        hold = _as_of_now(account, run.id, at=at)
        if hold is None or hold.refused_at is not None:
            raise NothingHeld(account=account.code, run=run.id)
        if hold.captured_at is None:
            if hold.released_at is not None:
                raise HoldReleased(account=account.code, run=run.id)
            if hold.held_at is None:
                raise HoldWaiting(account=account.code, run=run.id)
            _claim(hold, at=at)
        return intake.accept(book_id=account.book_id, runs=[run], at=at)


def release(*, account: AccountFacts, run_id: str, at: datetime) -> HoldNow:
    """Give back what is held for a run; again, or after its capture, it changes nothing.

    If the run is accepted already the charge wins: the hold is claimed for it, and not given back.

    Raises NothingHeld.
    """
    with transaction.atomic():
        hold = _as_of_now(account, run_id, at=at)
        if hold is None or hold.refused_at is not None:
            raise NothingHeld(account=account.code, run=run_id)
        if hold.status(at) in ("held", "waiting"):
            if _is_accepted(hold):
                _claim(hold, at=at)
            else:
                _release(hold, at=at)
        return find(account=account, run_id=run_id)


def available(*, account_ids: Sequence[int], at: datetime) -> dict[int, Available]:
    """What accounts can still hold: holds whose deadline has passed count for nothing."""
    held = dict.fromkeys(account_ids, 0)
    open_holds = Hold.objects.filter(
        shard__in={shard_of(account_id) for account_id in account_ids},
        account_id__in=list(account_ids),
        due_at__gt=at,
    )
    for account_id, microtokens in open_holds.values_list("account_id", "counted_microtokens"):
        held[account_id] += microtokens
    return {
        row.account_id: Available(
            spendable_microtokens=Microtokens(int(row.spendable_microtokens)),
            held_microtokens=Microtokens(held[row.account_id]),
        )
        for row in spendable(account_ids, at=at)
    }


def sweep(*, at: datetime) -> int:
    """Take holds whose time has come out of the accounts' caches; for how many accounts.

    Nothing depends on it: whoever decides does it for the accounts that are asked. It keeps the
    list of holds short that a debit has to look through. Call again until it returns 0.
    """
    due = Hold.objects.filter(due_at__lte=at).values_list("account_id", flat=True)
    account_ids = list(due.distinct()[:ACCOUNTS_PER_SWEEP_MAX])
    for account_id in account_ids:
        with transaction.atomic():
            lock(account_id)
            give_back_now(let_time_pass([account_id], at=at))
    return len(account_ids)


def _claim(hold: HoldNow, *, at: datetime) -> None:
    """Keep a hold open for the run that was accepted; if it lapsed, be there to say so."""
    if hold.claimed_at is not None:
        return
    shard = shard_of(hold.account_id)
    if hold.due_at is None:
        if _is_over(hold):
            return
        sql.execute("watch_again", shard=shard, account_id=hold.account_id)
    Hold.objects.filter(shard=shard, account_id=hold.account_id, run_key=hold.run_key).update(
        claimed_at=at, due_at=NEVER
    )


def _release(hold: HoldNow, *, at: datetime) -> None:
    assert hold.released_at is None
    sql.execute(
        "release_hold",
        shard=shard_of(hold.account_id),
        account_id=hold.account_id,
        run_key=hold.run_key,
        at=at,
        due_at=at + WATCHED,
        microtokens=hold.counted_microtokens,
    )
    if hold.held_at is not None:
        ended = EndedHold(
            account_id=hold.account_id,
            microtokens=hold.counted_microtokens,
            micros=hold.counted_micros,
            held_at=hold.held_at,
            limit_ids=hold.limit_ids,
            workflow=hold.workflow,
            project=hold.project,
            job=hold.job,
            cost_centre=hold.cost_centre,
            actor=hold.actor,
        )
        give_back_now([ended])


def _is_accepted(hold: HoldNow) -> bool:
    """Whether the run waits for its debit."""
    head = _RUN_HEAD.pack(hold.account_id, hold.run_key.bytes)
    [(is_there,)] = sql.rows("waits_in_intake", shard=shard_of(hold.account_id), head=head)
    return bool(is_there)


def _is_over(hold: HoldNow) -> bool:
    """Whether the run was debited long after its time, when nobody awaited it any more."""
    name = {"account_id": hold.account_id, "run_key": hold.run_key}
    [(is_over,)] = sql.rows("is_over", shard=shard_of(hold.account_id), **name)
    return bool(is_over)


def _as_of_now(account: AccountFacts, run_id: str, *, at: datetime) -> HoldNow | None:
    """The hold for a run, with its account locked, and whatever has lapsed taken out of it."""
    lock(account.id)
    give_back_now(let_time_pass([account.id], at=at))
    return _of(account, run_id)


def _of(account: AccountFacts, run_id: str) -> HoldNow | None:
    key = (account.id, run_key(run_id))
    return known([key]).get(key)


def _asks(requests: Sequence[Request], books: Mapping[int, BookPrices]) -> list[Ask | LedgerError]:
    by_book: dict[int, set[str]] = {}
    for request in requests:
        by_book.setdefault(request.book_id, set()).add(request.hold.account)
    facts = {
        book_id: familiar.accounts_of(
            familiar.of_book(book_id=book_id, revision=books[book_id].revision),
            book_id=book_id,
            codes=codes,
        )
        for book_id, codes in by_book.items()
    }
    return [
        _ask(
            request,
            facts[request.book_id].get(request.hold.account),
            books[request.book_id].default_cost_centres.get(request.hold.workflow, ""),
        )
        for request in requests
    ]


def _ask(request: Request, account: AccountFacts | None, of_workflow: str) -> Ask | LedgerError:
    hold = request.hold
    if account is None:
        return UnknownAccount(account=hold.account)
    cost_centre = hold.cost_centre or of_workflow or account.default_cost_centre
    if not cost_centre:
        message = "is missing, and neither the workflow nor the account has a default"
        return _invalid("cost_centre", "cost_centre_missing", message)
    return Ask(
        account_id=account.id,
        account=account.code,
        run_id=hold.run,
        run_key=run_key(hold.run),
        body_digest=_digest(hold),
        microtokens=request.microtokens,
        life_seconds=hold.life_seconds,
        names={
            "workflow": hold.workflow,
            "project": hold.project,
            "job": hold.job,
            "cost_centre": cost_centre,
            "department": hold.department,
            "actor": hold.actor,
        },
    )


def _priced(book_id: int, hold: NewHold, *, at: datetime) -> int:
    assert hold.inferences is not None
    run = NewRun(
        id=hold.run,
        account=hold.account,
        workflow=hold.workflow,
        occurred_at=at,
        inferences=hold.inferences,
        # Whether it has a default is asked when the hold is decided.
        cost_centre=hold.cost_centre or "-",
    )
    try:
        [checked] = intake.check(book_id=book_id, runs=[run], at=at)
    except InvalidRuns as error:
        if any(fault.rule == "unknown_account" for fault in error.faults):
            raise UnknownAccount(account=hold.account) from None
        raise InvalidHold(
            faults=[
                Fault(
                    field=fault.field.removeprefix("runs[0]").removeprefix("."),
                    rule=fault.rule,
                    message=fault.message,
                )
                for fault in error.faults
            ]
        ) from None
    if checked.microtokens is None:
        raise _invalid("inferences", "unpriced", f"can't be priced: {checked.unpriced_reason}")
    return checked.microtokens


_canonical: Final = msgspec.msgpack.Encoder(order="deterministic")


def _digest(hold: NewHold) -> int:
    """64 bits of what was asked: the same request again has the same."""
    digest = hashlib.blake2b(_canonical.encode(hold), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _texts(hold: NewHold) -> tuple[str, ...]:
    return (
        hold.run, hold.account, hold.workflow, hold.project, hold.job, hold.cost_centre,
        hold.department, hold.actor,
    )  # fmt: skip


def _invalid(field: str, rule: str, message: str) -> InvalidHold:
    return InvalidHold(faults=[Fault(field=field or "body", rule=rule, message=message)])
