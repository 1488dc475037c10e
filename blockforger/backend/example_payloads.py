"""An example of a schema's items, made from the schema: what a person can send as a first request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blockforger.backend import json_schemas

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema

KEY = "example-1"
# Deeper than this, and beyond so many members, of which fewer are within others, nothing is invented.
_DEPTH, _MEMBERS, _INNER_MEMBERS = 5, 20, 8
_BY_FORMAT = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "/example",
    "uuid": "018f4f3e-7b1a-7c3d-8e5f-0123456789ab",
}


def of(schema: Schema) -> tuple[JsonObject, bool]:
    """An item, with its key, and whether the schema takes it: what patterns and conditions ask for is not invented."""
    payload = of_document(schema.parsed_document(), schema.key_field)
    return payload, not json_schemas.compiled(schema).violations(payload)


def of_document(document: JsonObject, key_field: str) -> JsonObject:
    """The same of a schema's document, whether it fits or not."""
    value = _value(document, document, _DEPTH)
    payload: JsonObject = value if isinstance(value, dict) else {}
    if key_field not in payload:
        payload = {key_field: KEY if "string" in json_schemas.key_types(document, key_field) else 1, **payload}
    return payload


def _value(schema: JsonValue, document: JsonObject, depth: int) -> JsonValue:
    """A value that fits the schema, as far as that is simple to see."""
    if not isinstance(schema, dict) or depth == 0:
        return KEY
    if (given := _given(schema)) is not None:
        return given[0]
    if target := _target(schema, document):
        return _value({**target, **_without(schema, "$ref")}, document, depth - 1)
    for choice in ("oneOf", "anyOf"):
        match schema.get(choice):
            case [dict() as first, *_]:
                return _value({**_without(schema, choice), **first}, document, depth - 1)
    match schema.get("allOf"):
        case [*parts] if parts:
            return _value(_merged([_without(schema, "allOf"), *parts], document), document, depth - 1)
    return _of_type(schema, document, depth)


def _given(schema: JsonObject) -> list[JsonValue] | None:
    """The value that the schema itself gives, in a list."""
    match schema:
        case {"const": value} | {"examples": [value, *_]} | {"default": value} | {"enum": [value, *_]}:
            return [value]
    return None


def _target(schema: JsonObject, document: JsonObject) -> JsonObject | None:
    """What a reference within the document refers to."""
    match schema.get("$ref"):
        case str(reference) if reference.startswith("#/"):
            found: Any = document
            for step in reference[2:].split("/"):
                name = step.replace("~1", "/").replace("~0", "~")
                found = found.get(name) if isinstance(found, dict) else None
            return found if isinstance(found, dict) else None
    return None


def _without(schema: JsonObject, keyword: str) -> JsonObject:
    return {name: part for name, part in schema.items() if name != keyword}


def _merged(parts: list[JsonValue], document: JsonObject) -> JsonObject:
    """The parts as one schema, with the members that each of them asks for."""
    properties: JsonObject = {}
    required: list[JsonValue] = []
    merged: JsonObject = {}
    for part in parts:
        if isinstance(part, dict):
            whole = _target(part, document) or part
            merged |= whole
            named, demanded = whole.get("properties"), whole.get("required")
            properties |= named if isinstance(named, dict) else {}
            required += demanded if isinstance(demanded, list) else []
    return merged | ({"properties": properties, "required": required} if properties or required else {})


def _of_type(schema: JsonObject, document: JsonObject, depth: int) -> JsonValue:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    match kind:
        case "object":
            return _object(schema, document, depth)
        case "array":
            least = schema.get("minItems")
            one = _value(schema.get("items", {}), document, depth - 1)
            return [one] * (least if isinstance(least, int) and 0 < least <= _MEMBERS else 1)
        case "integer" | "number":
            return _number(schema, is_integer=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case None if "properties" in schema or "required" in schema:
            return _object(schema, document, depth)
    return _text(schema)


def _object(schema: JsonObject, document: JsonObject, depth: int) -> JsonObject:
    properties, required = schema.get("properties"), schema.get("required")
    known: JsonObject = properties if isinstance(properties, dict) else {}
    names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    wanted = dict.fromkeys([*(name for name in known if name in names or depth > _DEPTH - 2), *names])
    # A member that may not be there (`false`) is not.
    chosen = [name for name in wanted if known.get(name) is not False]
    chosen = chosen[: _MEMBERS if depth == _DEPTH else _INNER_MEMBERS]
    return {name: _value(known.get(name, {}), document, depth - 1) for name in chosen}


def _number(schema: JsonObject, *, is_integer: bool) -> int | float:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf")
    number: int | float = 1
    if isinstance(low, int | float):
        number = max(number, low)
    if isinstance(above, int | float):
        number = max(number, above + 1)
    if isinstance(high, int | float):
        number = min(number, high)
    if isinstance(below, int | float):
        number = min(number, below - 1)
    if isinstance(step, int | float) and step > 0:
        number = -(-number // step) * step
    return int(number) if is_integer or number == int(number) else number


def _text(schema: JsonObject) -> str:
    kind = schema.get("format")
    text = _BY_FORMAT.get(kind, "example") if isinstance(kind, str) else "example"
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int) and len(text) < least <= 1000:
        text = text.ljust(least, "x")
    return text[:most] if isinstance(most, int) and most >= 0 else text
