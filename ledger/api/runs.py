"""Send runs; read receipts and what became of a batch."""

import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.views import APIView

from ledger import access, accounts, debiting, intake, receipts
from ledger.access import OpenedBook
from ledger.api import answers, bodies
from ledger.api.authority import HasKey, KeyAuthentication, book_id, secret_of
from ledger.api.bodies import Sent
from ledger.api.problems import Unreadable
from ledger.api.together import Together, is_of_all
from ledger.api.waking import WAKER
from ledger.errors import InvalidApiKey, InvalidRuns, RunConflict, UnknownBatch
from ledger.intake import Accepted, Submitted
from ledger.receipts import RunResult
from ledger.units import tokens_text

# Larger bodies have a transaction of their own: nobody waits for them.
TOGETHER_BYTES_MAX: Final = 16 * 1024


class KeyView(APIView):
    """An address that a machine opens with its key."""

    authentication_classes = (KeyAuthentication,)
    permission_classes = (HasKey,)


class OnlyJson(BaseContentNegotiation):
    """JSON, whatever is asked for."""

    def select_renderer(
        self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class Runs(APIView):
    """POST /api/v1/runs: send 1 to 10,000 runs, as `{"runs": [...]}` or one run by itself.

    202 says that they are safe and what each costs; they are debited within moments, and the
    batch's address tells what became of them. With `?wait` they are debited at once, and the
    answer, 200, has their receipts. Sending the same runs again changes nothing.
    """

    # There is nothing to choose: this is most requests by far.
    content_negotiation_class = OnlyJson
    # Keys are looked up where runs are taken, for all requests that wait: see _take.
    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Request) -> HttpResponse:
        sent = Sent(
            secret=secret_of(request.META),
            body=request._request.body,
            content_type=request.content_type,
        )
        if "wait" in request.query_params:
            return _debited(_taken_from(sent))
        status, answer = acknowledge(sent)
        return HttpResponse(answer, status=status, content_type="application/json")


def acknowledge(sent: Sent) -> tuple[int, bytes]:
    """Take the runs of a request; the answer. Raises InvalidApiKey, InvalidRuns and Unreadable."""
    taken = _taken_from(sent)
    WAKER.tell(taken.accepted.intakes)
    return 202, msgspec.json.encode(_acknowledged(taken.accepted))


def _taken_from(sent: Sent) -> "_Taken":
    taken = _taking(sent) if len(sent.body) <= TOGETHER_BYTES_MAX else _take([sent])[0]
    if isinstance(taken, Exception):
        raise taken
    return taken


@dataclass(frozen=True, kw_only=True)
class _Taken:
    book_id: int
    accepted: Accepted


_Refusal = InvalidApiKey | InvalidRuns | Unreadable


def _take_all(requests: Sequence[Sent]) -> list[_Taken | Exception]:
    """Take the runs of several requests in one transaction, each for itself."""
    try:
        return list(_take(requests))
    except Exception as error:
        if is_of_all(error):
            raise
        if len(requests) == 1:
            return [error]
        # Whoever caused it is alone with it; and what passes by itself has passed by now.
        return [one for request in requests for one in _take_all([request])]


def _take(requests: Sequence[Sent]) -> list[_Taken | _Refusal]:
    with transaction.atomic(durable=True):
        opened = access.books_of_api_keys(secrets=[request.secret for request in requests])
        read = [_read(request, opened.get(request.secret)) for request in requests]
        taken = intake.accept_each(
            submissions=[one for one in read if isinstance(one, Submitted)],
            revisions={book.id: book.revision for book in opened.values()},
            at=timezone.now(),
        )
        accepted = iter(taken)
        return [_taken(one, next(accepted)) if isinstance(one, Submitted) else one for one in read]


def _read(request: Sent, book: OpenedBook | None) -> Submitted | _Refusal:
    if book is None:
        return InvalidApiKey()
    try:
        runs = bodies.runs(request.body, request.content_type)
    except (InvalidRuns, Unreadable) as refusal:
        return refusal
    return Submitted(book_id=book.id, runs=runs)


def _taken(submitted: Submitted, accepted: Accepted | InvalidRuns) -> _Taken | InvalidRuns:
    if isinstance(accepted, InvalidRuns):
        return accepted
    return _Taken(book_id=submitted.book_id, accepted=accepted)


_taking: Final = Together(_take_all)


class BatchOfRuns(KeyView):
    """GET /api/v1/batches/ID: what became of each run of a batch."""

    def get(self, request: Request, batch: str) -> HttpResponse:
        try:
            batch_id = uuid.UUID(batch)
        except ValueError:
            raise UnknownBatch(batch=batch) from None
        results = receipts.of_batch(book_id=book_id(request), batch_id=batch_id)
        return _json({"batch": str(batch_id), "runs": [answers.result(one) for one in results]})


class RunReceipt(KeyView):
    """GET /api/v1/accounts/ACCOUNT/runs/RUN: the run's receipt."""

    def get(self, request: Request, account: str, run: str) -> HttpResponse:
        facts = accounts.find(book_id=book_id(request), code=account)
        return _json(answers.receipt(receipts.receipt(account=facts, run_id=run)))


def _debited(taken: _Taken) -> HttpResponse:
    accepted = taken.accepted
    for shard in accepted.shards:
        while receipts.waits(batch_id=accepted.batch_id, shard=shard):
            debiting.drain_block(shard=shard, at=timezone.now())
    # A batch may name one run twice; its results stand in the order of the runs.
    results: dict[tuple[str, str], deque[RunResult]] = defaultdict(deque)
    for one in receipts.of_batch(book_id=taken.book_id, batch_id=accepted.batch_id):
        results[one.account, one.run_id].append(one)
    ordered = [results[run.account, run.id].popleft() for run in accepted.sent]
    if len(ordered) == 1 and ordered[0].status == "conflict":
        raise RunConflict(account=ordered[0].account, run=ordered[0].run_id)
    return _json(
        {"batch": str(accepted.batch_id), "runs": [answers.result(one) for one in ordered]}
    )


class _Told(msgspec.Struct, omit_defaults=True, gc=False):
    """What is said of a run that was taken."""

    id: str
    account: str
    status: str
    microtokens: int | None = None
    tokens: str | None = None
    reason: str | None = None


def _acknowledged(accepted: Accepted) -> dict[str, Any]:
    reasons = iter(accepted.unpriced)
    return {
        "batch": str(accepted.batch_id),
        "runs": [
            _Told(run.id, run.account, "unpriced", reason=next(reasons))
            if cost is None
            else _Told(run.id, run.account, "accepted", cost, tokens_text(cost))
            for run, cost in zip(accepted.sent, accepted.costs, strict=True)
        ],
    }


def _json(answer: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(answer), status=status, content_type="application/json")
