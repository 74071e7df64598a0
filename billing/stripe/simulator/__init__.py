"""A stand-in for Stripe on a developer's machine: real HTTP that the official SDK talks to.

    manage.py stripe_simulator --port 12111

    with simulator.running(home=folder) as address:
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": address, …})

It knows what Stripe's API looks like from the source of the installed SDK (`sdk_schema`), so
addresses, parameters and the shape of every object are those of the SDK's API version. What the
objects *do* is written here: customers and cards, products and prices, Checkout with its hosted
page, payments, invoices, refunds, disputes, credit notes, events and signed webhooks, idempotency
keys, and faults on demand.

Where it does not know what Stripe would do, it refuses. DIFFERENCES.md lists what differs.
"""

from billing.stripe.simulator.server import Simulator, running
from billing.stripe.simulator.store import StoreInUse

__all__ = ["Simulator", "StoreInUse", "running"]
