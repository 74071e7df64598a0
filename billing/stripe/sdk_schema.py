"""Stripe's API as JSON Schema, read from the source of the installed SDK.

stripe-python is generated from Stripe's own description of its API. Its parameter classes, its
resource classes and the addresses in its service classes therefore carry the same facts (paths,
parameters, enumerations, what may be null) for exactly the API version that the SDK is pinned
to. They are read with `ast`: nothing of the SDK is imported, nothing is asked of the network,
and nothing of Stripe's is copied into this project.

Two kinds of schema come out, both JSON Schema 2020-12:

    operations   method, path, the schema of the parameters (closed: unknown names are errors)
    objects      by Stripe's object name ("invoice"); open, for Stripe adds fields unannounced

Marks of ours: `x-expandable` (an id that `expand` replaces by its object), `x-open-enum` (values
known today, others allowed), `x-outside` (an object that no operation read here answers with:
only `id` and `object` are checked), and the format `decimal`.
"""

import ast
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PRIMITIVES: dict[str, Json] = {
    "Any": {},
    "Decimal": {"type": "string", "format": "decimal"},
    "StripeObject": {"type": "object"},
    "UntypedStripeObject": {"type": "object"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "object": {},
    "str": {"type": "string"},
}
# Bases that say what a class is, not what fields it has.
BARE_BASES = {"TypedDict", "RequestOptions", "StripeObject"}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing that Stripe can be asked to do."""

    method: str
    path: str
    parameters: Json
    answer: Json


@dataclass(frozen=True, kw_only=True)
class Api:
    """What was read: the versions it holds for, the operations and the objects."""

    sdk_version: str
    api_version: str
    operations: tuple[Operation, ...]
    objects: dict[str, Json]

    def validated_by(self, schema: Json) -> Json:
        """`schema` with the objects it may refer to: a document a validator can take."""
        return {**schema, "objects": self.objects}


def read(services: Sequence[str], *, cache: Path | None = None) -> Api:
    """The API of the named services ("stripe._invoice_service").

    With `cache`, a folder, the result is kept there: reading takes a second, loading does not.
    The file's name stands for the SDK's version, this module and the services, so a stale one
    is never found.
    """
    root = _sdk_folder()
    sdk_version = _constant(root / "_version.py", "VERSION")
    stamp = hashlib.sha256(Path(__file__).read_bytes() + "\n".join(services).encode()).hexdigest()
    kept = cache and cache / f"stripe-{sdk_version}-{stamp[:12]}.json"
    if kept and kept.exists():
        return _from_json(json.loads(kept.read_text()))
    api = _Reader(_Source(root)).api(
        services,
        sdk_version=sdk_version,
        api_version=_constant(root / "_api_version.py", "CURRENT"),
    )
    if kept:
        _keep(api, kept)
    return api


def _sdk_folder() -> Path:
    spec = importlib.util.find_spec("stripe")
    assert spec is not None, "the SDK is among the project's dependencies"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _constant(file: Path, name: str) -> str:
    found = re.search(rf'{name} = "([^"]+)"', file.read_text())
    assert found, f"{file.name} of the SDK no longer has {name}"
    return found.group(1)


def _keep(api: Api, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_text(
        json.dumps(
            {
                "sdk_version": api.sdk_version,
                "api_version": api.api_version,
                "operations": [vars(operation) for operation in api.operations],
                "objects": api.objects,
            }
        )
    )
    beside.replace(file)


def _from_json(document: Json) -> Api:
    return Api(
        sdk_version=document["sdk_version"],
        api_version=document["api_version"],
        operations=tuple(Operation(**operation) for operation in document["operations"]),
        objects=document["objects"],
    )


@dataclass
class _Module:
    """One file of the SDK: what it imports, and what it defines."""

    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    aliases: dict[str, ast.expr] = field(default_factory=dict)

    def take(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            match statement:
                case ast.ImportFrom(module=str(module), names=names):
                    self.imports |= {
                        name.asname or name.name: (module, name.name) for name in names
                    }
                case ast.ClassDef(name=name):
                    self.classes[name] = statement
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.aliases[name] = value
                case ast.If(body=body) | ast.Try(body=body):
                    self.take(body)


class _Source:
    """The SDK's files, each parsed when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._modules: dict[str, _Module | None] = {}

    def module(self, name: str) -> _Module | None:
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> _Module | None:
        path = self._root.joinpath(*name.split(".")[1:])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists():
                module = _Module()
                module.take(ast.parse(file.read_text(encoding="utf-8")).body)
                return module
        return None


@dataclass(frozen=True)
class _Place:
    """Where a name stands: its module, and the classes around it, outermost first."""

    module: _Module
    scope: tuple[ast.ClassDef, ...] = ()


class _Reader:
    def __init__(self, source: _Source) -> None:
        self._source = source
        self._objects: dict[str, Json] = {}
        # Object names that some operation answers with; the rest stay outside.
        self._inside: set[str] = set()

    def api(self, services: Sequence[str], *, sdk_version: str, api_version: str) -> Api:
        calls = [call for service in services for call in self._calls(service)]
        for place, function, _, _ in calls:
            self._inside |= set(self._answered_objects(place, function))
        operations = tuple(
            Operation(
                method=method,
                path=path,
                parameters=self._parameters(place, function),
                answer=self._schema(_returns(function), place),
            )
            for place, function, method, path in calls
        )
        return Api(
            sdk_version=sdk_version,
            api_version=api_version,
            operations=operations,
            objects=self._objects,
        )

    def _calls(self, service: str) -> Iterator[tuple[_Place, ast.FunctionDef, str, str]]:
        module = self._source.module(service)
        assert module is not None, f"the SDK has no {service}"
        for definition in module.classes.values():
            for function in definition.body:
                if isinstance(function, ast.FunctionDef):
                    for method, path in _requests(function):
                        yield _Place(module), function, method, path

    def _answered_objects(self, place: _Place, function: ast.FunctionDef) -> Iterator[str]:
        for word in re.findall(r"\w+", ast.unparse(_returns(function))):
            if found := self._find(word, place):
                yield from _object_name(found[1])

    def _parameters(self, place: _Place, function: ast.FunctionDef) -> Json:
        for argument in (*function.args.posonlyargs, *function.args.args):
            if argument.arg == "params" and argument.annotation is not None:
                schema = self._schema(argument.annotation, place)
                return _without_null(schema)
        return {"type": "object", "properties": {}, "additionalProperties": False}

    def _find(self, name: str, place: _Place) -> tuple[_Place, ast.ClassDef] | None:
        """The class that `name` means: nested classes first, then the module, then imports."""
        for depth in range(len(place.scope), 0, -1):
            for statement in place.scope[depth - 1].body:
                if isinstance(statement, ast.ClassDef) and statement.name == name:
                    return _Place(place.module, place.scope[:depth]), statement
        if name in place.module.classes:
            return _Place(place.module), place.module.classes[name]
        if name in place.module.imports:
            origin, original = place.module.imports[name]
            module = self._source.module(origin) if origin.startswith("stripe") else None
            return self._find(original, _Place(module)) if module else None
        return None

    def _schema(self, annotation: ast.expr, place: _Place) -> Json:
        match annotation:
            case ast.Constant(value=None):
                return {"type": "null"}
            case ast.Constant(value=str(text)):
                return self._schema(ast.parse(text, mode="eval").body, place)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._union([left, right], place)
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return self._named(name, place)
            case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
                arguments = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return self._generic(name, arguments, place)
        raise NotImplementedError(ast.dump(annotation))

    def _generic(self, name: str, arguments: list[ast.expr], place: _Place) -> Json:
        match name:
            case "Literal":
                return _enumeration([ast.literal_eval(argument) for argument in arguments])
            case "Union":
                return self._union(arguments, place)
        return _wrapped(name, self._schema(arguments[-1], place))

    def _union(self, annotations: Sequence[ast.expr], place: _Place) -> Json:
        schemas: list[Json] = []
        for annotation in _alternatives(annotations):
            schema = self._schema(annotation, place)
            if schema not in schemas:
                schemas.append(schema)
        values = [schema for schema in schemas if schema != {"type": "null"}]
        chosen = _with_open_enumeration(values)
        union = chosen[0] if len(chosen) == 1 else {"anyOf": chosen}
        return _nullable(union) if len(values) < len(schemas) else union

    def _named(self, name: str, place: _Place) -> Json:
        if name in PRIMITIVES:
            return dict(PRIMITIVES[name])
        if found := self._find(name, place):
            return self._class(*found)
        if name in place.module.aliases:
            return self._schema(place.module.aliases[name], place)
        raise NotImplementedError(name)

    def _class(self, place: _Place, definition: ast.ClassDef) -> Json:
        inner = _Place(place.module, (*place.scope, definition))
        for name in _object_name(definition):
            return self._object(name, inner, definition)
        return self._fields(inner, definition)

    def _object(self, name: str, place: _Place, definition: ast.ClassDef) -> Json:
        if name not in self._inside:
            return {
                "type": "object",
                "required": ["id", "object"],
                "properties": {"id": {"type": "string"}, "object": {"const": name}},
                "x-outside": name,
            }
        if name not in self._objects:
            self._objects[name] = {}  # an object may refer to itself
            self._objects[name] = self._fields(place, definition)
        return {"$ref": f"#/objects/{name}"}

    def _fields(self, place: _Place, definition: ast.ClassDef) -> Json:
        properties, required = self._inherited(place, definition)
        parameters = bool({"TypedDict", "RequestOptions"} & set(_bases(definition)))
        for statement in definition.body:
            match statement:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    if name == "OBJECT_NAME" or name.startswith("_"):
                        continue
                    properties[name.rstrip("_")] = self._schema(annotation, place)
                    if not _may_be_absent(annotation, parameters=parameters):
                        required.add(name.rstrip("_"))
        schema: Json = {"type": "object", "properties": properties, "required": sorted(required)}
        return {**schema, "additionalProperties": False} if parameters else schema

    def _inherited(self, place: _Place, definition: ast.ClassDef) -> tuple[Json, set[str]]:
        properties: Json = {}
        required: set[str] = set()
        for base in set(_bases(definition)) - BARE_BASES:
            found = self._find(base, _Place(place.module))
            if found and found[1] is not definition and not base.endswith("Resource"):
                inherited = self._fields(_Place(found[0].module, (found[1],)), found[1])
                properties |= inherited["properties"]
                required |= set(inherited["required"])
        return properties, required


def _requests(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Method and path of each request that a method of a service makes."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Attribute(attr="_request"), args=[method, path, *_]):
                if isinstance(path, ast.Call):  # "…".format(…)
                    assert isinstance(path.func, ast.Attribute)
                    path = path.func.value
                yield ast.literal_eval(method).upper(), ast.literal_eval(path)


def _returns(function: ast.FunctionDef) -> ast.expr:
    assert function.returns is not None, f"{function.name} says nothing of its answer"
    return function.returns


def _object_name(definition: ast.ClassDef) -> Iterator[str]:
    for statement in definition.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id="OBJECT_NAME"), value=ast.expr() as value):
                yield ast.literal_eval(value)


def _bases(definition: ast.ClassDef) -> list[str]:
    return [base.id for base in definition.bases if isinstance(base, ast.Name)]


def _may_be_absent(annotation: ast.expr, *, parameters: bool) -> bool:
    text = ast.unparse(annotation)
    return text.startswith("NotRequired" if parameters else "Optional")


def _alternatives(annotations: Sequence[ast.expr]) -> Iterator[ast.expr]:
    for annotation in annotations:
        match annotation:
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                yield from _alternatives([left, right])
            case ast.Constant(value=str(text)):
                yield from _alternatives([ast.parse(text, mode="eval").body])
            case _:
                yield annotation


def _with_open_enumeration(schemas: list[Json]) -> list[Json]:
    """`Literal["a", "b"] | str` is an enumeration that may grow, not a choice of two."""
    enumerations = [schema for schema in schemas if "enum" in schema and schema["type"] == "string"]
    text = {"type": "string"}
    if not enumerations or text not in schemas:
        return schemas
    values = [value for schema in enumerations for value in schema["enum"]]
    others = [schema for schema in schemas if schema not in enumerations and schema != text]
    return [{**text, "x-open-enum": values}, *others]


def _wrapped(name: str, inner: Json) -> Json:
    """`name[inner]` as a schema."""
    match name:
        case "NotRequired" | "Required" | "ClassVar":
            return inner
        case "Optional":
            return _nullable(inner)
        case "List" | "Sequence" | "list":
            return {"type": "array", "items": inner}
        case "Dict" | "Mapping" | "dict" | "UntypedStripeObject":
            return {"type": "object", "additionalProperties": inner}
        case "ExpandableField":
            choices = inner.get("anyOf", [inner])
            return {"anyOf": [{"type": "string"}, *choices], "x-expandable": True}
        case "ListObject" | "SearchResultObject":
            return _list_of(inner, "list" if name == "ListObject" else "search_result")
    raise NotImplementedError(name)


def _enumeration(values: list[Any]) -> Json:
    kinds = {bool: "boolean", str: "string", int: "integer"}
    return {"type": kinds[type(values[0])], "enum": values}


def _nullable(schema: Json) -> Json:
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if not isinstance(schema.get("type"), str):
        return {"anyOf": [schema, {"type": "null"}]} if schema else {}
    nullable = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        nullable["enum"] = [*schema["enum"], None]
    return nullable


def _without_null(schema: Json) -> Json:
    return {**schema, "type": "object"}


def _list_of(item: Json, name: str) -> Json:
    return {
        "type": "object",
        "required": ["object", "data", "has_more", "url"],
        "properties": {
            "object": {"const": name},
            "data": {"type": "array", "items": item},
            "has_more": {"type": "boolean"},
            "url": {"type": "string"},
        },
    }
