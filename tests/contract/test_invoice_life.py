"""An invoice from draft to its end, by the official SDK."""

from typing import Any

import pytest
import requests
import stripe

from tests.contract.scenes import (
    advance,
    customer,
    draft,
    line,
    open_invoice,
    product,
    submit,
)

HOUR, DAY = 3_600, 86_400


def types(api: stripe.StripeClient) -> list[str]:
    """Event types, oldest first."""
    return [str(event.type) for event in api.v1.events.list({"limit": 100}).data][::-1]


def payment(api: stripe.StripeClient, invoice: stripe.Invoice) -> stripe.InvoicePayment:
    [only] = api.v1.invoice_payments.list(
        {"invoice": invoice.id, "expand": ["data.payment.payment_intent"]}
    ).data
    return only


def test_an_invoice_is_drafted_finalized_and_paid(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    invoice = draft(api, buyer.id, 120_00, 34_56)
    assert (invoice.status, invoice.total, invoice.number) == ("draft", 154_56, None)
    lines = api.v1.invoices.line_items.list(invoice.id).data
    assert [(one.metadata["line_id"], one.amount, one.quantity) for one in lines] == [
        ("0", 120_00, 1),
        ("1", 34_56, 1),
    ]
    opened = api.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": True})
    assert (opened.status, opened.amount_due, opened.amount_remaining) == ("open", 154_56, 154_56)
    assert opened.number
    assert opened.hosted_invoice_url
    waiting = payment(api, opened)
    assert (waiting.status, waiting.is_default, waiting.amount_requested) == ("open", True, 154_56)
    paid = api.v1.invoices.pay(invoice.id, {"off_session": True})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 154_56, 0)
    settled = payment(api, paid)
    assert (settled.status, settled.amount_paid) == ("paid", 154_56)
    intent = settled.payment.payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    assert intent.status == "succeeded"
    [found] = api.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": intent.id}}
    ).data
    assert found.invoice == invoice.id
    assert types(api)[-4:] == [
        "invoice_payment.paid",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice.updated",
    ]


def test_numbers_count_up_per_customer(api: stripe.StripeClient) -> None:
    buyer = api.v1.customers.create({"invoice_prefix": "ACME"})
    product(api)
    numbers = [
        api.v1.invoices.finalize_invoice(draft(api, buyer.id, 900).id).number for _ in range(2)
    ]
    assert numbers == ["ACME-0001", "ACME-0002"]


def test_at_most_250_lines_in_any_number_of_calls(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    invoice = draft(api, buyer.id)
    for chunk in range(0, 250, 50):
        lines = [line(100, name=str(chunk + index)) for index in range(50)]
        api.v1.invoices.add_lines(invoice.id, {"lines": lines})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.invoices.add_lines(invoice.id, {"lines": [line(100)]})
    assert refused.value.param == "lines"
    listed = api.v1.invoices.line_items.list(invoice.id, {"limit": 100}).auto_paging_iter()
    assert [one.metadata["line_id"] for one in listed] == [str(number) for number in range(250)]
    assert api.v1.invoices.retrieve(invoice.id).total == 25_000


def test_lines_are_changed_and_removed_in_drafts_only(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    invoice = draft(api, buyer.id, 100, 200)
    first, second = invoice.lines.data
    update: Any = {"lines": [{"id": first.id, "amount": 150, "description": "new"}]}
    assert api.v1.invoices.update_lines(invoice.id, update).total == 350
    remove: Any = {"lines": [{"id": second.id, "behavior": "delete"}]}
    assert api.v1.invoices.remove_lines(invoice.id, remove).total == 150
    api.v1.invoices.finalize_invoice(invoice.id)
    for change in (
        lambda: api.v1.invoices.add_lines(invoice.id, {"lines": [line(1)]}),
        lambda: api.v1.invoices.update_lines(invoice.id, update),
        lambda: api.v1.invoices.update(invoice.id, {"description": "late"}),
        lambda: api.v1.invoices.finalize_invoice(invoice.id),
        lambda: api.v1.invoices.delete(invoice.id),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            change()
        assert refused.value.code == "invoice_not_editable"
    assert api.v1.invoices.update(invoice.id, {"metadata": {"a": "b"}}).status == "open"


def test_a_refused_batch_of_lines_adds_none_of_them(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    invoice = draft(api, buyer.id)
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.invoices.add_lines(invoice.id, {"lines": [line(100), line(1, currency="usd")]})
    assert api.v1.invoices.line_items.list(invoice.id).data == []
    assert api.v1.prices.list().data == []


def test_negative_lines_and_automatic_tax_exclude_each_other(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    taxed = draft(api, buyer.id, automatic_tax={"enabled": True})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.invoices.add_lines(taxed.id, {"lines": [{"amount": -5, "description": "credit"}]})
    assert refused.value.param == "lines[0][amount]"
    untaxed = draft(api, buyer.id, 1000)
    credited = api.v1.invoices.add_lines(untaxed.id, {"lines": [{"amount": -400}]})
    assert credited.total == 600


def test_automatic_tax_needs_the_customers_country(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    invoice = draft(api, buyer.id, 1000, automatic_tax={"enabled": True})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.invoices.finalize_invoice(invoice.id)
    assert refused.value.code == "customer_tax_location_invalid"
    assert types(api)[-1] == "invoice.finalization_failed"
    failed = api.v1.invoices.retrieve(invoice.id)
    assert failed.status == "draft"
    assert failed.last_finalization_error is not None
    api.v1.customers.update(buyer.id, {"address": {"country": "DE"}})
    assert api.v1.invoices.finalize_invoice(invoice.id).status == "open"


def test_a_declined_card_leaves_the_invoice_open(api: stripe.StripeClient) -> None:
    buyer = customer(api, card="pm_card_chargeCustomerFail")
    invoice = open_invoice(api, buyer.id, 5000)
    with pytest.raises(stripe.CardError) as refused:
        api.v1.invoices.pay(invoice.id, {"off_session": True})
    assert refused.value.code == "card_declined"
    assert refused.value.error is not None
    assert refused.value.error.decline_code == "generic_decline"
    still = api.v1.invoices.retrieve(invoice.id)
    assert (still.status, still.attempted, still.attempt_count) == ("open", True, 1)
    assert types(api)[-4:] == [
        "charge.failed",
        "payment_intent.payment_failed",
        "invoice.payment_failed",
        "invoice.updated",
    ]
    card = api.v1.payment_methods.attach("pm_card_visa", {"customer": buyer.id})
    assert api.v1.invoices.pay(invoice.id, {"payment_method": card.id}).status == "paid"


def test_a_card_that_wants_its_owner_is_refused_off_session(api: stripe.StripeClient) -> None:
    buyer = customer(api, card="pm_card_authenticationRequired")
    invoice = open_invoice(api, buyer.id, 5000)
    with pytest.raises(stripe.CardError) as refused:
        api.v1.invoices.pay(invoice.id, {"off_session": True})
    assert refused.value.code == "authentication_required"
    assert "invoice.payment_action_required" in types(api)


def test_without_any_method_there_is_nothing_to_pay_with(api: stripe.StripeClient) -> None:
    buyer = customer(api, card=None)
    invoice = open_invoice(api, buyer.id, 5000)
    with pytest.raises(stripe.InvalidRequestError, match="default_payment_method"):
        api.v1.invoices.pay(invoice.id)


def test_a_sent_invoice_needs_a_due_date_and_an_email(api: stripe.StripeClient) -> None:
    buyer = customer(api, card=None)
    nameless = api.v1.customers.create({"name": "no mail"})
    sent: Any = {"collection_method": "send_invoice"}
    for customer_id, more, param in (
        (buyer.id, sent, "days_until_due"),
        (buyer.id, {"days_until_due": 30}, "days_until_due"),
        (nameless.id, {**sent, "days_until_due": 30}, "customer"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            draft(api, customer_id, **more)
        assert refused.value.param == param
    invoice = open_invoice(api, buyer.id, 5000, **sent, days_until_due=30)
    finalized_at = invoice.status_transitions.finalized_at
    assert finalized_at is not None
    assert invoice.due_date == finalized_at + 30 * DAY
    assert api.v1.invoices.send_invoice(invoice.id).status == "open"
    assert types(api)[-1] == "invoice.sent"


def test_an_invoice_past_its_due_date_is_told_of_once(
    api: stripe.StripeClient, address: str
) -> None:
    buyer = customer(api, card=None)
    open_invoice(api, buyer.id, 5000, collection_method="send_invoice", days_until_due=5)
    advance(address, 4 * DAY)
    assert "invoice.overdue" not in types(api)
    for _ in range(2):
        advance(address, DAY + 1)
    assert types(api).count("invoice.overdue") == 1


def test_collection_by_itself_begins_after_an_hour_and_is_repeated(
    api: stripe.StripeClient, address: str
) -> None:
    buyer = customer(api, card="pm_card_chargeCustomerFail")
    invoice = open_invoice(api, buyer.id, 5000)
    advance(address, HOUR - 60)
    assert api.v1.invoices.retrieve(invoice.id).attempt_count == 0
    for days in (1, 3, 5, 7, 30):
        advance(address, days * DAY + 60)
    given_up = api.v1.invoices.retrieve(invoice.id)
    assert (given_up.status, given_up.attempt_count) == ("open", 4)
    assert given_up.next_payment_attempt is None


def test_one_invoice_that_cannot_be_collected_does_not_hold_up_the_others(
    api: stripe.StripeClient, address: str
) -> None:
    first, second = customer(api), customer(api)
    [card] = api.v1.customers.payment_methods.list(first.id).data
    stuck = open_invoice(api, first.id, 1000, default_payment_method=card.id)
    other = api.v1.invoices.finalize_invoice(draft(api, second.id, 1000).id, {"auto_advance": True})
    api.v1.payment_methods.detach(card.id)
    advance(address, HOUR + 60)
    assert api.v1.invoices.retrieve(stuck.id).attempt_count == 0
    assert api.v1.invoices.retrieve(other.id).status == "paid"


def test_what_ends_an_open_invoice(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    invoice = open_invoice(api, buyer.id, 5000)
    voided = api.v1.invoices.void_invoice(invoice.id)
    assert voided.status == "void"
    assert payment(api, voided).status == "canceled"
    second = api.v1.invoices.finalize_invoice(draft(api, buyer.id, 700).id)
    assert api.v1.invoices.mark_uncollectible(second.id).status == "uncollectible"
    assert api.v1.invoices.pay(second.id).status == "paid"
    third = api.v1.invoices.finalize_invoice(draft(api, buyer.id, 700).id)
    assert api.v1.invoices.pay(third.id, {"paid_out_of_band": True}).status == "paid"
    for late in (api.v1.invoices.void_invoice, api.v1.invoices.pay):
        for ended in (invoice.id, third.id):
            with pytest.raises(stripe.InvalidRequestError):
                late(ended)


def test_a_draft_can_be_deleted_and_is_gone(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    invoice = draft(api, buyer.id, 100)
    assert api.v1.invoices.delete(invoice.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.invoices.retrieve(invoice.id)
    assert refused.value.http_status == 404


@pytest.mark.parametrize(
    ("balance", "total", "due", "status", "left"),
    [
        (0, 1000, 1000, "open", 0),
        (-300, 1000, 700, "open", 0),
        (-1500, 1000, 0, "paid", -500),
        (200, 1000, 1200, "open", 0),
        (0, 49, 0, "paid", 49),  # below what can be charged
        (0, 50, 50, "open", 0),
    ],
)
def test_the_customers_balance_is_applied(
    api: stripe.StripeClient, balance: int, total: int, due: int, status: str, left: int
) -> None:
    buyer = customer(api)
    api.v1.customers.update(buyer.id, {"balance": balance})
    invoice = open_invoice(api, buyer.id, total)
    assert (invoice.total, invoice.amount_due, invoice.status) == (total, due, status)
    assert (invoice.starting_balance, invoice.ending_balance) == (balance, left)
    assert api.v1.customers.retrieve(buyer.id).balance == left


def test_a_customer_keeps_to_one_currency(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    open_invoice(api, buyer.id, 1000)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        draft(api, buyer.id, currency="usd")
    assert refused.value.param == "currency"


def test_the_hosted_invoice_is_paid_by_its_form(api: stripe.StripeClient) -> None:
    buyer = customer(api, card=None)
    invoice = open_invoice(api, buyer.id, 5000)
    url = invoice.hosted_invoice_url
    assert url
    page = requests.get(url, timeout=10)
    assert "50.00 EUR" in page.text
    declined = submit(url, "4000000000000002")
    assert declined.status_code == 402
    assert 'role="alert">Your card was declined.' in declined.text
    assert submit(url).status_code == 303
    assert api.v1.invoices.retrieve(invoice.id).status == "paid"
    assert "is paid" in requests.get(url, timeout=10).text
    assert requests.get(url.replace("/in_", "/in_x"), timeout=10).status_code == 404


def test_refunds_add_up_to_the_charge_and_never_more(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    invoice = open_invoice(api, buyer.id, 1000)
    api.v1.invoices.pay(invoice.id)
    intent = payment(api, invoice).payment.payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    for amount in (300, 300):
        refund = api.v1.refunds.create({"payment_intent": intent.id, "amount": amount})
        assert refund.status == "succeeded"
    for amount in (401, 0, -1):
        with pytest.raises(stripe.InvalidRequestError):
            api.v1.refunds.create({"payment_intent": intent.id, "amount": amount})
    assert api.v1.refunds.create({"payment_intent": intent.id}).amount == 400
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"
    [charge] = api.v1.charges.list({"payment_intent": intent.id}).data
    assert (charge.amount_refunded, charge.refunded) == (1000, True)
    assert types(api).count("refund.created") == 3
