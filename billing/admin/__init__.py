"""Billing in Django's admin: plans, packs, customers, and the facts that follow from them."""

from billing.admin import cohorts as cohorts
from billing.admin import customers as customers
from billing.admin import facts as facts
from billing.admin import invoices as invoices
from billing.admin import journal as journal
from billing.admin import packs as packs
from billing.admin import plans as plans
from billing.admin import stripe as stripe
from billing.admin import subscriptions as subscriptions
from billing.admin import top_ups as top_ups
from billing.admin import vendors as vendors
