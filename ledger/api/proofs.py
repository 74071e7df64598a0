"""Published heads, and proofs that a receipt stands before one."""

import msgspec
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from ledger import accounts, heads, proofs
from ledger.api.authority import book_id
from ledger.api.runs import KeyView


class Heads(KeyView):
    """GET /api/v1/heads: the last published head of each shard. Nothing in it is anyone's."""

    def get(self, request: Request) -> HttpResponse:
        published = heads.published(at=timezone.now())
        return _json(heads.as_document(published))


class RunProof(KeyView):
    """GET /api/v1/accounts/ACCOUNT/runs/RUN/proof: the run's receipts, as its blocks seal them.

    What the answer says, and how to check it, stands in docs/ledger/receipts.md.
    """

    def get(self, request: Request, account: str, run: str) -> HttpResponse:
        facts = accounts.find(book_id=book_id(request), code=account)
        return _json(proofs.of_run(account=facts, run_id=run))


def _json(answer: object) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json")
