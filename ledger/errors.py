"""Everything the ledger may refuse to do.

An error carries the facts of the refusal as attributes, and a `code` that never changes. It
knows nothing of HTTP: ledger/api/problems.py gives each class its status. What no caller can
cause is not an error but an assertion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class LedgerError(Exception):
    """Base of every refusal. Nothing has been written when one is raised."""

    code: ClassVar[str]


class UnknownAccount(LedgerError):
    """There is no such account in this book."""

    code = "unknown_account"

    def __init__(self, *, account: str) -> None:
        super().__init__(f"there is no account {account!r}")
        self.account = account


class AccountCodeTaken(LedgerError):
    """The book already has an account under this code, opened with other facts."""

    code = "account_code_taken"

    def __init__(self, *, account: str) -> None:
        super().__init__(f"the code {account!r} already names another account")
        self.account = account


class IdempotencyKeyReused(LedgerError):
    """The key already names a different request on this account."""

    code = "idempotency_key_reused"

    def __init__(self, *, account_id: int, idempotency_key: str) -> None:
        super().__init__(f"account {account_id}: key {idempotency_key!r} names another request")
        self.account_id = account_id
        self.idempotency_key = idempotency_key


class UnknownRateCard(LedgerError):
    """There is no such rate card in this book."""

    code = "unknown_rate_card"

    def __init__(self, *, rate_card_id: int) -> None:
        super().__init__(f"there is no rate card {rate_card_id} in this book")
        self.rate_card_id = rate_card_id


class RateCardVersionPublished(LedgerError):
    """A published version never changes: make a new version with its own effective date."""

    code = "rate_card_version_published"

    def __init__(self, *, rate_card: str, number: int) -> None:
        super().__init__(f"version {number} of rate card {rate_card!r} is published already")
        self.rate_card = rate_card
        self.number = number


class RateCardVersionEmpty(LedgerError):
    """A version without a single rate can price nothing, so it can't be published."""

    code = "rate_card_version_empty"

    def __init__(self, *, rate_card: str, number: int) -> None:
        super().__init__(f"version {number} of rate card {rate_card!r} has no rate")
        self.rate_card = rate_card
        self.number = number


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing wrong with a submission: where (`runs[3].account`), which rule, and in words."""

    field: str
    rule: str
    message: str


class InvalidAccount(LedgerError):
    """An account breaks rules."""

    code = "invalid_account"

    def __init__(self, *, faults: Sequence[Fault]) -> None:
        super().__init__(f"{faults[0].field}: {faults[0].message}")
        self.faults = list(faults)


class InvalidRuns(LedgerError):
    """A submission breaks rules; none of its runs was taken."""

    code = "invalid_runs"

    def __init__(self, *, faults: Sequence[Fault]) -> None:
        first = faults[0]
        super().__init__(f"{first.field}: {first.message}")
        self.faults = list(faults)


class RunConflict(LedgerError):
    """The run's id is taken by a run of this account with another body."""

    code = "run_conflict"

    def __init__(self, *, account: str, run: str) -> None:
        super().__init__(f"account {account!r} already has a run {run!r} with another body")
        self.account = account
        self.run = run


class UnknownRun(LedgerError):
    """The account has no run under this id."""

    code = "unknown_run"

    def __init__(self, *, account: str, run: str) -> None:
        super().__init__(f"account {account!r} has no run {run!r}")
        self.account = account
        self.run = run


class InvalidCorrection(LedgerError):
    """What is to be corrected, and how, breaks rules."""

    code = "invalid_correction"

    def __init__(self, *, faults: Sequence[Fault]) -> None:
        super().__init__(f"{faults[0].field}: {faults[0].message}")
        self.faults = list(faults)


class MoreThanIsLeft(LedgerError):
    """More of a run is to be given back, or to stay, than it costs by now."""

    code = "more_than_is_left"

    def __init__(self, *, run: str, microtokens: int, left_microtokens: int) -> None:
        super().__init__(
            f"run {run!r} costs {left_microtokens:,} microtokens by now, asked for {microtokens:,}"
        )
        self.run = run
        self.microtokens = microtokens
        self.left_microtokens = left_microtokens


class OutcomeKnown(LedgerError):
    """The run is known to have failed already, by a fault that stands."""

    code = "outcome_known"

    def __init__(self, *, run: str, fault: str) -> None:
        super().__init__(f"run {run!r} failed by the {fault}'s fault: that is known already")
        self.run = run
        self.fault = fault


class UnknownInference(LedgerError):
    """The run's receipt has no inference at this position."""

    code = "unknown_inference"

    def __init__(self, *, run: str, position: int, count: int) -> None:
        super().__init__(f"run {run!r} has inferences 0 to {count - 1}, not {position}")
        self.run = run
        self.position = position


class UnknownRateCardVersion(LedgerError):
    """The card has no such published version."""

    code = "unknown_rate_card_version"

    def __init__(self, *, rate_card: str, number: int) -> None:
        super().__init__(f"rate card {rate_card!r} has no published version {number}")
        self.rate_card = rate_card
        self.number = number


class UnknownBatch(LedgerError):
    """There is no such batch in this book."""

    code = "unknown_batch"

    def __init__(self, *, batch: str) -> None:
        super().__init__(f"there is no batch {batch!r}")
        self.batch = batch


class InvalidApiKey(LedgerError):
    """The key is missing, unknown or revoked."""

    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("the API key is missing, unknown or revoked")


class InvalidHold(LedgerError):
    """What was asked to be held breaks rules; nothing is held."""

    code = "invalid_hold"

    def __init__(self, *, faults: Sequence[Fault]) -> None:
        super().__init__(f"{faults[0].field}: {faults[0].message}")
        self.faults = list(faults)


class InsufficientTokens(LedgerError):
    """What is available, less what is held already, does not cover the hold."""

    code = "insufficient_tokens"

    def __init__(self, *, account: str, asked: int, available: int, held: int) -> None:
        super().__init__(
            f"account {account!r} has {available} microtokens, of which {held} are held:"
            f" {asked} more can't be"
        )
        self.account = account
        self.asked_microtokens = asked
        self.available_microtokens = available
        self.held_microtokens = held


class PaymentOverdue(LedgerError):
    """A payment of the account's holder is overdue: it gets no new holds until that is settled."""

    code = "payment_overdue"

    def __init__(self, *, account: str) -> None:
        super().__init__(
            f"a payment of account {account!r} is overdue: until it is paid nothing more is held"
        )
        self.account = account


class LimitReached(LedgerError):
    """A limit on the way from the run up to its account does not allow the hold."""

    code = "limit_reached"

    def __init__(
        self,
        *,
        limit_id: int,
        scope: str,
        scope_value: str,
        period: str,
        unit: str,
        cap: int,
        used: int,
        held: int,
        asked: int,
        reason: str = "",
    ) -> None:
        named = f" {scope_value!r}" if scope_value else ""
        super().__init__(
            f"the limit of {scope}{named} is {cap} per {period}: {used} are used and {held} held,"
            f" {asked} more are too many" + (f" ({reason})" if reason else "")
        )
        self.limit_id = limit_id
        self.scope = scope
        self.scope_value = scope_value
        self.period = period
        self.unit = unit
        self.cap = cap
        self.used = used
        self.held = held
        self.asked = asked
        self.reason = reason


class HoldConflict(LedgerError):
    """The run has a hold already, that was asked for with another body."""

    code = "hold_conflict"

    def __init__(self, *, account: str, run: str) -> None:
        super().__init__(f"account {account!r} has another hold for run {run!r}")
        self.account = account
        self.run = run


class RunDebited(LedgerError):
    """The run is debited already: there is nothing left to hold for it."""

    code = "run_debited"

    def __init__(self, *, account: str, run: str) -> None:
        super().__init__(f"run {run!r} of account {account!r} is debited already")
        self.account = account
        self.run = run


class UnknownHold(LedgerError):
    """The account has no hold for this run."""

    code = "unknown_hold"

    def __init__(self, *, account: str, run: str) -> None:
        super().__init__(f"account {account!r} has no hold for run {run!r}")
        self.account = account
        self.run = run


class NothingHeld(LedgerError):
    """A hold that was refused, or never asked for, can be neither captured nor released."""

    code = "nothing_held"

    def __init__(self, *, account: str, run: str) -> None:
        super().__init__(f"account {account!r} holds nothing for run {run!r}")
        self.account = account
        self.run = run


class HoldReleased(LedgerError):
    """A released hold can't be captured."""

    code = "hold_released"

    def __init__(self, *, account: str, run: str) -> None:
        super().__init__(f"the hold of account {account!r} for run {run!r} was released")
        self.account = account
        self.run = run


class HoldWaiting(LedgerError):
    """A hold that waits for a review can't be captured yet."""

    code = "hold_waiting"

    def __init__(self, *, account: str, run: str) -> None:
        super().__init__(f"the hold of account {account!r} for run {run!r} waits for a review")
        self.account = account
        self.run = run


class OtherCurrency(LedgerError):
    """An account's lots are all of one currency, and this one is of another."""

    code = "other_currency"

    def __init__(self, *, account: str, currency: str, asked: str) -> None:
        super().__init__(f"account {account!r} has lots in {currency}: it can have none in {asked}")
        self.account = account
        self.currency = currency
        self.asked = asked


class InvalidLimit(LedgerError):
    """A limit, or the answer to a review, breaks rules."""

    code = "invalid_limit"

    def __init__(self, *, faults: Sequence[Fault]) -> None:
        super().__init__(f"{faults[0].field}: {faults[0].message}")
        self.faults = list(faults)


class UnknownLimit(LedgerError):
    """The account has no such limit."""

    code = "unknown_limit"

    def __init__(self, *, limit: str) -> None:
        super().__init__(f"there is no limit {limit!r}")
        self.limit = limit


class UnknownReview(LedgerError):
    """The account has no such review of a soft limit."""

    code = "unknown_review"

    def __init__(self, *, review: str) -> None:
        super().__init__(f"there is no review {review!r}")
        self.review = review


class ReviewAnswered(LedgerError):
    """The review has another answer already."""

    code = "review_answered"

    def __init__(self, *, review: str) -> None:
        super().__init__(f"review {review!r} has another answer already")
        self.review = review
