"""The only module that talks to Stripe. It returns our own values and raises our own errors.

    StripeUnavailable   nobody knows whether it acted: ask again under the same key
    StripeRefused       it said no: a declined card, a broken rule
    StripeKeyReused     the key names another request: a mistake of ours
    StripeClosed        it does not accept our API key

The SDK repeats a request twice itself, under the same key, after network errors, 409 and 5xx; it
does not repeat after 429. No call is made inside a database transaction: a row lock held across it
would stop the account for as long as Stripe takes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, cast

import stripe
from django.conf import settings
from django.db import connection

from billing.errors import (
    StripeClosed,
    StripeEventInvalid,
    StripeKeyReused,
    StripeRefused,
    StripeUnavailable,
)
from billing.stripe import facts
from billing.stripe.facts import (
    CheckoutFacts,
    CreditNoteFacts,
    CustomerFacts,
    DisputeFacts,
    EventFacts,
    IntentFacts,
    InvoiceFacts,
    InvoiceLineFacts,
    MethodFacts,
    RefundFacts,
    SetupFacts,
)

API_VERSION: Final = "2026-10-28.endive"  # a test holds it against the SDK's
CONNECT_SECONDS_MAX: Final = 3.05
ANSWER_SECONDS_MAX: Final = 25
SDK_RETRIES: Final = 2
SIGNATURE_SECONDS_MAX: Final = 300

stripe.enable_telemetry = False

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What Stripe answered to a request that changed something."""

    stripe_id: str
    request_id: str
    http_status: int
    body: Json


def is_live() -> bool:
    """Whether our key moves real money."""
    return "_live_" in settings.STRIPE_SECRET_KEY


def request(*, operation: str, target: str, params: Json, idempotency_key: str) -> Reply:
    """Carry out one of OPERATIONS; `target` is the id of the object it changes, if it has one."""
    _require_no_transaction()
    options = {"idempotency_key": idempotency_key}
    with _own_errors():
        return _reply(OPERATIONS[operation](_client(), target, params, options))


def checkout_session(*, session_id: str) -> CheckoutFacts:
    _require_no_transaction()
    with _own_errors():
        session = _client().v1.checkout.sessions.retrieve(
            session_id, params={"expand": ["payment_intent.latest_charge"]}
        )
    return facts.of_checkout(session.to_dict(for_json=True))


def setup_session(*, session_id: str) -> SetupFacts:
    _require_no_transaction()
    with _own_errors():
        session = _client().v1.checkout.sessions.retrieve(
            session_id, params={"expand": ["setup_intent.payment_method"]}
        )
    return facts.of_setup(session.to_dict(for_json=True))


def customer(*, stripe_customer_id: str) -> CustomerFacts:
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.customers.retrieve(stripe_customer_id)
    return facts.of_customer(found.to_dict(for_json=True))


def payment_methods(*, stripe_customer_id: str) -> list[MethodFacts]:
    """What the customer keeps, newest first."""
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.customers.payment_methods.list(
            stripe_customer_id, params={"limit": 100}
        )
        return [facts.of_method(one.to_dict(for_json=True)) for one in found.auto_paging_iter()]


def payment_method(*, stripe_payment_method_id: str) -> Reply:
    _require_no_transaction()
    with _own_errors():
        return _reply(_client().v1.payment_methods.retrieve(stripe_payment_method_id))


def portal_url(*, stripe_customer_id: str, return_url: str, idempotency_key: str) -> str:
    """A fresh address of the customer's own page at Stripe, good for a few minutes."""
    reply = request(
        operation="portal.open",
        target="",
        params={"customer": stripe_customer_id, "return_url": return_url},
        idempotency_key=idempotency_key,
    )
    return str(reply.body["url"])


def checkout_sessions(*, customer_id: str, since: datetime) -> list[CheckoutFacts]:
    """The customer's sessions that were opened since then, newest first."""
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.checkout.sessions.list(
            params={"customer": customer_id, "created": {"gte": int(since.timestamp())}}
        )
        return [facts.of_checkout(one.to_dict(for_json=True)) for one in found.auto_paging_iter()]


def payment_intent(*, stripe_payment_intent_id: str) -> IntentFacts:
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.payment_intents.retrieve(
            stripe_payment_intent_id, params={"expand": ["latest_charge"]}
        )
    return facts.of_intent(found.to_dict(for_json=True))


def payment_intents(*, customer_id: str, since: datetime) -> list[Json]:
    """The customer's that were made since then, newest first, as Stripe shows them."""
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.payment_intents.list(
            params={
                "customer": customer_id,
                "created": {"gte": int(since.timestamp())},
                "expand": ["data.latest_charge"],
            }
        )
        return [one.to_dict(for_json=True) for one in found.auto_paging_iter()]


def customers(*, email: str, since: datetime) -> list[tuple[str, dict[str, str]]]:
    """Id and metadata of the customers with this address that were made since then."""
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.customers.list(
            params={"email": email, "created": {"gte": int(since.timestamp())}}
        )
        return [
            (one.id, one.to_dict(for_json=True).get("metadata") or {})
            for one in found.auto_paging_iter()
        ]


def invoice(*, stripe_invoice_id: str) -> InvoiceFacts:
    return facts.of_invoice(read_invoice(stripe_invoice_id=stripe_invoice_id).body)


def read_invoice(*, stripe_invoice_id: str) -> Reply:
    """The invoice as Stripe shows it, in the form in which a change of it is answered."""
    _require_no_transaction()
    with _own_errors():
        return _reply(
            _client().v1.invoices.retrieve(
                stripe_invoice_id, params={"expand": ["payments.data.payment.payment_intent"]}
            )
        )


def invoices(*, customer_id: str, since: datetime) -> list[InvoiceFacts]:
    """The customer's invoices that were made since then, newest first."""
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.invoices.list(
            params={"customer": customer_id, "created": {"gte": int(since.timestamp())}}
        )
        return [facts.of_invoice(one.to_dict(for_json=True)) for one in found.auto_paging_iter()]


def invoice_lines(*, stripe_invoice_id: str) -> list[InvoiceLineFacts]:
    _require_no_transaction()
    with _own_errors():
        lines = _client().v1.invoices.line_items.list(stripe_invoice_id, params={"limit": 100})
        return [facts.of_line(line.to_dict(for_json=True)) for line in lines.auto_paging_iter()]


def refund(*, stripe_refund_id: str) -> RefundFacts:
    return facts.of_refund(read_refund(stripe_refund_id=stripe_refund_id).body)


def read_refund(*, stripe_refund_id: str) -> Reply:
    """The refund as Stripe shows it, in the form in which its making is answered."""
    _require_no_transaction()
    with _own_errors():
        return _reply(_client().v1.refunds.retrieve(stripe_refund_id))


def refunds(*, payment_intent_id: str = "", since: datetime | None = None) -> list[RefundFacts]:
    """Refunds of a payment, or all that were made since then; newest first."""
    named = {"payment_intent": payment_intent_id} if payment_intent_id else {}
    return [facts.of_refund(body) for body in _listed("refunds", named, since)]


def dispute(*, stripe_dispute_id: str) -> DisputeFacts:
    _require_no_transaction()
    with _own_errors():
        return facts.of_dispute(
            _client().v1.disputes.retrieve(stripe_dispute_id).to_dict(for_json=True)
        )


def disputes(*, since: datetime) -> list[DisputeFacts]:
    """All that were opened since then, newest first."""
    return [facts.of_dispute(body) for body in _listed("disputes", {}, since)]


def preview_credit_note(*, params: Json) -> CreditNoteFacts:
    """What a credit note would come to. Nothing is made."""
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.credit_notes.preview(cast(Any, params))
        return facts.of_credit_note(found.to_dict(for_json=True))


def credit_note(*, stripe_credit_note_id: str) -> CreditNoteFacts:
    return facts.of_credit_note(read_credit_note(stripe_credit_note_id=stripe_credit_note_id).body)


def read_credit_note(*, stripe_credit_note_id: str) -> Reply:
    """The note as Stripe shows it, in the form in which its making is answered."""
    _require_no_transaction()
    with _own_errors():
        return _reply(_client().v1.credit_notes.retrieve(stripe_credit_note_id))


def credit_notes(
    *, stripe_invoice_id: str = "", since: datetime | None = None
) -> list[CreditNoteFacts]:
    """Credit notes of an invoice, or all that were made since then; newest first."""
    named = {"invoice": stripe_invoice_id} if stripe_invoice_id else {}
    return [facts.of_credit_note(body) for body in _listed("credit_notes", named, since)]


def payment_intent_metadata(*, payment_intent_id: str) -> dict[str, str]:
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.payment_intents.retrieve(payment_intent_id)
        return found.to_dict(for_json=True).get("metadata") or {}


def invoice_paid_by(*, payment_intent_id: str) -> str:
    """The invoice that a payment intent is for; "" if for none."""
    _require_no_transaction()
    with _own_errors():
        found = _client().v1.invoice_payments.list(
            {"payment": {"type": "payment_intent", "payment_intent": payment_intent_id}}
        )
        bodies = [one.to_dict(for_json=True) for one in found.data]
    return next((str(body["invoice"]) for body in bodies), "")


def verified_event(*, body: bytes, signature: str) -> EventFacts:
    """The event in a webhook's body, signed with one of our secrets. Raises StripeEventInvalid."""
    text = body.decode(errors="replace")
    if not any(_signed(text, signature, secret) for secret in settings.STRIPE_WEBHOOK_SECRETS):
        raise StripeEventInvalid("it is not signed with a secret of ours, or too long ago")
    try:
        return facts.of_event(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StripeEventInvalid(f"it is not an event: {error!r}") from error


def _reply(answer: Any) -> Reply:
    response = answer.last_response
    return Reply(
        stripe_id=answer.id,
        request_id=response.headers.get("Request-Id", ""),
        http_status=response.code,
        body=answer.to_dict(for_json=True),
    )


def _listed(kind: str, named: Json, since: datetime | None) -> list[Json]:
    _require_no_transaction()
    params: Json = {"limit": 100, **named}
    if since is not None:
        params["created"] = {"gte": int(since.timestamp())}
    with _own_errors():
        found = getattr(_client().v1, kind).list(params)
        return [one.to_dict(for_json=True) for one in found.auto_paging_iter()]


def _signed(text: str, signature: str, secret: str) -> bool:
    if not secret:
        return False
    try:
        stripe.WebhookSignature.verify_header(text, signature, secret, SIGNATURE_SECONDS_MAX)
    except stripe.SignatureVerificationError:
        return False
    return True


Operation = Callable[[stripe.StripeClient, str, Any, Any], Any]

OPERATIONS: Final[dict[str, Operation]] = {
    "customer.create": lambda client, target, params, options: client.v1.customers.create(
        params, options
    ),
    "card.attach": lambda client, target, params, options: client.v1.payment_methods.attach(
        target, params, options
    ),
    "card.default": lambda client, target, params, options: client.v1.customers.update(
        target, params, options
    ),
    "card.detach": lambda client, target, params, options: client.v1.payment_methods.detach(
        target, params, options
    ),
    "portal.open": lambda client, target, params, options: client.v1.billing_portal.sessions.create(
        params, options
    ),
    "setup.create": lambda client, target, params, options: client.v1.checkout.sessions.create(
        params, options
    ),
    "top_up.tax": lambda client, target, params, options: client.v1.tax.calculations.create(
        params, options
    ),
    "top_up.charge": lambda client, target, params, options: client.v1.payment_intents.create(
        params, options
    ),
    "checkout.create": lambda client, target, params, options: client.v1.checkout.sessions.create(
        params, options
    ),
    "invoice.create": lambda client, target, params, options: client.v1.invoices.create(
        params, options
    ),
    "invoice.lines": lambda client, target, params, options: client.v1.invoices.add_lines(
        target, params, options
    ),
    "invoice.finalize": lambda client, target, params, options: client.v1.invoices.finalize_invoice(
        target, params, options
    ),
    "invoice.send": lambda client, target, params, options: client.v1.invoices.send_invoice(
        target, params, options
    ),
    "invoice.pay": lambda client, target, params, options: client.v1.invoices.pay(
        target, params, options
    ),
    "credit_note.create": lambda client, target, params, options: client.v1.credit_notes.create(
        params, options
    ),
    "refund.create": lambda client, target, params, options: client.v1.refunds.create(
        params, options
    ),
}


def _client() -> stripe.StripeClient:
    return _client_for(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE or "")


@lru_cache(maxsize=4)
def _client_for(secret_key: str, base: str) -> stripe.StripeClient:
    """One client a process, made at its first call: after a worker has forked."""
    addresses: Any = None
    if base:
        addresses = dict.fromkeys(("api", "files", "connect", "meter_events"), base)
    timeout = cast(Any, (CONNECT_SECONDS_MAX, ANSWER_SECONDS_MAX))
    return stripe.StripeClient(
        secret_key,
        stripe_version=API_VERSION,
        max_network_retries=SDK_RETRIES,
        http_client=stripe.RequestsClient(timeout=timeout),
        base_addresses=addresses,
    )


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except stripe.StripeError as error:
        raise _own(error) from error


def _own(error: stripe.StripeError) -> Exception:
    message = error.user_message or str(error)
    known: dict[str, Any] = {
        "request_id": error.request_id or "",
        "http_status": error.http_status,
    }
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return StripeClosed(message, **known)
    if isinstance(error, stripe.IdempotencyError) and error.http_status != 409:
        return StripeKeyReused(message, **known)
    if isinstance(error, stripe.CardError | stripe.InvalidRequestError):
        return StripeRefused(
            message,
            stripe_code=error.code or "",
            param=str(error.param or ""),
            of_card=isinstance(error, stripe.CardError),
            **_of_refused_charge(error),
            **known,
        )
    headers = cast(dict[str, str], error.headers or {})
    replayed = {name.lower(): value for name, value in headers.items()}.get("idempotent-replayed")
    return StripeUnavailable(message, replayed=replayed == "true", **known)


def _of_refused_charge(error: stripe.StripeError) -> dict[str, Any]:
    """The charge that was declined, which Stripe names in one place or another, and why."""
    body = cast(Json, error.json_body) if isinstance(error.json_body, dict) else {}
    told = body.get("error") or {}
    intent = told.get("payment_intent") or {}
    charge = told.get("charge") or intent.get("latest_charge") or ""
    return {
        "charge_id": charge.get("id", "") if isinstance(charge, dict) else charge,
        "decline_code": told.get("decline_code") or "",
        "payment_intent_id": intent.get("id") or "",
    }


def _require_no_transaction() -> None:
    blocks = cast(Any, connection).atomic_blocks  # the test suite's own wrapper does not count
    assert all(block._from_testcase for block in blocks), "Stripe called inside a transaction"
