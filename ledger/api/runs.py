"""Send runs; read receipts and what became of a batch."""

import uuid
from collections import defaultdict, deque
from typing import Any

import msgspec
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from ledger import accounts, debiting, intake, receipts, tasks
from ledger.api import answers, bodies
from ledger.api.authority import HasKey, KeyAuthentication, book_id
from ledger.errors import RunConflict, UnknownBatch
from ledger.intake import Accepted
from ledger.receipts import RunResult
from ledger.units import tokens_text


class KeyView(APIView):
    """An address that a machine opens with its key."""

    authentication_classes = (KeyAuthentication,)
    permission_classes = (HasKey,)


class Runs(KeyView):
    """POST /api/v1/runs: send 1 to 10,000 runs, as `{"runs": [...]}` or one run by itself.

    202 says that they are safe and what each costs; they are debited within moments, and the
    batch's address tells what became of them. With `?wait` they are debited at once, and the
    answer, 200, has their receipts. Sending the same runs again changes nothing.
    """

    def post(self, request: Request) -> HttpResponse:
        runs = bodies.runs(request._request.body, request.content_type)
        at = timezone.now()
        with transaction.atomic(durable=True):
            accepted = intake.accept(book_id=book_id(request), runs=runs, at=at)
        if "wait" in request.query_params:
            return _debited(request, accepted)
        tasks.wake(accepted.shards)
        return _json(_acknowledged(accepted), status=202)


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


def _debited(request: Request, accepted: Accepted) -> HttpResponse:
    for shard in accepted.shards:
        while receipts.waits(batch_id=accepted.batch_id, shard=shard):
            debiting.drain_block(shard=shard, at=timezone.now())
    # A batch may name one run twice; its results stand in the order of the runs.
    results: dict[tuple[str, str], deque[RunResult]] = defaultdict(deque)
    for one in receipts.of_batch(book_id=book_id(request), batch_id=accepted.batch_id):
        results[one.account, one.run_id].append(one)
    ordered = [results[run.account, run.id].popleft() for run in accepted.runs]
    if len(ordered) == 1 and ordered[0].status == "conflict":
        raise RunConflict(account=ordered[0].account, run=ordered[0].run_id)
    return _json(
        {"batch": str(accepted.batch_id), "runs": [answers.result(one) for one in ordered]}
    )


def _acknowledged(accepted: Accepted) -> dict[str, Any]:
    return {
        "batch": str(accepted.batch_id),
        "runs": [
            {
                "id": run.id,
                "account": run.account,
                "status": "accepted",
                "microtokens": run.microtokens,
                "tokens": tokens_text(run.microtokens),
            }
            if run.microtokens is not None
            else {
                "id": run.id,
                "account": run.account,
                "status": "unpriced",
                "reason": run.unpriced_reason,
            }
            for run in accepted.runs
        ],
    }


def _json(answer: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(answer), status=status, content_type="application/json")
