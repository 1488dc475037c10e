"""What a list of rules may not mean: rules that match nothing, events that are sent twice, buses that nobody has seen.

None of it is an error. Pure: rules are given as documents, schemas as what they know of their items.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockforger.backend import json_schemas
from blockforger.backend.item_paths import SCALARS, Paths, parsed, type_of, written
from blockforger.backend.models import WRITES
from eventing import patterns, rule_checks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blockforger.backend.item_paths import Types
    from blockforger.backend.json_values import JsonObject, JsonValue
    from eventing.models import EventBus
    from eventing.patterns import Leaf
    from eventing.rule_documents import RuleDocument

# A tenant has few rules and schemas; one with many is warned of the first.
_MOST_WRITES = 10_000
_MOST_NAMED = 3
_TYPES_BY_OPERATOR = {"numeric": frozenset({"number"}), "anything-but": SCALARS}
_TEXT = frozenset({"string"})


@dataclass(frozen=True, slots=True)
class Owned:
    """A rule, with its place among those of its owner: a schema, or None for the tenant."""

    schema: str | None
    place: int
    document: RuleDocument

    def __str__(self) -> str:
        owner = f"schema {self.schema}, " if self.schema is not None else ""
        return f"{owner}rule {self.place + 1}"


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning, and the rule that it is about."""

    rule: Owned
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


def owned(lists: Mapping[str | None, Sequence[RuleDocument]]) -> list[Owned]:
    """The rules of lists by owner, in the order of their events: the tenant's first."""
    in_order = sorted(lists.items(), key=lambda pair: pair[0] or "")
    return [Owned(owner, place, document) for owner, listed in in_order for place, document in enumerate(listed)]


def paths_of(document: JsonObject, key_field: str) -> Paths:
    """What a schema knows of its items."""
    return Paths(document, key_field, json_schemas.key_types(document, key_field))


def of_rules(rules: Sequence[Owned], schemas: Mapping[str, Paths]) -> list[Warned]:
    """What each rule may not mean, for a tenant with these schemas. Rules that rest are passed over."""
    return [Warned(rule, message) for rule in _awake(rules) for message in _of_rule(rule, schemas)]


def of_pairs(rules: Sequence[Owned], schemas: Mapping[str, Paths]) -> list[Warned]:
    """Which rules send events of the same kind to one bus for one write: perhaps that is what is wanted."""
    return list(_repeated(_awake(rules), schemas))


def of_buses(rules: Sequence[Owned], buses: Mapping[str, EventBus]) -> list[Warned]:
    """What is known against the buses of the rules, each told once; `buses` are those that events were sent to."""
    first: dict[str, Owned] = {}
    for rule in _awake(rules):
        first.setdefault(rule.document["eventbridge_arn"], rule)
    found = []
    for arn, rule in first.items():
        if message := _problem_of_bus(buses.get(arn)):
            found.append(Warned(rule, f"{arn} {message}"))
    return found


def of_order(rules: Sequence[Owned], schemas: Mapping[str, Paths]) -> list[Warned]:
    """Which rules are for writes that earlier ones are for, too. None of them is in another's way, but one is later."""
    found = []
    earlier: list[tuple[Owned, set[tuple[str, str]]]] = []
    for rule in _awake(rules):
        writes = {(schema, method) for schema in _schemas_of(rule, schemas) for method in _operations_of(rule)}
        before = [str(one) for one, theirs in earlier if not writes.isdisjoint(theirs)]
        if before:
            more = [f"{len(before) - _MOST_NAMED} more"] if len(before) > _MOST_NAMED else []
            named = ", ".join([*before[:_MOST_NAMED], *more])
            found.append(Warned(rule, f"goes out after the events of {named} for the same write; all are sent"))
        earlier.append((rule, writes))
    return found


def _awake(rules: Sequence[Owned]) -> list[Owned]:
    return [rule for rule in rules if rule.document["enabled"]]


def _problem_of_bus(bus: EventBus | None) -> str | None:
    if bus is None or (bus.verified_at is None and not bus.verification_note and not bus.missing_since):
        return "has got no event yet, so nobody knows whether it takes any; test the rule"
    if bus.missing_since:
        return "does not exist; its events wait"
    if bus.refusals:
        return f"refuses events, so they wait ({bus.pause_reason})"
    return "is not proved to exist; test the rule and see whether the sample arrives" if bus.verification_note else None


def _of_rule(rule: Owned, schemas: Mapping[str, Paths]) -> Iterator[str]:
    names = rule.document["schema_names"]
    if rule.schema is not None and names and rule.schema not in names:
        yield "matches nothing, for it names other schemas only"
        return
    if rule.schema is None:
        yield from (f"the tenant has no schema '{name}'" for name in names if name not in schemas)
    known = [schemas[name] for name in _schemas_of(rule, schemas)]
    if not known:
        if names:
            yield "matches nothing until there is a schema that it names"
        return
    yield from _of_filter(rule, known)
    fields = rule.document["fields"] or {}
    for column, paths in {"on_change": rule.document["on_change"], **fields}.items():
        for path in paths:
            if not any(_may_have(schema, path) for schema in known):
                yield f"{column}: no schema that it is for knows the path '{path}'"


def _of_filter(rule: Owned, schemas: Sequence[Paths]) -> Iterator[str]:
    if rule.document["filter"] is None:
        return
    for leaf in patterns.compiled(rule.document["filter"]).leaves():
        path = written(leaf.path)
        if not any(_may_have(schema, path) for schema in schemas):
            if not leaf.may_lack:
                yield f"filter: no schema that it is for knows the path '{path}'"
        elif not any(_may_meet(schema, leaf) for schema in schemas):
            yield f"filter: '{path}' never meets its conditions, for the schema has values of another type there"


def _may_have(schema: Paths, path: str) -> bool:
    return schema.find(path) is not None or _is_in_array(schema, path)


def _is_in_array(schema: Paths, path: str) -> bool:
    """Whether the path leads into an array, of whose elements a schema's paths know nothing."""
    names = parsed(path)
    outer = (schema.find(written(names[:count])) for count in range(1, len(names)))
    return any(found is not None and "array" in found.types for found in outer)


def _may_meet(schema: Paths, leaf: Leaf) -> bool:
    found = schema.find(written(leaf.path))
    if found is None or leaf.may_exist or leaf.may_lack or "array" in found.element_types:
        return True
    types = found.types | found.element_types
    conditions = leaf.document if isinstance(leaf.document, list) else []
    return any(types & _types_of(condition) for condition in conditions)


def _types_of(condition: JsonValue) -> Types:
    """The types of the values that can meet a condition."""
    if isinstance(condition, dict):
        return _TYPES_BY_OPERATOR.get(next(iter(condition)), _TEXT)
    return frozenset({type_of(condition)})


def _repeated(rules: Sequence[Owned], schemas: Mapping[str, Paths]) -> Iterator[Warned]:
    """Pairs of rules that send events of the same kind to one bus for one write; each pair once."""
    senders: dict[tuple[str, ...], list[Owned]] = defaultdict(list)
    told: set[tuple[int, int]] = set()
    for rule in rules:
        document = rule.document
        for schema in _schemas_of(rule, schemas):
            for operation in _operations_of(rule):
                detail_type = rule_checks.rendered(document["detail_type"], schema_name=schema, operation=operation)
                kind = (document["eventbridge_arn"], document["source"], detail_type, schema, operation)
                earlier = senders[kind]
                if earlier and (id(earlier[0]), id(rule)) not in told:
                    told.add((id(earlier[0]), id(rule)))
                    yield Warned(rule, _repetition(earlier[0], rule, f"{operation} of {schema}"))
                earlier.append(rule)
        if len(senders) > _MOST_WRITES:
            return


def _repetition(earlier: Owned, rule: Owned, example: str) -> str:
    conditions = any(one.document["filter"] or one.document["on_change"] for one in (earlier, rule))
    sends = "may send" if conditions else "sends"
    return f"{sends} the same kind of event to the same bus as {earlier}, and later: for {example}, for one"


def _operations_of(rule: Owned) -> list[str]:
    return rule.document["operations"] or [str(method) for method in WRITES]


def _schemas_of(rule: Owned, schemas: Mapping[str, Paths]) -> list[str]:
    names = rule.document["schema_names"]
    return [name for name in schemas if rule.schema in (None, name) and (not names or name in names)]
