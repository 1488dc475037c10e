"""Output rules as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing import rule_documents
from eventing.models import OutputRule
from tests.cast import BUS, UNCONDITIONAL
from tests.eventing import spec_examples

if TYPE_CHECKING:
    from eventing.rule_documents import RuleDocument


def problems_of(value: Any) -> dict[str, str]:
    return dict(rule_documents.read(value)[1])


def test_the_configuration_format_of_the_specification_is_read() -> None:
    documents, problems = rule_documents.read(json.loads(spec_examples.CONFIGURATION_FORMAT))
    assert problems == []
    assert documents == [
        {
            "eventbridge_arn": BUS,
            "source": "blockforger-output",
            "detail_type": "petstore.POST",
            "operations": ["POST", "PUT", "PATCH", "DELETE"],
            "schema_names": ["petstore", "orders"],
            **UNCONDITIONAL,
        },
        {
            "eventbridge_arn": BUS,
            "source": "myapp.backend-output",
            "detail_type": "{schema_id}.{operation}",
            "operations": ["POST", "DELETE"],
            "schema_names": ["analytics"],
            **UNCONDITIONAL,
        },
    ]


def test_only_the_bus_is_required_and_the_rest_has_the_defaults_of_the_specification() -> None:
    documents, problems = rule_documents.read([{"eventbridge_arn": BUS}])
    assert problems == []
    assert documents == [
        {
            "eventbridge_arn": BUS,
            "source": "blockforger-output",
            "detail_type": "{schema_id}.{operation}",
            "operations": [],
            "schema_names": [],
            **UNCONDITIONAL,
        }
    ]


def test_the_json_at_the_end_of_a_schemas_name_is_dropped() -> None:
    documents, _ = rule_documents.read([{"eventbridge_arn": BUS, "schema_names": ["petstore.json", "orders"]}])
    assert documents[0]["schema_names"] == ["petstore", "orders"]


@pytest.mark.parametrize("value", [{"eventbridge_arn": BUS}, "x", None, 1, True])
def test_rules_are_an_array(value: object) -> None:
    assert problems_of(value) == {"": "Write an array of rules: [{…}, {…}]."}


def test_a_rule_is_an_object() -> None:
    message = (
        "Write an object with the members of a rule: eventbridge_arn, source, detail_type, operations, schema_names, "
        "enabled, filter, on_change, fields."
    )
    assert problems_of([BUS, {"eventbridge_arn": BUS}, None]) == {"/0": message, "/2": message}


def test_every_problem_of_every_rule_is_told_with_its_place() -> None:
    value = [
        {"eventbridge_arn": BUS},
        {"arn": BUS, "detail/type": 1},
        {"eventbridge_arn": BUS, "source": None, "operations": "POST", "schema_names": [1], "detail_type": ""},
    ]
    members = "eventbridge_arn, source, detail_type, operations, schema_names, enabled, filter, on_change, fields"
    assert problems_of(value) == {
        "/1/arn": f"A rule has no member 'arn'. Remove it, or use one of {members}.",
        "/1/detail~1type": f"A rule has no member 'detail/type'. Remove it, or use one of {members}.",
        "/1/eventbridge_arn": ("Name the bus by its ARN, a text: arn:aws:events:{region}:{account}:event-bus/{name}."),
        "/2/source": "Use a text of 1 to 256 characters.",
        "/2/detail_type": "Use a text of 1 to 128 characters.",
        "/2/operations": 'Use a list of operations, such as ["POST", "DELETE"]; an empty one means all four.',
        "/2/schema_names": 'Use a list of names of schemas, such as ["petstore"]; an empty one means all schemas.',
    }


NAMES = st.text(st.sampled_from("abcXYZ019_-"), min_size=1, max_size=10)
DOCUMENTS: st.SearchStrategy[RuleDocument] = st.fixed_dictionaries(  # type: ignore[assignment]
    {
        "eventbridge_arn": NAMES.map("arn:aws:events:eu-west-1:123456789012:event-bus/".__add__),
        "source": NAMES.map("source ".__add__),
        "detail_type": st.sampled_from(["{schema_id}.{operation}", "{operation}", "changed", 'é"\\{}']),
        "operations": st.lists(st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), unique=True),
        "schema_names": st.lists(NAMES, max_size=3),
        "enabled": st.booleans(),
        "filter": st.none() | st.sampled_from([{"a": ["x", {"exists": False}]}, {"$or": [{"a": [1]}, {"b": [1.5]}]}]),
        "on_change": st.lists(NAMES, max_size=3, unique=True),
        "fields": st.none() | st.sampled_from([{"keep": ["a"]}, {"drop": ["a", "b.c"], "mask": ["d"]}]),
    }
)


@given(st.lists(DOCUMENTS, max_size=4))
def test_what_is_written_is_read_again(documents: list[RuleDocument]) -> None:
    written = json.loads(json.dumps([rule_documents.written(document) for document in documents]))
    assert rule_documents.read(written) == (documents, [])


def test_a_filter_is_the_same_however_it_is_written() -> None:
    one: Any = [{"eventbridge_arn": BUS, "filter": {"b": [1e2, "x"], "a": [0.5]}}]
    other: Any = [{"eventbridge_arn": BUS, "filter": {"a": [0.5], "b": [100, "x"]}}]
    assert json.dumps(rule_documents.read(one)) == json.dumps(rule_documents.read(other))


def test_what_is_wrong_in_a_filter_is_told_with_its_place() -> None:
    rules: Any = [{"eventbridge_arn": BUS, "filter": {"a/b": [{"prefix": 1}], "c": "x"}}]
    _, problems = rule_documents.read(rules)
    assert [pointer for pointer, _ in problems] == ["/0/filter/a~1b/0/prefix", "/0/filter/c"]


def test_a_rule_is_described_with_its_conditions() -> None:
    rule: Any = {
        "eventbridge_arn": BUS, "enabled": False, "filter": {"a": [1]}, "on_change": ["b", "c"],
        "fields": {"drop": ["d"], "mask": ["e"]},
    }  # fmt: skip
    [document], _ = rule_documents.read([rule])
    assert rule_documents.described(document) == (
        f'all operations of all schemas to {BUS}, if {{"a":[1]}}, on a change of b, c, drop d, mask e (disabled)'
    )


@given(DOCUMENTS)
def test_a_stored_rule_says_what_the_file_said(document: RuleDocument) -> None:
    assert rule_documents.of_row(OutputRule(**document)) == document


def test_lists_that_mean_all_are_left_out() -> None:
    assert rule_documents.written(rule_documents.of_row(OutputRule(eventbridge_arn=BUS))) == {
        "eventbridge_arn": BUS,
        "source": "blockforger-output",
        "detail_type": "{schema_id}.{operation}",
    }


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, f"all operations of all schemas to {BUS}"),
        (
            {"operations": ["POST", "PUT"], "schema_names": ["pets"], "source": "x", "detail_type": "y"},
            f"POST, PUT of pets to {BUS}, source 'x', detail-type 'y'",
        ),
    ],
)
def test_a_rule_can_be_told_in_a_line(fields: dict[str, Any], text: str) -> None:
    row = OutputRule(eventbridge_arn=BUS, **fields)
    assert rule_documents.described(rule_documents.of_row(row)) == text
