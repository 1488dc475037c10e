"""The bound on a schema's work holds for an evaluator that counts, and does not stand in the way of usual schemas."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema_rs
import jsonschema_specifications
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blockforger.backend import schema_bounds
from blockforger.backend.schema_bounds import Plan, State, TooCostly

ROOT = {"$ref": "#"}


def chain(length: int, link: Any) -> dict[str, Any]:
    """A schema that refers to the first of a row of definitions, of which each holds what `link` makes of the next."""
    names = [f"#/$defs/d{number}" for number in range(length + 1)]
    links = {f"d{number}": link({"$ref": names[number + 1]}) for number in range(length)}
    return {"$ref": names[0], "$defs": {**links, f"d{length}": {"type": ["object", "integer"]}}}


def nested(times: int, wrap: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(times):
        schema = wrap(schema)
    return schema


def metaschema() -> dict[str, Any]:
    """The metaschema of 2020-12 with its vocabularies as definitions."""
    base = "https://json-schema.org/draft/2020-12/"
    names = "core applicator unevaluated validation meta-data format-annotation content".split()
    text = json.dumps(
        {
            **jsonschema_specifications.REGISTRY.contents(f"{base}schema"),
            "allOf": [{"$ref": f"#/$defs/{name}"} for name in names],
            "$defs": {
                name: json.loads(
                    json.dumps(jsonschema_specifications.REGISTRY.contents(f"{base}meta/{name}"))
                    .replace('"#/$defs/', f'"#/$defs/{name}/$defs/')
                    .replace('"$dynamicAnchor"', '"title"')
                    .replace('"$id"', '"$comment"')
                )
                for name in names
            },
        }
    )
    for name in ("core", "validation"):
        text = text.replace(f"meta/{name}#/$defs/", f"#/$defs/{name}/$defs/")
    document: dict[str, Any] = json.loads(text)
    return document


ACCEPTED = {
    "tree": {"properties": {"children": {"items": ROOT}, "name": {"type": "string"}}, "additionalProperties": False},
    "linked list": {"properties": {"next": {"anyOf": [ROOT, {"type": "null"}]}}},
    "binary tree": {"properties": {"left": {"oneOf": [{"type": "null"}, ROOT]}, "right": ROOT}},
    "map of maps": {"additionalProperties": ROOT},
    "any JSON value": {"oneOf": [{"items": ROOT, "type": "array"}, {"additionalProperties": ROOT, "type": "object"}]},
    # each branch leads on by a member of its own
    "logic": {"oneOf": [{"properties": {name: {"items": ROOT}}, "required": [name]} for name in ("and", "or", "not")]},
    # the number of evaluations grows with each level, but only by one
    "tree that extends another": {
        "$ref": "#/$defs/tree",
        "$defs": {
            "node": {"properties": {"left": {"$ref": "#/$defs/node"}}},
            "tree": {"allOf": [{"$ref": "#/$defs/node"}], "properties": {"left": {"$ref": "#/$defs/tree"}}},
        },
    },
    # what the base evaluates is the same for all values, so the engine finds it once
    "tree that closes its base": {
        "allOf": [{"$ref": "#/$defs/base"}],
        "unevaluatedProperties": False,
        "$defs": {"base": {"properties": {"children": {"items": ROOT}}}},
    },
    "tree by dynamic reference": {
        "$dynamicAnchor": "node",
        "properties": {"children": {"items": {"$dynamicRef": "#node"}}},
    },
    "metaschema": metaschema(),
    "wide": {"properties": {f"p{number}": {"type": "string", "maxLength": 100} for number in range(2_000)}},
    "union": {
        "oneOf": [
            {"properties": {f"p{kind}-{number}": {"type": "string"} for number in range(20)}, "required": [f"p{kind}-0"]}
            for kind in range(100)
        ]
    },
    "long enumeration of texts": {"properties": {"word": {"enum": [f"word {number}" for number in range(10_000)]}}},
}

REFUSED = {
    # the place that is blamed, then what its message says
    "itself": (ROOT, "", "leads back to itself"),
    "itself through branches": (
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"if": {"$ref": "#/$defs/a"}}}}},
        "/$defs/a",
        "leads back to itself",
    ),
    "itself by anchor": ({"$anchor": "me", "anyOf": [{"$dynamicRef": "#me"}]}, "", "leads back to itself"),
    "doubled by each reference": (
        chain(30, lambda following: {"allOf": [following, following]}),
        "/$defs/d18",
        "Checking one value takes 16,381 steps; 10,000 are allowed.",
    ),
    "doubled at each level": (
        {"properties": {"child": {"anyOf": [ROOT, ROOT]}}},
        "/properties/child",
        "checked against this 2,048 times",
    ),
    "doubled by items and contains": ({"items": ROOT, "contains": ROOT}, "", "times"),
    "doubled by two members' rules": ({"properties": {"a": ROOT}, "patternProperties": {"a": ROOT}}, "", "times"),
    "doubled by conditions": ({"if": {"items": ROOT}, "then": {"items": ROOT}}, "", "times"),
    "doubled across definitions": (
        {
            "$ref": "#/$defs/even",
            "$defs": {
                "even": {"properties": {"a": {"$ref": "#/$defs/odd"}}},
                "odd": {"allOf": [{"items": {"$ref": "#/$defs/even"}}] * 2},
            },
        },
        "",
        "times",
    ),
    # branches are tried once for themselves and once more to learn what they evaluate
    "doubled by unevaluatedProperties": (
        nested(30, lambda inner: {"anyOf": [inner], "unevaluatedProperties": False}),
        "",
        "Checking one value takes",
    ),
    "doubled by unevaluatedItems": (
        {"anyOf": [{"properties": {"a": ROOT}}], "unevaluatedItems": False},
        "",
        "times",
    ),
    "doubled by extension": (
        {
            "allOf": [{"$ref": "#/$defs/base"}],
            "unevaluatedProperties": False,
            "$defs": {"base": {"anyOf": [{"properties": {"a": ROOT}}]}},
        },
        "",
        "times",
    ),
    "nested too deep for the stack": (
        chain(40, lambda following: {**following, "title": "link"}),
        "/$defs/d8",
        "nested 33 deep; 32 are allowed",
    ),
    "long enumeration of numbers": ({"enum": [number / 2 for number in range(1_000)]}, "", "shorter enumerations"),
    "long sum": (
        {"allOf": [{"$ref": f"#/$defs/d{number % 30}"} for number in range(300)]}
        | {"$defs": {f"d{number}": {"required": [str(name) for name in range(9_000)]} for number in range(30)}},
        "/$defs/d22",
        "the schema has more than 200,000 steps",
    ),
    "too many combinations": (
        {
            "$ref": "#/$defs/s0",
            "$defs": {
                f"s{number}": {
                    "additionalProperties": {"$ref": f"#/$defs/s{(number + 1) % 12}"},
                    "properties": {"a": {"allOf": [{"$ref": "#/$defs/s0"}, {"$ref": f"#/$defs/s{(number + 1) % 12}"}]}},
                }
                for number in range(12)
            },
        },
        "",
        "",
    ),
}


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
def test_usual_schemas_are_within_the_bounds(document: dict[str, Any]) -> None:
    Plan(document).check()


@pytest.mark.parametrize(("document", "pointer", "message"), REFUSED.values(), ids=REFUSED)
def test_schemas_without_a_good_bound_are_refused(document: dict[str, Any], pointer: str, message: str) -> None:
    with pytest.raises(TooCostly) as refusal:
        Plan(document).check()
    assert refusal.value.pointer.startswith(pointer)
    assert message in refusal.value.message
