"""Events, and the webhook endpoints that are told of them."""

import secrets
from typing import Any

from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.registry import look, operation
from billing.stripe.simulator.world import World, merged_metadata, unset

Json = dict[str, Any]

PAGING = "limit starting_after ending_before"
LISTED_FOR = 30 * 86_400  # seconds
ENDPOINTS_MAX = 16


@look("event")
def shown(world: World, event: Json) -> Json:
    return {"pending_webhooks": len(_undelivered(world, event["id"]))}


def _undelivered(world: World, event_id: str) -> list[Any]:
    return world.store.rows(
        "SELECT id FROM delivery WHERE event = ? AND delivered_at IS NULL", event_id
    )


@operation("GET", "/v1/events/{id}")
def retrieve(world: World, params: Json, id: str) -> Json:  # noqa: A002 - Stripe's name
    return world.shown(world.addressed("event", id))


@operation("GET", "/v1/events", takes=f"created delivery_success type types {PAGING}")
def list_events(world: World, params: Json) -> Json:
    if "type" in params and "types" in params:
        raise InvalidRequest("You may only specify one of type and types.", param="types")
    events = [
        event
        for event in reversed(world.store.find("event"))
        if event["created"] >= world.at - LISTED_FOR and _wanted(event, params)
    ]
    if "delivery_success" in params:
        wanted = params["delivery_success"]
        events = [event for event in events if (not _undelivered(world, event["id"])) is wanted]
    return world.listed(events, params, url="/v1/events")


def _wanted(event: Json, params: Json) -> bool:
    types = params.get("types") or ([params["type"]] if "type" in params else None)
    if types is None:
        return True
    # "invoice.*" is allowed as a type.
    return any(
        event["type"] == wanted or (wanted.endswith("*") and event["type"].startswith(wanted[:-1]))
        for wanted in types
    )


@operation(
    "POST", "/v1/webhook_endpoints", takes="api_version description enabled_events metadata url"
)
def create_endpoint(world: World, params: Json) -> Json:
    """The answer is the only one that shows the secret."""
    version = world.contract.api.api_version
    if params.get("api_version", version) != version:
        raise InvalidRequest(
            f"The simulator speaks {version} only: later versions move fields.",
            param="api_version",
        )
    if len(world.store.find("webhook_endpoint")) >= ENDPOINTS_MAX:
        raise InvalidRequest(f"You have reached the maximum of {ENDPOINTS_MAX} test endpoints.")
    endpoint = world.new(
        "webhook_endpoint",
        api_version=params.get("api_version"),
        description=params.get("description") or None,
        enabled_events=_event_types(params),
        metadata=merged_metadata(None, params.get("metadata")),
        status="enabled",
        url=_address(params),
        _secret=f"whsec_{secrets.token_urlsafe(24)}",
    )
    endpoint.pop("secret", None)
    world.store.put(endpoint)
    return {**world.shown(endpoint), "secret": endpoint["_secret"]}


def _event_types(params: Json) -> list[str]:
    types: list[str] = params["enabled_events"]
    if not types:
        raise InvalidRequest("enabled_events must not be empty", param="enabled_events")
    return types


def _address(params: Json) -> str:
    address: str = params["url"]
    if not address.startswith(("http://", "https://")):
        raise InvalidRequest("Invalid URL: it must begin with http(s)://", param="url")
    return address


def keep_local_endpoint(world: World, *, url: str, secret: str) -> Json:
    """The endpoint the simulator was started with: told of everything, made once per address."""
    for endpoint in world.store.find("webhook_endpoint", url=url):
        return world.save({**endpoint, "_secret": secret, "status": "enabled"})
    endpoint = world.new(
        "webhook_endpoint",
        description="given at the simulator's start",
        enabled_events=["*"],
        metadata={},
        status="enabled",
        url=url,
        _secret=secret,
    )
    endpoint.pop("secret", None)
    return world.save(endpoint)


@operation(
    "POST",
    "/v1/webhook_endpoints/{webhook_endpoint}",
    takes="description disabled enabled_events metadata url",
)
def update_endpoint(world: World, params: Json, webhook_endpoint: str) -> Json:
    endpoint = world.addressed("webhook_endpoint", webhook_endpoint)
    endpoint |= unset(params, "description")
    if "enabled_events" in params:
        endpoint["enabled_events"] = _event_types(params)
    if "url" in params:
        endpoint["url"] = _address(params)
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    endpoint["metadata"] = merged_metadata(endpoint["metadata"], params.get("metadata"))
    return world.shown(world.save(endpoint))


@operation("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def retrieve_endpoint(world: World, params: Json, webhook_endpoint: str) -> Json:
    return world.shown(world.addressed("webhook_endpoint", webhook_endpoint))


@operation("GET", "/v1/webhook_endpoints", takes=PAGING)
def list_endpoints(world: World, params: Json) -> Json:
    found = world.store.find("webhook_endpoint")[::-1]
    return world.listed(found, params, url="/v1/webhook_endpoints")


@operation("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}")
def delete_endpoint(world: World, params: Json, webhook_endpoint: str) -> Json:
    world.addressed("webhook_endpoint", webhook_endpoint)
    world.store.remove(webhook_endpoint)
    return {"id": webhook_endpoint, "object": "webhook_endpoint", "deleted": True}
