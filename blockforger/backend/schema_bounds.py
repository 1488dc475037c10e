"""How much work a schema can make of a payload, known before anything is evaluated.

A JSON Schema is a program: a tenant writes it, and thirty lines of `$ref` can make it run for ever in a process that
serves all tenants. What applies at one place of a payload (subschemas, each with how often) is a *state*. It follows
from the state one level up and the member's name or item's index, so a schema is an automaton that payloads walk.
`Plan.check` walks all ways in advance and refuses a schema with a state of too many steps; so it finds whatever doubles
from reference to reference or from level to level. `Plan.measure` walks one payload and adds up its places.

All counts are upper bounds: every branch is taken, every pattern matches every name, and nothing is remembered from one
evaluation to the next, whatever the engine does better (`_Marking.use` is the one exception). A *step* is up to 100 ns
of jsonschema-rs, mostly 2 to 50.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from blockforger.backend.json_values import MAX_DEPTH
from blockforger.backend.schema_parts import (
    IN_PLACE,
    MAX_PATTERN_KIB,
    UNEVALUATED,
    References,
    TooCostly,
    compiled_kib,
    parts,
    subschemas,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.schema_parts import Kind, Name, Subschema

MAX_STEPS = 10_000
"""At one place of a payload. JSON Schema's metaschema takes 130, a union of 200 types with 20 members each 2,200."""
MAX_TOTAL_STEPS = 200_000
"""Of all subschemas together: to compile `unevaluatedProperties` is to write out whatever it may have to look at."""
MAX_HEIGHT = 32
"""Evaluations nested in one another at one place. Times MAX_DEPTH, they fit into a stack of 512 KiB."""
MAX_EFFORT = 500_000
"""For finding all states: about half a second and 50 MB."""

# The branches that `unevaluated…` tries again, to learn which of them count.
_TRIED_AGAIN = {"allOf", "anyOf", "oneOf", "if"}
_WITHOUT_EFFECT = {
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$schema", "contentSchema", "default", "definitions",
    "deprecated", "description", "examples", "readOnly", "title", "writeOnly",
}  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class Rule:
    """Which subschemas one subschema sends to its members, its items or its members' names."""

    kind: Kind
    # By name or index; None where nothing but the toll is due.
    named: Mapping[Name, str | None] = field(default_factory=dict)
    others: Sequence[str] = ()
    every: Sequence[str] = ()
    # Steps wherever the rule applies, whatever it sends.
    toll: int = 2


@dataclass(slots=True)
class Evaluation:
    """What it takes at one place, at most, to evaluate subschemas and all that they apply in place."""

    steps: int = 0
    # KiB of compiled patterns that read the place's text: a string, or the names of an object's members.
    reading: int = 0
    # How often the place's items are compared as wholes.
    comparisons: int = 0
    rules: Counter[Rule] = field(default_factory=Counter)

    def add(self, other: Evaluation, times: int = 1) -> None:
        self.steps += other.steps * times
        self.reading += other.reading * times
        self.comparisons += other.comparisons * times
        for rule, count in other.rules.items():
            self.rules[rule] += count * times


class State:
    """All that applies at a place of a payload: pointers of subschemas, each with how often."""

    def __init__(self, plan: Plan, entries: Mapping[str, int], toll: int) -> None:
        self.entries = entries
        self.whole = Evaluation(steps=toll)
        for pointer, count in entries.items():
            self.whole.add(plan.evaluations[pointer], count)
            plan.effort += 1 + len(plan.evaluations[pointer].rules)
        self._plan = plan
        self._tolls: Counter[Kind] = Counter()
        # What is sent where no rule names the place, and the rules that name one.
        self._unnamed: dict[Kind, Counter[str]] = {}
        self._naming: dict[tuple[Kind, Name], list[Rule]] = {}
        for rule, count in self.whole.rules.items():
            self._tolls[rule.kind] += rule.toll * count
            unnamed = self._unnamed.setdefault(rule.kind, Counter())
            for pointer in (*rule.others, *rule.every):
                unnamed[pointer] += count
            for name in rule.named:
                self._naming.setdefault((rule.kind, name), []).append(rule)
        self._after: dict[tuple[Kind, Name], State] = {}

    def ways(self) -> list[tuple[Kind, Name]]:
        """All that lead to different states; None stands for every name or index that no rule names."""
        return [*self._naming, *((kind, None) for kind in self._unnamed)]

    def after(self, kind: Kind, name: Name = None) -> State:
        """The state at a member, an item, or the members' names."""
        way = (kind, name)
        if way not in self._naming:
            way = (kind, None)
        found = self._after.get(way)
        if found is None:
            found = self._after[way] = self._plan.state(self._sent(way), self._tolls[kind])
        return found

    def _sent(self, way: tuple[Kind, Name]) -> Counter[str]:
        kind, name = way
        sent = self._unnamed.get(kind, Counter()).copy()
        for rule in self._naming.get(way, ()):
            count = self.whole.rules[rule]
            for pointer in rule.others:
                sent[pointer] -= count
            if target := rule.named[name]:
                sent[target] += count
            self._plan.effort += 1 + len(rule.others)
        self._plan.effort += len(sent)
        return +sent


@dataclass(slots=True)
class Work:
    """What the validation of one payload comes to, at most."""

    # Until the verdict.
    steps: int = 0
    # Bytes of memory that all errors take together, each with its place and its value.
    listing: int = 0
    # Evaluations nested in one another.
    nesting: int = 0


class Plan:
    """The states of a schema, made when they are reached.

    The document must be valid against the metaschema and its references must lead somewhere. Raises TooCostly if a
    subschema alone takes too much.
    """

    def __init__(self, document: JsonObject) -> None:
        schemas = subschemas(document)
        self.has_branches = any(p.keyword in {"anyOf", "oneOf"} for schema in schemas.values() for p in parts(schema))
        self.evaluations, self._height = _evaluations(schemas)
        self.effort = 0
        self._states: dict[tuple[frozenset[tuple[str, int]], int], State] = {}
        self.start = self.state({"": 1}, 0)
        # Of all states that payloads reach. Set by `check`.
        self._most: Evaluation

    def state(self, entries: Mapping[str, int], toll: int) -> State:
        key = frozenset(entries.items()), toll
        found = self._states.get(key)
        if found is None:
            self.effort += 50
            found = self._states[key] = State(self, entries, toll)
        return found

    def check(self) -> None:
        """Raise TooCostly if some payload has a place with more than MAX_STEPS."""
        level = seen = {self.start: None}
        for _ in range(MAX_DEPTH):
            # Not sets: their order would change from run to run, and with it the subschema that is blamed.
            following = dict.fromkeys(self._checked(state.after(*way)) for state in level for way in state.ways())
            level = {state: None for state in following if state not in seen}
            seen = seen | level
        self._most = Evaluation(
            steps=max(state.whole.steps for state in seen),
            reading=max(state.whole.reading for state in seen),
            comparisons=max(state.whole.comparisons for state in seen),
        )

    def _checked(self, state: State) -> State:
        culprit = max(state.entries, key=lambda pointer: (state.entries[pointer], pointer), default="")
        if state.whole.steps > MAX_STEPS:
            raise TooCostly(
                culprit,
                f"One value could be checked against this {state.entries.get(culprit, 0):,} times. It is reached in"
                " several ways that multiply from level to level: let each member lead to it beside allOf, anyOf,"
                " oneOf, if and unevaluated…, or in one branch only.",
            )
        if self.effort > MAX_EFFORT:
            message = "Too many combinations of subschemas can apply to a value."
            raise TooCostly(culprit, f"{message} Let fewer branches speak of the same members.")
        return state

    def most_steps(self, size: int) -> int:
        """The steps of validating a payload, at most, by the bytes of its JSON text alone. After `check`."""
        most = self._most
        places = size // 2 + 1  # the smallest value takes a byte, and another parts it from the next
        # Of a value and of its name, each.
        steps = places * most.steps * (_MAX_WEIGHT + 1) + size * most.reading
        # On each level, items that are compared are apart from one another.
        return steps + min(places, MAX_DEPTH) * (_SIZE * places + size) * most.comparisons

    def measure(self, payload: JsonValue) -> Work:
        """The work of validating the payload."""
        work = Work()
        self._visit(work, payload, self.start, 1, _ERROR_BYTES)
        return work

    def _visit(self, work: Work, value: JsonValue, state: State, depth: int, trail: int) -> int:
        """Add the work at a place and below it. Returns about the size of the value as text."""
        whole = state.whole
        steps, weight, size, characters = whole.steps, 1, _SIZE, 0
        trail += _PATH_BYTES * self._height
        if isinstance(value, dict):
            names = state.after("name").whole
            characters = sum(map(len, value))
            steps += len(value) * names.steps + characters * names.reading
            size += characters
            for name, child in value.items():
                size += self._visit(work, child, state.after("member", name), depth + 1, trail + len(name))
        elif isinstance(value, list):
            for index, child in enumerate(value):
                size += self._visit(work, child, state.after("item", index), depth + 1, trail)
            steps += whole.comparisons * size
        elif isinstance(value, str):
            characters = len(value)
            size += characters
        elif isinstance(value, float):
            weight = _weight(value)
        work.steps += steps * weight + characters * whole.reading
        work.listing += steps * (trail + size)
        work.nesting = max(work.nesting, depth * self._height)
        return size


# Of a value without its text.
_SIZE = 8
# An error alone; and its paths (lists of keywords and names), for each evaluation around it.
_ERROR_BYTES = 1_000
_PATH_BYTES = 50


# Of the smallest number that a float can be.
_MAX_WEIGHT = 6 + 1074 // 8


def _weight(number: float) -> int:
    """Steps to compare a number. The engine compares fractions exactly, and small ones have many digits."""
    return 1 if isinstance(number, int) else 6 + abs(math.frexp(number)[1]) // 8


class _Marking:
    """What `unevaluated…` does to learn what the keywords beside it have evaluated."""

    def __init__(self, own: Evaluation) -> None:
        # Asking each subschema which members and items it speaks of; and the same, with branches tried again.
        self._asking, self.trying = Evaluation(), Evaluation()
        self._asking.add(own)
        self.trying.add(own)
        # The answer is the same for all values.
        self._is_fixed = True

    def add(self, keyword: str, branch: Evaluation, inner: _Marking) -> None:
        self._asking.add(inner._asking)
        self.trying.add(inner.trying)
        if keyword in _TRIED_AGAIN:
            self.trying.add(branch)
        self._is_fixed = self._is_fixed and inner._is_fixed and keyword in {"$ref", "allOf"}

    def use(self, keyword: str) -> Evaluation:
        """The evaluation that the keyword adds. For members, the engine finds a fixed answer once and for all."""
        is_known = self._is_fixed and keyword == "unevaluatedProperties"
        self._is_fixed = False
        return self._asking if is_known else self.trying


def _evaluations(schemas: Mapping[str, Subschema]) -> tuple[dict[str, Evaluation], int]:
    """The evaluation of each subschema, and how deep they nest at most."""
    references = References(schemas)
    in_place = {
        pointer: [(part.keyword, pointer + part.pointer) for part in parts(schema) if part.keyword in IN_PLACE]
        + references.of(schema)
        for pointer, schema in schemas.items()
    }
    done: dict[str, Evaluation] = {}
    markings: dict[str, _Marking] = {}
    heights: dict[str, int] = {}
    total = 0
    for pointer in _inner_first(in_place):
        schema = schemas[pointer]
        done[pointer], own_marking = _own(pointer, schema)
        markings[pointer] = _Marking(own_marking)
        for keyword, target in in_place[pointer]:
            done[pointer].add(done[target])
            if keyword != "not":
                markings[pointer].add(keyword, done[target], markings[target])
        for keyword in UNEVALUATED:
            if isinstance(schema, dict) and keyword in schema:
                done[pointer].add(markings[pointer].use(keyword))
                total += markings[pointer].trying.steps
        heights[pointer] = 1 + max((heights[target] for _, target in in_place[pointer]), default=0)
        total += done[pointer].steps
        _check_size(pointer, done[pointer].steps, heights[pointer], total)
    return done, max(heights.values())


def _inner_first(in_place: Mapping[str, list[tuple[str, str]]]) -> list[str]:
    graph = {pointer: [target for _, target in targets] for pointer, targets in in_place.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        message = "This leads back to itself at the same value, so that checking it would never end."
        raise TooCostly(min(error.args[1]), f"{message} Put a member or an item in between.") from error


def _check_size(pointer: str, steps: int, height: int, total: int) -> None:
    problem = ""
    if steps > MAX_STEPS:
        problem = f"Checking one value takes {steps:,} steps; {MAX_STEPS:,} are allowed."
    elif height > MAX_HEIGHT:
        problem = f"References and branches are nested {height} deep; {MAX_HEIGHT} are allowed."
    elif total > MAX_TOTAL_STEPS:
        problem = f"With its references followed, the schema has more than {MAX_TOTAL_STEPS:,} steps."
    if problem:
        raise TooCostly(
            pointer, f"{problem} Have fewer branches, shorter enumerations, and fewer references that refer on."
        )


def _own(pointer: str, schema: Subschema) -> tuple[Evaluation, Evaluation]:
    """What a subschema itself does at a place, and what it does when it is asked what it has evaluated."""
    if isinstance(schema, bool):
        return Evaluation(steps=1), Evaluation()
    below: dict[str, dict[Name, str | None]] = {}
    for part in parts(schema):
        below.setdefault(part.keyword, {})[part.name] = (
            pointer + part.pointer if part.schema not in (True, False) else None
        )
    names = [str(pattern) for pattern in below.get("patternProperties", ())]
    reading = sum(map(_kib, names))
    own, marking = Evaluation(reading=reading + _reading(schema)), Evaluation(steps=1, reading=reading)
    own.steps = max(1, sum(_steps(keyword, value) for keyword, value in schema.items()))
    own.comparisons = 1 if schema.get("uniqueItems") is True else 0

    def sent(keyword: str) -> list[str]:
        return [target for target in below.get(keyword, {}).values() if target]

    if below.keys() & {"properties", "patternProperties", "additionalProperties"}:
        toll = 2 + len(names)
        members = below.get("properties", {})
        own.rules[Rule("member", members, sent("additionalProperties"), sent("patternProperties"), toll)] = 1
        marking.rules[Rule("member", toll=toll)] = 1
    if below.keys() & {"items", "prefixItems", "contains"}:
        own.rules[Rule("item", below.get("prefixItems", {}), sent("items"), sent("contains"))] = 1
        marking.rules[Rule("item", every=sent("contains"))] = 1
    if "propertyNames" in below:
        own.rules[Rule("name", others=sent("propertyNames"))] = 1
    for keyword in below.keys() & UNEVALUATED.keys():
        kind, beside = UNEVALUATED[keyword]
        rule = Rule(kind, dict.fromkeys(below.get(beside, ())), sent(keyword))
        own.rules[rule] = marking.rules[rule] = 1
    return own, marking


def _steps(keyword: str, value: JsonValue) -> int:
    """The steps of a keyword without what it applies; or the memory that its error takes, if that is more."""
    match keyword, value:
        case "enum", list() if all(isinstance(option, str | None) for option in value):
            return 1 + len(value) // 50  # looked up by hash
        case "enum" | "const", _:
            return sum(2 + 2 * _weight(leaf) if isinstance(leaf, int | float) else 2 for leaf in _leaves(value))
        case "multipleOf" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum", int() | float():
            return _weight(value)
        case "required" | "dependentRequired" | "dependencies", list() | dict():
            return sum(1 for _ in _leaves(value))
        case "not", _:
            return 1 + sum(1 for _ in _leaves(value)) // 50
    return 0 if keyword in _WITHOUT_EFFECT else 1


def _reading(schema: JsonObject) -> int:
    pattern, form = schema.get("pattern"), schema.get("format")
    # The check that a text is a regular expression takes time in proportion to the square of the number of groups.
    reading = 150 if form == "regex" else 1 if form else 0
    return reading + _kib(pattern) if isinstance(pattern, str) else reading


def _kib(pattern: str) -> int:
    return compiled_kib(pattern) or MAX_PATTERN_KIB


def _leaves(value: JsonValue) -> Iterator[JsonValue]:
    """The value and every value in it."""
    pending = [value]
    for node in pending:
        yield node
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            pending += node.values()
