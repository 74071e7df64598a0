"""Stripe's test cards and what becomes of a payment with each.

https://docs.stripe.com/testing
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a payment was refused. Bank refusals are `card_declined` with a decline code."""

    code: str
    message: str
    decline_code: str | None = None


DECLINED = "Your card was declined."
REFUSALS = {
    "generic_decline": Refusal(
        code="card_declined", decline_code="generic_decline", message=DECLINED
    ),
    "insufficient_funds": Refusal(
        code="card_declined",
        decline_code="insufficient_funds",
        message="Your card has insufficient funds.",
    ),
    "lost_card": Refusal(code="card_declined", decline_code="lost_card", message=DECLINED),
    "stolen_card": Refusal(code="card_declined", decline_code="stolen_card", message=DECLINED),
    "fraudulent": Refusal(code="card_declined", decline_code="fraudulent", message=DECLINED),
    "expired_card": Refusal(
        code="expired_card", decline_code="expired_card", message="Your card has expired."
    ),
    "incorrect_cvc": Refusal(
        code="incorrect_cvc",
        decline_code="incorrect_cvc",
        message="Your card's security code is incorrect.",
    ),
    "processing_error": Refusal(
        code="processing_error",
        decline_code="processing_error",
        message="An error occurred while processing your card. Try again in a little bit.",
    ),
    "authentication_required": Refusal(
        code="authentication_required",
        decline_code="authentication_required",
        message="Your card was declined. This transaction requires authentication.",
    ),
    "debit_returned": Refusal(
        code="payment_intent_payment_attempt_failed",
        message="The payment failed: the bank returned the debit.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """A test card. `method_id` is the payment method that Stripe keeps ready for it.

    `refusal` names what becomes of a payment; `attaches`: a customer can keep the card;
    `always_asks`: its bank wants the cardholder at each payment, saved or not. `dispute`: what is
    paid is disputed at once ("inquiry": only asked about). `refund`: what becomes of a refund a day
    later.
    """

    number: str
    method_id: str
    brand: str = "visa"
    refusal: str | None = None
    attaches: bool = True
    dispute: str | None = None
    refund: str | None = None
    always_asks: bool = False
    hint: str = ""


CARDS = (
    Card(number="4242424242424242", method_id="pm_card_visa", hint="pays"),
    Card(number="5555555555554444", method_id="pm_card_mastercard", brand="mastercard"),
    Card(number="378282246310005", method_id="pm_card_amex", brand="amex"),
    Card(
        number="4000000000000002",
        method_id="pm_card_chargeDeclined",
        refusal="generic_decline",
        attaches=False,
        hint="is declined",
    ),
    Card(
        number="4000000000009995",
        method_id="pm_card_chargeDeclinedInsufficientFunds",
        refusal="insufficient_funds",
        attaches=False,
        hint="lacks funds",
    ),
    Card(
        number="4000000000000069",
        method_id="pm_card_chargeDeclinedExpiredCard",
        refusal="expired_card",
        attaches=False,
        hint="has expired",
    ),
    Card(
        number="4000000000000127",
        method_id="pm_card_chargeDeclinedIncorrectCvc",
        refusal="incorrect_cvc",
        attaches=False,
    ),
    Card(
        number="4000000000000119",
        method_id="pm_card_chargeDeclinedProcessingError",
        refusal="processing_error",
        attaches=False,
    ),
    Card(
        number="4000000000000341",
        method_id="pm_card_chargeCustomerFail",
        refusal="generic_decline",
        hint="can be saved, is declined later",
    ),
    Card(
        number="4000002500003155",
        method_id="pm_card_authenticationRequired",
        refusal="authentication_required",
        hint="asks for authentication, once it is saved no more",
    ),
    Card(
        number="4000002760003184",
        method_id="pm_card_authenticationRequiredAlways",
        refusal="authentication_required",
        always_asks=True,
        hint="asks for authentication each time",
    ),
    Card(
        number="4000000000000259",
        method_id="pm_card_createDispute",
        dispute="fraudulent",
        hint="pays, is disputed",
    ),
    Card(
        number="4000000000001976",
        method_id="pm_card_createDisputeInquiry",
        dispute="inquiry",
        hint="pays, is asked about",
    ),
    Card(
        number="4000000000007726",
        method_id="pm_card_pendingRefund",
        refund="succeeded",
        hint="pays, is refunded late",
    ),
    Card(
        number="4000000000005126",
        method_id="pm_card_refundFail",
        refund="failed",
        hint="pays, its refund fails",
    ),
)
BY_NUMBER = {card.number: card for card in CARDS}
BY_METHOD_ID = {card.method_id: card for card in CARDS}


def card_with(number: str) -> Card | None:
    """The test card that somebody typed in, spaces and dashes allowed."""
    return BY_NUMBER.get(re.sub(r"[\s-]", "", number))
