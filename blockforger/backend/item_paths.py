"""Paths into an item, as its schema knows them: `owner.name` is the member `name` of the member `owner`.

A path leads through objects only, never into an array. Which types stand at its end is read off the schema, and is
never too narrow: where a schema is hard to read, it is every type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from jsonschema_rs import Draft202012Validator, RegexOptions

from blockforger.backend.json_values import escaped
from blockforger.backend.schema_parts import IN_PLACE, MAX_PATTERN_KIB, References, parts, subschemas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.schema_parts import Part

Names: TypeAlias = tuple[str, ...]
Types: TypeAlias = frozenset[str]

MAX_PATHS_TOLD = 100
_MAX_DEPTH_TOLD = 4
_MAX_DEPTH = 20

SCALARS: Types = frozenset({"string", "number", "boolean", "null"})
_ALL: Types = SCALARS | {"array", "object"}
_PIECE = re.compile(r"\\.|.", re.DOTALL)
_SPECIAL = re.compile(r"([\\.,\[\]])")
# Booleans first: Python takes them for numbers.
_KINDS = (("boolean", bool), ("number", int | float), ("string", str), ("array", list), ("object", dict))
# `not` says what is not there.
_PLACES = IN_PLACE - {"not"}


@dataclass(frozen=True, slots=True)
class ItemPath:
    """A path that the schema knows, with the types of what may stand there; integers are numbers."""

    names: Names
    types: Types
    # Of the values in it, where it is an array.
    element_types: Types = field(default=frozenset())

    def __str__(self) -> str:
        return written(self.names)


def written(names: Names) -> str:
    """The path as text: a dot between names, and a backslash before each of `\\ . , [ ]` in a name."""
    return ".".join(_SPECIAL.sub(r"\\\1", name) for name in names)


def parsed(text: str) -> Names:
    """The names of a path that `written` wrote."""
    names = [""]
    for piece in _PIECE.findall(text):
        if piece == ".":
            names.append("")
        else:
            names[-1] += piece[-1]
    return tuple(names)


class Paths:
    """The paths of a schema. Immutable, and quick to make: what is asked is looked up when it is asked."""

    def __init__(self, document: JsonObject, key_field: str, key_types: Iterable[str]) -> None:
        self._schemas = subschemas(document)
        self._references = References(self._schemas)
        self._key = ItemPath((key_field,), frozenset(_normal(name) for name in key_types) or _ALL)

    def find(self, text: str) -> ItemPath | None:
        """The path of that text, or None if the schema knows no such path."""
        names = parsed(text)
        if names == self._key.names:
            return self._key
        at = [""]
        for name in names[:_MAX_DEPTH]:
            at = list(self._members(at, name))
        return self._path(names, at) if at and len(names) <= _MAX_DEPTH else None

    def told(self) -> list[str]:
        """The texts of the paths by name, outer ones first; not all of them where there are many."""
        found = {self._key.names: None}
        level: list[tuple[Names, list[str]]] = [((), [""])]
        for _ in range(_MAX_DEPTH_TOLD):
            level = list(islice(self._named_members(level), MAX_PATHS_TOLD))
            found.update(dict.fromkeys(names for names, _ in level))
        return [written(names) for names in list(found)[:MAX_PATHS_TOLD]]

    def _named_members(self, level: Iterable[tuple[Names, list[str]]]) -> Iterator[tuple[Names, list[str]]]:
        for names, at in level:
            declared = [self._in(pointer, "properties") for pointer in self._closure(at)]
            for name in {name: None for properties in declared for name in properties}:
                if members := list(self._members(at, name)):
                    yield (*names, name), members

    def _path(self, names: Names, at: Sequence[str]) -> ItemPath:
        types = self._types_of_all(at)
        elements = [
            pointer + part.pointer
            for pointer in self._closure(at)
            for part in self._parts(pointer, {"items", "prefixItems"})
        ]
        return ItemPath(names, types, self._types_of_all(elements) if "array" in types else frozenset())

    def _types_of_all(self, pointers: Iterable[str]) -> Types:
        """A schema that names no type is left out where another one does: both hold."""
        declared = [types for pointer in pointers if (types := self._types(pointer, frozenset())) != _ALL]
        return frozenset().union(*declared) if declared else _ALL

    def _types(self, pointer: str, seen: frozenset[str]) -> Types:
        schema = self._schemas[pointer]
        if isinstance(schema, bool) or pointer in seen:
            return _ALL
        seen |= {pointer}
        types = _declared(schema)
        for _, target in self._references.of(schema):
            types &= self._types(target, seen)
        for part in self._parts(pointer, {"allOf"}):
            types &= self._types(pointer + part.pointer, seen)
        for keyword in ("anyOf", "oneOf"):
            branches = [self._types(pointer + part.pointer, seen) for part in self._parts(pointer, {keyword})]
            types &= frozenset().union(*branches) if branches else _ALL
        return types

    def _members(self, at: Iterable[str], name: str) -> Iterator[str]:
        """The subschemas that a member of that name has, if its object has those at `at`."""
        for pointer in self._closure(at):
            places = [f"/properties/{escaped(name)}"] if name in self._in(pointer, "properties") else []
            patterns = self._in(pointer, "patternProperties")
            places += [f"/patternProperties/{escaped(pattern)}" for pattern in patterns if _fits(name, pattern)]
            # `true` there, or nothing, would make a path of every slip of the pen.
            if not places and self._in(pointer, "additionalProperties"):
                places = ["/additionalProperties"]
            yield from (pointer + place for place in places if self._schemas.get(pointer + place, False) is not False)

    def _closure(self, at: Iterable[str]) -> list[str]:
        """Those subschemas, and all that apply to the same value as they do."""
        found = dict.fromkeys(at)
        waiting = list(found)
        for pointer in waiting:
            targets = [target for _, target in self._references.of(self._schemas[pointer])]
            targets += [pointer + part.pointer for part in self._parts(pointer, _PLACES)]
            for target in targets:
                if target not in found:
                    found[target] = None
                    waiting.append(target)
        return list(found)

    def _parts(self, pointer: str, keywords: AbstractSet[str]) -> Iterator[Part]:
        schema = self._schemas[pointer]
        if isinstance(schema, dict):
            yield from parts({keyword: schema[keyword] for keyword in schema.keys() & keywords})

    def _in(self, pointer: str, keyword: str) -> JsonObject:
        schema = self._schemas[pointer]
        value = schema.get(keyword) if isinstance(schema, dict) else None
        return value if isinstance(value, dict) else {}


def _declared(schema: JsonObject) -> Types:
    types = _ALL
    match schema.get("type"):
        case str(name):
            types &= {_normal(name)}
        case [*names]:
            types &= {_normal(str(name)) for name in names}
    if "const" in schema:
        types &= {type_of(schema["const"])}
    if isinstance(options := schema.get("enum"), list):
        types &= set(map(type_of, options))
    return types


def _normal(name: str) -> str:
    return "number" if name == "integer" else name


def type_of(value: JsonValue) -> str:
    """The type of a value, as schemas name it; integers are numbers."""
    for name, kind in _KINDS:
        if isinstance(value, kind):
            return name
    return "null"


@lru_cache(maxsize=1_024)
def _fits(name: str, pattern: str) -> bool:
    options = RegexOptions(size_limit=MAX_PATTERN_KIB * 1024)
    return Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=options).is_valid(name)
