"""The outbox: calls to Stripe that were written down are sent, each until it has an answer.

A worker claims a call by a lease, sends it outside any transaction, and writes the answer down
together with what it means. Killed in between, it leaves the lease to run out; the next worker
sends the same request under the same key, and Stripe gives the same answer
(https://docs.stripe.com/api/idempotent_requests). Two things end that: a refusal, and doubt. Stripe
keeps keys for 24 hours, so a call first sent 20 hours ago, or whose key has come to remember a
fault of Stripe's, is parked; billing.stripe.reconcile finds out what became of it.
"""

import hashlib
import json
import time
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from billing import sweeps
from billing.errors import (
    PaymentDoesNotMatch,
    StripeClosed,
    StripeKeyReused,
    StripeRefused,
    StripeUnavailable,
)
from billing.models import StripeCall
from billing.stripe import chains
from billing.stripe.chains import Request
from billing.stripe.gateway import Reply

CALLS_PER_SWEEP_MAX: Final = 500
# Counted from the sweep's start: what is left when its last call begins is longer than the SDK's
# tries of two requests take together.
LEASE: Final = timedelta(minutes=5)
SWEEP_LASTS_MAX: Final = LEASE / sweeps.SHARE_OF_LEASE
TRIES_MAX: Final = 20  # of a call that fails in a way that nobody foresaw
KEY_GOOD_FOR: Final = timedelta(hours=20)
BACK_OFF_MIN: Final = timedelta(seconds=5)
BACK_OFF_MAX: Final = timedelta(minutes=30)

# Why a call is parked that the reconciler can settle; any other reason is for a person.
KEY_TOO_OLD: Final = "key_too_old"
KEY_POISONED: Final = "key_poisoned"
UNEXPECTED: Final = "unexpected"

CHANGING: Final = (
    "leased_until",
    "next_try_at",
    "done_at",
    "refused_at",
    "parked_at",
    "stripe_id",
    "stripe_request_id",
    "http_status",
    "error_code",
    "error_message",
)

logger = structlog.get_logger(__name__)


def send_due(*, at: datetime) -> int:
    """Send what waits, oldest first, and what follows from it; how many calls were tried.

    Stops early when Stripe does not accept our key, or asks to be left alone.
    """
    began = time.monotonic()
    tried = 0
    while tried < CALLS_PER_SWEEP_MAX and not sweeps.is_over(began, SWEEP_LASTS_MAX):
        call_id = _ready(at).order_by("id").values_list("id", flat=True).first()
        if call_id is None:
            break
        tried += 1
        if not send(call_id=call_id, at=at):
            break
    return tried


def send(*, call_id: int, at: datetime) -> bool:
    """Send one call if it is free to be sent; False if it is no use to send others now."""
    claimed = _claim(call_id, at=at)
    if claimed is None:
        return True
    return sweeps.attempt(
        claimed,
        partial(_try, at=at),
        what="call to Stripe",
        otherwise=partial(_failed, at=at),
    )


def _try(call: StripeCall, *, at: datetime) -> bool:
    try:
        chains.require_ready(call)
        request = chains.request_of(call)
        _mark_sent(call, request, at=at)
        reply = chains.send(call, request)
    except StripeRefused as error:
        _refuse(call, error, at=at)
    except (StripeKeyReused, PaymentDoesNotMatch) as error:
        _park(call, error.code, str(error), at=at)
    except StripeUnavailable as error:
        return _unanswered(call, error, at=at)
    except StripeClosed as error:
        logger.error("stripe does not accept our key", error=str(error))
        _postpone(call, error.code, str(error), error.http_status, at=at)
        return False
    else:
        _done(call, reply, at=at)
    return True


def _failed(call: StripeCall, error: Exception, *, at: datetime) -> bool:
    """Something is wrong with this call, or with us: try again later, and in the end ask a person.

    The answer may have been given, so it keeps its key.
    """
    if call.tries >= TRIES_MAX:
        _park(call, UNEXPECTED, repr(error), at=at)
    else:
        _postpone(call, UNEXPECTED, repr(error), None, at=at)
    return True


def adopt(*, call: StripeCall, reply: Reply, at: datetime) -> None:
    """A parked call turns out to have been carried out: go on from there."""
    with transaction.atomic():
        locked = StripeCall.objects.select_for_update(no_key=True).get(pk=call.pk)
        if locked.parked_at is None:
            return
        locked.parked_at = None
        locked.stripe_id = reply.stripe_id
        locked.done_at = at
        _write(locked)
        chains.record(locked, reply, at=at)


def give_up(*, call: StripeCall, at: datetime) -> None:
    """A parked call was not carried out, and it is too late for it."""
    StripeCall.objects.filter(pk=call.pk, parked_at__isnull=False).update(
        parked_at=None, refused_at=at
    )


def waiting() -> QuerySet[StripeCall]:
    """Calls without an answer."""
    return StripeCall.objects.filter(
        done_at__isnull=True, refused_at__isnull=True, parked_at__isnull=True
    )


def _ready(at: datetime) -> QuerySet[StripeCall]:
    return _free(at).filter(Q(next_try_at__isnull=True) | Q(next_try_at__lte=at))


def _free(at: datetime) -> QuerySet[StripeCall]:
    """Nobody is sending it, and what it comes after is done."""
    predecessor = StripeCall.objects.filter(
        operation=OuterRef("after__operation"),
        aggregate_id=OuterRef("after__aggregate_id"),
        done_at__isnull=False,
    )
    return waiting().filter(
        Q(leased_until__isnull=True) | Q(leased_until__lte=at),
        Q(after__isnull=True) | Exists(predecessor),
    )


def _claim(call_id: int, *, at: datetime) -> StripeCall | None:
    with transaction.atomic():
        call = (
            _free(at)
            .select_for_update(skip_locked=True, no_key=True, of=("self",))
            .filter(pk=call_id)
            .first()
        )
        if call is None:
            return None
        if call.first_sent_at is not None and at - call.first_sent_at > KEY_GOOD_FOR:
            _end(call, error_code=KEY_TOO_OLD, error_message="first sent too long ago")
            call.parked_at = at
            _write(call)
            return None
        call.leased_until = at + LEASE
        call.tries += 1
        call.save(update_fields=["leased_until", "tries"])
        return call


def _mark_sent(call: StripeCall, request: Request, *, at: datetime) -> None:
    """It goes out now. A key stands for one request, whose digest is kept from the first time on.

    From then on Stripe may know the key, and its time runs. Raises StripeKeyReused.
    """
    said = json.dumps([request.operation, request.target, request.params], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()
    if call.request_digest not in ("", digest):
        raise StripeKeyReused("the request is not the one that was sent first")
    if call.first_sent_at is None:
        StripeCall.objects.filter(pk=call.pk).update(request_digest=digest, first_sent_at=at)


def _done(call: StripeCall, reply: Reply, *, at: datetime) -> None:
    with transaction.atomic():
        locked = _lock(call)
        if locked is None:
            return
        _end(locked, http_status=reply.http_status, request_id=reply.request_id)
        locked.stripe_id = reply.stripe_id
        locked.done_at = at
        _write(locked)
        chains.record(locked, reply, at=at)


def _refuse(call: StripeCall, error: StripeRefused, *, at: datetime) -> None:
    with transaction.atomic():
        locked = _lock(call)
        if locked is None:
            return
        _end(
            locked,
            http_status=error.http_status,
            request_id=error.request_id,
            error_code=error.stripe_code,
            error_message=str(error),
        )
        locked.refused_at = at
        _write(locked)
        chains.record_refusal(locked, error, at=at)
    logger.warning("stripe refused", key=call.idempotency_key, error=str(error))


def _unanswered(call: StripeCall, error: StripeUnavailable, *, at: datetime) -> bool:
    if error.replayed:
        _park(call, KEY_POISONED, str(error), at=at)
        return True
    _postpone(call, error.code, str(error), error.http_status, at=at)
    return error.http_status != 429


def _park(call: StripeCall, code: str, message: str, *, at: datetime) -> None:
    with transaction.atomic():
        locked = _lock(call)
        if locked is None:
            return
        _end(locked, error_code=code, error_message=message)
        locked.parked_at = at
        _write(locked)
    logger.error("call to stripe parked", key=call.idempotency_key, error=message)


def _postpone(
    call: StripeCall, code: str, message: str, http_status: int | None, *, at: datetime
) -> None:
    with transaction.atomic():
        locked = _lock(call)
        if locked is None:
            return
        _end(locked, http_status=http_status, error_code=code, error_message=message)
        locked.next_try_at = at + min(BACK_OFF_MIN * 2 ** min(locked.tries - 1, 10), BACK_OFF_MAX)
        _write(locked)


def _lock(call: StripeCall) -> StripeCall | None:
    """The call, locked, unless another worker has meanwhile brought its answer."""
    return waiting().select_for_update(no_key=True).filter(pk=call.pk).first()


def _write(call: StripeCall) -> None:
    """Only what changes. An update that names columns of a key, if only to leave them, locks out
    whoever writes a call that comes after this one: a closing, which holds the customer."""
    call.save(update_fields=CHANGING)


def _end(
    call: StripeCall,
    *,
    http_status: int | None = None,
    request_id: str = "",
    error_code: str = "",
    error_message: str = "",
) -> None:
    """The lease is over; what the last answer was."""
    call.leased_until = None
    call.http_status = http_status
    call.stripe_request_id = request_id
    call.error_code = error_code
    call.error_message = error_message
