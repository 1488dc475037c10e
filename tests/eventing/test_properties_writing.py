"""Writing .properties: what is written is read again, by this reader and by any other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import javaproperties
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend import json_values
from eventing import properties

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonValue

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(st.one_of(CHARACTERS, st.sampled_from('[]{}"\\=:#! \n\r\t\f')), max_size=20)
JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
    ),
    lambda children: st.one_of(st.lists(children, max_size=4), st.dictionaries(TEXTS, children, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, TEXTS, max_size=6))
def test_texts_are_read_again_as_they_were(expected: dict[str, str]) -> None:
    text = properties.write(expected)
    found, problems = properties.read(text, file="f")
    assert problems == []
    assert {key: entry.value for key, entry in found.items()} == expected
    assert list(found) == list(expected)


@given(st.dictionaries(TEXTS, TEXTS, max_size=6))
def test_other_readers_read_the_same_texts(expected: dict[str, str]) -> None:
    assert javaproperties.loads(properties.write(expected).encode("ascii")) == expected


@given(st.lists(JSON, max_size=4))
def test_json_is_read_again_as_it_was_also_by_other_readers(value: list[JsonValue]) -> None:
    text = properties.write({"before": "1", "x": value, "after": "2"})
    found, problems = properties.read(text, file="f")
    assert problems == []
    assert list(found) == ["before", "x", "after"]
    assert json.loads(found["x"].value) == value
    assert json.loads(javaproperties.loads(text.encode("ascii"))["x"]) == value


def test_what_is_written_can_be_read_by_people() -> None:
    rules: list[JsonValue] = [
        {"eventbridge_arn": "arn", "operations": ["POST", "PUT"], "schema_names": []},
        {"source": 'say "é🐾" \\o/'},
    ]
    assert properties.write({"eventbridge-input": "true", "eventbridge-output": rules, "note": "[a: b]", "": ""}) == (
        "eventbridge-input=true\n"
        "eventbridge-output=[ \\\n"
        "  { \\\n"
        '    "eventbridge_arn": "arn", \\\n'
        '    "operations": ["POST", "PUT"], \\\n'
        '    "schema_names": [] \\\n'
        "  }, \\\n"
        "  { \\\n"
        '    "source": "say \\\\"\\u00e9\\ud83d\\udc3e\\\\" \\\\\\\\o/" \\\n'
        "  } \\\n"
        "]\n"
        "note=\\[a\\: b]\n"
        "=\n"
    )


def test_an_empty_array_stays_on_its_line() -> None:
    assert properties.write({"eventbridge-output": []}) == "eventbridge-output=[]\n"


def test_a_value_of_several_lines_that_was_kept_comes_out_in_one() -> None:
    found, _ = properties.read('x={\n  "a": 1\n}\n', file="f")
    text = properties.write({"x": found["x"].value})
    assert text == 'x=\\{\\n  "a"\\: 1\\n}\n'
    assert json_values.parse(properties.read(text, file="f")[0]["x"].value) == {"a": 1}
