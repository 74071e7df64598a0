"""`expand`: ids replaced by the objects they name, as deep as the schema allows.

`expand[]=payment_intent.latest_charge` walks the answer and its schema together. A list is entered
through `data`. What the schema does not mark as expandable is refused, as Stripe does.
"""

from typing import Any

from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.registry import INCLUDABLE
from billing.stripe.simulator.world import World

Json = dict[str, Any]

DEPTH_MAX = 4


def expand(world: World, answer: Json, paths: list[str]) -> Json:
    for path in paths:
        steps = path.split(".")
        if len(steps) > DEPTH_MAX + (steps[0] == "data"):
            raise InvalidRequest(
                f"You cannot expand more than {DEPTH_MAX} levels of a property", param="expand"
            )
        _expand(world, answer, steps, path)
    return answer


def _expand(
    world: World, node: Any, steps: list[str], path: str, schema: Json | None = None
) -> None:
    """Expand the first step inside `node`, then the others inside what came of it."""
    if not steps or node is None:
        return
    step, *rest = steps
    if node.get("object") == "list":
        if step != "data":
            raise _not_expandable(path)
        for item in node["data"]:
            _expand(world, item, rest, path)
        return
    schema = schema or world.contract.schema_of(node.get("object", ""))
    if schema is None or step not in schema["properties"]:
        raise _not_expandable(path)
    inner = schema["properties"][step]
    node[step] = _expanded(world, node, step, inner, last=not rest, path=path)
    _expand(world, node[step], rest, path, _plain_object(inner))


def _expanded(world: World, node: Json, step: str, schema: Json, *, last: bool, path: str) -> Any:
    value = node.get(step)
    include = INCLUDABLE.get((node.get("object", ""), step))
    if include and value is None:
        return include(world, node)[step]
    if schema.get("x-expandable"):
        found = world.store.get(value) if isinstance(value, str) else None
        return world.shown(found) if found else value
    if last and not (include or _is_list(schema)):
        raise _not_expandable(path)
    return value


def _plain_object(schema: Json) -> Json | None:
    """The schema of a part of an object. Objects of their own find theirs by name."""
    return (
        None
        if "$ref" in schema or "object" in schema.get("properties", {})
        else (schema if "properties" in schema else None)
    )


def _is_list(schema: Json) -> bool:
    return "data" in schema.get("properties", {})


def _not_expandable(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"This property cannot be expanded ({path}).",
        code="property_not_expandable",
        param="expand",
    )
