"""What a bank's refusal means for trying again: https://docs.stripe.com/declines/codes"""

from enum import StrEnum
from typing import Final


class Decline(StrEnum):
    """`AUTHENTICATION`: the cardholder has to confirm; `HARD`: this card will not do any more."""

    AUTHENTICATION = "authentication"
    HARD = "hard"
    SOFT = "soft"


AUTHENTICATION_CODES: Final = frozenset({"authentication_required", "requires_action"})
HARD_CODES: Final = frozenset(
    [
        "card_not_supported",
        "currency_not_supported",
        "expired_card",
        "fraudulent",
        "incorrect_number",
        "invalid_account",
        "invalid_number",
        "lost_card",
        "merchant_blacklist",
        "no_action_taken",
        "not_permitted",
        "pickup_card",
        "restricted_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "security_violation",
        "service_not_allowed",
        "stolen_card",
        "stop_payment_order",
        "transaction_not_allowed",
    ]
)


def kind(*, code: str, decline_code: str) -> Decline:
    """Of a code of Stripe's and, where the bank gave one, its decline code."""
    codes = {code, decline_code}
    if codes & AUTHENTICATION_CODES:
        return Decline.AUTHENTICATION
    return Decline.HARD if codes & HARD_CODES else Decline.SOFT
