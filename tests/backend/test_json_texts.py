"""JSON as people write and read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend import json_texts, json_values
from blockforger.backend.json_texts import JsonError, Place

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonValue

TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('[]{}",:\\~/ \n')), max_size=10)
JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda children: st.one_of(st.lists(children, max_size=4), st.dictionaries(TEXTS, children, max_size=4)),
    max_leaves=12,
)


def values_within(value: JsonValue, pointer: str = "") -> dict[str, JsonValue]:
    """The value and all values in it, by JSON Pointer."""
    found = {pointer: value}
    children: list[tuple[object, JsonValue]] = []
    if isinstance(value, list):
        children = [*enumerate(value)]
    elif isinstance(value, dict):
        children = [*value.items()]
    for name, child in children:
        found |= values_within(child, f"{pointer}/{json_values.escaped(str(name))}")
    return found


@given(JSON, st.sampled_from([None, 1]), st.sampled_from(["", " ", "\r\n\t"]), st.booleans())
def test_every_value_is_found_at_its_place(value: JsonValue, indent: int | None, space: str, ascii_only: bool) -> None:
    text = space + json.dumps(value, indent=indent, ensure_ascii=ascii_only) + space
    found = json_texts.places(text)
    expected = values_within(value)
    assert found.keys() == expected.keys()
    for pointer, place in found.items():
        assert json.JSONDecoder().raw_decode(text, place.offset)[0] == expected[pointer]


def test_places_have_json_paths() -> None:
    found = json_texts.places('[{"operations": ["POST"], "a b": {"~/\\"": 1, "": 2}}]')
    assert {pointer: place.path for pointer, place in found.items()} == {
        "": "$",
        "/0": "$[0]",
        "/0/operations": "$[0].operations",
        "/0/operations/0": "$[0].operations[0]",
        "/0/a b": '$[0]["a b"]',
        '/0/a b/~0~1"': '$[0]["a b"]["~/\\""]',
        "/0/a b/": '$[0]["a b"][""]',
    }


def test_the_place_of_what_is_missing_is_that_of_its_parent() -> None:
    known = json_texts.places('[{"a": 1}]')
    assert json_texts.place_of("/0/b/c", known) == Place(1, "$[0]")
    assert json_texts.place_of("", {}) == Place(0, "")


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ('{"a": }', "This is not JSON: Expecting value.", Place(6, "")),
        ("", "This is not JSON: Expecting value.", Place(0, "")),
        ("[1] 2", "This is not JSON: Extra data.", Place(4, "")),
        ('{"a": [0, "\\u0000"]}', "A text holds the character U+0000.", Place(10, "$.a[1]")),
        ('{"a": 9223372036854775808}', "An integer does not fit into 64 bits.", Place(6, "$.a")),
        ("NaN", "NaN is not JSON.", Place(0, "$")),
        ('{"a": 1, "a": 2}', 'The member "a" stands twice in one object.', Place(0, "$")),
        ("[" * 500 + "]" * 500, "The value is nested deeper than 100 levels.", Place(100, "$" + "[0]" * 100)),
        ("[" * 100_000 + "]" * 100_000, "The value is nested deeper than 100 levels.", Place(0, "$")),
        ("1" * 10_000, "A number has too many digits.", Place(0, "$")),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_with_the_place(text: str, message: str, place: Place) -> None:
    with pytest.raises(JsonError) as error:
        json_texts.parse(text)
    assert (error.value.message, error.value.place) == (message, place)


@given(JSON)
def test_what_is_laid_out_is_the_same_json(value: JsonValue) -> None:
    text = json_texts.readable(value)
    assert json.loads(text) == value
    assert json.dumps(json.loads(text)) == json.dumps(value)


def test_arrays_of_scalars_stay_on_a_line() -> None:
    assert json_texts.readable({"a": [1, "x, \n y"], "b": [[], {}], "c": ["[", "]"], "d": {"e": [None]}}) == (
        "{\n"
        '  "a": [1, "x, \\n y"],\n'
        '  "b": [\n    [],\n    {}\n  ],\n'
        '  "c": [\n    "[",\n    "]"\n  ],\n'
        '  "d": {\n    "e": [null]\n  }\n'
        "}"
    )
