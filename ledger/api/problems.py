"""Refusals as RFC 9457 problem documents: one shape for every error of the API.

{"type": "urn:runledger:problem:invalid_runs", "title": "…", "status": 422,
 "code": "invalid_runs", "detail": "…",
 "errors": [{"field": "runs[3].account", "rule": "unknown_account", "message": "…"}]}
"""

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse
from django.http.request import UnreadablePostError
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import set_rollback

from ledger.errors import (
    AccountCodeTaken,
    Fault,
    HoldConflict,
    HoldReleased,
    HoldWaiting,
    IdempotencyKeyReused,
    InsufficientTokens,
    InvalidAccount,
    InvalidApiKey,
    InvalidCorrection,
    InvalidHold,
    InvalidLimit,
    InvalidRuns,
    LedgerError,
    LimitReached,
    MoreThanIsLeft,
    NothingHeld,
    OtherCurrency,
    OutcomeKnown,
    PaymentOverdue,
    RateCardVersionEmpty,
    RateCardVersionPublished,
    ReviewAnswered,
    RunConflict,
    RunDebited,
    UnknownAccount,
    UnknownBatch,
    UnknownHold,
    UnknownInference,
    UnknownLimit,
    UnknownRateCard,
    UnknownRateCardVersion,
    UnknownReview,
    UnknownRun,
)

# Every subclass of LedgerError has a row: tests/api/test_problems.py.
STATUS: dict[type[LedgerError], int] = {
    AccountCodeTaken: 409,
    HoldConflict: 409,
    HoldReleased: 409,
    HoldWaiting: 409,
    IdempotencyKeyReused: 409,
    InsufficientTokens: 402,
    InvalidAccount: 422,
    InvalidApiKey: 401,
    InvalidCorrection: 422,
    InvalidHold: 422,
    InvalidLimit: 422,
    OtherCurrency: 409,
    InvalidRuns: 422,
    LimitReached: 403,
    PaymentOverdue: 402,
    MoreThanIsLeft: 409,
    NothingHeld: 409,
    OutcomeKnown: 409,
    RateCardVersionEmpty: 422,
    RateCardVersionPublished: 409,
    ReviewAnswered: 409,
    RunConflict: 409,
    RunDebited: 409,
    UnknownAccount: 404,
    UnknownBatch: 404,
    UnknownHold: 404,
    UnknownInference: 422,
    UnknownLimit: 404,
    UnknownRateCard: 404,
    UnknownRateCardVersion: 404,
    UnknownReview: 404,
    UnknownRun: 404,
}

TITLES = {
    400: "The request can't be read",
    401: "A valid API key is needed",
    402: "There are not enough tokens",
    403: "Not allowed",
    404: "There is no such thing",
    405: "This method is not offered here",
    406: "Answers are JSON",
    409: "It contradicts what is there already",
    413: "The body is too large",
    415: "The body must be JSON",
    422: "The request breaks a rule",
    429: "Too many requests",
    503: "Not available now",
}

CONTENT_TYPE = "application/problem+json"


class Unreadable(Exception):
    """The body is not what the endpoint reads; `status` says in which way."""

    def __init__(self, *, status: int, code: str, fault: Fault) -> None:
        super().__init__(fault.message)
        self.status = status
        self.code = code
        self.fault = fault


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Django REST framework's hook."""
    document = document_of(error)
    if document is None:
        return None  # a fault of ours: 500, logged
    set_rollback()
    headers = {}
    if document["status"] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, APIException) and (wait := getattr(error, "wait", None)):
        headers["Retry-After"] = f"{wait:.0f}"
    return Response(document, status=document["status"], headers=headers, content_type=CONTENT_TYPE)


def not_found(request: HttpRequest, path: str) -> JsonResponse:
    """Any address under /api/ that is nobody's."""
    document = _problem(404, "unknown_address", f"nothing lives at {request.path}")
    return JsonResponse(document, status=404, content_type=CONTENT_TYPE)


def document_of(error: Exception) -> dict[str, Any] | None:
    """None: it is not the request's fault."""
    if isinstance(error, Unreadable):
        return _problem(error.status, error.code, str(error), [error.fault])
    if isinstance(
        error, InvalidAccount | InvalidCorrection | InvalidHold | InvalidLimit | InvalidRuns
    ):
        return _problem(STATUS[type(error)], error.code, str(error), error.faults)
    if isinstance(error, LedgerError):
        return _problem(STATUS[type(error)], error.code, str(error)) | _members(error)
    if isinstance(error, RequestDataTooBig):
        return _problem(413, "body_too_large", "send fewer runs at a time: 32 MB at most")
    if isinstance(error, UnreadablePostError):
        return _problem(400, "body_incomplete", "the connection ended before the body did")
    if isinstance(error, APIException):
        code = error.get_codes()
        return _problem(
            error.status_code, code if isinstance(code, str) else "invalid", str(error.detail)
        )
    return None


def _members(error: LedgerError) -> dict[str, Any]:
    """What a machine wants to know of a refusal besides its code (RFC 9457, 3.2)."""
    return vars(error) if isinstance(error, InsufficientTokens | LimitReached) else {}


def _problem(
    status: int, code: str, detail: str, faults: list[Fault] | None = None
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": f"urn:runledger:problem:{code}",
        "title": TITLES.get(status, "The request failed"),
        "status": status,
        "code": code,
        "detail": detail,
    }
    if faults:
        document["errors"] = [
            {"field": fault.field, "rule": fault.rule, "message": fault.message} for fault in faults
        ]
    return document
