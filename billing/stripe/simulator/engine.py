"""From a request to its answer: who asks, what for, whether it was asked before; then the work.

    faults -> authentication -> route -> idempotency key -> parameters -> operation -> expand -> log

The work, its events, the answer kept under the idempotency key and the log are one transaction.

Idempotency (https://docs.stripe.com/api/idempotent_requests): the first answer to a key is repeated
for 24 hours, refusals and injected errors included; the same key with another request is an error,
and so is a key whose first request is still being carried out. What fails the checks of
authentication and parameters never began, so nothing is kept of it.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from billing.stripe.simulator import checkout, collection, events, faults, parameters, refunds
from billing.stripe.simulator.contract import Contract, Route
from billing.stripe.simulator.errors import (
    Broken,
    IdempotencyKeyInUse,
    IdempotencyMismatch,
    InvalidParameters,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    RateLimited,
    Refused,
    Unsupported,
)
from billing.stripe.simulator.expansion import expand
from billing.stripe.simulator.faults import Mishaps
from billing.stripe.simulator.registry import OPERATIONS
from billing.stripe.simulator.store import Store
from billing.stripe.simulator.world import World, random_text

Json = dict[str, Any]

KEY_LENGTH_MAX = 255
KEYS_KEPT_FOR = 24 * 3600  # seconds of simulated time
KEY_PREFIXES = ("sk_test_", "rk_test_")


class ConnectionBroken(Exception):
    """A fault asks for the connection to be reset instead of an answer."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request to the API, as it came in."""

    method: str
    path: str
    pairs: list[tuple[str, str]]
    headers: Mapping[str, str]
    id: str = field(default_factory=lambda: f"req_{random_text(14)}")

    @property
    def idempotency_key(self) -> str | None:
        return self.headers.get("Idempotency-Key") if self.method == "POST" else None

    @property
    def fingerprint(self) -> str:
        said = json.dumps([self.method, self.path, sorted(self.pairs)])
        return hashlib.sha256(said.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An answer; `kept`: the idempotency key remembers it; `replayed`: it remembered this one."""

    status: int
    body: Json
    kept: bool = False
    replayed: bool = False

    @classmethod
    def of(cls, refusal: Refused, *, kept: bool) -> "Outcome":
        return cls(status=refusal.status, body=refusal.body, kept=kept)


class Engine:
    """The simulated account. `local_endpoint`: address and secret of the caller's webhook."""

    def __init__(
        self,
        store: Store,
        contract: Contract,
        *,
        address: str,
        local_endpoint: tuple[str, str] | None,
    ) -> None:
        self.store = store
        self.contract = contract
        self.address = address
        self.local_endpoint = local_endpoint
        self._keys_in_use: set[str] = set()
        self._keys_lock = threading.Lock()

    def now(self) -> int:
        """Simulated time: the wall clock, shifted by what was asked of /_sim/clock."""
        return int(time.time()) + int(self.store.setting("clock_offset", 0))

    def world(self, **more: Any) -> World:
        return World(
            store=self.store, contract=self.contract, address=self.address, at=self.now(), **more
        )

    def strike(self, method: str, path: str) -> Mishaps:
        """The faults for a request. Those that come before any work happen here."""
        with self.store.transaction():
            mishaps = faults.strike(self.store, method=method, path=path)
        time.sleep(mishaps.get("delay", "seconds", 0))
        if "reset_before" in mishaps:
            raise ConnectionBroken
        return mishaps

    def answer(self, call: Call) -> Outcome:
        """Carry out a call to the API. Raises ConnectionBroken if a fault wants it so."""
        try:
            with self._key_in_use(call.idempotency_key):
                mishaps = self.strike(call.method, call.path)
                with self.store.transaction():
                    outcome = self._outcome(call, mishaps)
                    self._log(call, outcome, mishaps)
        except IdempotencyKeyInUse as refusal:
            outcome = Outcome.of(refusal, kept=False)
            with self.store.transaction():
                self._log(call, outcome, Mishaps(faults={}))
            return outcome
        if "reset_after_commit" in mishaps:
            raise ConnectionBroken
        return outcome

    @contextmanager
    def _key_in_use(self, key: str | None) -> Iterator[None]:
        with self._keys_lock:
            if key in self._keys_in_use:
                raise IdempotencyKeyInUse(
                    "There is currently another in-progress request using this Idempotent Key.",
                    code="idempotency_key_in_use",
                )
            if key:
                self._keys_in_use.add(key)
        try:
            yield
        finally:
            with self._keys_lock:
                self._keys_in_use.discard(key or "")

    def _outcome(self, call: Call, mishaps: Mishaps) -> Outcome:
        try:
            _authenticate(call, self.contract.api.api_version)
            route = self._route(call)
            if mishaps.get("status", "status") == RateLimited.status:
                raise RateLimited("Too many requests hit the API too quickly.", code="rate_limit")
            if answered := self._answered_before(call):
                return answered
            params = self._parameters(call, route)
        except Refused as refusal:
            return Outcome.of(refusal, kept=False)
        outcome = self._carried_out(call, route, params, mishaps)
        if outcome.kept and call.idempotency_key:
            self._keep(call, call.idempotency_key, outcome)
        return outcome

    def _route(self, call: Call) -> Route:
        route = self.contract.route(call.method, call.path)
        if route is None:
            raise NotFound(
                f"Unrecognized request URL ({call.method}: {call.path}); the simulator may not"
                " know this part of the API",
                code="url_unknown",
            )
        if (call.method, route.operation.path) not in OPERATIONS:
            raise Unsupported(f"{call.method} {route.operation.path}")
        return route

    def _parameters(self, call: Call, route: Route) -> Json:
        params: Json = parameters.typed(parameters.decoded(call.pairs), route.operation.parameters)
        takes = OPERATIONS[call.method, route.operation.path].takes
        parameters.require_supported(params, takes)
        return params

    def _answered_before(self, call: Call) -> Outcome | None:
        if call.idempotency_key is None:
            return None
        if not 0 < len(call.idempotency_key) <= KEY_LENGTH_MAX:
            raise InvalidParameters(f"Idempotency keys have 1 to {KEY_LENGTH_MAX} characters")
        for row in self.store.rows(
            "SELECT * FROM idempotency_key WHERE key = ?", call.idempotency_key
        ):
            if row["fingerprint"] != call.fingerprint:
                raise IdempotencyMismatch(
                    "Keys for idempotent requests can only be used with the same parameters they"
                    " were first used with. Try using a key other than"
                    f" '{call.idempotency_key}' if you meant to execute a different request."
                )
            body = json.loads(row["body"])
            return Outcome(status=row["status"], body=body, replayed=True)
        return None

    def _keep(self, call: Call, key: str, outcome: Outcome) -> None:
        self.store.run(
            "INSERT INTO idempotency_key VALUES (?, ?, ?, ?, ?)",
            key,
            call.fingerprint,
            outcome.status,
            json.dumps(outcome.body),
            self.now(),
        )

    def _carried_out(self, call: Call, route: Route, params: Json, mishaps: Mishaps) -> Outcome:
        status = mishaps.get("status", "status")
        failure = Broken("An unknown error occurred.") if status else None
        if failure and not mishaps.get("status", "after_commit"):
            return replace(Outcome.of(failure, kept=status >= Broken.status), status=status)
        world = self.world(
            request_id=call.id,
            idempotency_key=call.idempotency_key,
            decline=mishaps.get("decline", "code"),
            refund=mishaps.get("refund", "outcome"),
            has_no_tax_location="tax_location" in mishaps,
        )
        outcome = self._worked(world, route, params)
        if failure:
            return replace(Outcome.of(failure, kept=True), status=status)
        return outcome

    def _worked(self, world: World, route: Route, params: Json) -> Outcome:
        operation = route.operation
        handler = OPERATIONS[operation.method, operation.path].handler
        try:
            with self.store.savepoint():
                try:
                    body = handler(world, params, **route.ids)
                except Refused as refusal:
                    if refusal.keeps_effects:
                        return Outcome.of(refusal, kept=True)
                    raise
                body = expand(world, body, params.get("expand", []))
        except Refused as refusal:
            return Outcome.of(refusal, kept=True)
        return Outcome(status=200, body=body, kept=True)

    def _log(self, call: Call, outcome: Outcome, mishaps: Mishaps) -> None:
        self.store.log(
            {
                "id": call.id,
                "at": self.now(),
                "method": call.method,
                "path": call.path,
                "params": dict(call.pairs),
                "idempotency_key": call.idempotency_key,
                "status": outcome.status,
                "answer": outcome.body,
                "replayed": outcome.replayed,
                "faults": sorted(mishaps.faults),
            }
        )

    def pass_time(self) -> None:
        """Do what is due by now: sessions that lapse, automatic collection, keys forgotten."""
        with self.store.transaction():
            self.pass_time_inside()

    def pass_time_inside(self) -> None:
        """`pass_time` inside the caller's transaction."""
        world = self.world()
        checkout.expire_due(world)
        collection.collect_due(world)
        refunds.conclude_due(world)
        self.store.run("DELETE FROM idempotency_key WHERE kept_at < ?", world.at - KEYS_KEPT_FOR)

    def reset(self) -> None:
        """Forget everything, but keep on telling the endpoint given at the start."""
        self.store.clear()
        self.register_endpoint()

    def register_endpoint(self) -> None:
        if self.local_endpoint:
            url, secret = self.local_endpoint
            events.keep_local_endpoint(self.world(), url=url, secret=secret)


def _authenticate(call: Call, api_version: str) -> None:
    key = call.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    if not key:
        raise NotAuthenticated("You did not provide an API key.")
    if not key.startswith(KEY_PREFIXES):
        raise NotAuthenticated(
            "Invalid API Key provided: the simulator takes sk_test_… and rk_test_… only"
        )
    version = call.headers.get("Stripe-Version", api_version)
    if version != api_version:
        raise InvalidRequest(
            f"Invalid Stripe API version: {version}; the simulator speaks {api_version}"
        )
