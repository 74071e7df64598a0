from datetime import UTC, datetime, timedelta

import pytest

from billing import tasks
from billing.models import InvoicePayment, PeriodClosing
from config.celery import app
from config.schedule import SCHEDULE
from tests import builders


def test_beat_asks_for_tasks_that_exist():
    app.loader.import_default_modules()
    app.autodiscover_tasks(force=True)
    assert {entry["task"] for entry in SCHEDULE.values()} <= set(app.tasks)


@pytest.mark.django_db
def test_the_tasks_alone_take_a_month_from_its_end_to_paid_invoices(at_stripe):
    shop = builders.shop()
    customer = builders.customer(shop)
    version = builders.plan_version(shop, **builders.billed())
    start = datetime.now(UTC) - timedelta(days=40)
    builders.subscription(customer, version, starts_at=start)
    builders.use(customer, 1_300, occurred_at=start + timedelta(days=1))
    for task in (
        tasks.renew_due,
        tasks.close_due,
        tasks.bill_late,
        tasks.close_books,
        tasks.send_stripe_calls,
        tasks.act_on_stripe_events,
        tasks.evaluate_alerts,
        tasks.buy_what_runs_short,
        tasks.send_mail,
        tasks.reconcile_stripe,
    ):
        task()
    assert PeriodClosing.objects.count() == 1
    assert InvoicePayment.objects.count() == 2
