"""Set, list and end limits; answer reviews of soft ones."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import msgspec
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from ledger import accounts, limits, reviews
from ledger.accounts import AccountFacts
from ledger.api import answers, bodies
from ledger.api.authority import book_id
from ledger.api.runs import KeyView
from ledger.errors import Fault, InvalidLimit
from ledger.limits import NewLimit
from ledger.reviews import Answer

_limit_decoder: Final = msgspec.json.Decoder(NewLimit)
_answer_decoder: Final = msgspec.json.Decoder(Answer)
KEY_CHARACTERS_MAX: Final = 200


class Limits(KeyView):
    """GET, POST /api/v1/accounts/ACCOUNT/limits: the limits in force, with what is used and held.

    A POST carries an `Idempotency-Key`: sent again, it sets nothing more.
    """

    def get(self, request: Request, account: str) -> HttpResponse:
        facts = _account(request, account)
        now = limits.limits(account_id=facts.id, at=timezone.now())
        return _json({"limits": [_limit(one) for one in now]})

    def post(self, request: Request, account: str) -> HttpResponse:
        facts = _account(request, account)
        body = request._request.body
        new = bodies.read(_limit_decoder, body, request.content_type, InvalidLimit)
        at = timezone.now()
        set_ = limits.set_limit(
            account_id=facts.id, limit=new, idempotency_key=_idempotency_key(request), at=at
        )
        return _json(_limit(set_), status=201 if set_.set_at == at else 200)


class EndLimit(KeyView):
    """POST /api/v1/accounts/ACCOUNT/limits/ID/end: it refuses and counts nothing any more."""

    def post(self, request: Request, account: str, limit: int) -> HttpResponse:
        facts = _account(request, account)
        ended = limits.end_limit(account_id=facts.id, limit_id=limit, at=timezone.now())
        return _json(_limit(ended))


class Excesses(KeyView):
    """GET /api/v1/accounts/ACCOUNT/excesses: runs that were debited beyond a limit."""

    def get(self, request: Request, account: str) -> HttpResponse:
        facts = _account(request, account)
        listed = limits.excesses(account_id=facts.id)
        return _json({"excesses": [_plain(asdict(one)) for one in listed]})


class Reviews(KeyView):
    """GET /api/v1/accounts/ACCOUNT/reviews: questions of soft limits that wait for an answer."""

    def get(self, request: Request, account: str) -> HttpResponse:
        facts = _account(request, account)
        waiting = reviews.waiting(account_ids=[facts.id])
        return _json({"reviews": [_plain(asdict(one)) for one in waiting]})


class ReviewOfLimit(KeyView):
    """GET /api/v1/accounts/ACCOUNT/reviews/ID: a review, and what either answer would do now."""

    def get(self, request: Request, account: str, review: int) -> HttpResponse:
        facts = _account(request, account)
        found = reviews.review(account_id=facts.id, review_id=review)
        projection = None
        if found.answered_at is None:
            at = timezone.now()
            projection = reviews.project(account_id=facts.id, review_id=review, at=at)
        told = None if projection is None else _plain(asdict(projection))
        return _json(_plain(asdict(found)) | {"projection": told})


class AnswerReview(KeyView):
    """POST /api/v1/accounts/ACCOUNT/reviews/ID/answer: allow or refuse, and say why."""

    def post(self, request: Request, account: str, review: int) -> HttpResponse:
        facts = _account(request, account)
        body = request._request.body
        answer = bodies.read(_answer_decoder, body, request.content_type, InvalidLimit)
        answered = reviews.answer(
            account_id=facts.id, review_id=review, answer=answer, at=timezone.now()
        )
        return _json(_plain(asdict(answered)))


def _account(request: Request, account: str) -> AccountFacts:
    return accounts.find(book_id=book_id(request), code=account)


def _idempotency_key(request: Request) -> str:
    key: str = request.headers.get("Idempotency-Key", "")
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        message = f"must have 1 to {KEY_CHARACTERS_MAX} characters"
        raise InvalidLimit(faults=[Fault(field="Idempotency-Key", rule="length", message=message)])
    return key


def _limit(of: limits.LimitNow) -> dict[str, Any]:
    answer = _plain(asdict(of))
    answer["uses"] = [_plain(asdict(use)) for use in of.uses]
    return answer


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """Without the account's inner number; instants as everywhere in the API."""
    return {
        name: answers.instant(value) if isinstance(value, datetime) else value
        for name, value in facts.items()
        if name != "account_id"
    }


def _json(answer: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(answer), status=status, content_type="application/json")
