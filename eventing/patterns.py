"""Event patterns: conditions on a payload, in the language of EventBridge's own rules.

`{"status": ["available", "pending"], "owner": {"city": [{"prefix": "B"}]}}`: all members must be met, and each by one
of its conditions. They are asked of leaves, which are values that are neither object nor array; an array stands for
its elements, and conditions on members of an array's objects must be met by one and the same element, but for
`{"exists": false}`, which speaks of all of them. So does EventBridge (aws/event-ruler, README).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from blockforger.backend import json_values
from eventing import pattern_conditions
from eventing.pattern_conditions import ConditionInvalid, Scalar, Test, is_scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockforger.backend.item_paths import Names
    from blockforger.backend.json_values import JsonObject, JsonValue

MAX_LENGTH = 2048
"""Characters of a pattern as JSON without spaces: what EventBridge takes."""

MAX_DEPTH = 20
MAX_ALTERNATIVES = 1000
"""Combinations of `$or`: what EventBridge takes."""

_OR = "$or"
_SHOWN_VALUES, _SHOWN_CHARACTERS = 3, 60

Problems: TypeAlias = list[tuple[str, str]]
_Absences: TypeAlias = dict["Names", bool]


@dataclass(frozen=True, slots=True)
class Leaf:
    """An array of conditions, of which one is to be met at its path."""

    path: Names
    tests: tuple[Test, ...]
    may_exist: bool
    may_lack: bool
    # As it was written.
    document: JsonValue

    def accepts(self, value: Scalar) -> bool:
        return self.may_exist or any(test(value) for test in self.tests)


@dataclass(frozen=True, slots=True)
class Node:
    """An object of a pattern."""

    path: Names
    members: tuple[tuple[str, Leaf | Node], ...]
    # Of `$or`: one of them must be met too, if there are any.
    alternatives: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unmet:
    """The first condition that a payload does not meet."""

    payload: JsonObject
    condition: Leaf | Node

    @property
    def pointer(self) -> str:
        """Where in the payload (RFC 6901, without the places in arrays)."""
        return "".join(f"/{json_values.escaped(name)}" for name in self.condition.path)

    def __str__(self) -> str:
        condition = self.condition
        if isinstance(condition, Node):
            where = self.pointer or "the payload"
            return f"{where} meets none of the {len(condition.alternatives)} alternatives of {_OR}"
        asked = json_values.compact(condition.document)
        values = list(islice(_leaves(self.payload, condition.path), _SHOWN_VALUES + 1))
        if not values:
            return f"{self.pointer} is not there, and {asked} is asked for"
        if any(map(condition.accepts, _leaves(self.payload, condition.path))):
            return f"{self.pointer} meets {asked} in no element that meets the other conditions, too"
        shown = ", ".join(_shown(value) for value in values[:_SHOWN_VALUES])
        more = ", …" if len(values) > _SHOWN_VALUES else ""
        return f"{self.pointer} is {shown}{more}, and {asked} is asked for"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that can be asked."""

    root: Node

    def unmet(self, payload: JsonObject) -> Unmet | None:
        """The first condition that the payload does not meet; None if it meets all of them."""
        condition = _unmet(self.root, payload, payload, {})
        return Unmet(payload, condition) if condition else None

    def leaves(self) -> Iterator[Leaf]:
        """All arrays of conditions, those of alternatives included."""
        nodes = [self.root]
        while nodes:
            node = nodes.pop()
            nodes += node.alternatives
            for _, member in node.members:
                if isinstance(member, Leaf):
                    yield member
                else:
                    nodes.append(member)


def matches(pattern: Pattern, payload: JsonObject) -> bool:
    return pattern.unmet(payload) is None


def check(document: JsonValue) -> Problems:
    """What is wrong with a pattern, as JSON Pointers into it with messages; empty if nothing is."""
    return _read(document)[1]


def compiled(document: JsonValue) -> Pattern:
    """The pattern of a document in which nothing is wrong."""
    node, problems = _read(document)
    if problems:
        raise ValueError(problems)
    return Pattern(node)


def _read(document: JsonValue) -> tuple[Node, Problems]:
    empty = Node((), (), ())
    form = 'such as {"status": ["available"]}'
    if not isinstance(document, dict):
        return empty, [("", f"Write an object of conditions, {form}.")]
    length = len(json_values.compact(document))
    if length > MAX_LENGTH:
        return empty, [("", f"It has {length} characters, and {MAX_LENGTH} are the limit. Shorten it.")]
    if not document:
        return empty, [("", f"Without a condition it says nothing. Leave it out, or write one, {form}.")]
    problems: Problems = []
    node = _node(document, (), "", problems)
    if not problems and (count := _combinations(node)) > MAX_ALTERNATIVES:
        message = f"Its alternatives make {count} combinations, and {MAX_ALTERNATIVES} are the limit. Use fewer {_OR}."
        problems.append(("", message))
    return node, problems


def _node(document: JsonObject, path: Names, pointer: str, problems: Problems) -> Node:
    members: list[tuple[str, Leaf | Node]] = []
    alternatives: tuple[Node, ...] = ()
    if len(path) > MAX_DEPTH:
        problems.append((pointer, f"It is nested deeper than {MAX_DEPTH} levels. Ask for less."))
        return Node(path, (), ())
    for name, value in sorted(document.items()):  # jsonb has an order of its own
        place = f"{pointer}/{json_values.escaped(name)}"
        if name == _OR:
            alternatives = _alternatives(value, path, place, problems)
        elif isinstance(value, dict) and value:
            members.append((name, _node(value, (*path, name), place, problems)))
        elif isinstance(value, list) and value:
            members.append((name, _leaf(value, (*path, name), place, problems)))
        else:
            message = 'Write an array of conditions, such as ["available"], or an object with inner ones.'
            problems.append((place, message))
    return Node(path, tuple(members), alternatives)


def _alternatives(value: JsonValue, path: Names, pointer: str, problems: Problems) -> tuple[Node, ...]:
    if not isinstance(value, list) or len(value) < 2:
        problems.append((pointer, "Write an array of two or more objects of conditions."))
        return ()
    nodes = []
    for index, element in enumerate(value):
        if isinstance(element, dict) and element:
            nodes.append(_node(element, path, f"{pointer}/{index}", problems))
        else:
            problems.append((f"{pointer}/{index}", "Write an object of conditions."))
    return tuple(nodes)


def _leaf(elements: list[JsonValue], path: Names, pointer: str, problems: Problems) -> Leaf:
    tests: list[Test] = []
    existences: set[bool] = set()
    for index, element in enumerate(elements):
        try:
            existence = pattern_conditions.existence(element)
            if existence is None:
                tests.append(pattern_conditions.read(element))
            else:
                existences.add(existence)
        except ConditionInvalid as error:
            problems.append((f"{pointer}/{index}{error.pointer}", error.message))
    return Leaf(path, tuple(tests), True in existences, False in existences, elements)


def _combinations(node: Node) -> int:
    count = sum(map(_combinations, node.alternatives)) or 1
    for _, member in node.members:
        if isinstance(member, Node):
            count *= _combinations(member)
    return count


def _unmet(node: Node, value: JsonObject, payload: JsonObject, absences: _Absences) -> Leaf | Node | None:
    for name, member in node.members:
        if isinstance(member, Leaf):
            if not _is_met(member, _scalars(value.get(name, [])), payload, absences):
                return member
        elif condition := _unmet_by_each(member, value.get(name), payload, absences):
            return condition
    if node.alternatives and all(_unmet(one, value, payload, absences) for one in node.alternatives):
        return Node(node.path, (), node.alternatives)
    return None


def _unmet_by_each(node: Node, value: JsonValue, payload: JsonObject, absences: _Absences) -> Leaf | Node | None:
    """What the first object does not meet, if no object there meets the node."""
    first: Leaf | Node | None = None
    is_empty = True
    for candidate in _objects(value):
        is_empty = False
        condition = _unmet(node, candidate, payload, absences)
        if condition is None:
            return None
        first = first or condition
    return _unmet(node, {}, payload, absences) if is_empty else first


def _is_met(leaf: Leaf, values: Iterator[Scalar], payload: JsonObject, absences: _Absences) -> bool:
    if any(map(leaf.accepts, values)):
        return True
    if not leaf.may_lack:
        return False
    if leaf.path not in absences:  # asked once, however many elements ask
        absences[leaf.path] = next(_leaves(payload, leaf.path), _NOTHING) is _NOTHING
    return absences[leaf.path]


_NOTHING = object()


def _scalars(value: JsonValue) -> Iterator[Scalar]:
    if isinstance(value, list):
        for element in value:
            yield from _scalars(element)
    elif is_scalar(value):
        yield value


def _objects(value: JsonValue) -> Iterator[JsonObject]:
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for element in value:
            yield from _objects(element)


def _leaves(payload: JsonObject, path: Names) -> Iterator[Scalar]:
    """All leaves at a path, in all elements of the arrays on the way."""
    *outer, last = path
    objects: Iterator[JsonObject] = iter([payload])
    for name in outer:
        objects = _inner(objects, name)
    for found in objects:
        yield from _scalars(found.get(last, []))


def _inner(objects: Iterator[JsonObject], name: str) -> Iterator[JsonObject]:
    for found in objects:
        yield from _objects(found.get(name))


def _shown(value: Scalar) -> str:
    text = json_values.compact(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
