"""The OpenAPI document as people read it: a page's worth of groups, operations, fields and schemas. Pure.

`pages/docs.html` shows it. Nothing here knows a route by name, so the page can only say what the document says.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_NO_GROUP = "others"
_DEEPEST_EXAMPLE = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a type's name; `schema` names the one that it leads to."""

    text: str
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of an object."""

    name: str
    type: tuple[Piece, ...]
    required: bool
    about: str
    place: str = ""  # of a parameter: path, query or header


@dataclass(frozen=True, slots=True)
class Answer:
    """One status."""

    status: str
    about: str
    type: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path."""

    anchor: str
    method: str
    path: str
    summary: str
    about: str
    parameters: tuple[Field, ...]
    body: tuple[Piece, ...]
    answers: tuple[Answer, ...]
    refusals: tuple[Answer, ...]
    curl: str


@dataclass(frozen=True, slots=True)
class Schema:
    """A named type."""

    name: str
    about: str
    fields: tuple[Field, ...]
    type: tuple[Piece, ...]  # of one that is no object


@dataclass(frozen=True, slots=True)
class Reference:
    """The whole page."""

    title: str
    about: str
    url: str
    groups: tuple[tuple[str, tuple[Operation, ...]], ...]
    refusals: tuple[Answer, ...]
    schemas: tuple[Schema, ...]


def reference(document: dict[str, Any]) -> Reference:
    """Everything that the document describes, in its own order."""
    components = document["components"]
    url = document["servers"][0]["url"]
    groups: dict[str, list[Operation]] = defaultdict(list)
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                group = (operation.get("tags") or [_NO_GROUP])[0]
                groups[group].append(_operation(url, path, method, operation, components))
    named = components["responses"].items()
    return Reference(
        title=document["info"]["title"],
        about=document["info"].get("description", ""),
        url=url,
        groups=tuple((name, tuple(operations)) for name, operations in groups.items()),
        refusals=tuple(_answer(name[-3:], one) for name, one in named if name.startswith("Error")),
        schemas=tuple(_schema(name, components["schemas"][name]) for name in sorted(components["schemas"])),
    )


def _operation(url: str, path: str, method: str, operation: dict[str, Any], components: dict[str, Any]) -> Operation:
    body = _json_body(operation)
    answers = [
        _answer(status, components["responses"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one)
        for status, one in operation["responses"].items()
    ]
    return Operation(
        anchor=f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""),
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        about=operation.get("description", ""),
        parameters=tuple(_parameter(one) for one in operation.get("parameters", ())),
        body=_type(body["schema"]) if body else (),
        answers=tuple(one for one in answers if one.status < "300"),
        refusals=tuple(one for one in answers if one.status >= "300"),
        curl=_curl(url, path, method, operation, components["schemas"]),
    )


def _json_body(operation: dict[str, Any]) -> dict[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {})
    found: dict[str, Any] | None = content.get("application/json") or next(iter(content.values()), None)
    return found


def _parameter(one: dict[str, Any]) -> Field:
    schema = one["schema"]
    about = one.get("description") or schema.get("description", "")
    return Field(one["name"], _type(schema), one.get("required", False), _with_default(about, schema), one["in"])


def _answer(status: str, response: dict[str, Any]) -> Answer:
    schemas = [content["schema"] for content in response.get("content", {}).values() if "schema" in content]
    return Answer(status, response["description"], _type(schemas[0]) if schemas else ())


def _schema(name: str, schema: dict[str, Any]) -> Schema:
    required = schema.get("required", ())
    fields = tuple(
        Field(field, _type(one), field in required, _with_default(one.get("description", ""), one))
        for field, one in schema.get("properties", {}).items()
    )
    return Schema(name, schema.get("description", ""), fields, () if fields else _type(schema))


def _with_default(about: str, schema: dict[str, Any]) -> str:
    default = schema.get("default")
    if default is None:
        return about
    return f"{about} Default: {json.dumps(default)}.".strip()


def _type(schema: dict[str, Any]) -> tuple[Piece, ...]:
    return tuple(_pieces(schema))


def _pieces(schema: dict[str, Any]) -> Iterator[Piece]:
    choices = schema.get("anyOf") or schema.get("oneOf")
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield Piece(name, name)
    elif choices:
        for number, one in enumerate(choices):
            if number:
                yield Piece(" or ")
            yield from _pieces(one)
    elif "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        yield Piece(", ".join(json.dumps(value) for value in values))
    elif schema.get("type") == "array":
        yield Piece("list of ")
        yield from _pieces(schema.get("items", {}))
    else:
        yield Piece(_plain(schema))


def _plain(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "anything")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if schema.get("format"):
        words += f" ({schema['format']})"
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{words}, {least} to {most}"
    if least is not None:
        return f"{words}, from {least}"
    return words


def _curl(url: str, path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    lines = [f"curl {'' if method == 'get' else f'-X {method.upper()} '}{url}{path.replace('{', '').replace('}', '')}"]
    if operation.get("security"):
        lines.append('-H "Authorization: Bearer $STUDIO_API_KEY"')
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        body = content["application/json"]
        example = body.get("example") or _example(body["schema"], schemas, 0)
        lines.append('-H "Content-Type: application/json"')
        lines.append(f"-d {shlex.quote(json.dumps(example))}")
    elif "multipart/form-data" in content:
        form = content["multipart/form-data"]["schema"]
        for name in form.get("required", ()):
            field = form["properties"][name]
            is_file = field.get("format") == "binary"
            lines.append(f"-F {name}={'@FILE' if is_file else _example(field, schemas, 0)}")
    return " \\\n  ".join(lines)


def _example(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> Any:
    """The least that the schema takes, in values that show their type."""
    choices = schema.get("anyOf") or schema.get("oneOf")
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth)
    if choices:
        return _example(choices[0], schemas, depth)
    if "enum" in schema or "const" in schema:
        return schema.get("const") or schema["enum"][0]
    match schema.get("type"):
        case "object" if depth < _DEEPEST_EXAMPLE:
            fields = schema.get("properties", {})
            return {name: _example(fields.get(name, {}), schemas, depth + 1) for name in schema.get("required", ())}
        case "object":
            return {}
        case "array":
            return [_example(schema.get("items", {}), schemas, depth + 1)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return schema.get("example", "...")
