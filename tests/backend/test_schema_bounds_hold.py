"""The bound on a schema's work holds for an evaluator that counts, whatever the schema and the payload."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeAlias

import jsonschema_rs
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from blockforger.backend import json_values
from blockforger.backend.schema_bounds import Plan, State
from blockforger.backend.schema_parts import TooCostly

Place: TypeAlias = tuple[str | int, ...]

TYPES: dict[str, type] = {"object": dict, "array": list, "null": type(None)}


class Reference:
    """An evaluator that takes every branch, remembers nothing, and counts evaluations by place."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.counts: Counter[Place] = Counter()

    def is_valid(self, schema: Any, value: Any, place: Place = ()) -> bool:
        self.counts[place] += 1
        if isinstance(schema, bool):
            return schema
        verdicts = [
            self._has_type(schema, value),
            self._fits_in_place(schema, value, place),
            *(self.is_valid(part, value[step], (*place, step)) for part, step in _sent(schema, value)),
        ]
        if isinstance(value, list) and "contains" in schema:
            found = [self.is_valid(schema["contains"], item, (*place, step)) for step, item in enumerate(value)]
            verdicts.append(any(found))
        keyword = _unevaluated(value)
        if keyword in schema and _steps(value):
            rest = set(_steps(value)) - self._evaluated(schema, value, place)
            verdicts += [self.is_valid(schema[keyword], value[step], (*place, step)) for step in sorted(rest)]
        return all(verdicts)

    def _has_type(self, schema: Any, value: Any) -> bool:
        return "type" not in schema or isinstance(value, TYPES[schema["type"]])

    def _fits_in_place(self, schema: Any, value: Any, place: Place) -> bool:
        verdicts = [self.is_valid(part, value, place) for part in schema.get("allOf", ())]
        if "$ref" in schema:
            verdicts.append(self.is_valid(self._target(schema), value, place))
        if "not" in schema:
            verdicts.append(not self.is_valid(schema["not"], value, place))
        if "anyOf" in schema:
            verdicts.append(sum(self.is_valid(part, value, place) for part in schema["anyOf"]) > 0)
        if "oneOf" in schema:
            verdicts.append(sum(self.is_valid(part, value, place) for part in schema["oneOf"]) == 1)
        if "if" in schema:
            branch = "then" if self.is_valid(schema["if"], value, place) else "else"
            verdicts.append(self.is_valid(schema.get(branch, True), value, place) if branch in schema else True)
        if isinstance(value, dict):
            dependent = schema.get("dependentSchemas", {})
            verdicts += [self.is_valid(dependent[name], value, place) for name in dependent.keys() & value.keys()]
        return all(verdicts)

    def _evaluated(self, schema: Any, value: Any, place: Place) -> set[Any]:
        """The members or items that a schema has evaluated, found as the engine finds them: by trying again."""
        if isinstance(schema, bool):
            return set()
        steps = {step for _, step in _sent(schema, value)}
        if isinstance(value, list) and "contains" in schema:
            steps |= {n for n, item in enumerate(value) if self.is_valid(schema["contains"], item, (*place, n))}
        keyword = _unevaluated(value)
        if keyword in schema:
            steps |= {n for n in _steps(value) if self.is_valid(schema[keyword], value[n], (*place, n))}
        branches = [self._target(schema)] if "$ref" in schema else []
        for branching in ("allOf", "anyOf", "oneOf"):
            holding = [part for part in schema.get(branching, ()) if self.is_valid(part, value, place)]
            branches += holding if branching != "oneOf" or len(holding) == 1 else []
        if "if" in schema:
            holds = self.is_valid(schema["if"], value, place)
            branches += [schema["if"], schema.get("then", True)] if holds else [schema.get("else", True)]
        if isinstance(value, dict):
            branches += [part for name, part in schema.get("dependentSchemas", {}).items() if name in value]
        return steps.union(*(self._evaluated(branch, value, place) for branch in branches))

    def _target(self, schema: Any) -> Any:
        name = schema["$ref"].removeprefix("#/$defs/")
        return self._document if name == "#" else self._document["$defs"][name]


def _steps(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def _unevaluated(value: Any) -> str:
    return "unevaluatedProperties" if isinstance(value, dict) else "unevaluatedItems"


def _sent(schema: Any, value: Any) -> list[tuple[Any, Any]]:
    """The subschemas that go to members or items, each with the name or index."""
    if isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        rest = [(schema["items"], step) for step in range(len(prefix), len(value))] if "items" in schema else []
        return [*zip(prefix, range(len(value)), strict=False), *rest]
    named = schema.get("properties", {})
    steps = _steps(value)
    others = (
        [(schema["additionalProperties"], n) for n in steps if n not in named]
        if "additionalProperties" in schema
        else []
    )
    return [(named[name], name) for name in steps if name in named] + others


NAMES = st.sampled_from(["a", "b"])
PAYLOADS = st.recursive(
    st.none(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES, children),
    max_leaves=8,
)
REFERENCES = st.sampled_from(["#", "#/$defs/a", "#/$defs/b"])


def _schemas_around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=2)
    named = st.dictionaries(NAMES, inner, min_size=1)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "null"]),
            "$ref": REFERENCES,
            **dict.fromkeys(["allOf", "anyOf", "oneOf", "prefixItems"], some),
            **dict.fromkeys(["properties", "dependentSchemas"], named),
            **dict.fromkeys(["not", "if", "then", "else", "items", "contains", "additionalProperties"], inner),
            **dict.fromkeys(["unevaluatedProperties", "unevaluatedItems"], inner),
        },
    ).map(lambda schema: dict(list(schema.items())[:4]))


SCHEMAS = st.recursive(st.booleans() | st.fixed_dictionaries({"$ref": REFERENCES}), _schemas_around, max_leaves=6)
DOCUMENTS = st.builds(
    lambda root, a, b: {**root, "$defs": {"a": a, "b": b}},
    SCHEMAS.filter(lambda schema: isinstance(schema, dict)),
    SCHEMAS,
    SCHEMAS,
)


# Most documents that are drawn are too costly, or refer to nothing.
many_are_left_out = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def _planned(document: dict[str, Any]) -> Plan:
    plan = None
    try:
        plan = Plan(document)
        plan.check()
    except TooCostly:
        assume(False)
    assert plan
    return plan


@many_are_left_out
@given(DOCUMENTS, PAYLOADS)
def test_no_place_is_evaluated_more_often_than_the_bound_says(document: dict[str, Any], payload: Any) -> None:
    plan = _planned(document)
    reference = Reference(document)
    verdict = reference.is_valid(document, payload)
    assert verdict == jsonschema_rs.Draft202012Validator(document).is_valid(payload)
    for place, count in reference.counts.items():
        assert count <= _state_at(plan, place).whole.steps, place
    assert reference.counts.total() <= plan.measure(payload).steps


def _nested(value: Any, levels: int) -> Any:
    return _nested([value], levels - 1) if levels else value


RICH_PAYLOADS = st.recursive(
    st.none() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
RICH_DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "é{3}", "[a-z]{200}"]), SCHEMAS),
        "propertyNames": st.sampled_from([{"pattern": "[a-z]{50}"}, {"enum": ["a", "b"]}, {"format": "regex"}]),
        "items": st.sampled_from([{"$ref": "#"}, {"minimum": 0.1}, {"pattern": "(a|b){100}"}]),
        "additionalProperties": st.sampled_from([{"$ref": "#"}, {"uniqueItems": True}, {"multipleOf": 0.01}]),
        "uniqueItems": st.just(value=True),
        "$defs": st.just({"a": True, "b": True}),
    },
)


@many_are_left_out
@given(DOCUMENTS | RICH_DOCUMENTS, PAYLOADS | RICH_PAYLOADS)
@example({"items": {"minimum": 5e-324}}, [5e-324] * 50)
@example({"items": {"pattern": "[a-z]{5000}"}}, ["a" * 1000])
@example({"items": {"$ref": "#"}, "uniqueItems": True}, _nested([1] * 1000, 98))
def test_by_its_size_alone_a_payload_is_never_thought_less_work(document: dict[str, Any], payload: Any) -> None:
    plan = _planned(document)
    assert plan.measure(payload).steps <= plan.most_steps(len(json_values.compact(payload).encode()))


def _state_at(plan: Plan, place: Place) -> State:
    state = plan.start
    for step in place:
        state = state.after("member" if isinstance(step, str) else "item", step)
    return state


@settings(many_are_left_out, max_examples=25)
@given(DOCUMENTS, DOCUMENTS, PAYLOADS, PAYLOADS)
def test_more_to_check_is_never_less_work(
    document: dict[str, Any], other: dict[str, Any], payload: Any, more: Any
) -> None:
    definitions = document.pop("$defs")
    plan = _planned({**document, "$defs": definitions})
    branch = {keyword: value for keyword, value in other.items() if keyword != "$defs"}
    with_branch = _planned({"allOf": [document, branch], "$defs": definitions})
    assert plan.measure(payload).steps <= with_branch.measure(payload).steps
    assert plan.measure([payload]).steps <= plan.measure([payload, more]).steps
