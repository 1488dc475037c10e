"""The bound on a schema's work does not stand in the way of usual schemas, and refuses those that have none."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import jsonschema_specifications  # type: ignore[import-untyped]
import pytest

from blockforger.backend import schema_parts
from blockforger.backend.schema_bounds import Plan
from blockforger.backend.schema_parts import References, TooCostly, compiled_kib, subschemas

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
    names = ["core", "applicator", "unevaluated", "validation", "meta-data", "format-annotation", "content"]
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


ACCEPTED: dict[str, dict[str, Any]] = {
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
            {
                "properties": {f"p{kind}-{number}": {"type": "string"} for number in range(20)},
                "required": [f"p{kind}-0"],
            }
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
    **{
        f"doubled by trying {keyword} again": (
            {keyword: schema, "unevaluatedProperties": False, "anyOf": [True]},
            "",
            "times",
        )
        for keyword, schema in {
            "allOf": [{"properties": {"a": ROOT}}],
            "oneOf": [{"properties": {"a": ROOT}}],
            "if": {"properties": {"a": ROOT}},
        }.items()
    },
    "doubled by what is left over": ({"unevaluatedProperties": ROOT, "anyOf": [True]}, "", "times"),
    "doubled by trying contains again": ({"contains": ROOT, "unevaluatedItems": False}, "", "times"),
    "doubled by items that are left over": ({"unevaluatedItems": ROOT}, "", "times"),
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
    # any subset of the branches can apply to a member of a member
    "too many combinations": (
        {
            "allOf": [{"$ref": f"#/$defs/d{number}"} for number in range(16)],
            "$defs": {
                f"d{number}": {
                    "properties": {f"p{number}": True},
                    "additionalProperties": {"$ref": f"#/$defs/d{number}"},
                }
                for number in range(16)
            },
        },
        "",
        "Too many combinations",
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


DEFINITIONS: dict[str, Any] = {
    "$anchor": "root",
    "$defs": {"a/b": {"$dynamicAnchor": "slash"}, "ä %": True, "text": {"const": {"$anchor": "no"}}},
    "allOf": [{"title": "first"}],
    "x-extension": {"type": "string"},
}


@pytest.mark.parametrize(
    ("reference", "pointer"),
    [
        ("#", ""),
        ("#root", ""),
        ("#/$defs/a~1b", "/$defs/a~1b"),
        ("#slash", "/$defs/a~1b"),
        ("#/%24defs/%C3%A4%20%25", "/$defs/ä %"),  # percent-encoded, as in any URI
        ("#/allOf/0", "/allOf/0"),
        ("#/allOf/1", None),
        ("#/allOf/00", None),
        ("#no", None),  # a constant is no schema
        ("#/x-extension", None),  # nor is what an unknown keyword holds
        ("#/$defs", None),
        ("", None),
        ("other", None),
        ("https://example.com/#/$defs/text", None),
        (7, None),
    ],
)
def test_references_lead_to_subschemas_of_the_document_only(reference: Any, pointer: str | None) -> None:
    assert References(subschemas(DEFINITIONS)).target(reference) == pointer


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"allOf": [True] * schema_parts.MAX_SUBSCHEMAS}, ""),
        # 200 pointers of 10,000 characters and more
        ({"$defs": {"a": {"$defs": {"b" * 10_000: {"anyOf": [True] * 200}}}}}, "/$defs/a/$defs"),
    ],
    ids=["too many", "too long names"],
)
def test_subschemas_are_bounded_in_number_and_pointers_in_length(document: dict[str, Any], pointer: str) -> None:
    with pytest.raises(TooCostly) as refusal:
        subschemas(document)
    assert refusal.value.pointer == pointer


@pytest.mark.parametrize(
    ("pattern", "kib"),
    [
        ("^a$", 1),
        ("^[a-z]{1,100}$", 16),
        ("^.{1,255}$", 512),  # any character is four alternatives in UTF-8
        (r"^\p{L}{1,100}$", None),
        ("(a{1000}){1000}", None),
        ("(?=a)", None),
        ("(?<!a)b", None),
        (r"(a)\1", None),
        ("(", None),
    ],
)
def test_patterns_have_a_size_once_they_are_compiled(pattern: str, kib: int | None) -> None:
    assert compiled_kib(pattern) == kib


@pytest.mark.parametrize(
    ("document", "cheap", "costly"),
    [
        # a pattern reads every character
        ({"properties": {"a": {"pattern": "^a$"}}}, {"a": "b" * 10}, {"a": "b" * 10_000}),
        ({"patternProperties": {"^a$": True}}, {"b" * 10: 1}, {"b" * 10_000: 1}),
        ({"propertyNames": {"pattern": "^a$"}}, {"b" * 10: 1}, {"b" * 10_000: 1}),
        # fractions are compared exactly, and small ones have many digits
        ({"properties": {"a": {"multipleOf": 0.01}}}, {"a": 5}, {"a": 5.5}),
        ({"properties": {"a": {"multipleOf": 0.01}}}, {"a": 5.5}, {"a": 5.5e-300}),
        # items are compared as wholes
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [{}, {}]}, {"a": [{"b": "c" * 1_000}, {}]}),
        # items beyond the prefix
        ({"properties": {"a": {"prefixItems": [True], "items": {"enum": [0.5]}}}}, {"a": [1]}, {"a": [1, 1]}),
    ],
)
def test_work_grows_with_what_the_engine_has_to_look_at(document: Any, cheap: Any, costly: Any) -> None:
    plan = Plan(document)
    assert plan.measure(cheap).steps + 1 < plan.measure(costly).steps


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("tree that extends another", lambda below: {"left": below}),
        ("tree that closes its base", lambda below: {"children": [below]}),
        ("metaschema", lambda below: {"not": below}),
    ],
)
def test_what_is_accepted_is_evaluated_at_any_depth(name: str, level: Any) -> None:
    """Would the engine try again at each level what the bound takes for settled, this would never end."""
    payload: Any = {"other": 1}
    for _ in range(45):
        payload = level(payload)
    validator = jsonschema_rs.Draft202012Validator(ACCEPTED[name])
    assert validator.is_valid(payload) == (not list(validator.iter_errors(payload)))
