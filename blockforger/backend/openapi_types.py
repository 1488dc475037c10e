"""A tenant's JSON Schemas as named types of a document that describes an API: OpenAPI 3.1 and AsyncAPI 3 take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from blockforger.backend import json_schemas, keys
from blockforger.backend.json_values import escaped
from blockforger.backend.schema_parts import References, subschemas

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema

PLACE = "#/components/schemas/"
KEY_AS_INTEGER: JsonObject = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
KEY_IN_URL: JsonObject = {
    "type": "string",
    "minLength": 1,
    "maxLength": keys.MAX_LENGTH,
    "pattern": r"^[^$/\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^/\x00-\x1f\x7f])?$",
}
"""Also in JSON, where it is a string. What is left out: no part between slashes is '.' or '..'."""
# What would name another dialect, or the schema outside of its own document.
_LEFT_OUT = ("$schema", "$id", "$anchor", "$dynamicAnchor", "meta")
_DEFINITIONS = ("$defs", "definitions")
# Besides letters and digits (RFC 3986, section 3.5).
_IN_FRAGMENTS = "/~!$&'()*+,;=:@"
# Merge patches and lists replace, or show, such values as wholes.
_WHOLE = {"string", "number", "integer", "boolean", "array", "null"}


class ItemTypes(NamedTuple):
    """The references to a schema's types: an item, what a list shows of it, a merge patch, and one with its key.

    And the types of the key, in JSON and in a URL.
    """

    item: JsonObject
    part: JsonObject
    patch: JsonObject
    change: JsonObject
    key: JsonObject
    key_in_url: JsonObject
    key_field: str


class Types:
    """Named types, of which no two get the same name."""

    def __init__(self, own: dict[str, JsonObject]) -> None:
        self.named: dict[str, Any] = dict(own)

    def of(self, schema: Schema) -> ItemTypes:
        """Add the types of a schema's items."""
        document = schema.parsed_document()
        kinds = json_schemas.key_types(document, schema.key_field)
        name = self._reserved(schema.name)
        item = self.named[name] = self._embedded(document, name)
        _add_key(item, schema.key_field, sorted(kinds))
        patch = _patch(item)
        change: JsonObject = {**patch, "required": [schema.key_field]}
        return ItemTypes(
            item=_reference(name),
            part=_reference(self._add(f"{schema.name}.part", _part(item, schema.key_field))),
            patch=_reference(self._add(f"{schema.name}.patch", patch)),
            change=_reference(self._add(f"{schema.name}.change", change)),
            key=key_of(sorted(kinds)),
            key_in_url=KEY_IN_URL,
            key_field=schema.key_field,
        )

    def _embedded(self, document: JsonObject, name: str) -> JsonObject:
        """The document, with its definitions beside it and its references leading to where all is now."""
        schemas = subschemas(document)
        references = References(schemas)
        places = {"": name}
        for keyword in _DEFINITIONS:
            definitions = document.get(keyword)
            for inner in definitions if isinstance(definitions, dict) else ():
                places[f"/{keyword}/{escaped(inner)}"] = self._reserved(f"{name}.{inner}")
        for schema in schemas.values():
            if isinstance(schema, dict):
                _redirect(schema, dict(references.of(schema)), places)
        for pointer, place in places.items():
            self.named[place] = schemas[pointer] if isinstance(schemas[pointer], dict) else {}
        for keyword in _DEFINITIONS:
            document.pop(keyword, None)
        return document

    def _add(self, name: str, value: JsonObject) -> str:
        found = self._reserved(name)
        self.named[found] = value
        return found

    def _reserved(self, name: str) -> str:
        free = _safe(name)
        while free in self.named:
            free += "_"
        self.named[free] = {}
        return free


def key_of(kinds: list[str]) -> JsonObject:
    """The type of a key of one of these kinds, in JSON."""
    known = {"integer": KEY_AS_INTEGER, "string": KEY_IN_URL}
    types: list[JsonValue] = [known[kind] for kind in kinds]
    return known[kinds[0]] if len(kinds) == 1 else {"anyOf": types}


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _reference(name: str) -> JsonObject:
    return {"$ref": f"{PLACE}{name}"}


def _redirect(schema: JsonObject, targets: dict[str, str], places: dict[str, str]) -> None:
    for keyword, target in targets.items():
        around = max((place for place in places if f"{target}/".startswith(f"{place}/")), key=len)
        rest = quote(target[len(around) :], safe=_IN_FRAGMENTS)
        reference = f"{PLACE}{places[around]}{rest}"
        if keyword == "$ref":
            schema["$ref"] = reference
        elif "$ref" not in targets:
            schema["$ref"] = reference
            del schema[keyword]
    for keyword in _LEFT_OUT:
        if isinstance(schema.get(keyword), str):
            del schema[keyword]


def _add_key(item: JsonObject, field: str, kinds: list[str]) -> None:
    """Items have their key, whether or not the schema speaks of it."""
    if "$ref" in item:
        return
    item.setdefault("type", "object")
    properties = item.setdefault("properties", {})
    if isinstance(properties, dict):
        properties.setdefault(field, {"type": kinds[0] if len(kinds) == 1 else [*kinds]})


def _part(item: JsonObject, field: str) -> JsonObject:
    """What `fields` may leave of an item."""
    shown: JsonObject = {name: _whole(value) for name, value in _properties(item).items()}
    return {"type": "object", "properties": shown, "required": [field]}


def _patch(item: JsonObject) -> JsonObject:
    """A merge patch: null removes what is not required, and objects are merged themselves."""
    required = item.get("required")
    kept = required if isinstance(required, list) else []
    changes: JsonObject = {}
    for name, value in _properties(item).items():
        whole = _whole(value)
        changes[name] = {"anyOf": [whole, {"type": "null"}]} if whole and name not in kept else whole
    closed: JsonObject = {"additionalProperties": False} if item.get("additionalProperties") is False else {}
    return {"type": "object", "properties": changes, **closed}


def _properties(item: JsonObject) -> JsonObject:
    properties = item.get("properties")
    return properties if isinstance(properties, dict) else {}


def _whole(value: JsonValue) -> JsonObject:
    """The schema of a member, if its values are never divided; else any."""
    if not isinstance(value, dict):
        return {}
    declared = value.get("type")
    types = {declared} if isinstance(declared, str) else {*declared} if isinstance(declared, list) else set()
    options = value.get("enum")
    if types and types <= _WHOLE:
        return value
    if not types and isinstance(options, list) and not any(isinstance(option, dict) for option in options):
        return value
    return {}
