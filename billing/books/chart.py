"""The chart of accounts."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account: its name as Beancount and hledger write it, and what it says."""

    name: str
    title: str
    meaning: str


RECEIVABLE: Final = "receivable"
CASH: Final = "cash"
UNBILLED_TOKENS: Final = "unbilled_tokens"
UNBILLED_FEES: Final = "unbilled_fees"
UNBILLED_OVERAGE: Final = "unbilled_overage"
CARRIED: Final = "carried"
DEFERRED_TOKENS: Final = "deferred_tokens"
DEFERRED_FEES: Final = "deferred_fees"
TAX: Final = "tax"
CREDITS: Final = "credits"
CREDITED: Final = "credited"
REVENUE_TOKENS: Final = "revenue_tokens"
REVENUE_FEES: Final = "revenue_fees"
REVENUE_OVERAGE: Final = "revenue_overage"
REVENUE_COMMITMENTS: Final = "revenue_commitments"
BREAKAGE: Final = "breakage"
REFUNDS: Final = "refunds"
DISPUTED: Final = "disputed"
VOIDED: Final = "voided"
WRITTEN_OFF: Final = "written_off"
ROUNDING: Final = "rounding"

ACCOUNTS: Final[dict[str, Account]] = {
    RECEIVABLE: Account(
        name="Assets:Receivable",
        title="Receivable",
        meaning="Invoices that Stripe has issued and nobody has paid yet, with tax.",
    ),
    CASH: Account(
        name="Assets:Stripe",
        title="Stripe clearing",
        meaning="What customers paid to Stripe, before its fees and payouts.",
    ),
    DISPUTED: Account(
        name="Assets:Disputed",
        title="Disputed",
        meaning="Payments that banks took back until they decide.",
    ),
    UNBILLED_TOKENS: Account(
        name="Assets:Unbilled:Tokens",
        title="Unbilled tokens",
        meaning="Tokens granted that stand on no issued invoice yet, at their price.",
    ),
    UNBILLED_FEES: Account(
        name="Assets:Unbilled:Fees",
        title="Unbilled fees",
        meaning="Fees of periods that have begun, on no issued invoice yet.",
    ),
    UNBILLED_OVERAGE: Account(
        name="Assets:Unbilled:Overage",
        title="Unbilled overage",
        meaning="Overage used, on no issued invoice yet. Below 0: given back, not credited yet.",
    ),
    CARRIED: Account(
        name="Assets:Unbilled:Carried",
        title="Carried over",
        meaning="Invoices too small to be charged, until a later one takes them in.",
    ),
    DEFERRED_TOKENS: Account(
        name="Liabilities:Deferred:Tokens",
        title="Deferred revenue, tokens",
        meaning="What is left in the lots, and frozen, at the price of each lot.",
    ),
    DEFERRED_FEES: Account(
        name="Liabilities:Deferred:Fees",
        title="Deferred revenue, fees",
        meaning="Fees of days to come.",
    ),
    TAX: Account(
        name="Liabilities:Tax",
        title="Tax payable",
        meaning="Tax that Stripe put on what was sold.",
    ),
    CREDITS: Account(
        name="Liabilities:CustomerCredits",
        title="Customer credits",
        meaning="What customers have in hand for their next invoices.",
    ),
    REVENUE_TOKENS: Account(
        name="Income:Tokens", title="Tokens used", meaning="Tokens used, at the price of their lot."
    ),
    REVENUE_FEES: Account(
        name="Income:Fees", title="Fees", meaning="Platform fees, by the day of their period."
    ),
    REVENUE_OVERAGE: Account(
        name="Income:Overage",
        title="Overage",
        meaning="Overage, by the tiers of its plan, as used.",
    ),
    REVENUE_COMMITMENTS: Account(
        name="Income:Commitments",
        title="Commitments",
        meaning="True-ups, and what commitments keep of overage given back, less late overage"
        " that they had paid for.",
    ),
    BREAKAGE: Account(
        name="Income:Breakage", title="Breakage", meaning="Tokens that expired unused."
    ),
    CREDITED: Account(
        name="Income:Credited", title="Credited", meaning="Credits and credit notes given."
    ),
    REFUNDS: Account(
        name="Income:Refunds",
        title="Refunds",
        meaning="What was paid back or credited beyond the value of the tokens taken back.",
    ),
    VOIDED: Account(
        name="Income:Voided",
        title="Voided invoices",
        meaning="Invoices that are not owed after all.",
    ),
    WRITTEN_OFF: Account(
        name="Expenses:WrittenOff",
        title="Written off",
        meaning="Invoices given up as uncollectible, with tax, unless they are paid after all.",
    ),
    ROUNDING: Account(
        name="Expenses:Rounding",
        title="Rounding",
        meaning="Parts of a cent, between exact amounts and those that can be paid or booked.",
    ),
}
