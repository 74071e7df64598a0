"""What happens, in order; and whether it adds up.

The month is replayed before beat runs: beat would close it at once, as it is over. When all runs
are debited beat starts, and does what it does at the end of every month: it closes the period,
rolls over and expires, prices the overage, and the worker sends the invoices and takes payment.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import wraps
from itertools import takewhile
from typing import Any, Final, ParamSpec, TypeVar
from uuid import uuid5

from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from billing.errors import StripeUnavailable
from billing.models import Customer, Invoice, Period, TopUpFulfilment
from billing.stripe import checkout, inbox, outbox
from config.demo import cast, checkout_page, sending, traffic
from config.demo.cast import PARTS, Cast
from config.demo.sending import Sent
from ledger import access, debiting, invariants, queries, tasks, usage

# The month that goes on has a fourth of the runs of the one that is told.
THIS_MONTH_IS_QUIETER: Final = 4
# What a killed process was doing with Stripe is gone on with when its lease has run out.
SETTLED_SECONDS_MAX: Final = max(outbox.LEASE, inbox.LEASE).total_seconds() + 60
RESTART_SECONDS_MAX: Final = 90.0
POLL_SECONDS: Final = 0.3

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class DoesNotAddUp(Exception):
    """The demo ended otherwise than it must; the message says where."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the month ended for one customer."""

    customer: str
    runs_count: int
    granted_microtokens: int
    used_microtokens: int
    rolled_microtokens: int
    expired_microtokens: int
    overage_microtokens: int
    bought_microtokens: int
    repaid_microtokens: int
    invoice: Invoice


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The whole story, when it is over."""

    sent: Sent
    debited_count: int
    debited_seconds: float
    outcomes: list[Outcome]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where the story is played, and how it is told while it goes on."""

    web: str
    say: Callable[[str], None]
    sent: Callable[[int], None]  # so many runs more were acknowledged
    debited: Callable[[int], None]  # so many runs are debited by now
    start_beat: Callable[[], None]


def _through_restarts(step: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """Have a step that may be repeated outlive a database that is killed and comes back."""

    @wraps(step)
    def patient(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        deadline = time.monotonic() + RESTART_SECONDS_MAX
        while True:
            try:
                return step(*args, **kwargs)
            except (OperationalError, InterfaceError):
                if time.monotonic() > deadline:
                    raise
                connection.close()
                time.sleep(POLL_SECONDS)

    return patient


def play(*, month: datetime, runs_count: int, stage: Stage) -> tuple[Cast, Ending]:
    """Play the month. Raises DoesNotAddUp and NotTaken."""
    enter = _through_restarts(cast.enter)
    players = enter(month=month, runs_count=runs_count, say=stage.say, at=timezone.now())
    periods = _periods(players, number=1)
    secret = _key(players)
    stage.say(f"{runs_count:,} runs of {month:%B %Y} are sent to the API")
    began = time.monotonic()
    runs = traffic.runs(month=month, periods=_spans(periods), runs_count=runs_count)
    sent = _replay(players, runs, secret=secret, stage=stage)
    seconds = time.monotonic() - began
    stage.say("the month is over: beat starts, periods close, invoices go to Stripe")
    stage.start_beat()
    _wait("the invoices to be paid", lambda: all(_is_paid(period) for period in periods.values()))
    for part in PARTS:
        if part.buys_a_pack:
            stage.say(f"{part.name} buys a pack on Stripe's page")
            _buy_a_pack(players, players.customers[part.code])
    _go_on(players, runs_count=runs_count, secret=secret, stage=stage)
    outcomes = _outcomes(players, periods)
    _add_up(players, sent, outcomes)
    return players, Ending(
        sent=sent,
        debited_count=sum(outcome.runs_count for outcome in outcomes),
        debited_seconds=seconds,
        outcomes=outcomes,
    )


def _go_on(players: Cast, *, runs_count: int, secret: str, stage: Stage) -> None:
    """Some runs of the month that is not over, so that there is something to look at."""
    now = timezone.now()
    periods = _periods(players, number=2)
    runs = traffic.runs(
        month=now,
        periods=_spans(periods),
        runs_count=runs_count // THIS_MONTH_IS_QUIETER,
    )
    # Always the same month, as far as it has come.
    past = takewhile(lambda run: datetime.fromisoformat(run["occurred_at"]) <= now, runs)
    stage.say(f"{now:%B} goes on")
    _replay(players, past, secret=secret, stage=replace(stage, sent=_untold, debited=_untold))


def _untold(_count: int) -> None:
    """For what no bar shows."""


def _replay(players: Cast, runs: Iterable[dict[str, Any]], *, secret: str, stage: Stage) -> Sent:
    """Send runs, and wait until all are debited."""

    def count(runs_count: int) -> None:
        stage.sent(runs_count)
        stage.debited(_debited(players))

    sent = sending.send(runs, web=stage.web, secret=secret, progress=count)

    def is_debited() -> bool:
        debited = _debited(players)
        stage.debited(debited)
        waiting = debiting.waiting_shards()
        # What a lost message left is beat's to sweep up; until it runs we are beat.
        tasks.wake(waiting)
        return debited >= sent.runs_count and not waiting

    _wait("all runs to be debited", is_debited)
    return sent


def _buy_a_pack(players: Cast, customer: Customer) -> None:
    """Once: what a play that was killed has begun is gone on with."""
    key = uuid5(cast.DEMO, f"{players.vendor.code}:{customer.code}:pack")
    fulfilled = TopUpFulfilment.objects.filter(top_up__id=key)

    def is_paid() -> bool:
        if fulfilled.exists():
            return True
        try:
            session = checkout.start(
                customer_id=customer.pk,
                pack_id=players.pack.pk,
                idempotency_key=key,
                at=timezone.now(),
            )
            checkout_page.pay(session.url)
        except (StripeUnavailable, OSError):
            return False
        return True

    _wait("Stripe to take the payment of the pack", is_paid)
    _wait("the pack's tokens to arrive by the webhook", fulfilled.exists)


@_through_restarts
def _key(players: Cast) -> str:
    book_id = players.vendor.book_id
    return access.issue_api_key(book_id=book_id, name="demo", at=timezone.now()).secret


@_through_restarts
def _periods(players: Cast, *, number: int) -> dict[str, Period]:
    return {
        code: Period.objects.get(subscription__customer=customer, number=number)
        for code, customer in players.customers.items()
    }


def _spans(periods: dict[str, Period]) -> dict[str, tuple[datetime, datetime]]:
    return {code: (period.starts_at, period.ends_at) for code, period in periods.items()}


@_through_restarts
def _debited(players: Cast) -> int:
    """How many runs are debited by now."""
    return queries.runs_count(
        account_ids=[customer.account_id for customer in players.customers.values()]
    )


def _is_paid(period: Period) -> bool:
    """Both the invoice that opened the period and the one that closed it."""
    invoices = Invoice.objects.filter(period=period)
    return invoices.count() == 2 and not invoices.filter(payment__isnull=True).exists()


@_through_restarts
def _outcomes(players: Cast, periods: dict[str, Period]) -> list[Outcome]:
    # Read again: the periods of the beginning know nothing of their closing.
    return [
        _outcome(players.customers[code], Period.objects.get(pk=period.pk))
        for code, period in periods.items()
    ]


def _outcome(customer: Customer, period: Period) -> Outcome:
    settled = period.settlement
    used = usage.by_workflow(
        account_id=customer.account_id, from_at=period.starts_at, until_at=period.ends_at
    )
    lots = {lot.id: lot for lot in queries.lots(account_ids=[customer.account_id])}
    assert period.allotment_lot_id is not None
    repaid = sum(
        movement.microtokens
        for lot in lots.values()
        for movement in queries.movements(lot_id=lot.id)
        if movement.kind == "repaid"
    )
    return Outcome(
        customer=customer.name,
        runs_count=sum(line.runs_count for line in used),
        granted_microtokens=lots[period.allotment_lot_id].granted_microtokens,
        used_microtokens=sum(line.microtokens for line in used),
        rolled_microtokens=settled.rolled_microtokens,
        expired_microtokens=settled.expired_microtokens,
        overage_microtokens=period.closing.overage_microtokens,
        bought_microtokens=sum(
            lot.granted_microtokens for lot in lots.values() if lot.source == "top_up"
        ),
        repaid_microtokens=repaid,
        invoice=Invoice.objects.get(period=period, occasion=Invoice.Occasion.CLOSING),
    )


@_through_restarts
def _add_up(players: Cast, sent: Sent, outcomes: list[Outcome]) -> None:
    """What was sent, what was debited, what the lots lost and what is invoiced must agree."""
    for (code, customer), outcome in zip(players.customers.items(), outcomes, strict=True):
        _require(f"{code}: runs sent and debited", sent.runs[code], outcome.runs_count)
        _require(
            f"{code}: tokens acknowledged and used",
            sent.microtokens[code],
            outcome.used_microtokens,
        )
        debt = queries.balances(account_ids=[customer.account_id], at=timezone.now())[
            customer.account_id
        ].debt_microtokens
        beyond = outcome.overage_microtokens + outcome.repaid_microtokens + debt
        left = outcome.rolled_microtokens + outcome.expired_microtokens
        _require(
            f"{code}: tokens granted, and used or left",
            outcome.granted_microtokens,
            outcome.used_microtokens - beyond + left,
        )
        lines = sum(line.amount for line in outcome.invoice.lines.all())
        _require(f"{code}: invoice lines and payment", lines, outcome.invoice.payment.amount)
    broken = invariants.violations()
    _require("invariants that are broken", {}, broken)


def _require(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise DoesNotAddUp(f"{what}: {expected} and {found}")


def _wait(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
    is_so = _through_restarts(is_so)
    while not is_so():
        if time.monotonic() > deadline:
            raise DoesNotAddUp(f"waited {SETTLED_SECONDS_MAX:.0f} seconds for {what}, in vain")
        time.sleep(POLL_SECONDS)
