"""Void runs, and say afterwards that one failed."""

from typing import Annotated, Any, Final, Literal

import msgspec
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from ledger import accounts, corrections, receipts
from ledger.accounts import AccountFacts
from ledger.api import answers, bodies
from ledger.api.authority import book_id
from ledger.api.runs import KeyView, RunReceipt
from ledger.corrections import REASON_LENGTH_MAX
from ledger.errors import Fault, InvalidCorrection
from ledger.units import RUN_MICROTOKENS_MAX

KEY_CHARACTERS_MAX: Final = 200
INFERENCES_MAX: Final = 100_000

_Reason = Annotated[str, msgspec.Meta(max_length=REASON_LENGTH_MAX)]


class _Void(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is left of a run, or so many microtokens of it."""

    microtokens: Annotated[int, msgspec.Meta(ge=1, le=RUN_MICROTOKENS_MAX)] | None = None
    reason: _Reason = ""


class _Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A failure, by whose fault, and by the customer's what was used."""

    outcome: Literal["failed"]
    fault: Literal["vendor", "customer"]
    used_microtokens: Annotated[int, msgspec.Meta(ge=0, le=RUN_MICROTOKENS_MAX)] | None = None
    used_inferences: (
        Annotated[
            list[Annotated[int, msgspec.Meta(ge=0, lt=INFERENCES_MAX)]],
            msgspec.Meta(max_length=INFERENCES_MAX),
        ]
        | None
    ) = None
    reason: _Reason = ""


_void_decoder: Final = msgspec.json.Decoder(_Void)
_outcome_decoder: Final = msgspec.json.Decoder(_Outcome)


class VoidRun(KeyView):
    """POST /api/v1/accounts/ACCOUNT/runs/RUN/void: give back all or part of a run.

    The answer is the receipt's new version. It carries an `Idempotency-Key`: sent again, it gives
    nothing more back.
    """

    def post(self, request: Request, account: str, run: str) -> HttpResponse:
        facts = _account(request, account)
        body = bodies.read(
            _void_decoder, request._request.body, request.content_type, InvalidCorrection
        )
        with transaction.atomic(durable=True):
            corrections.void(
                account=facts,
                run_id=run,
                microtokens=body.microtokens,
                reason=body.reason,
                idempotency_key=_idempotency_key(request),
                at=timezone.now(),
            )
        return _receipt(facts, run)

    def get(self, request: Request, account: str, run: str) -> HttpResponse:
        """A run's id may end like this address."""
        return RunReceipt().get(request, account, f"{run}/void")


class OutcomeOfRun(KeyView):
    """POST /api/v1/accounts/ACCOUNT/runs/RUN/outcome: say that a run failed after all.

    By the vendor's fault everything is given back; by the customer's what was used stays. The
    answer is the receipt's new version. It carries an `Idempotency-Key`.
    """

    def post(self, request: Request, account: str, run: str) -> HttpResponse:
        facts = _account(request, account)
        body = bodies.read(
            _outcome_decoder, request._request.body, request.content_type, InvalidCorrection
        )
        _check_used(body)
        with transaction.atomic(durable=True):
            corrections.report_outcome(
                account=facts,
                run_id=run,
                fault=body.fault,
                used_microtokens=body.used_microtokens,
                used_inferences=body.used_inferences,
                reason=body.reason,
                idempotency_key=_idempotency_key(request),
                at=timezone.now(),
            )
        return _receipt(facts, run)

    def get(self, request: Request, account: str, run: str) -> HttpResponse:
        """A run's id may end like this address."""
        return RunReceipt().get(request, account, f"{run}/outcome")


def _check_used(body: _Outcome) -> None:
    given = [
        name for name in ("used_microtokens", "used_inferences") if getattr(body, name) is not None
    ]
    if given and body.fault == "vendor":
        raise _invalid(given[0], "fault_of_customer", "goes with the customer's fault only")
    if len(given) > 1:
        raise _invalid(given[1], "one_of", "can't stand beside used_microtokens")


def _idempotency_key(request: Request) -> str:
    key: str = request.headers.get("Idempotency-Key", "")
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise _invalid(
            "Idempotency-Key", "length", f"must have 1 to {KEY_CHARACTERS_MAX} characters"
        )
    return key


def _invalid(field: str, rule: str, message: str) -> InvalidCorrection:
    return InvalidCorrection(faults=[Fault(field=field, rule=rule, message=message)])


def _account(request: Request, account: str) -> AccountFacts:
    return accounts.find(book_id=book_id(request), code=account)


def _receipt(account: AccountFacts, run: str) -> HttpResponse:
    answer: dict[str, Any] = answers.receipt(receipts.receipt(account=account, run_id=run))
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json")
