"""What goes back: refunds, disputes and credit notes, by the official SDK."""

from typing import Any

import pytest
import requests
import stripe

from tests.contract.scenes import advance, customer, draft, fault, open_invoice, product
from tests.contract.stripe_client import check_object

DAY = 86_400


def sim(address: str, path: str, **facts: Any) -> requests.Response:
    return requests.post(f"{address}/_sim/{path}", json=facts, timeout=10)


def events(api: stripe.StripeClient, prefix: str) -> list[str]:
    """Types of events with this beginning, oldest first; each valid."""
    listed = api.v1.events.list({"limit": 100}).data[::-1]
    for event in listed:
        check_object(event.to_dict(for_json=True)["data"]["object"])
    return [str(event.type) for event in listed if str(event.type).startswith(prefix)]


def paid(api: stripe.StripeClient, card: str = "pm_card_visa") -> stripe.PaymentIntent:
    params: Any = {"amount": 1000, "currency": "eur", "confirm": True, "payment_method": card}
    return api.v1.payment_intents.create(params)


def charge(api: stripe.StripeClient, intent: stripe.PaymentIntent) -> stripe.Charge:
    [only] = api.v1.charges.list({"payment_intent": intent.id}).data
    return only


def taxed_invoice(api: stripe.StripeClient, address: str, *amounts: int) -> stripe.Invoice:
    sim(address, "tax", percent=20).raise_for_status()
    buyer = customer(api)
    api.v1.customers.update(buyer.id, {"address": {"country": "FR", "line1": "1 rue"}})
    product(api)
    made = draft(api, buyer.id, *amounts, automatic_tax={"enabled": True})
    return api.v1.invoices.finalize_invoice(made.id)


def credit(line: stripe.InvoiceLineItem, amount: int) -> Any:
    return {"type": "invoice_line_item", "invoice_line_item": line.id, "amount": amount}


def test_a_refund_may_fail_days_later_and_the_charge_is_whole_again(
    api: stripe.StripeClient, address: str
) -> None:
    intent = paid(api)
    fault(address, kind="refund", outcome="failed")
    refund = api.v1.refunds.create({"payment_intent": intent.id, "amount": 400})
    assert refund.status == "succeeded"
    assert charge(api, intent).amount_refunded == 400
    advance(address, DAY)
    failed = api.v1.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert charge(api, intent).amount_refunded == 0
    assert events(api, "refund.") == ["refund.created", "refund.updated", "refund.failed"]
    assert api.v1.refunds.create({"payment_intent": intent.id}).amount == 1000


@pytest.mark.parametrize("outcome", ["succeeded", "canceled"])
def test_a_refund_may_be_pending(api: stripe.StripeClient, address: str, outcome: str) -> None:
    intent = paid(api)
    fault(address, kind="refund", outcome="succeeded")
    refund = api.v1.refunds.create({"payment_intent": intent.id})
    assert (refund.status, charge(api, intent).refunded) == ("pending", True)
    sim(address, "refunds", refund=refund.id, outcome=outcome).raise_for_status()
    assert api.v1.refunds.retrieve(refund.id).status == outcome
    assert charge(api, intent).refunded is (outcome == "succeeded")
    assert sim(address, "refunds", refund=refund.id, outcome="canceled").status_code == 400


def test_test_cards_decide_what_becomes_of_a_refund(api: stripe.StripeClient, address: str) -> None:
    made = [
        api.v1.refunds.create({"payment_intent": paid(api, card).id})
        for card in ("pm_card_pendingRefund", "pm_card_refundFail")
    ]
    assert [refund.status for refund in made] == ["pending", "succeeded"]
    advance(address, DAY)
    assert [api.v1.refunds.retrieve(refund.id).status for refund in made] == [
        "succeeded",
        "failed",
    ]


def test_a_disputed_charge_cannot_be_refunded_until_the_dispute_is_won(
    api: stripe.StripeClient, address: str
) -> None:
    intent = paid(api, "pm_card_createDispute")
    [dispute] = api.v1.disputes.list({"payment_intent": intent.id}).data
    assert (dispute.status, dispute.amount, dispute.is_charge_refundable) == (
        "needs_response",
        1000,
        False,
    )
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_disputed"
    told = api.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "It was used."}})
    assert told.status == "under_review"
    sim(address, "disputes/close", dispute=dispute.id, outcome="won").raise_for_status()
    assert api.v1.disputes.retrieve(dispute.id).status == "won"
    assert api.v1.refunds.create({"payment_intent": intent.id}).status == "succeeded"
    assert events(api, "charge.dispute.") == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
        "charge.dispute.funds_reinstated",
        "charge.dispute.closed",
    ]


def test_a_dispute_is_known_before_its_payment_is(api: stripe.StripeClient) -> None:
    paid(api, "pm_card_createDispute")
    assert events(api, "charge.")[:2] == ["charge.succeeded", "charge.dispute.created"]


def test_a_vendor_that_gives_in_loses(api: stripe.StripeClient, address: str) -> None:
    intent = paid(api)
    facts = {"payment_intent": intent.id, "amount": 300, "reason": "product_not_received"}
    sim(address, "disputes", **facts).raise_for_status()
    [dispute] = api.v1.disputes.list({"charge": charge(api, intent).id}).data
    assert api.v1.disputes.close(dispute.id).status == "lost"
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.disputes.close(dispute.id)
    assert sim(address, "disputes", payment_intent=intent.id).status_code == 400


def test_an_inquiry_moves_no_money_until_it_becomes_a_dispute(
    api: stripe.StripeClient, address: str
) -> None:
    paid(api, "pm_card_createDisputeInquiry")
    [inquiry] = api.v1.disputes.list().data
    assert (inquiry.status, inquiry.is_charge_refundable) == ("warning_needs_response", True)
    assert events(api, "charge.dispute.") == ["charge.dispute.created"]
    sim(address, "disputes/close", dispute=inquiry.id, outcome="escalated").raise_for_status()
    assert api.v1.disputes.retrieve(inquiry.id).status == "needs_response"
    assert events(api, "charge.dispute.")[-1] == "charge.dispute.funds_withdrawn"
    wrong = sim(address, "disputes/close", dispute=inquiry.id, outcome="warning_closed")
    assert wrong.status_code == 400


def test_a_credit_note_of_an_open_invoice_takes_from_what_is_due(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    invoice = open_invoice(api, buyer.id, 3000, 2000)
    first, second = api.v1.invoices.line_items.list(invoice.id).data
    params: Any = {"invoice": invoice.id, "lines": [credit(first, 1000)]}
    assert api.v1.credit_notes.preview(params).total == 1000
    assert not api.v1.credit_notes.list({"invoice": invoice.id}).data
    note = api.v1.credit_notes.create(params | {"reason": "order_change"})
    assert (note.type, note.pre_payment_amount, note.post_payment_amount) == (
        "pre_payment",
        1000,
        0,
    )
    assert note.number == f"{invoice.number}-CN-01"
    assert [line.amount for line in api.v1.credit_notes.line_items.list(note.id).data] == [1000]
    assert api.v1.invoices.retrieve(invoice.id).amount_due == 4000
    assert api.v1.credit_notes.void_credit_note(note.id).status == "void"
    assert api.v1.invoices.retrieve(invoice.id).amount_due == 5000
    whole: Any = {"invoice": invoice.id, "lines": [credit(first, 3000), credit(second, 2000)]}
    api.v1.credit_notes.create(whole)
    settled = api.v1.invoices.retrieve(invoice.id)
    assert (settled.status, settled.amount_paid, settled.amount_remaining) == ("paid", 0, 0)
    assert settled.pre_payment_credit_notes_amount == 5000
    assert not api.v1.charges.list().data


def test_what_is_due_less_a_credit_note_is_what_is_charged(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    invoice = open_invoice(api, buyer.id, 3000)
    [only] = api.v1.invoices.line_items.list(invoice.id).data
    api.v1.credit_notes.create({"invoice": invoice.id, "lines": [credit(only, 1000)]})
    assert api.v1.invoices.pay(invoice.id).amount_paid == 2000
    assert [one.amount for one in api.v1.charges.list().data] == [2000]


def test_a_credit_note_of_a_paid_invoice_refunds_to_the_cent_or_is_refused(
    api: stripe.StripeClient,
) -> None:
    buyer = customer(api)
    invoice = open_invoice(api, buyer.id, 3000)
    api.v1.invoices.pay(invoice.id)
    [only] = api.v1.invoices.line_items.list(invoice.id).data
    params: Any = {"invoice": invoice.id, "lines": [credit(only, 1000)]}
    wrongs: Any = ({}, {"refund_amount": 999}, {"refund_amount": 1000, "out_of_band_amount": 1})
    for wrong in wrongs:
        with pytest.raises(stripe.InvalidRequestError, match="post payment amount"):
            api.v1.credit_notes.create(params | wrong)
    note = api.v1.credit_notes.create(params | {"refund_amount": 600, "out_of_band_amount": 400})
    [returned] = note.refunds
    assert (note.type, returned.amount_refunded) == ("post_payment", 600)
    assert [refund.amount for refund in api.v1.refunds.list().data] == [600]
    assert api.v1.invoices.retrieve(invoice.id).post_payment_credit_notes_amount == 1000
    with pytest.raises(stripe.InvalidRequestError, match="what is left of the line"):
        api.v1.credit_notes.preview({"invoice": invoice.id, "lines": [credit(only, 2001)]})


def test_four_credit_notes_come_to_what_the_invoice_came_to_with_tax(
    api: stripe.StripeClient, address: str
) -> None:
    amounts = (68_33, 68_33, 57_50, 85_00)
    invoice = taxed_invoice(api, address, *amounts)
    assert (invoice.subtotal, invoice.total) == (279_16, 334_99)
    lines = api.v1.invoices.line_items.list(invoice.id).data
    totals = [
        api.v1.credit_notes.create({"invoice": invoice.id, "lines": [credit(line, amount)]}).total
        for line, amount in zip(lines, amounts, strict=True)
    ]
    assert sum(totals) == 334_99
    assert api.v1.invoices.retrieve(invoice.id).status == "paid"


def test_a_place_that_tax_does_not_know_stops_an_invoice_until_it_is_mended(
    api: stripe.StripeClient, address: str
) -> None:
    fault(address, kind="tax_location")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        taxed_invoice(api, address, 1000)
    assert refused.value.code == "customer_tax_location_invalid"
    [invoice] = api.v1.invoices.list().data
    assert invoice.status == "draft"
    assert api.v1.invoices.finalize_invoice(invoice.id).total == 1200


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("refunds", {}),
        ("refunds", {"refund": "re_none", "outcome": "failed"}),
        ("disputes", {"payment_intent": "pi_none"}),
        ("disputes/close", {"dispute": "du_none", "outcome": "won"}),
        ("tax", {"percent": 51}),
        ("tax", {"percent": "20"}),
    ],
)
def test_its_own_interface_refuses_what_there_is_not(
    address: str, path: str, facts: dict[str, Any]
) -> None:
    answer = sim(address, path, **facts)
    assert answer.status_code == 400
    assert answer.json()["error"]
