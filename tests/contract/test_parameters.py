"""Parameters are checked as Stripe checks them, and the refusal names the parameter."""

from typing import Any

import pytest
import requests
import stripe

from tests.contract.scenes import customer, draft, line, open_invoice, product, session
from tests.contract.stripe_client import check_answer, contract


def post(address: str, path: str, form: str, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = requests.post(
        address + path,
        form,
        headers={
            "Authorization": "Bearer sk_test_x",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        | headers,
        timeout=10,
    )
    check_answer("POST", path, answer.status_code, answer.json())
    return answer.status_code, answer.json().get("error", {})


@pytest.mark.parametrize(
    ("path", "form", "code", "param"),
    [
        ("/v1/customers", "emial=a@b.c", "parameter_unknown", "emial"),
        ("/v1/customers", "address[town]=X", "parameter_unknown", "address[town]"),
        ("/v1/customers", "balance=ten", "parameter_invalid_integer", "balance"),
        ("/v1/customers", "balance=1.5", "parameter_invalid_integer", "balance"),
        ("/v1/customers", "address=Main Street", None, "address"),
        ("/v1/customers", "tax_exempt=maybe", None, "tax_exempt"),
        ("/v1/customers", "preferred_locales=en", None, "preferred_locales"),
        ("/v1/customers", "preferred_locales[1]=en", None, "preferred_locales"),
        ("/v1/customers", "metadata[a]=1&metadata[a]=2", None, "metadata[a]"),
        ("/v1/customers", "metadata[" + "k" * 41 + "]=v", None, "metadata[" + "k" * 41 + "]"),
        ("/v1/customers", "metadata[k]=" + "v" * 501, None, "metadata[k]"),
        ("/v1/customers", "&".join(f"metadata[k{n}]=v" for n in range(51)), None, "metadata"),
        ("/v1/customers", "]x[=1", None, "]x["),
        ("/v1/customers", "source=tok_visa", "simulator_unsupported", "source"),
        ("/v1/products", "", "parameter_missing", "name"),
        ("/v1/products", "name=", "parameter_invalid_empty", "name"),
        ("/v1/products", "name=" + "x" * 5001, "parameter_invalid_string", "name"),
        ("/v1/products", "name=A&active=yes", None, "active"),
        ("/v1/prices", "currency=eur&unit_amount=1", "parameter_missing", "product"),
        (
            "/v1/prices",
            "currency=eur&product=x&unit_amount_decimal=0.1234567890123",
            None,
            "unit_amount_decimal",
        ),
        (
            "/v1/prices",
            "currency=eur&product=x&unit_amount_decimal=0.5",
            "simulator_unsupported",
            "unit_amount_decimal",
        ),
        (
            "/v1/checkout/sessions",
            "mode=payment&payment_method_types[0]=card",
            "parameter_unknown",
            "payment_method_types",
        ),
        ("/v1/coupons", "percent_off=5", "url_unknown", None),
        ("/v1/customers/cus_1/discount", "", "url_unknown", None),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(
    address: str, path: str, form: str, code: str | None, param: str | None
) -> None:
    status, error = post(address, path, form)
    assert status in {400, 404}
    assert error["type"] == "invalid_request_error"
    assert error.get("code") == code
    assert error.get("param") == param


def test_nested_parameters_are_named_as_they_were_sent(api: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        session(api, line_items=[{"quantity": 1, "price_data": {"currency": "eur"}}])
    assert refused.value.param == "line_items[0][price_data][unit_amount]"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        session(api, payment_intent_data={"capture_method": "manual"})
    assert refused.value.param == "payment_intent_data[capture_method]"
    assert refused.value.code == "simulator_unsupported"


def test_an_empty_value_unsets_and_metadata_is_merged(api: stripe.StripeClient) -> None:
    made = api.v1.customers.create({"address": {"city": "Bonn"}, "metadata": {"a": "1", "b": "2"}})
    changed = api.v1.customers.update(made.id, {"address": "", "metadata": {"a": "", "c": "3"}})
    assert changed.address is None
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Authorization", "", 401),
        ("Authorization", "Bearer sk_live_x", 401),
        ("Authorization", "Bearer pk_test_x", 401),
        ("Stripe-Version", "2020-08-27", 400),
        ("Stripe-Version", contract().api.api_version, 200),
    ],
)
def test_the_key_and_the_version_are_looked_at(
    address: str, header: str, value: str, status: int
) -> None:
    assert post(address, "/v1/customers", "name=A", **{header: value})[0] == status


def test_lists_come_in_pages_both_ways(api: stripe.StripeClient) -> None:
    made = [api.v1.customers.create({"name": str(number)}).id for number in range(7)]
    paged = api.v1.customers.list({"limit": 3})
    assert [one.id for one in paged.auto_paging_iter()] == made[::-1]
    newer = api.v1.customers.list({"limit": 2, "ending_before": made[3]})
    assert [one.id for one in newer.data] == [made[5], made[4]]
    assert newer.has_more
    older = api.v1.customers.list({"created": {"lt": 1_000}})
    assert older.data == []


def test_lists_refuse_what_they_cannot_page(api: stripe.StripeClient) -> None:
    for params, param in (
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"starting_after": "cus_none"}, "starting_after"),
        ({"starting_after": "a", "ending_before": "b"}, "ending_before"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            api.v1.customers.list(params)  # type: ignore[arg-type]  # wrong on purpose
        assert refused.value.param == param


def test_expand_replaces_ids_and_refuses_what_is_no_id(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    invoice = draft(api, buyer.id, 1000)
    expanded = api.v1.invoices.retrieve(
        invoice.id,
        {"expand": ["customer.invoice_settings.default_payment_method", "payments"]},
    )
    assert isinstance(expanded.customer, stripe.Customer)
    settings = expanded.customer.invoice_settings
    assert settings is not None
    assert isinstance(settings.default_payment_method, stripe.PaymentMethod)
    for path in ("currency", "nothing", "customer.email", "lines.data.x", "a.b.c.d.e"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            api.v1.invoices.retrieve(invoice.id, {"expand": [path]})
        assert refused.value.param == "expand"


def test_unknown_objects_are_404_in_addresses_and_400_in_parameters(
    api: stripe.StripeClient,
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.customers.retrieve("cus_none")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        draft(api, "cus_none")
    assert (refused.value.http_status, refused.value.param) == (400, "customer")


def test_a_deleted_customer_is_a_stub_and_takes_no_more(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    assert api.v1.customers.delete(buyer.id).deleted
    assert api.v1.customers.retrieve(buyer.id).deleted
    assert api.v1.customers.list().data == []
    for change in (
        lambda: api.v1.customers.update(buyer.id, {"name": "B"}),
        lambda: draft(api, buyer.id),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            change()
        assert refused.value.code == "resource_missing"


def test_a_body_too_large_or_of_unknown_length_is_refused(address: str) -> None:
    headers = {"Authorization": "Bearer sk_test_x"}
    for body in ("x" * (1 << 20) + "x", iter([b"name=A"])):
        answer = requests.post(f"{address}/v1/customers", body, headers=headers, timeout=10)
        assert answer.status_code == 413


def test_products_have_ids_of_ours_once(api: stripe.StripeClient) -> None:
    assert product(api).id == "plan_team_r1_fee"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        product(api)
    assert refused.value.code == "resource_already_exists"


def test_a_lookup_key_moves_only_when_asked(api: stripe.StripeClient) -> None:
    product(api)
    price: Any = {
        "currency": "eur",
        "product": "plan_team_r1_fee",
        "unit_amount": 500,
        "lookup_key": "pack",
    }
    first = api.v1.prices.create(price)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.prices.create(price)
    assert refused.value.param == "lookup_key"
    price["transfer_lookup_key"] = True
    second = api.v1.prices.create(price)
    assert [one.id for one in api.v1.prices.list({"lookup_keys": ["pack"]}).data] == [second.id]
    assert api.v1.prices.retrieve(first.id).lookup_key is None


@pytest.mark.parametrize(
    ("currency", "amount"),
    [("kwd", 5124), ("isk", 550), ("ugx", 1), ("EUR", 100), ("xyz", 100), ("eur", 10**12)],
)
def test_amounts_that_a_currency_cannot_have_are_refused(
    api: stripe.StripeClient, currency: str, amount: int
) -> None:
    product(api)
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.prices.create(
            {"currency": currency, "product": "plan_team_r1_fee", "unit_amount": amount}
        )


def test_a_card_that_the_bank_refuses_cannot_be_attached(api: stripe.StripeClient) -> None:
    buyer = customer(api, card=None)
    with pytest.raises(stripe.CardError) as refused:
        api.v1.payment_methods.attach("pm_card_chargeDeclined", {"customer": buyer.id})
    assert refused.value.code == "card_declined"
    assert api.v1.customers.payment_methods.list(buyer.id).data == []
    api.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": buyer.id})
    [kept] = api.v1.payment_methods.list({"customer": buyer.id, "type": "card"}).data
    assert kept.card is not None
    assert kept.card.last4 == "0341"


def test_a_customer_is_made_with_a_card(api: stripe.StripeClient) -> None:
    made = api.v1.customers.create(
        {
            "payment_method": "pm_card_visa",
            "invoice_settings": {"default_payment_method": "pm_card_visa"},
        }
    )
    [card] = api.v1.customers.payment_methods.list(made.id).data
    assert made.invoice_settings is not None
    assert made.invoice_settings.default_payment_method == card.id


def test_a_detached_card_is_of_no_more_use(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    [card] = api.v1.customers.payment_methods.list(buyer.id).data
    invoice = open_invoice(api, buyer.id, 1000, default_payment_method=card.id)
    assert api.v1.payment_methods.detach(card.id).customer is None
    settings = api.v1.customers.retrieve(buyer.id).invoice_settings
    assert settings is not None
    assert settings.default_payment_method is None
    for use in (
        lambda: api.v1.invoices.pay(invoice.id),
        lambda: api.v1.payment_methods.attach(card.id, {"customer": buyer.id}),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            use()
    assert api.v1.charges.list().data == []


def test_another_customers_card_is_refused(api: stripe.StripeClient) -> None:
    one, other = customer(api), customer(api, card=None)
    [card] = api.v1.customers.payment_methods.list(one.id).data
    for use in (
        lambda: api.v1.payment_methods.attach(card.id, {"customer": other.id}),
        lambda: api.v1.customers.update(
            other.id, {"invoice_settings": {"default_payment_method": card.id}}
        ),
        lambda: draft(api, other.id, default_payment_method=card.id),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            use()


def test_the_lines_of_an_invoice_speak_its_currency(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    product(api)
    invoice = draft(api, buyer.id)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.invoices.add_lines(invoice.id, {"lines": [line(100, currency="usd")]})
    assert refused.value.param == "lines[0][price_data][currency]"
