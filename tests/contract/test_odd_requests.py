"""Whatever parameters come, the simulator answers as Stripe would, or refuses; it never breaks."""

import random
import re
from typing import Any

import pytest
import requests

from billing.stripe.simulator.registry import OPERATIONS
from tests.contract.scenes import customer, draft, open_invoice, session, submit
from tests.contract.stripe_client import check_answer, client, contract

TEXTS = ["", "x", "eur", "usd", "-1", "0", "9" * 18, "é" * 30, "{}", "http://x/"]
NUMBERS = ["-1", "0", "1", "1", "49", "1000", "1000", "999999999999", "9" * 18]
# What a parameter of this name would rightly hold.
FITTING = {
    "currency": ["eur"],
    "payment_method": ["pm_card_visa", "pm_card_chargeDeclined", "pm_card_chargeCustomerFail"],
    "default_payment_method": ["pm_card_visa"],
    "success_url": ["http://127.0.0.1:9/"],
    "cancel_url": ["http://127.0.0.1:9/"],
    "url": ["http://127.0.0.1:9/"],
    "mode": ["payment"],
    "type": ["card"],
    "token": ["tok_visa"],
    "email": ["a@example.com"],
    "customer_email": ["a@example.com"],
}
# Parameters without which little begins, though the schema does not require them.
NEEDED = {*FITTING, "customer", "line_items", "price_data", "product", "quantity", "unit_amount"}
ROUNDS = 4


class Inventor:
    """Parameters that mostly pass the schema, and ids that mostly exist."""

    def __init__(self, seed: int, known: dict[str, list[str]]) -> None:
        self.random = random.Random(seed)
        self.known = known

    def pairs(self, schema: dict[str, Any], name: str, takes: set[str]) -> list[tuple[str, str]]:
        """Form parameters; of an object only the fields that `takes` (dotted names) holds."""
        if "anyOf" in schema:
            return self.pairs(self.random.choice(schema["anyOf"]), name, takes)
        match schema.get("type"):
            case "object" if "properties" in schema:
                return self._object(schema, name, takes)
            case "object":
                return [(f"{name}[a]", self.random.choice(TEXTS))]
            case "array":
                items = range(self.random.randint(0, 2))
                each = (self.pairs(schema["items"], f"{name}[{item}]", takes) for item in items)
                return [pair for pairs in each for pair in pairs]
        return [(name, self._scalar(schema, name))]

    def _object(self, schema: dict[str, Any], name: str, takes: set[str]) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for key, inner in schema["properties"].items():
            below = {taken.partition(".")[2] for taken in takes if taken.split(".")[0] == key}
            whole = "" in takes or "" in below
            wanted = 0.97 if key in schema.get("required", ()) or key in NEEDED else 0.12
            if (whole or below) and self.random.random() < wanted:
                path = f"{name}[{key}]" if name else key
                pairs += self.pairs(inner, path, {""} if whole else below)
        return pairs

    def _scalar(self, schema: dict[str, Any], name: str) -> str:
        word = name.rstrip("]").rpartition("[")[2]
        fitting = FITTING.get(word) or self.known.get(word)
        if fitting and self.random.random() < 0.9:
            return self.random.choice(fitting)
        if choices := schema.get("enum") or schema.get("x-open-enum"):
            return str(self.random.choice(choices))
        match schema["type"]:
            case "integer":
                return self.random.choice(NUMBERS)
            case "boolean":
                return self.random.choice(["true", "false"])
        return self.random.choice([*TEXTS, *(ids[-1] for ids in self.known.values())])

    def address(self, path: str) -> str:
        """The path with ids in it, which exist and are of the right kind most of the time."""

        def an_id(found: re.Match[str]) -> str:
            kind = path.split("/")[2].rstrip("s") if found[1] == "id" else found[1]
            return self.random.choice([*(self.known.get(kind) or ["none"]) * 9, "none"])

        return re.sub(r"\{(\w+)\}", an_id, path)

    def form(self, method: str, path: str) -> list[tuple[str, str]]:
        route = contract().route(method, path)
        assert route is not None
        return self.pairs(route.operation.parameters, "", set(OPERATIONS[method, path].takes))


def learn(known: dict[str, list[str]], answer: Any) -> None:
    """Remember the ids in an answer, by the names that addresses and parameters give them."""
    if isinstance(answer, dict):
        if "id" in answer and "object" in answer and not answer.get("deleted"):
            kind = str(NAMES.get(answer["object"], answer["object"]))
            known.setdefault(kind, []).append(answer["id"])
        for inner in answer.values():
            learn(known, inner)
    elif isinstance(answer, list):
        for inner in answer:
            learn(known, inner)


NAMES = {"payment_intent": "intent", "checkout.session": "session", "line_item": "line_item_id"}


def some_objects(address: str) -> dict[str, list[str]]:
    """Ids of a little of everything, by what parameters call them."""
    api = client(address)
    buyer = customer(api)
    made: list[Any] = [
        open_invoice(api, buyer.id, 5000),
        draft(api, buyer.id, 100, 200),
        session(api),
    ]
    paid = api.v1.invoices.finalize_invoice(draft(api, buyer.id, 700).id)
    made += [api.v1.invoices.pay(paid.id), buyer]
    submit(session(api).url)
    for intent in api.v1.payment_intents.list().data:
        made.append(intent)
        if intent.status == "succeeded":
            made.append(api.v1.refunds.create({"payment_intent": intent.id, "amount": 100}))
    known: dict[str, list[str]] = {}
    for one in (*made, api.v1.charges.list(), api.v1.prices.list(), api.v1.events.list()):
        learn(known, one.to_dict(for_json=True))
    learn(known, api.v1.invoice_payments.list().to_dict(for_json=True))
    return known


@pytest.mark.parametrize("seed", range(2))
def test_odd_requests_get_valid_answers(address: str, seed: int) -> None:
    inventor = Inventor(seed, some_objects(address))
    succeeded: set[tuple[str, str]] = set()
    for method, path in [*sorted(OPERATIONS)] * ROUNDS:
        url = inventor.address(path)
        pairs = inventor.form(method, path)
        answer = requests.request(
            method,
            address + url,
            params=pairs if method == "GET" else None,
            data=pairs if method != "GET" else None,
            headers={"Authorization": "Bearer sk_test_x"},
            timeout=10,
        )
        said = f"{method} {url} {pairs}: {answer.status_code} {answer.text}"
        assert answer.status_code in {200, 400, 402, 404}, said
        check_answer(method, url, answer.status_code, answer.json())
        if answer.status_code == 200:
            succeeded.add((method, path))
            learn(inventor.known, answer.json())
    assert len(succeeded) > len(OPERATIONS) / 2, "too odd to reach anything"
