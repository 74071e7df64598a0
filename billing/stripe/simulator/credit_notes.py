"""Credit notes: what an invoice asked for is less than it said, by line.

Of an open invoice a note takes from what is due (pre payment); an invoice of which nothing is due
any more is paid. Of a paid one the money goes back (post payment): by a refund, or out of band.
"""

from typing import Any

from billing.stripe.simulator import collection, refunds, taxes
from billing.stripe.simulator.errors import InvalidRequest, Unsupported
from billing.stripe.simulator.registry import look, operation
from billing.stripe.simulator.world import World, merged_metadata, random_text, unset

Json = dict[str, Any]

PAGING = "created limit starting_after ending_before"
TAKEN = (
    "invoice lines.type lines.invoice_line_item lines.amount memo metadata reason refund_amount"
    " out_of_band_amount refunds.amount_refunded refunds.refund"
)


@look("credit_note")
def shown(world: World, note: Json) -> Json:
    return {
        "lines": {
            "object": "list",
            "data": note["_lines"],
            "has_more": False,
            "url": f"/v1/credit_notes/{note['id']}/lines",
        }
    }


@operation("GET", "/v1/credit_notes/preview", takes=TAKEN)
def preview(world: World, params: Json) -> Json:
    """The note as it would be. Without a word on where the money goes, its sums."""
    return world.shown(_drafted(world, params))


@operation("POST", "/v1/credit_notes", takes=TAKEN)
def create(world: World, params: Json) -> Json:
    note = _drafted(world, params)
    _require_balanced(note, params)
    invoice = world.referred("invoice", note["invoice"], param="invoice")
    _pay_back(world, note, invoice, params)
    world.save(note, "credit_note.created")
    _lessen(world, invoice, note)
    return world.shown(note)


@operation("POST", "/v1/credit_notes/{id}/void")
def void(world: World, params: Json, id: str) -> Json:  # noqa: A002 - Stripe's name
    note = world.addressed("credit_note", id)
    invoice = world.referred("invoice", note["invoice"], param="id")
    if note["status"] != "issued" or note["post_payment_amount"] or invoice["status"] != "open":
        raise InvalidRequest(
            "Only a credit note of an open invoice can be voided, once.", param="id"
        )
    note |= {"status": "void", "voided_at": world.at}
    _change_due(world, invoice, -note["pre_payment_amount"])
    return world.shown(world.save(note, "credit_note.voided"))


@operation("POST", "/v1/credit_notes/{id}", takes="memo metadata")
def update(world: World, params: Json, id: str) -> Json:  # noqa: A002 - Stripe's name
    note = world.addressed("credit_note", id) | unset(params, "memo")
    note["metadata"] = merged_metadata(note["metadata"], params.get("metadata"))
    return world.shown(world.save(note, "credit_note.updated"))


@operation("GET", "/v1/credit_notes/{id}")
def retrieve(world: World, params: Json, id: str) -> Json:  # noqa: A002 - Stripe's name
    return world.shown(world.addressed("credit_note", id))


@operation("GET", "/v1/credit_notes", takes=f"customer invoice {PAGING}")
def list_notes(world: World, params: Json) -> Json:
    found = world.store.find("credit_note", **unset(params, "customer", "invoice"))
    return world.listed(found[::-1], params, url="/v1/credit_notes")


@operation(
    "GET", "/v1/credit_notes/{credit_note}/lines", takes="limit starting_after ending_before"
)
def list_lines(world: World, params: Json, credit_note: str) -> Json:
    note = world.addressed("credit_note", credit_note)
    return world.listed(note["_lines"], params, url=f"/v1/credit_notes/{credit_note}/lines")


def _drafted(world: World, params: Json) -> Json:
    invoice = world.referred("invoice", params["invoice"], param="invoice")
    collection.require_status(invoice, "open", "paid")
    if not params.get("lines"):
        raise Unsupported("credit notes without lines", param="lines")
    before = _issued(world, invoice)
    lines = [
        _line(world, invoice, before, given, f"lines[{index}]")
        for index, given in enumerate(params["lines"])
    ]
    subtotal = sum(line["amount"] for line in lines)
    tax = _tax(invoice, before, subtotal)
    total = subtotal + tax
    pre_payment = min(total, invoice["amount_remaining"])
    note = world.new(
        "credit_note",
        invoice=invoice["id"],
        customer=invoice["customer"],
        currency=invoice["currency"],
        number=f"{invoice['number']}-CN-{len(before) + 1:02}",
        pdf=f"{world.address}/credit_notes/{random_text()}/pdf",
        amount=total,
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal,
        total=total,
        total_excluding_tax=subtotal,
        total_taxes=taxes.shown(world, "credit_note", amount=tax, taxable=subtotal),
        pre_payment_amount=pre_payment,
        post_payment_amount=total - pre_payment,
        status="issued",
        metadata=merged_metadata(None, params.get("metadata")),
        _lines=lines,
        **unset(params, "memo", "reason", "out_of_band_amount"),
    )
    kinds = {(True, False): "pre_payment", (False, True): "post_payment"}
    paid_before = bool(note["pre_payment_amount"]), bool(note["post_payment_amount"])
    return {**note, "type": kinds.get(paid_before, "mixed")}


def _issued(world: World, invoice: Json) -> list[Json]:
    return world.store.find("credit_note", invoice=invoice["id"], status="issued")


def _line(world: World, invoice: Json, before: list[Json], given: Json, param: str) -> Json:
    if given["type"] != "invoice_line_item" or "amount" not in given:
        raise Unsupported("lines but an amount of an invoice's line", param=param)
    where = f"{param}[invoice_line_item]"
    credited = world.referred("line_item", given.get("invoice_line_item", ""), param=where)
    if credited["invoice"] != invoice["id"]:
        raise InvalidRequest("The line belongs to another invoice", param=where)
    left = credited["amount"] - sum(
        line["amount"]
        for note in before
        for line in note["_lines"]
        if line["invoice_line_item"] == credited["id"]
    )
    if not 0 < given["amount"] <= left:
        raise InvalidRequest(
            f"The amount ({given['amount']}) must be positive and at most what is left of the line"
            f" ({left}).",
            param=f"{param}[amount]",
        )
    return world.shown(
        world.new(
            "credit_note_line_item",
            type="invoice_line_item",
            amount=given["amount"],
            description=credited["description"],
            invoice_line_item=credited["id"],
            metadata={},
            quantity=None,
            taxes=[],
        )
    )


def _tax(invoice: Json, before: list[Json], subtotal: int) -> int:
    """What brings the tax on all that was credited to its rounded amount."""
    percent = invoice.get("_tax_percent") or 0
    earlier: int = sum(note["subtotal"] for note in before)
    booked: int = sum(note["total"] - note["subtotal"] for note in before)
    return taxes.tax_on(earlier + subtotal, percent=percent) - booked


def _require_balanced(note: Json, params: Json) -> None:
    given = [refund["amount_refunded"] for refund in params.get("refunds", [])]
    given += [params.get(name, 0) for name in ("refund_amount", "out_of_band_amount")]
    if sum(given) != note["post_payment_amount"]:
        raise InvalidRequest(
            f"The sum of credit amount, refund amount and out of band amount ({sum(given)}) must"
            f" equal the post payment amount ({note['post_payment_amount']}).",
            param="refund_amount",
        )


def _pay_back(world: World, note: Json, invoice: Json, params: Json) -> None:
    returned = [
        {"refund": one["refund"], "amount_refunded": one["amount_refunded"]}
        for one in params.get("refunds", [])
    ]
    for index, one in enumerate(returned):
        world.referred("refund", one["refund"], param=f"refunds[{index}][refund]")
    if amount := params.get("refund_amount"):
        intent = collection.intent_of(world, invoice) if invoice["_intent"] else {}
        charge = world.store.get(intent.get("latest_charge") or "")
        if charge is None or charge["status"] != "succeeded":
            raise InvalidRequest(
                "The invoice was not paid by a charge: nothing can be refunded.",
                param="refund_amount",
            )
        refund = refunds.give_back(world, charge, amount, metadata={})
        returned.append({"refund": refund["id"], "amount_refunded": amount})
    note["refunds"] = [
        {**world.part("credit_note", "refunds"), **one, "type": "refund"} for one in returned
    ]


def _lessen(world: World, invoice: Json, note: Json) -> None:
    invoice = world.referred("invoice", invoice["id"], param="invoice")
    invoice["post_payment_credit_notes_amount"] += note["post_payment_amount"]
    world.store.put(invoice)
    if note["pre_payment_amount"]:
        _change_due(world, invoice, note["pre_payment_amount"])
    else:
        world.save(invoice, "invoice.updated")


def _change_due(world: World, invoice: Json, less: int) -> None:
    """Less is due of an open invoice; when nothing is, it is paid."""
    invoice["pre_payment_credit_notes_amount"] += less
    invoice["amount_due"] -= less
    invoice["amount_remaining"] -= less
    if not invoice["amount_remaining"]:
        collection.mark_paid(world, invoice, by_credit=True)
        return
    for payment in collection.open_payments(world, invoice):
        intent = collection.intent_of(world, invoice)
        world.store.put(intent | {"amount": invoice["amount_due"]})
        world.store.put(payment | {"amount_requested": invoice["amount_due"]})
    world.save(invoice, "invoice.updated")
