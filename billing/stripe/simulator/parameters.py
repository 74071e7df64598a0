"""Form parameters, decoded and checked against the derived schema.

Stripe's v1 API takes forms: `line_items[0][price_data][currency]=eur`. They are decoded into nested
dictionaries of strings (`decoded`), then given the types of the operation's schema (`typed`). What
the schema does not name, lacks, or cannot read is refused with Stripe's error shape, and `param`
names the parameter as it was sent. Where Stripe's enumerations are open, only the values known to
the SDK are taken.
"""

import re
from collections.abc import Iterable
from typing import Any

from billing.stripe.simulator.errors import InvalidParameters, Unsupported

Json = dict[str, Any]

DEPTH_MAX = 10
DECIMAL_PLACES_MAX = 12
METADATA_KEYS_MAX = 50
METADATA_KEY_LENGTH_MAX = 40
METADATA_VALUE_LENGTH_MAX = 500
TEXT_LENGTH_MAX = 5000

NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
DECIMAL = re.compile(r"-?\d+(\.\d+)?")
INTEGER = re.compile(r"-?\d{1,18}")


def decoded(pairs: Iterable[tuple[str, str]]) -> Json:
    """Nested dictionaries of strings. A list is a dictionary of its indexes until it is typed."""
    tree: Json = {}
    for name, value in pairs:
        node = tree
        *parents, last = _steps(name)
        for step in parents:
            node = node.setdefault(step or str(len(node)), {})
            if not isinstance(node, dict):
                raise InvalidParameters(f"{name} is given twice, differently", param=name)
        last = last or str(len(node))
        if last in node:
            raise InvalidParameters(f"{name} is given twice", param=name)
        node[last] = value
    return tree


def _steps(name: str) -> list[str]:
    found = NAME.fullmatch(name)
    steps = [found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])] if found else []
    if not 0 < len(steps) <= DEPTH_MAX:
        raise InvalidParameters(f"Invalid parameter name: {name}", param=name)
    return steps


def typed(value: Any, schema: Json, *, name: str = "") -> Any:
    """`value` (strings, nested) as the schema's types. Raises InvalidParameters."""
    if "anyOf" in schema:
        return _first_that_fits(value, schema["anyOf"], name)
    kind = schema.get("type", "string")
    if kind == "object":
        return _object(value, schema, name)
    if kind == "array":
        return _array(value, schema, name)
    if not isinstance(value, str):
        raise InvalidParameters(f"Invalid {name}: must be a {kind}", param=name)
    return _scalar(value, schema, name, kind)


def _first_that_fits(value: Any, schemas: list[Json], name: str) -> Any:
    refusals: list[InvalidParameters] = []
    for schema in schemas:
        try:
            return typed(value, schema, name=name)
        except InvalidParameters as refusal:
            refusals.append(refusal)
    # Of several refusals the most telling is the one that looked deepest into the value.
    raise max(refusals, key=lambda refusal: len(refusal.body["error"].get("param", "")))


def _object(value: Any, schema: Json, name: str) -> Json:
    if not isinstance(value, dict):
        raise InvalidParameters("Invalid object", param=name)
    if "properties" not in schema:
        return _map(value, schema, name)
    for missing in set(schema.get("required", ())) - set(value):
        param = _inside(name, missing)
        raise InvalidParameters(
            f"Missing required param: {param}.", code="parameter_missing", param=param
        )
    typed_values = {}
    for key, inner in value.items():
        param = _inside(name, key)
        if key not in schema["properties"]:
            raise InvalidParameters(
                f"Received unknown parameter: {param}", code="parameter_unknown", param=param
            )
        typed_values[key] = typed(inner, schema["properties"][key], name=param)
    return typed_values


def _map(value: Json, schema: Json, name: str) -> Json:
    if name.split("[")[-1].rstrip("]") == "metadata":
        return _metadata(value, name)
    inner = schema.get("additionalProperties", {})
    return {key: typed(item, inner, name=_inside(name, key)) for key, item in value.items()}


def _metadata(value: Json, name: str) -> Json:
    if len(value) > METADATA_KEYS_MAX:
        raise InvalidParameters(f"You can have at most {METADATA_KEYS_MAX} keys", param=name)
    for key, text in value.items():
        param = _inside(name, key)
        if not isinstance(text, str):
            raise InvalidParameters("Metadata values must be strings", param=param)
        if len(key) > METADATA_KEY_LENGTH_MAX or len(text) > METADATA_VALUE_LENGTH_MAX:
            raise InvalidParameters(
                f"Metadata keys have at most {METADATA_KEY_LENGTH_MAX} characters,"
                f" values at most {METADATA_VALUE_LENGTH_MAX}",
                param=param,
            )
    return value


def _array(value: Any, schema: Json, name: str) -> list[Any]:
    if not isinstance(value, dict) or set(value) != {str(index) for index in range(len(value))}:
        raise InvalidParameters("Invalid array", param=name)
    return [
        typed(value[str(index)], schema["items"], name=f"{name}[{index}]")
        for index in range(len(value))
    ]


def _scalar(value: str, schema: Json, name: str, kind: str) -> Any:
    match kind:
        case "integer" if not INTEGER.fullmatch(value):
            raise InvalidParameters(
                f"Invalid integer: {value}", code="parameter_invalid_integer", param=name
            )
        case "integer":
            return _known(int(value), schema, name)
        case "boolean" if value not in ("true", "false"):
            raise InvalidParameters(f"Invalid boolean: {value}", param=name)
        case "boolean":
            return value == "true"
        case "number":
            return float(_decimal(value, name))
    if schema.get("format") == "decimal":
        return _decimal(value, name)
    return _text(value, schema, name)


def _decimal(value: str, name: str) -> str:
    if not DECIMAL.fullmatch(value) or len(value) > TEXT_LENGTH_MAX:
        raise InvalidParameters(f"Invalid decimal: {value}", param=name)
    if len(value.partition(".")[2]) > DECIMAL_PLACES_MAX:
        raise InvalidParameters(
            f"Invalid decimal: {value}; at most {DECIMAL_PLACES_MAX} decimal places", param=name
        )
    return value


def _text(value: str, schema: Json, name: str) -> str:
    allowed = schema.get("enum") or schema.get("x-open-enum") or ()
    if not value and "" not in allowed:
        raise InvalidParameters(
            f"You passed an empty string for '{name}'. Empty values unset a parameter;"
            f" however '{name}' cannot be unset.",
            code="parameter_invalid_empty",
            param=name,
        )
    if len(value) > TEXT_LENGTH_MAX:
        raise InvalidParameters(
            f"Invalid string: at most {TEXT_LENGTH_MAX} characters",
            code="parameter_invalid_string",
            param=name,
        )
    known: str = _known(value, schema, name)
    return known


def _known(value: Any, schema: Json, name: str) -> Any:
    # ["" | any text] is how the SDK writes a text that can be unset: not an enumeration.
    values = [choice for choice in schema.get("x-open-enum", ()) if choice != ""]
    values = schema.get("enum") or values
    if values and value not in values and value != "":
        choices = ", ".join(map(str, values[:10]))
        raise InvalidParameters(f"Invalid {name}: must be one of {choices}", param=name)
    return value


def _inside(name: str, key: str) -> str:
    return f"{name}[{key}]" if name else key


def require_supported(params: Json, supported: frozenset[str]) -> None:
    """Refuse what Stripe takes and the simulator would silently ignore.

    `supported` holds names ("metadata": all of it) and dotted names ("automatic_tax.enabled": of
    this object only these). Indexes of lists are left out.
    """
    for dotted, written in _leaves(params, "", ""):
        parts = dotted.split(".")
        prefixes = {".".join(parts[: length + 1]) for length in range(len(parts))}
        if not prefixes & supported:
            raise Unsupported(f"the parameter {written}", param=written)


def _leaves(value: Any, dotted: str, written: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{dotted}.{key}" if dotted else key, _inside(written, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, dotted, f"{written}[{index}]")
    else:
        yield dotted, written
