"""Billing's tables. Each module is one subject; the packages above import from here.

Rows that state what happened never change: triggers in the migration refuse it. Where a row has a
dated null ("not yet"), the triggers leave exactly those columns free.
"""

from billing.models.alerts import Alert, AlertMessage
from billing.models.auto_top_ups import (
    AutoTopUp,
    AutoTopUpPause,
    AutoTopUpWithheld,
    TopUpCharge,
)
from billing.models.catalog import (
    OverageTier,
    PackPrice,
    Plan,
    PlanPrice,
    PlanVersion,
    SizeOption,
    TopUpPack,
)
from billing.models.cohorts import Cohort, CohortMember, CohortOffer
from billing.models.credit_notes import (
    CreditNote,
    CreditNoteIssued,
    CreditNoteLine,
    CreditNoteRefused,
    CreditNoteVoided,
)
from billing.models.credits import (
    Credit,
    CreditUse,
)
from billing.models.customers import Customer, CustomerMember
from billing.models.dunning import DunningStep, Restriction
from billing.models.gifts import Gift
from billing.models.invoices import (
    Invoice,
    InvoiceCarried,
    InvoiceFinalization,
    InvoiceGivenUp,
    InvoiceLine,
    InvoicePayment,
    InvoicePaymentFailure,
)
from billing.models.journal import JournalDay, JournalLine
from billing.models.methods import CardSetup, PaymentMethod, PaymentMethodChoice
from billing.models.notices import Notice
from billing.models.overage import OverageStep
from billing.models.reversals import (
    Dispute,
    DisputeStatus,
    Refund,
    RefundAtStripe,
    RefundFailure,
    RefundSuccess,
    TopUpReversal,
)
from billing.models.stripe import StripeCall, StripeEvent
from billing.models.subscriptions import (
    PaidAllotment,
    Period,
    PeriodClosing,
    PeriodSettlement,
    PeriodUse,
    PlanChange,
    Subscription,
)
from billing.models.top_ups import TopUp, TopUpFulfilment, TopUpPayment, TopUpSession
from billing.models.vendors import Vendor

__all__ = [
    "Alert",
    "AlertMessage",
    "AutoTopUp",
    "AutoTopUpPause",
    "AutoTopUpWithheld",
    "CardSetup",
    "Cohort",
    "CohortMember",
    "CohortOffer",
    "Credit",
    "CreditNote",
    "CreditNoteIssued",
    "CreditNoteLine",
    "CreditNoteRefused",
    "CreditNoteVoided",
    "CreditUse",
    "Customer",
    "CustomerMember",
    "Dispute",
    "DisputeStatus",
    "DunningStep",
    "Gift",
    "Invoice",
    "InvoiceCarried",
    "InvoiceFinalization",
    "InvoiceGivenUp",
    "InvoiceLine",
    "InvoicePayment",
    "InvoicePaymentFailure",
    "JournalDay",
    "JournalLine",
    "Notice",
    "OverageStep",
    "OverageTier",
    "PackPrice",
    "PaidAllotment",
    "PaymentMethod",
    "PaymentMethodChoice",
    "Period",
    "PeriodClosing",
    "PeriodSettlement",
    "PeriodUse",
    "Plan",
    "PlanChange",
    "PlanPrice",
    "PlanVersion",
    "Refund",
    "RefundAtStripe",
    "RefundFailure",
    "RefundSuccess",
    "Restriction",
    "SizeOption",
    "StripeCall",
    "StripeEvent",
    "Subscription",
    "TopUp",
    "TopUpCharge",
    "TopUpFulfilment",
    "TopUpPack",
    "TopUpPayment",
    "TopUpReversal",
    "TopUpSession",
    "Vendor",
]
