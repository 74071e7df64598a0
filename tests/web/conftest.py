"""A shop with people in it, a rival beside it, and a real browser."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from billing.models import Customer, PlanVersion, Subscription, TopUpPack
from billing.stripe import simulator
from ledger import access
from ledger.models import ApiKey
from tests import builders
from tests.builders import Shop

WEBHOOK_SECRET = "whsec_of_the_browser_tests"
WIDTHS = {"desktop": 1440, "phone": 390}
OUTSIDE = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


@dataclass(frozen=True, kw_only=True)
class Company:
    """A vendor with one of everything."""

    shop: Shop
    admin: User
    pricing: User
    account_manager: User
    version: PlanVersion
    draft: PlanVersion
    pack: TopUpPack
    customer: Customer
    buyer: User
    subscription: Subscription
    key: ApiKey


def company(name: str) -> Company:
    """Its customer is on a plan of 1,000 tokens since the beginning of this month."""
    shop = builders.shop(code=name)
    version = builders.plan_version(shop)
    customer = builders.customer(shop, code=f"{name}-customer")
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    subscription = builders.subscription(customer, version, starts_at=month)
    issued = access.issue_api_key(book_id=shop.vendor.book_id, name=f"{name}-key", at=month)
    return Company(
        shop=shop,
        admin=builders.employee(shop, name=f"{name}-admin"),
        pricing=builders.employee(shop, role="pricing", name=f"{name}-pricing"),
        account_manager=builders.employee(shop, role="account_manager", name=f"{name}-manager"),
        version=version,
        draft=builders.plan_version(shop, published=False),
        pack=builders.pack(shop),
        customer=customer,
        buyer=builders.buyer(customer, name=f"{name}-buyer"),
        subscription=subscription,
        key=ApiKey.objects.get(pk=issued.key_id),
    )


@pytest.fixture
def ours(db: None) -> Company:
    return company("ours")


@pytest.fixture
def theirs(db: None) -> Company:
    return company("theirs")


@pytest.fixture
def signed_in() -> Callable[[User], Client]:
    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return sign_in


def text_of(response: Any) -> str:
    """What a person reads on a page."""
    assert response.status_code == 200, response.status_code
    plain = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(plain.replace("&nbsp;", " ").replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    """Chromium, of the PATH or of Playwright. Begun after the database is made and ended with its
    module: while Playwright runs, Django takes this thread for asynchronous and has other
    connections for it, through which what is made before or after can't be dropped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        program = found or playwright.chromium.executable_path
        if not Path(program).exists():
            pytest.fail(
                "There is no Chromium for the browser tests: install one (apt-get install chromium)"
                " or run `python -m playwright install chromium`."
            )
        flags = [*OUTSIDE, "--no-first-run", "--disable-quic"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        with playwright.chromium.launch(executable_path=program, args=flags) as chromium:
            yield chromium
        connections.close_all()


@dataclass
class Visitor:
    """Somebody at a browser. `look` keeps a picture of the page at both widths."""

    page: Page
    address: str
    pictures: Path
    troubles: list[str]

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)

    def sign_in(self, user: User) -> None:
        self.go("/sign-in/")
        self.page.get_by_label("E-mail").fill(user.username)
        self.page.get_by_label("Password").fill("secret")
        self.page.get_by_role("button", name="Sign in").click()

    def look(self, name: str) -> None:
        for device, width in WIDTHS.items():
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.screenshot(path=self.pictures / f"{name}-{device}.png", full_page=True)
            wider = self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wider <= 0, f"{name} scrolls sideways on a {device}"
        self.page.set_viewport_size({"width": WIDTHS["desktop"], "height": 900})


@pytest.fixture
def visitor(
    browser: Browser,
    live_server: Any,
    settings: Any,
    tmp_path: Path,
) -> Iterator[Visitor]:
    """At the live server. Pictures go to RUNLEDGER_SCREENSHOTS, else to the test's own folder."""
    settings.WEB_URL = live_server.url
    pictures = Path(os.environ.get("RUNLEDGER_SCREENSHOTS") or tmp_path / "screenshots")
    pictures.mkdir(parents=True, exist_ok=True)
    context: BrowserContext = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(15_000)
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("http://localhost", "http://127.0.0.1", "data:"))
            else troubles.append(f"asked {request.url}")
        ),
    )
    yield Visitor(page=page, address=live_server.url, pictures=pictures, troubles=troubles)
    context.close()
    assert troubles == []


@pytest.fixture
def at_stripe(tmp_path: Path, settings: Any, live_server: Any) -> Iterator[str]:
    """A simulator of Stripe that posts its events to the live server."""
    settings.STRIPE_SECRET_KEY = "sk_test_of_the_browser_tests"
    settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
    webhook = f"{live_server.url}/api/v1/stripe/webhook"
    with simulator.running(
        home=tmp_path / "stripe", webhook_url=webhook, webhook_secret=WEBHOOK_SECRET
    ) as address:
        settings.STRIPE_API_BASE = address
        yield address
