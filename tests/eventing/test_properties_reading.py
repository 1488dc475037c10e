"""Reading .properties: the format, JSON in its three forms, and where things stand."""

from __future__ import annotations

import javaproperties
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend import json_values
from eventing import properties
from tests.eventing import spec_examples


def values_of(text: str) -> dict[str, str]:
    found, problems = properties.read(text, file="f")
    assert problems == []
    return {key: entry.value for key, entry in found.items()}


def problems_of(text: str) -> list[str]:
    return [str(problem) for problem in properties.read(text, file="tenant.properties")[1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a = 1 \n", {"a": "1 "}),
        ("a:1\nb 2\nc", {"a": "1", "b": "2", "c": ""}),
        ("# a=1\n  ! b=2\n\n\t\nc=3#4", {"c": "3#4"}),
        ("a=1\r\nb=2\rc=3\n", {"a": "1", "b": "2", "c": "3"}),
        ("a=1\\\n   2\\\r\n3", {"a": "123"}),
        ("a=1\\\\\nb=2", {"a": "1\\", "b": "2"}),
        ("a\\ b\\=c=d\\te\\u00e9\\z", {"a b=c": "d\teéz"}),
        ("a=\\ud83d\\udc3e", {"a": "🐾"}),
        ("a=\x85\u2028b", {"a": "\x85\u2028b"}),
        ("=x", {"": "x"}),
    ],
)
def test_the_format_is_read_as_java_reads_it(text: str, expected: dict[str, str]) -> None:
    assert values_of(text) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # On one line.
        ('x=[{"a": 1}]', [{"a": 1}]),
        ('x={"a": [1, 2]}  ', {"a": [1, 2]}),
        ('x=[{"a": "b\\\\n"}]', [{"a": "b\n"}]),
        ('x=["\\u00e9"]', ["é"]),
        # On one line, by someone who forgot that the format has escapes of its own.
        ('x=["say \\"hello\\""]', ['say "hello"']),
        # With backslashes at the ends of lines.
        ('x=[ \\\n  {"a": 1}, \\\n  {"b": "\\\\""} \\\n]\n', [{"a": 1}, {"b": '"'}]),
        ("x=\\\n  [1,\\\r\n   2]", [1, 2]),
        # Just so.
        ('x=[\n{"a": 1},\n{"b": "\\"]"}\n]\n', [{"a": 1}, {"b": '"]'}]),
        ("x : {\r\n\r\n}", {}),
        ('x=[\n"#",\n"="]', ["#", "="]),
        # A mixture: someone forgot a backslash.
        ("x=[ \\\n 1, \n 2 \\\n]", [1, 2]),
    ],
)
def test_json_is_read_in_each_of_its_forms(text: str, value: object) -> None:
    found = values_of(f"before=1\n{text}\nafter=2")
    assert found.keys() == {"before", "x", "after"}
    assert json_values.parse(found["x"]) == value


def test_the_single_rule_example_of_the_specification_is_read() -> None:
    rules = json_values.parse(values_of(spec_examples.SINGLE_RULE_FOR_ALL_SCHEMAS)["eventbridge-output"])
    assert rules == [
        {
            "eventbridge_arn": "arn:aws:events:us-east-1:720291373173:event-bus/default",
            "source": "blockforger-output",
            "operations": ["POST", "PUT", "DELETE"],
        }
    ]


def test_the_multiple_rules_example_of_the_specification_is_read() -> None:
    text = spec_examples.INPUT_ENABLED + spec_examples.MULTIPLE_RULES_WITH_SCHEMA_FILTERING + "after=1\n"
    found = values_of(text)
    assert found.keys() == {"eventbridge-input", "eventbridge-output", "after"}
    rules = json_values.parse(found["eventbridge-output"])
    assert isinstance(rules, list)
    assert [rule["schema_names"] for rule in rules if isinstance(rule, dict)] == [
        ["petstore", "orders"],
        ["analytics", "events"],
        [],
    ]


@pytest.mark.parametrize("text", ["[a-z]+", "{name}", "[hello] world", "{}{}", "[1] # one"])
def test_a_text_in_brackets_that_is_no_json_is_a_text(text: str) -> None:
    assert values_of(f"x={text}\ny=1") == {"x": text, "y": "1"}


def test_a_text_that_begins_with_a_bracket_can_be_escaped() -> None:
    assert values_of("x=\\[hello\ny=\\{\n") == {"x": "[hello", "y": "{"}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "a=1\nb=2\na=3\na=4",
            [
                "tenant.properties:3:1: The key 'a' is set on line 1 already. Remove one of the two.",
                "tenant.properties:4:1: The key 'a' is set on line 1 already. Remove one of the two.",
            ],
        ),
        (
            "a=\\u12\n  b=1\n\n  b=2",
            [
                "tenant.properties:1:1: '\\u12' is not \\u with four hexadecimal digits. Write \\\\ for a backslash.",
                "tenant.properties:4:3: The key 'b' is set on line 2 already. Remove one of the two.",
            ],
        ),
        # JSON that is wrong, over several lines; the next property is read all the same.
        (
            'x=[\n  {"a": 1,}\n]\ny=1\ny=2',
            [
                (
                    "tenant.properties:2:11: The value of 'x' is not JSON: Expecting property name enclosed in "
                    "double quotes."
                ),
                "tenant.properties:5:1: The key 'y' is set on line 4 already. Remove one of the two.",
            ],
        ),
        # Text after the closing bracket.
        ("x=[\n1\n] 2\ny=1", ["tenant.properties:3:3: The value of 'x' is not JSON: Extra data."]),
        # A bracket that nothing closes.
        ("x=[\ny=1\n", ["tenant.properties:2:1: The value of 'x' is not JSON: Expecting value."]),
        ("x=[oops", ["tenant.properties:1:4: The value of 'x' is not JSON: Expecting value."]),
        (
            "x=" + "[" * 100_000 + "\n",
            ["tenant.properties:1:3: The value of 'x' is not JSON: It is nested too deeply."],
        ),
    ],
)
def test_every_problem_is_told_with_its_place(text: str, problems: list[str]) -> None:
    assert problems_of(text) == problems


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("ä=🐾".encode(), "ä=🐾"),
        ("\ufeffä=1".encode(), "ä=1"),
        ("ä=é".encode("latin-1"), "ä=é"),
        (b"", ""),
    ],
)
def test_a_file_is_utf_8_or_else_latin_1(data: bytes, text: str) -> None:
    assert properties.decode(data) == text


def test_the_byte_order_mark_of_a_windows_editor_is_no_part_of_the_first_key() -> None:
    assert values_of(properties.decode("\ufeffeventbridge-input=true\r\n".encode())) == {"eventbridge-input": "true"}


SEPARATORS = st.sampled_from(["=", ":", " = ", "\t", " \\\n  = \\\r\n ", "\\\r="])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.dictionaries(TEXTS.map("k".__add__), TEXTS.map("v".__add__), max_size=5),
    SEPARATORS,
    st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_positions_lead_to_what_was_written(expected: dict[str, str], separator: str, line_end: str) -> None:
    text = line_end.join(
        f"  {javaproperties.escape(key)}{separator}{javaproperties.escape(value)}" for key, value in expected.items()
    )
    found, problems = properties.read(text, file="f")
    assert problems == []
    assert {key: entry.value for key, entry in found.items()} == expected
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for key, entry in found.items():
        assert lines[entry.position.line - 1][entry.position.column - 1 :].startswith(javaproperties.escape(key))
        for offset, character in enumerate(entry.value):
            line, column = entry.position_in_value(offset)
            assert lines[line - 1][column - 1 :].startswith(javaproperties.escape(character))
