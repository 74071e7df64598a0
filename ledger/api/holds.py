"""Hold tokens for a run, capture them with what it cost, give them back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from ledger import access, accounts, debiting, holds, receipts
from ledger.access import OpenedBook
from ledger.api import answers, bodies
from ledger.api.authority import book_id, secret_of
from ledger.api.bodies import Sent
from ledger.api.problems import Unreadable
from ledger.api.runs import KeyView
from ledger.api.together import Together, is_of_all
from ledger.errors import Fault, InvalidApiKey, InvalidHold, InvalidRuns, LedgerError, RunConflict
from ledger.held import HoldNow
from ledger.holds import NewHold
from ledger.reported import NewRun
from ledger.units import shard_of, tokens_text

_hold_decoder: Final = msgspec.json.Decoder(NewHold)
_run_decoder: Final = msgspec.json.Decoder(NewRun)


class Holds(APIView):
    """POST /api/v1/holds: hold tokens for a run before it starts.

    201: they are held. 202: a soft limit is reached, and somebody is asked; look again later. 200:
    this very request was made before; the answer says what became of it.
    """

    # Keys are looked up where holds are decided, for all requests that wait: see _decide.
    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Request) -> HttpResponse:
        sent = Sent(
            secret=secret_of(request.META),
            body=request._request.body,
            content_type=request.content_type,
        )
        status, answer = decide(sent)
        return HttpResponse(answer, status=status, content_type="application/json")


def decide(sent: Sent) -> tuple[int, bytes]:
    """Decide the hold that a request asks for; the answer. Raises LedgerError and Unreadable."""
    outcome = _deciding(sent)
    if outcome is None:
        # Its account is busy elsewhere: wait for it, alone.
        [outcome] = _decide([sent])
    assert outcome is not None, "one account is waited for"
    if isinstance(outcome, Exception):
        raise outcome
    hold, account, at = outcome.hold, outcome.account, outcome.at
    status = 200 if hold.asked_at < at else 201 if hold.held_at else 202
    return status, msgspec.json.encode(_hold(hold, account))


@dataclass(frozen=True, kw_only=True)
class _Decided:
    hold: HoldNow
    account: str
    at: datetime


_Refusal = LedgerError | Unreadable


def _decide_all(requests: Sequence[Sent]) -> list[_Decided | Exception | None]:
    """Decide the holds of several requests in one transaction, each for itself."""
    try:
        return list(_decide(requests))
    except Exception as error:
        if is_of_all(error):
            raise
        if len(requests) == 1:
            return [error]
        # Whoever caused it is alone with it.
        return [one for request in requests for one in _decide_all([request])]


def _decide(requests: Sequence[Sent]) -> list[_Decided | _Refusal | None]:
    at = timezone.now()
    with transaction.atomic(durable=True):
        opened = access.books_of_api_keys(secrets=[request.secret for request in requests])
        read = [_read(request, opened.get(request.secret), at=at) for request in requests]
        asked = [one for one in read if isinstance(one, holds.Request)]
        revisions = {book.id: book.revision for book in opened.values()}
        outcomes = iter(holds.authorize(requests=asked, revisions=revisions, at=at))
        return [
            _decided(one, next(outcomes), at=at) if isinstance(one, holds.Request) else one
            for one in read
        ]


def _read(request: Sent, book: OpenedBook | None, *, at: datetime) -> holds.Request | _Refusal:
    if book is None:
        return InvalidApiKey()
    try:
        asked = bodies.read(_hold_decoder, request.body, request.content_type, InvalidHold)
        return holds.estimate(book_id=book.id, hold=asked, at=at)
    except (LedgerError, Unreadable) as refusal:
        return refusal


def _decided(
    asked: holds.Request, outcome: HoldNow | LedgerError | None, *, at: datetime
) -> _Decided | LedgerError | None:
    if not isinstance(outcome, HoldNow):
        return outcome
    return _Decided(hold=outcome, account=asked.hold.account, at=at)


_deciding: Final = Together(_decide_all)


class HoldOfRun(KeyView):
    """GET /api/v1/holds/ACCOUNT/RUN: the hold, and what became of it."""

    def get(self, request: Request, account: str, run: str) -> HttpResponse:
        facts = accounts.find(book_id=book_id(request), code=account)
        return _json(_hold(holds.find(account=facts, run_id=run), account))


class Capture(KeyView):
    """POST /api/v1/holds/ACCOUNT/RUN/capture: the run that was held for, as POST /runs takes it.

    200 with the run's receipt: debited, whether it cost more or less than was held. 202 if no rate
    prices the run yet: it keeps its hold.
    """

    def post(self, request: Request, account: str, run: str) -> HttpResponse:
        body = request._request.body
        done = bodies.read(_run_decoder, body, request.content_type, InvalidRuns)
        if (done.id, done.account) != (run, account):
            message = f"is not the run that is captured: {run!r} of account {account!r}"
            raise InvalidHold(faults=[Fault(field="id", rule="same_run", message=message)])
        facts = accounts.find(book_id=book_id(request), code=account)
        with transaction.atomic(durable=True):
            accepted = holds.capture(account=facts, run=done, at=timezone.now())
        shard = shard_of(facts.id)
        while receipts.waits(batch_id=accepted.batch_id, shard=shard):
            debiting.drain_block(shard=shard, at=timezone.now())
        [result] = receipts.of_batch(book_id=facts.book_id, batch_id=accepted.batch_id)
        if result.status == "conflict":
            raise RunConflict(account=account, run=run)
        answer = answers.result(result) | {
            "hold": _hold(holds.find(account=facts, run_id=run), account)
        }
        return _json(answer, status=202 if result.status == "unpriced" else 200)

    def get(self, request: Request, account: str, run: str) -> HttpResponse:
        """A run's id may end like this address."""
        return HoldOfRun().get(request, account, f"{run}/capture")


class Release(KeyView):
    """POST /api/v1/holds/ACCOUNT/RUN/release: give back what is held."""

    def post(self, request: Request, account: str, run: str) -> HttpResponse:
        facts = accounts.find(book_id=book_id(request), code=account)
        released = holds.release(account=facts, run_id=run, at=timezone.now())
        return _json(_hold(released, account))

    def get(self, request: Request, account: str, run: str) -> HttpResponse:
        """A run's id may end like this address."""
        return HoldOfRun().get(request, account, f"{run}/release")


def _hold(of: HoldNow, account: str) -> dict[str, Any]:
    at = timezone.now()
    answer: dict[str, Any] = {
        "run": of.run_id,
        "account": account,
        "status": of.status(at),
        "microtokens": of.microtokens,
        "tokens": tokens_text(of.microtokens),
        "asked_at": answers.instant(of.asked_at),
    }
    for name in ("held_at", "expires_at", "captured_at", "released_at", "refused_at"):
        if (instant := getattr(of, name)) is not None:
            answer[name] = answers.instant(instant)
    if of.refusal:
        answer["reason"] = of.refusal
    if of.review_id is not None:
        answer["review"] = of.review_id
    if of.captured_at is not None:
        answer |= {"late": of.is_late, "after_release": of.is_after_release}
    return answer


def _json(answer: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(answer), status=status, content_type="application/json")
