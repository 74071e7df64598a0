"""What refunds and disputes take of a top-up's tokens.

Nothing here goes by what an event says. Whenever something changes, all that is known of a top-up
is added up anew, as money over money, so that tax cancels out:

    gone       refunds that succeeded, disputes that were lost          -> revoked
    in doubt   refunds under way, disputes that took the money          -> frozen

and the ledger brings the lot there. So a dispute that is won before a refund, a refund that fails
after it succeeded, or the same news twice in another order come to what they should. An inquiry,
which has moved no money, takes nothing.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction

from billing import money
from billing.models import Dispute, Refund, TopUp, TopUpPayment, TopUpReversal
from ledger import reversals as of_lots

# Stripe's words for a dispute. Any other that does not end one, appeals among them, is in doubt.
GIVEN_BACK: Final = frozenset({"won", "prevented", "warning_closed"})
INQUIRY: Final = "warning_"
LOST: Final = "lost"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What went back of a top-up, or may: minor units and microtokens."""

    gone: int
    in_doubt: int
    to_revoke_microtokens: int
    to_freeze_microtokens: int

    @property
    def reversed(self) -> int:
        return self.gone + self.in_doubt

    @property
    def microtokens(self) -> int:
        return self.to_revoke_microtokens + self.to_freeze_microtokens


@dataclass(frozen=True, kw_only=True)
class _Piece:
    amount: int
    microtokens: int | None  # None: the share of the payment decides
    is_gone: bool


def settle(*, top_up_id: uuid.UUID, at: datetime) -> TopUpReversal | None:
    """Take out of a top-up's lot what its refunds and disputes come to, or put it back.

    The reversal that stands from now on; None if nothing ever was reversed, or nothing is granted.
    """
    with transaction.atomic():
        top_up = TopUp.objects.select_for_update(no_key=True).get(pk=top_up_id)
        payment = TopUpPayment.objects.filter(top_up=top_up).first()
        last = top_up.reversals.order_by("-number").first()
        if payment is None:
            return None
        wanted = parts(top_up=top_up, payment=payment)
        before = (last.to_revoke_microtokens, last.to_freeze_microtokens) if last else (0, 0)
        if before == (wanted.to_revoke_microtokens, wanted.to_freeze_microtokens):
            return last
        return _reverse(top_up, wanted, number=1 if last is None else last.number + 1, at=at)


def parts(*, top_up: TopUp, payment: TopUpPayment) -> Parts:
    """What its refunds and disputes come to."""
    pieces = [*_refunded(top_up.refunds.all()), *_disputed(top_up.disputes.all())]
    gross = money.to_minor_units(payment.amount)
    gone = [piece for piece in pieces if piece.is_gone]
    revoked = _microtokens(gone, gross=gross, granted=top_up.microtokens)
    whole = _microtokens(pieces, gross=gross, granted=top_up.microtokens)
    gone_amount = sum(piece.amount for piece in gone)
    return Parts(
        gone=gone_amount,
        in_doubt=sum(piece.amount for piece in pieces) - gone_amount,
        to_revoke_microtokens=revoked,
        to_freeze_microtokens=whole - revoked,
    )


def tokens_for(*, amount: int, gross: int, granted: int) -> int:
    """Microtokens that this much of the payment bought, rounded up."""
    return -(-granted * min(amount, gross) // gross)


def amount_for(*, microtokens: int, gross: int, granted: int) -> int:
    """Minor units that these tokens cost, with tax, rounded down."""
    return gross * min(microtokens, granted) // granted


def status_of(dispute: Dispute) -> str:
    """The last word on it."""
    return next((row.status for row in reversed(dispute.statuses.all())), "")


def holds_money(status: str) -> bool:
    """Whether a dispute that stands so has taken the money, for now."""
    return status not in GIVEN_BACK and status != LOST and not status.startswith(INQUIRY)


def _refunded(refunds: Iterable[Refund]) -> list[_Piece]:
    return [
        _Piece(
            amount=money.to_minor_units(refund.amount),
            microtokens=refund.microtokens,
            is_gone=hasattr(refund, "success"),
        )
        for refund in refunds
        if not hasattr(refund, "failure")
    ]


def _disputed(disputes: Iterable[Dispute]) -> list[_Piece]:
    return [
        _Piece(
            amount=money.to_minor_units(dispute.amount), microtokens=None, is_gone=status == LOST
        )
        for dispute in disputes
        if (status := status_of(dispute)) == LOST or holds_money(status)
    ]


def _microtokens(pieces: Sequence[_Piece], *, gross: int, granted: int) -> int:
    shares = sum(piece.amount for piece in pieces if piece.microtokens is None)
    decided = sum(piece.microtokens for piece in pieces if piece.microtokens is not None)
    return min(granted, decided + tokens_for(amount=shares, gross=gross, granted=granted))


def _reverse(top_up: TopUp, wanted: Parts, *, number: int, at: datetime) -> TopUpReversal:
    stands = of_lots.reverse(
        lot_id=top_up.fulfilment.lot_id,
        revoked_microtokens=wanted.to_revoke_microtokens,
        frozen_microtokens=wanted.to_freeze_microtokens,
        idempotency_key=f"top_up:{top_up.pk}:reversal:{number}",
        at=at,
    )
    bonus_lot_id = top_up.fulfilment.bonus_lot_id
    if bonus_lot_id is not None:
        _reverse_bonus(bonus_lot_id, top_up, wanted, number=number, at=at)
    return TopUpReversal.objects.create(
        top_up=top_up,
        number=number,
        to_revoke_microtokens=wanted.to_revoke_microtokens,
        to_freeze_microtokens=wanted.to_freeze_microtokens,
        revoked_microtokens=stands.revoked_microtokens,
        frozen_microtokens=stands.frozen_microtokens,
        owed_microtokens=stands.owed_microtokens,
        reversed_at=at,
    )


def _reverse_bonus(lot_id: int, top_up: TopUp, wanted: Parts, *, number: int, at: datetime) -> None:
    """Tokens for free go by the share of those that were paid. What of them was used is not owed:
    runs draw on them first, and nothing was paid for them."""
    gone, whole = (
        tokens_for(amount=part, gross=top_up.microtokens, granted=top_up.bonus_microtokens)
        for part in (wanted.to_revoke_microtokens, wanted.microtokens)
    )
    of_lots.reverse(
        lot_id=lot_id,
        revoked_microtokens=gone,
        frozen_microtokens=whole - gone,
        may_owe=False,
        idempotency_key=f"top_up:{top_up.pk}:bonus:reversal:{number}",
        at=at,
    )
