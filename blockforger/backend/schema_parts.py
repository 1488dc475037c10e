"""Schemas within schemas: where they stand, what refers to which, and how large a pattern compiles."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from blockforger.backend.json_values import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from blockforger.backend.json_values import JsonObject, JsonValue

MAX_PATTERN_KIB = 1_024
MAX_SUBSCHEMAS = 5_000
MAX_SUBSCHEMA_POINTER = 2_000
"""Characters. All pointers of a document are held at once."""

Subschema: TypeAlias = "JsonObject | bool"
Name: TypeAlias = "str | int | None"
Kind: TypeAlias = Literal["member", "item", "name"]

UNEVALUATED: dict[str, tuple[Kind, str]] = {
    "unevaluatedProperties": ("member", "properties"),
    "unevaluatedItems": ("item", "prefixItems"),
}
_CONDITIONAL = {"if", "then", "else"}
_ALONE = {"additionalProperties", "contains", "contentSchema", "items", "not", "propertyNames"}
_ONE = {*_ALONE, *_CONDITIONAL, *UNEVALUATED}
_LISTS = {"allOf", "anyOf", "oneOf", "prefixItems"}
_DEPENDENT = {"dependencies", "dependentSchemas"}
_MAPS = {"$defs", "definitions", "patternProperties", "properties", *_DEPENDENT}
IN_PLACE = {"allOf", "anyOf", "oneOf", "not", *_CONDITIONAL, *_DEPENDENT}


class TooCostly(ValueError):
    """A schema with no good bound. `pointer` names a subschema to blame."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer
        self.message = message


class Part(NamedTuple):
    """A subschema directly in another one: under a keyword, there by name, by index or alone."""

    keyword: str
    name: Name
    schema: Subschema

    @property
    def pointer(self) -> str:
        return f"/{self.keyword}" if self.name is None else f"/{self.keyword}/{escaped(str(self.name))}"


def parts(schema: JsonValue) -> Iterator[Part]:
    """The subschemas directly in a schema. What stands in the place of one and is none is left out."""
    for keyword, value in schema.items() if isinstance(schema, dict) else ():
        named: Iterable[tuple[Name, JsonValue]] = ()
        if keyword in _ONE:
            named = [(None, value)]
        elif keyword in _LISTS and isinstance(value, list):
            named = enumerate(value)
        elif keyword in _MAPS and isinstance(value, dict):
            named = value.items()
        yield from (Part(keyword, name, part) for name, part in named if isinstance(part, dict | bool))


def subschemas(document: JsonObject) -> dict[str, Subschema]:
    """The document and every schema in it, by JSON Pointer, outer ones before inner ones.

    Raises TooCostly if they are too many or too far in.
    """
    found: list[tuple[str, Subschema]] = [("", document)]
    for pointer, schema in found:
        if len(pointer) > MAX_SUBSCHEMA_POINTER:
            around = pointer[:MAX_SUBSCHEMA_POINTER].rpartition("/")[0]
            raise TooCostly(around, "Names are too long here to be pointed at. Shorten them.")
        found += [(pointer + part.pointer, part.schema) for part in parts(schema)]
        if len(found) > MAX_SUBSCHEMAS:
            raise TooCostly("", f"The schema holds more than {MAX_SUBSCHEMAS:,} subschemas. Divide it.")
    return dict(found)


class References:
    """Where references lead in a document that holds no other one: there, `$dynamicRef` is like `$ref`."""

    def __init__(self, schemas: Mapping[str, Subschema]) -> None:
        self._schemas = schemas
        self._anchors = {
            str(schema[keyword]): pointer
            for pointer, schema in schemas.items()
            if isinstance(schema, dict)
            for keyword in schema.keys() & {"$anchor", "$dynamicAnchor"}
        }

    def target(self, reference: JsonValue) -> str | None:
        """The pointer of the subschema that '#…' names, or None if there is none."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        fragment = unquote(reference[1:])
        pointer = self._anchors.get(fragment) if fragment[:1] not in {"", "/"} else fragment
        return pointer if pointer in self._schemas else None

    def of(self, schema: Subschema) -> list[tuple[str, str]]:
        """Keyword and target of each reference that a subschema makes; what leads nowhere is left out."""
        if isinstance(schema, bool):
            return []
        found = [(keyword, self.target(schema.get(keyword))) for keyword in ("$ref", "$dynamicRef")]
        return [(keyword, target) for keyword, target in found if target is not None]


@lru_cache(maxsize=4_096)
def compiled_kib(pattern: str) -> int | None:
    """The size of a compiled pattern in KiB, as a power of 2; None if it does not compile within MAX_PATTERN_KIB.

    The engine takes time in proportion to the text, but to this size as well: up to 100 ns for a KiB and a character.
    """
    if not _compiles(pattern, MAX_PATTERN_KIB):
        return None
    sizes = (1 << power for power in range(MAX_PATTERN_KIB.bit_length()))
    return next(kib for kib in sizes if _compiles(pattern, kib))


def _compiles(pattern: str, kib: int) -> bool:
    options = RegexOptions(size_limit=kib * 1024)
    try:
        Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=options)
    except ValidationError:
        return False
    return True
