"""Samples of items, made from their schema: something to look at, though not every constraint is met."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blockforger.backend import json_schemas
from blockforger.backend.schema_parts import References, subschemas

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue

SAMPLE_KEY = "sample"
_MAX_DEPTH = 6
# Schemas that refer to themselves, in many places, would never end.
_MAX_VALUES = 300
_BY_FORMAT = {
    "date-time": "2030-01-31T12:00:00Z",
    "date": "2030-01-31",
    "time": "12:00:00Z",
    "email": "somebody@example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
}


def sample_of(document: JsonObject, key_field: str) -> JsonObject:
    """An item of that schema, with its key."""
    value = _Samples(document).of(document)
    sample = value if isinstance(value, dict) else {}
    key: JsonValue = SAMPLE_KEY if "string" in json_schemas.key_types(document, key_field) else 1
    return sample if sample.get(key_field) not in (None, "") else {**sample, key_field: key}


class _Samples:
    """Makes a value for each subschema of a document, as far as there is room for it."""

    def __init__(self, document: JsonObject) -> None:
        self._schemas = subschemas(document)
        self._references = References(self._schemas)
        self._left = _MAX_VALUES

    def of(self, schema: JsonValue, depth: int = 0) -> JsonValue:
        self._left -= 1
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or self._left < 0:
            return None
        schema = self._joined(schema, depth)
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        for name in ("examples", "enum"):
            if isinstance(values := schema.get(name), list) and values:
                return values[0]
        return self._of_type(schema, depth)

    def _of_type(self, schema: JsonObject, depth: int) -> JsonValue:
        match _type(schema):
            case "object":
                return {name: self.of(member, depth + 1) for name, member in _properties(schema).items()}
            case "array":
                return [self.of(schema["items"], depth + 1)] if "items" in schema else []
            case "string":
                return _BY_FORMAT.get(str(schema.get("format")), "text")
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
            case _:
                return None

    def _joined(self, schema: JsonObject, depth: int) -> JsonObject:
        """The schema with what it refers to, all parts of `allOf`, and the first of what may be chosen."""
        pointer = self._references.target(schema.get("$ref"))
        parts: list[JsonValue] = [] if pointer is None else [cast("JsonValue", self._schemas.get(pointer))]
        for name in ("allOf", "anyOf", "oneOf"):
            if isinstance(listed := schema.get(name), list):
                parts += listed if name == "allOf" else listed[:1]
        found = dict(schema)
        for part in parts:
            self._left -= 1
            if isinstance(part, dict) and depth < _MAX_DEPTH and self._left > 0:
                inner = self._joined(part, depth + 1)
                properties = {**_properties(inner), **_properties(found)}
                found = {**inner, **found, **({"properties": properties} if properties else {})}
        return found


def _type(schema: JsonObject) -> str:
    declared = schema.get("type")
    if isinstance(declared, list):
        return str(next((name for name in declared if name != "null"), "null"))
    if declared is None and "properties" in schema:
        return "object"
    return str(declared)


def _properties(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}
