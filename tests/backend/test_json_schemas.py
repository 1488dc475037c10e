"""What is wrong with a tenant's schema or with a payload; and that neither can hurt the process that looks at it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend import json_schemas
from blockforger.backend.json_schemas import Compiled, Violation, compiled, key_types, problems
from blockforger.backend.json_values import MAX_DEPTH
from blockforger.backend.models import Schema
from tests.cast import FLUFFY, PET, a_schema, a_tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_django import DjangoAssertNumQueries

BOTH = {"string", "integer"}


def violations(document: dict[str, Any], payload: dict[str, Any], key_field: str = "id") -> list[tuple[str, str]]:
    return [(found.pointer, found.message) for found in Compiled(document, key_field).violations(payload)]


def deep(levels: int, innermost: Any = 1) -> dict[str, Any]:
    """An object in which 'a' leads down that many levels."""
    value: Any = innermost
    for _ in range(levels):
        value = {"a": value}
    return {"a": value}


@pytest.mark.parametrize(
    "document",
    [
        {},
        PET,
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema#",
            "$id": "https://example.com/pet",
            "type": "object",
        },
        {
            "$id": "no URI %%",
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": "#/$defs/a",
            "$defs": {"a": {}},
        },
        # keywords and members of the same names are not confused
        {"properties": {"$ref": {"type": "string"}, "$id": True, "pattern": {"pattern": "^a"}, "properties": {}}},
        # values that only look like schemas
        {"const": {"$ref": "https://example.com/", "$id": 1}, "default": {"$ref": 7}, "x-note": {"pattern": "("}},
        # what the older drafts called them
        {"definitions": {"name": {"type": "string"}}, "properties": {"name": {"$ref": "#/definitions/name"}}},
        {"properties": {"a": {"$ref": "#/properties/b"}, "b": {"$anchor": "b"}, "c": {"$dynamicRef": "#b"}}},
        {"properties": {"id": {"type": ["integer", "null"]}}},
    ],
)
def test_usual_schemas_have_no_problems(document: dict[str, Any]) -> None:
    assert problems(document) == []


@pytest.mark.parametrize(
    ("document", "pointer", "message"),
    [
        (True, "", "Write a JSON Schema that is an object."),
        ([], "", "Write a JSON Schema that is an object."),
        # not to be carried at all
        ({"const": 2**63}, "/const", "An integer does not fit into 64 bits."),
        ({"a": deep(MAX_DEPTH)}, "/a" * MAX_DEPTH, f"The value is nested deeper than {MAX_DEPTH} levels."),
        # too large
        ({"title": "ä" * 131_072}, "", "The schema has 262,156 bytes as compact JSON; 262,144 are allowed."),
        ({"oneOf": [True] * 5_000}, "", "The schema holds more than 5,000 subschemas."),
        # another dialect, or other resources
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema", "Only JSON Schema 2020-12 is supported."),
        ({"$schema": ["x"]}, "/$schema", "Only JSON Schema 2020-12 is supported."),
        ({"items": {"$schema": "https://example.com/"}}, "/items/$schema", "Only JSON Schema 2020-12 is supported."),
        ({"$defs": {"a": {"$id": "https://example.com/a"}}}, "/$defs/a/$id", "Leave $id out below the root"),
        ({"$id": "https://example.com/#part"}, "/$id", 'does not match "^[^#]*#?$"'),
        # not JSON Schema
        ({"type": "strin"}, "/type", "Write one of array, boolean, integer, null, number, object and string"),
        ({"properties": {"a/b": {"minLength": -1}}}, "/properties/a~1b/minLength", "-1 is less than the minimum of 0"),
        ({"allOf": [{"not": 5}]}, "/allOf/0/not", '5 is not of types "boolean", "object"'),
        ({"properties": {"01": 5}}, "/properties/01", '5 is not of types "boolean", "object"'),
        ({"required": ["a", "a"]}, "/required", "has non-unique elements"),
        ({"required": [*"abcdefghijk"] * 99}, "/required", "The value is not what the keyword takes. Compare https"),
        ({"items": [{}]}, "/items", 'is not of types "boolean", "object"'),  # draft 7's tuples
        # references
        ({"$ref": "#/$defs/a"}, "/$ref", "'#/$defs/a' does not name a subschema of this document."),
        ({"items": {"$dynamicRef": "#a"}}, "/items/$dynamicRef", "'#a' does not name a subschema of this document."),
        ({"$ref": "other.json"}, "/$ref", "'other.json' is outside of this document, and nothing is fetched."),
        ({"$ref": ""}, "/$ref", "'' is outside of this document"),
        ({"$defs": {"ä": {}}, "$ref": "#/$defs/ä"}, "", "The schema cannot be compiled: Invalid URI reference"),
        ({"$anchor": "a", "not": {"$dynamicAnchor": "a"}}, "/not/$dynamicAnchor", "Another subschema has this name."),
        # patterns
        ({"pattern": "^(?!a)"}, "/pattern", "The pattern is no regular expression that runs in linear time"),
        ({"pattern": r"(a)\1"}, "/pattern", "The pattern is no regular expression that runs in linear time"),
        ({"pattern": "(a{1000}){1000}"}, "/pattern", "at most 1,024 KiB with all repetitions written out"),
        ({"pattern": "a" * 4_097}, "/pattern", "The pattern has 4,097 characters; 4,096 are allowed."),
        ({"patternProperties": {"a/(?=b)": True}}, "/patternProperties/a~1(?=b)", "runs in linear time"),
        ({"patternProperties": {f"^{n}": True for n in range(201)}}, "", "The schema has 201 different patterns"),
        ({"patternProperties": {f"^.{{{n},255}}$": True for n in range(20)}}, "", "take 10,240 KiB when compiled"),
        # the key
        ({"properties": {"id": {"type": "boolean"}}}, "/properties/id", "the key must be a string or an integer"),
        # without a bound
        ({"$ref": "#"}, "", "This leads back to itself"),
        ({"properties": {"a": {"anyOf": [{"$ref": "#"}] * 2}}}, "/properties/a", "multiply from level to level"),
    ],
)
def test_a_problem_is_told_with_its_place_and_remedy(document: Any, pointer: str, message: str) -> None:
    (problem,) = problems(document)
    assert problem.pointer == pointer
    assert message in problem.message
    assert problem.message.endswith((".", "'."))


def test_the_engine_itself_takes_no_pattern_that_backtracks() -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        Compiled({"pattern": "(?=a)"}, "id")


def test_all_problems_of_a_kind_are_told_at_once_up_to_a_limit() -> None:
    document: dict[str, Any] = {"properties": {f"p{number:02}": {"type": "no"} for number in range(60)}}
    assert [problem.pointer for problem in problems(document)] == [f"/properties/p{n:02}/type" for n in range(50)]
    found = problems({"$ref": "a", "pattern": "(", "properties": {"id": False}})
    assert [problem.pointer for problem in found] == ["/$ref", "/pattern", "/properties/id"]


@contextmanager
def a_web_server() -> Iterator[tuple[str, list[str]]]:
    """The URL of a server that answers every request with a schema, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    with a_web_server() as (web, asked):
        for url in (f"{web}/schema.json", (tmp_path / "schema.json").as_uri()):
            references: list[dict[str, Any]] = [
                {"$ref": url},
                {"$dynamicRef": f"{url}#a"},
                {"$schema": url},
                {"items": {"$schema": url}},
                {"$defs": {"a": {"$id": url, "$ref": "other.json"}}},
                {"$id": url, "$ref": "other.json"},
            ]
            for document in references:
                assert problems(document)
                # Whatever becomes of our own checks, the engine must not do it either.
                with pytest.raises((ValueError, jsonschema_rs.ReferencingError)):
                    Compiled({"properties": {"a": document}, "allOf": [{"$ref": url}]}, "id")
            assert problems({"$id": url, "$vocabulary": {url: True}, "const": {"$ref": url}, "x": {"$ref": url}}) == []
        assert asked == []
    assert asked == []


def test_a_schema_cannot_pass_for_one_that_the_engine_knows() -> None:
    document: dict[str, Any] = {
        "$id": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/name",
        "$defs": {"name": {"required": ["name"]}},
    }
    assert problems(document) == []
    assert violations(document, {}) == [("", '"name" is a required property')]


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        (True, BOTH),
        ({}, BOTH),
        ({"type": "string"}, {"string"}),
        ({"type": "integer"}, {"integer"}),
        ({"type": ["integer", "string"]}, BOTH),
        ({"type": ["string", "null"]}, {"string"}),
        ({"type": "number"}, set()),  # 1.5 is no key
        ({"type": "object"}, set()),
        (False, set()),
        ({"const": "a"}, {"string"}),
        ({"const": 1.0}, {"integer"}),  # as JSON Schema has it
        ({"const": 1.5}, set()),
        ({"const": True}, set()),
        ({"enum": ["a", 1, None]}, BOTH),
        ({"enum": ["a", 1], "type": "string"}, {"string"}),
        ({"$ref": "#/$defs/text"}, {"string"}),
        ({"$ref": "#/$defs/alias", "enum": ["a", 1]}, {"string"}),
        ({"$ref": "#/$defs/alias", "type": "integer"}, set()),
        ({"$ref": "#/$defs/itself"}, BOTH),
        ({"$ref": "#/$defs/none"}, BOTH),
        ({"$ref": "https://example.com/"}, BOTH),
    ],
)
def test_the_key_is_of_the_types_that_its_schema_declares(schema: Any, types: set[str]) -> None:
    definitions = {"text": {"type": "string"}, "alias": {"$ref": "#/$defs/text"}, "itself": {"$ref": "#/$defs/itself"}}
    document: dict[str, Any] = {"properties": {"a/b": schema}, "$defs": definitions}
    assert key_types(document, "a/b") == types
    assert key_types(document, "other") == BOTH


WORK_ALLOWED = "the work that is allowed. Send smaller items, or simplify the schema."

STRICT: dict[str, Any] = {"properties": {"name": {"type": "string"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("document", "payload", "found"),
    [
        # not declared: allowed, and not asked for either
        (STRICT, {"id": 1, "name": "a"}, []),
        (STRICT, {"name": "a"}, []),
        (STRICT, {"id": 1, "name": 2}, [("/name", '2 is not of type "string"')]),
        ({"maxProperties": 1}, {"id": 1, "name": 2}, []),
        ({"minProperties": 2}, {"id": 1, "name": 2}, []),
        ({"minProperties": 2}, {"id": 1}, [("", "{} has less than 2 properties")]),
        # declared, one way or another: as it is
        ({"maxProperties": 1, "required": ["id"]}, {"id": 1, "name": 2}, [("", "more than 1 property")]),
        (STRICT | {"properties": {"id": {"type": "string"}}}, {"id": 1}, [("/id", '1 is not of type "string"')]),
        ({"maxProperties": 1, "properties": {"id": True}}, {"id": 1, "name": 2}, [("", "more than 1 property")]),
    ],
)
def test_a_schema_need_not_speak_of_the_key(document: Any, payload: Any, found: list[tuple[str, str]]) -> None:
    actual = violations(document, payload)
    assert [pointer for pointer, _ in actual] == [pointer for pointer, _ in found]
    assert all(message in told for (_, message), (_, told) in zip(found, actual, strict=True))


def test_all_violations_are_told_by_place() -> None:
    document: dict[str, Any] = {
        "required": ["b", "a"],
        "properties": {"list": {"items": {"type": "string", "minLength": 3}}, "at": {"format": "date-time"}},
        "additionalProperties": {"type": "object"},
    }
    payload = {"list": ["abc", *range(10), "d"], "at": "today", "extra": 1}
    assert violations(document, payload) == [
        ("", '"a" is a required property'),
        ("", '"b" is a required property'),
        ("/at", '"today" is not a "date-time"'),
        ("/extra", '1 is not of type "object"'),
        *((f"/list/{number + 1}", f'{number} is not of type "string"') for number in range(10)),
        ("/list/11", '"d" is shorter than 3 characters'),
    ]


def test_the_same_violation_of_two_subschemas_is_told_once() -> None:
    assert violations({"allOf": [{"required": ["a"]}] * 2, "required": ["a"]}, {}) == [
        ("", '"a" is a required property')
    ]


@pytest.mark.parametrize(
    "name",
    ["a/b~c", "0", "01", "00", "007", "+1", "+", "+00", "", "ä ", "-1", "1e5", "99999999999999999999999", '"]["', "١"],
)
def test_places_of_odd_names_are_told_right(name: str) -> None:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    document = {"additionalProperties": {"additionalProperties": {"items": {"type": "string"}}}}
    assert [found for found, _ in violations(document, {name: {name: ["a", 1]}})] == [f"{pointer}{pointer}/1"]


def test_of_names_that_the_engine_confuses_one_is_told() -> None:
    document: dict[str, Any] = {"additionalProperties": {"additionalProperties": {"type": "string"}}}
    assert [pointer for pointer, _ in violations(document, {"1": [], "01": {"a": 1}})] == ["/1"]


def test_an_answer_stays_small_whatever_the_payload() -> None:
    document: dict[str, Any] = {"additionalProperties": {"type": "null", "items": {"type": "null"}}}
    payload: dict[str, Any] = {f"{number}{'x' * 400}": ["y" * 10_000] * 2 for number in range(30)} | {"z" * 600: 1}
    found = Compiled(document, "id").violations(payload)
    assert len(found) == json_schemas.MAX_VIOLATIONS
    assert {len(violation.message) for violation in found} <= {json_schemas.MAX_MESSAGE - 1, json_schemas.MAX_MESSAGE}
    assert max(len(violation.pointer) for violation in found) < 500
    # The value is cut, the reason is not.
    assert found[0].message.startswith('["yyy')
    assert found[0].message.endswith('" is not of type "null"') or found[0].message.endswith(
        'yyy"] is not of type "null"'
    )
    # The place around the one that has no short pointer.
    assert Compiled(document, "id").violations({"z" * 600: 1}) == [Violation("", '1 is not of type "null"')]


@pytest.mark.parametrize(
    ("document", "payload", "found"),
    [
        # all errors together would take a hundred times the memory of the payload: the first is enough
        (
            {"properties": {"a": {"items": {"type": "string"}}}},
            {"a": [1] * 100_000},
            ("/a/0", '1 is not of type "string"'),
        ),
        # deeper than errors can be collected within a thread's stack
        (
            {"properties": {"a": {"allOf": [{"allOf": [{"$ref": "#"}]}]}}, "not": {"const": 1}, "maximum": 0},
            deep(MAX_DEPTH - 2),
            ("/a" * (MAX_DEPTH - 1), "1 is greater than the maximum of 0"),
        ),
        # the one error of a union holds all errors of all branches
        (
            {"anyOf": [{"properties": {"a": {"items": {"type": "string"}}}}, False]},
            {"a": [1] * 100_000},
            ("", "The payload does not fit the schema, and is too large to say where. Send a smaller one."),
        ),
        # not even a verdict
        (
            {"properties": {"a": {"items": {"not": {"enum": [number / 7 for number in range(100)]}}}}},
            {"a": [1e-9] * 10_000},
            ("", f"Checking this would take 12.7 times {WORK_ALLOWED}"),
        ),
    ],
    ids=["wide", "deep", "union", "costly"],
)
def test_of_a_payload_that_is_large_for_its_schema_less_is_told(
    document: dict[str, Any], payload: dict[str, Any], found: tuple[str, str]
) -> None:
    assert problems(document) == []
    assert violations(document, payload) == [found]


@pytest.mark.parametrize(
    "innermost", [1, -(2**63), 2**63 - 1, 1e308, 5e-324, -0.0, "", "\U0001f980\ud7ff\uffff", None, True]
)
def test_odd_values_are_judged_like_any_other(innermost: Any) -> None:
    levels = MAX_DEPTH - 2
    schema = Compiled(
        {"properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "array"}, {"const": innermost}]}}, "type": "object"},
        "id",
    )
    assert schema.violations(deep(levels, innermost)) == []
    assert schema.violations(deep(levels, {"a": "other"})) != []


def test_formats_are_checked() -> None:
    document: dict[str, Any] = {"properties": {"mail": {"format": "email"}, "on": {"format": "date"}}}
    assert violations(document, {"mail": "a@example.com", "on": "2026-02-28"}) == []
    assert [pointer for pointer, _ in violations(document, {"mail": "a", "on": "2026-02-30"})] == ["/mail", "/on"]


def test_a_compiled_schema_serves_many_threads() -> None:
    # Threads of the server may have no more than this; it is what the limits on nesting are for.
    size = threading.stack_size(512 * 1024)
    try:
        schema = Compiled(
            {"properties": {"a": {"oneOf": [{"$ref": "#"}, {"type": "integer"}]}}, "type": "object"}, "id"
        )
        payloads = [deep(number % (MAX_DEPTH - 2), number if number % 2 else "text") for number in range(400)]
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(schema.violations, payloads))
    finally:
        threading.stack_size(size)
    assert [bool(violations) for violations in found] == [number % 2 == 0 for number in range(400)]


@pytest.mark.django_db
def test_a_schema_is_compiled_once_per_version(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    schema = a_schema(a_tenant())
    first = compiled(schema)
    assert first.violations(FLUFFY) == []
    assert first.key_types == {"string"}
    again = type(schema).objects.defer("document").get()
    with django_assert_num_queries(0):
        assert compiled(again) is first
    again.document = '{"required": ["price"]}'
    again.version += 1
    again.save()
    assert compiled(again).violations(FLUFFY) == [Violation("", '"price" is a required property')]
    again.meta = {"key": "name"}
    assert compiled(again).key_types == BOTH


@pytest.mark.django_db
def test_a_schema_that_was_rolled_back_leaves_nothing_behind() -> None:
    tenant = a_tenant()
    with transaction.atomic():
        first = a_schema(tenant, document={"required": ["a"]})
        assert compiled(first).violations({})
        transaction.set_rollback(True)
    second = a_schema(tenant, document={})
    second.pk = first.pk
    assert compiled(second).violations({}) == []


def test_a_schema_that_is_not_stored_is_compiled_afresh() -> None:
    schemas = [Schema(document=document) for document in ("{}", '{"required": ["a"]}')]
    assert [len(compiled(schema).violations({})) for schema in schemas] == [0, 1]


def test_only_so_many_compiled_schemas_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schemas, "_COMPILED_SCHEMAS", 2)
    monkeypatch.setattr(json_schemas, "_compiled", type(json_schemas._compiled)())
    one, two, three = (Schema(pk=number, document="{}") for number in (1, 2, 3))
    kept = compiled(one)
    dropped = compiled(two)
    assert compiled(one) is kept
    compiled(three)
    assert compiled(one) is kept
    assert compiled(two) is not dropped


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1e-300, -1e300, "", "a", "id", "^a", "(?=a)"])
)
KEYWORDS = st.sampled_from([
    "$anchor", "$defs", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema", "additionalProperties", "allOf",
    "anyOf", "const", "contains", "dependencies", "dependentRequired", "dependentSchemas", "else", "enum",
    "exclusiveMaximum", "format", "if", "items", "maxContains", "maxItems", "minimum", "minLength", "minProperties",
    "multipleOf", "not", "oneOf", "pattern", "patternProperties", "prefixItems", "properties", "propertyNames",
    "required", "then", "type", "unevaluatedItems", "unevaluatedProperties", "uniqueItems",
])  # fmt: skip
WORDS = st.sampled_from(["#", "#a", "#/$defs/a", "a", "regex", "date", "object", "array", "string", "integer"])
SCHEMA_LIKE = st.recursive(
    SCALARS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYWORDS, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "id", "^a", ""]), inner, max_size=2)
    ),
    max_leaves=12,
)
PAYLOADS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "id", "", "1", "01"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYWORDS, SCHEMA_LIKE, max_size=4), st.dictionaries(st.sampled_from("ab"), PAYLOADS))
def test_no_document_and_no_payload_is_a_fault(document: dict[str, Any], payload: dict[str, Any]) -> None:
    found: list[Any] = list(problems(document))
    judged: Any = document
    if not found:
        found, judged = list(Compiled(document, "id").violations(payload)), payload
    for problem in found:
        value = judged
        for token in problem.pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            value = value[int(name)] if isinstance(value, list) else value[name]
