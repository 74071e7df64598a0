"""Everything billing may refuse to do. ledger/errors.py has the conventions.

An error carries the facts of the refusal and a `code` that never changes. It knows nothing of
HTTP. What no caller can cause is not an error but an assertion.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import ClassVar

from ledger.errors import Fault
from ledger.units import tokens_text


class BillingError(Exception):
    """Base of every refusal. Nothing has been written when one is raised."""

    code: ClassVar[str]


class AmountNotPayable(BillingError):
    """An amount that the currency cannot express: half a cent, a tenth of a yen."""

    code = "amount_not_payable"

    def __init__(self, *, amount: object, currency: str) -> None:
        super().__init__(f"{amount} is not an amount that can be paid in {currency}")
        self.amount = amount
        self.currency = currency


class InvalidInput(BillingError):
    """What was asked for breaks rules: which field, which rule, in words."""

    code = "invalid_input"

    def __init__(self, *, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.field}: {fault.message}" for fault in faults))
        self.faults = list(faults)


class NotConfirmed(BillingError):
    """What is odd about a plan has to be confirmed by whoever publishes it."""

    code = "not_confirmed"

    def __init__(self, *, warnings: Mapping[str, str]) -> None:
        super().__init__(" ".join(warnings.values()))
        self.warnings = dict(warnings)  # each one's code, and what it says


class NotRefundable(BillingError):
    """A top-up cannot be refunded so: it is not paid, is disputed, or less of it is left."""

    code = "not_refundable"

    def __init__(
        self,
        *,
        reason: str,
        wanted_microtokens: int | None = None,
        left_microtokens: int | None = None,
    ) -> None:
        words = f"the top-up cannot be refunded: {reason}"
        if wanted_microtokens is not None and left_microtokens is not None:
            wanted, left = (tokens_text(one) for one in (wanted_microtokens, left_microtokens))
            words += f"; {wanted} tokens are asked for, {left} are left"
        super().__init__(words)
        self.reason = reason
        self.wanted_microtokens = wanted_microtokens
        self.left_microtokens = left_microtokens


class NotCreditable(BillingError):
    """An invoice cannot be credited so: it is not issued, is void, or less of a line is left."""

    code = "not_creditable"

    def __init__(self, *, reason: str, line_id: int | None = None) -> None:
        super().__init__(f"the invoice cannot be credited: {reason}")
        self.reason = reason
        self.line_id = line_id


class PaymentDisputed(BillingError):
    """A payment of the customer is disputed: it buys nothing more until the bank has decided."""

    code = "payment_disputed"

    def __init__(self, *, customer_id: int) -> None:
        super().__init__("a payment is disputed; nothing can be bought until the bank has decided")
        self.customer_id = customer_id


class NothingToAskAgain(BillingError):
    """What a call was for is over: asking again would do it twice."""

    code = "nothing_to_ask_again"


class AlreadyPublished(BillingError):
    """What is published never changes: make a new version."""

    code = "already_published"

    def __init__(self, *, what: str) -> None:
        super().__init__(f"{what} is published already")
        self.what = what


class NotForSale(BillingError):
    """The plan version or pack is a draft, is retired, or is sold by another vendor."""

    code = "not_for_sale"

    def __init__(self, *, what: str, reason: str) -> None:
        super().__init__(f"{what} is not for sale: {reason}")
        self.what = what
        self.reason = reason


class CustomerCodeTaken(BillingError):
    """The vendor already has a customer under this code, opened with other facts."""

    code = "customer_code_taken"

    def __init__(self, *, customer: str) -> None:
        super().__init__(f"the code {customer!r} already names another customer")
        self.customer = customer


class AlreadySubscribed(BillingError):
    """The customer has a subscription, or a period that reaches beyond the new one's start."""

    code = "already_subscribed"

    def __init__(self, *, customer: str, until: datetime | None) -> None:
        ends = "" if until is None else f" until {until.isoformat()}"
        super().__init__(f"{customer} has a subscription already{ends}")
        self.customer = customer
        self.until = until


class NotChangeable(BillingError):
    """The subscription cannot be changed in this way, or not now."""

    code = "not_changeable"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"the subscription cannot be changed: {reason}")
        self.reason = reason


class QuoteOutdated(BillingError):
    """What was quoted does not hold any more: something has moved, or it was long ago."""

    code = "quote_outdated"

    def __init__(self) -> None:
        super().__init__("what was shown does not hold any more: look at it again, then confirm")


class KeyReused(BillingError):
    """The key already names a different request."""

    code = "idempotency_key_reused"

    def __init__(self, *, idempotency_key: object) -> None:
        super().__init__(f"the key {idempotency_key} names another request")
        self.idempotency_key = idempotency_key


class PeriodNotOver(BillingError):
    """A period is closed after its end and its grace."""

    code = "period_not_over"

    def __init__(self, *, period_id: int, closes_at: datetime) -> None:
        super().__init__(f"period {period_id} can be closed from {closes_at.isoformat()}")
        self.period_id = period_id
        self.closes_at = closes_at


class DayNotOver(BillingError):
    """The books of a day are closed after its end (UTC)."""

    code = "day_not_over"

    def __init__(self, *, day: date, last: date) -> None:
        super().__init__(f"{day} is not over: books can be closed up to {last}")
        self.day = day
        self.last = last


class UnknownTopUp(BillingError):
    """There is no such top-up."""

    code = "unknown_top_up"

    def __init__(self, *, top_up_id: object) -> None:
        super().__init__(f"there is no top-up {top_up_id}")
        self.top_up_id = top_up_id


class UnknownCardSetup(BillingError):
    """There is no such card setup, or it is another customer's."""

    code = "unknown_card_setup"

    def __init__(self, *, card_setup_id: object) -> None:
        super().__init__(f"there is no card setup {card_setup_id}")
        self.card_setup_id = card_setup_id


class UnknownPaymentMethod(BillingError):
    """The customer keeps no such way to pay."""

    code = "unknown_payment_method"

    def __init__(self, *, method_id: object) -> None:
        super().__init__(f"the customer keeps no payment method {method_id}")
        self.method_id = method_id


class PaymentDoesNotMatch(BillingError):
    """What Stripe reports is not what we asked it to charge for. Nothing is granted for it."""

    code = "payment_does_not_match"

    def __init__(self, *, field: str, expected: object, found: object) -> None:
        super().__init__(f"{field}: expected {expected!r}, Stripe has {found!r}")
        self.field = field
        self.expected = expected
        self.found = found


class StripeError(BillingError):
    """Base of what can go wrong at Stripe: see billing/stripe/gateway.py."""

    code = "stripe_error"

    def __init__(
        self, message: str, *, request_id: str = "", http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.http_status = http_status


class StripeUnavailable(StripeError):
    """Stripe could not be reached, was at fault, or asked us to slow down.

    Nobody knows whether it acted. Asking again under the same key is safe, unless `replayed`:
    then the key remembers the fault and will only repeat it.
    """

    code = "stripe_unavailable"

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        http_status: int | None = None,
        replayed: bool = False,
    ) -> None:
        super().__init__(message, request_id=request_id, http_status=http_status)
        self.replayed = replayed


class StripeRefused(StripeError):
    """Stripe understood and said no: a declined card, a broken rule. Asking again is no use.

    `of_card`: a bank declined; `charge_id` names the attempt, if Stripe made one, and
    `payment_intent_id` what was to be paid; `decline_code` is the bank's own reason.
    """

    code = "stripe_refused"

    def __init__(
        self,
        message: str,
        *,
        stripe_code: str,
        param: str = "",
        of_card: bool = False,
        charge_id: str = "",
        decline_code: str = "",
        payment_intent_id: str = "",
        request_id: str = "",
        http_status: int | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, http_status=http_status)
        self.stripe_code = stripe_code
        self.param = param
        self.of_card = of_card
        self.charge_id = charge_id
        self.decline_code = decline_code
        self.payment_intent_id = payment_intent_id


class StripeKeyReused(StripeError):
    """The idempotency key names another request: a mistake of ours, for a person to look at."""

    code = "stripe_key_reused"


class StripeClosed(StripeError):
    """Stripe does not accept our API key. No call will do better until that is mended."""

    code = "stripe_closed"


class StripeEventInvalid(BillingError):
    """Somebody posted to the webhook's address what Stripe has not signed for us."""

    code = "stripe_event_invalid"
