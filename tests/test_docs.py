"""The docs and the code are kept in step: whatever is offered is described, and examples work."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.test import Client

from ledger import access, catalog
from ledger.api.problems import STATUS
from ledger.catalog import NewRate
from tests.ledger.builders import make_account, make_shop, publish_rates

ROOT = Path(__file__).parent.parent
DOCS = {path: path.read_text("utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]}
OURS = ("config", "ledger", "billing")


def test_every_refusal_of_the_ledger_stands_in_the_catalogue_of_errors_with_its_status():
    page = DOCS[ROOT / "docs/api.md"]
    for refusal, status in STATUS.items():
        assert f"| `{refusal.code}` | {status} |" in page


def test_every_command_is_described_somewhere_and_explains_itself():
    for name, app in get_commands().items():
        if app not in OURS:
            continue
        assert any(name in text for text in DOCS.values()), f"no page mentions manage.py {name}"
        assert load_command_class(app, name).help.strip(), f"{name} --help says nothing"


def test_every_target_of_make_that_the_docs_name_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        target
        for text in DOCS.values()
        for block in re.findall(r"`([^`]+)`|```\n(.*?)```", text, re.S)
        for target in re.findall(r"^make ([a-z]+)", "\n".join(block), re.M)
    }
    assert {"demo", "test", "bench", "lint"} <= named <= targets


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", DOCS[path]):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.django_db
def test_the_quickstarts_run_is_taken_as_it_stands_and_answered_with_its_receipt():
    [body] = re.findall(r"-d '(\{.*?\})'", DOCS[ROOT / "docs/quickstart.md"], re.S)
    at = datetime.now(UTC)
    shop = make_shop(effective_at=at - timedelta(days=3650))
    for meter in ("input_tokens", "output_tokens"):
        catalog.create_meter(book_id=shop.book_id, code=meter, name=meter)
    catalog.create_engine(book_id=shop.book_id, code="atlas-large", name="Atlas Large")
    publish_rates(
        shop,
        [NewRate(meter="input_tokens"), NewRate(meter="output_tokens")],
        effective_at=at - timedelta(days=3000),
    )
    make_account(shop, json.loads(body)["account"])
    key = access.issue_api_key(book_id=shop.book_id, name="quickstart", at=at)
    answer = Client(headers={"authorization": f"Bearer {key.secret}"}).post(
        "/api/v1/runs?wait", body, content_type="application/json"
    )
    assert answer.status_code == 200
    assert answer.json()["runs"][0]["receipt"]["microtokens"] == 3_500_000_000
