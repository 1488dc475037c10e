from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend import json_values
from blockforger.backend.merge_patch import merged

if TYPE_CHECKING:
    from collections.abc import Callable

PORTABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number) < 2**63)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), children)
    ),
    max_leaves=20,
)


@given(PORTABLE)
def test_what_is_portable_comes_out_as_it_went_in(value: Any) -> None:
    assert json_values.parse(json_values.compact(value)) == value


def problem_of(check: Callable[[], object]) -> tuple[str, str] | None:
    try:
        check()
    except json_values.NotPortable as refusal:
        return refusal.message, refusal.pointer
    return None


ANY_TEXT = st.text(st.characters(categories=None))
ANYTHING = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(ANY_TEXT, children),
    max_leaves=20,
)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(
    st.builds(json.dumps, ANYTHING, ensure_ascii=st.booleans())
    | st.builds(str.__mod__, st.sampled_from(["%s", "[%s]", "[1,%s]", '{"a": %s}', '{"a":\n%s}']), NUMBERS)
    | st.builds(lambda depth: "[" * depth + "]" * depth, st.integers(95, 105))
)
def test_no_text_gets_by_that_holds_what_is_not_portable(text: str) -> None:
    value = json.loads(text)
    assert problem_of(lambda: json_values.parse(text)) == problem_of(lambda: json_values.check_portable(value))


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"a": [1, {"b/c": "\\u0000"}]}', "/a/1/b~1c"),
        ('{"a~": 9223372036854775808}', "/a~0"),
        ('{"a": -9223372036854775809}', "/a"),
        ('{"\\u0000": 1}', ""),
        ("[1e400]", "/0"),
        # PostgreSQL would give it back as an integer that the door refuses
        ("[1e22]", "/0"),
    ],
)
def test_the_place_of_what_is_not_portable_is_told(text: str, pointer: str) -> None:
    with pytest.raises(json_values.NotPortable) as refusal:
        json_values.parse(text)
    assert refusal.value.pointer == pointer


def test_the_limits_themselves_are_portable() -> None:
    assert json_values.parse("[9223372036854775807, -9223372036854775808]") == [2**63 - 1, -(2**63)]
    deepest = "[" * json_values.MAX_DEPTH + "]" * json_values.MAX_DEPTH
    assert json.dumps(json_values.parse(deepest)) == deepest


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    # RFC 7396, appendix A, the cases of an object as patch
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_rfc_shows(target: Any, patch: Any, result: Any) -> None:
    before = json.dumps(target)
    assert merged(target, patch) == result
    assert json.dumps(target) == before


def test_a_member_that_is_repeated_among_a_hundred_thousand_is_found() -> None:
    text = "{" + ",".join(f'"{number}":0' for number in range(100_000)) + ',"99999":1}'
    with pytest.raises(json_values.NotPortable, match='The member "99999" stands twice'):
        json_values.parse(text)


def test_long_names_above_many_values_take_no_memory_for_pointers() -> None:
    text = json.dumps({"a" * 400_000: [1] * 200_000 + ["\0"]})
    with pytest.raises(json_values.NotPortable) as refusal:
        json_values.parse(text)
    assert len(refusal.value.pointer) == json_values.MAX_POINTER


@given(st.floats())
def test_no_number_that_json_cannot_write_gets_through(number: float) -> None:
    if math.isfinite(number) and abs(number) < 2**63:
        json_values.check_portable(number)
    else:
        with pytest.raises(json_values.NotPortable):
            json_values.check_portable(number)


def test_what_is_written_down_has_no_spaces_and_keeps_its_order_its_characters_and_large_numbers() -> None:
    assert json_values.compact({"b": ["\u00e4", 1.5], "a": {}}) == '{"b":["\u00e4",1.5],"a":{}}'
    assert json_values.compact({"b": 2**70, "a": "\u00e4"}) == f'{{"b":{2**70},"a":"\u00e4"}}'
