"""Event patterns: what matches, why something does not, and what is no pattern."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.events.models import EventPattern

from eventing import patterns

PAYLOAD: dict[str, Any] = {
    "id": "7",
    "status": "Available",
    "price": 300,
    "ratio": 2.5,
    "sold": False,
    "note": None,
    "ip": "10.0.0.77",
    "six": "2001:db8::1",
    "path": "a*b\\c/d.png",
    "tags": ["red", "green"],
    "deep": [["x"], [["y"]]],
    "none": [],
    "hollow": {},
    "owner": {"name": "Anna", "city": "Bonn"},
    "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2, "gift": True}],
    "/~": {"$x": "odd"},
}

CASES = [
    # exact
    ({"status": ["Available"]}, True),
    ({"status": ["available"]}, False),
    ({"status": ["sold", "Available"]}, True),
    ({"price": [300]}, True),
    ({"price": [300.0]}, True),
    ({"price": ["300"]}, False),
    ({"sold": [False]}, True),
    ({"sold": [0]}, False),
    ({"sold": [True]}, False),
    ({"price": [True]}, False),
    ({"note": [None]}, True),
    ({"nothing": [None]}, False),
    ({"note": [""]}, False),
    # all members
    ({"status": ["Available"], "price": [300]}, True),
    ({"status": ["Available"], "price": [301]}, False),
    # arrays in the payload
    ({"tags": ["green"]}, True),
    ({"tags": ["blue"]}, False),
    ({"deep": ["y"]}, True),
    ({"none": ["x"]}, False),
    # inner objects
    ({"owner": {"city": ["Bonn"]}}, True),
    ({"owner": {"city": ["Köln"]}}, False),
    ({"owner": ["Anna"]}, False),
    ({"status": {"city": ["Bonn"]}}, False),
    ({"/~": {"$x": ["odd"]}}, True),
    ({"owner.city": ["Bonn"]}, False),
    # arrays of objects: one and the same element
    ({"lines": {"sku": ["b"]}}, True),
    ({"lines": {"sku": ["a"], "count": [1]}}, True),
    ({"lines": {"sku": ["a"], "count": [2]}}, False),
    ({"lines": {"count": [{"numeric": [">", 1]}], "gift": [{"exists": True}]}}, True),
    ({"lines": {"sku": ["a"], "gift": [{"exists": False}]}}, False),
    ({"lines": {"sku": ["a"], "colour": [{"exists": False}]}}, True),
    # prefix and suffix
    ({"status": [{"prefix": "Av"}]}, True),
    ({"status": [{"prefix": "av"}]}, False),
    ({"status": [{"prefix": {"equals-ignore-case": "aV"}}]}, True),
    ({"status": [{"suffix": "able"}]}, True),
    ({"status": [{"suffix": "ABLE"}]}, False),
    ({"status": [{"suffix": {"equals-ignore-case": "ABLE"}}]}, True),
    ({"price": [{"prefix": "3"}]}, False),
    ({"nothing": [{"prefix": ""}]}, False),
    ({"tags": [{"prefix": "gr"}]}, True),
    # equals-ignore-case
    ({"status": [{"equals-ignore-case": "aVAILABLE"}]}, True),
    ({"status": [{"equals-ignore-case": "available "}]}, False),
    # anything-but
    ({"status": [{"anything-but": "sold"}]}, True),
    ({"status": [{"anything-but": "Available"}]}, False),
    ({"status": [{"anything-but": ["sold", "Available"]}]}, False),
    ({"price": [{"anything-but": 300}]}, False),
    ({"price": [{"anything-but": [1, 2]}]}, True),
    ({"price": [{"anything-but": "300"}]}, True),
    ({"note": [{"anything-but": "x"}]}, True),
    ({"nothing": [{"anything-but": "x"}]}, False),
    ({"tags": [{"anything-but": "red"}]}, True),  # green is
    ({"tags": [{"anything-but": ["red", "green"]}]}, False),
    ({"status": [{"anything-but": {"prefix": "Av"}}]}, False),
    ({"status": [{"anything-but": {"prefix": ["x", "Av"]}}]}, False),
    ({"status": [{"anything-but": {"prefix": "x"}}]}, True),
    ({"price": [{"anything-but": {"prefix": "3"}}]}, True),
    ({"status": [{"anything-but": {"suffix": "able"}}]}, False),
    ({"status": [{"anything-but": {"suffix": ["x", "y"]}}]}, True),
    ({"status": [{"anything-but": {"equals-ignore-case": "AVAILABLE"}}]}, False),
    ({"status": [{"anything-but": {"equals-ignore-case": ["x", "y"]}}]}, True),
    ({"status": [{"anything-but": {"wildcard": "A*e"}}]}, False),
    ({"status": [{"anything-but": {"wildcard": ["x*", "*x"]}}]}, True),
    # numeric
    ({"price": [{"numeric": ["=", 300]}]}, True),
    ({"price": [{"numeric": ["=", 3e2]}]}, True),
    ({"price": [{"numeric": [">", 300]}]}, False),
    ({"price": [{"numeric": [">=", 300]}]}, True),
    ({"price": [{"numeric": ["<", 300]}]}, False),
    ({"price": [{"numeric": ["<=", 300]}]}, True),
    ({"price": [{"numeric": [">", 0, "<=", 300]}]}, True),
    ({"price": [{"numeric": [">", 0, "<", 300]}]}, False),
    ({"ratio": [{"numeric": [">", 2, "<", 3]}]}, True),
    ({"status": [{"numeric": [">", 0]}]}, False),
    ({"sold": [{"numeric": ["=", 0]}]}, False),
    # exists
    ({"status": [{"exists": True}]}, True),
    ({"status": [{"exists": False}]}, False),
    ({"nothing": [{"exists": True}]}, False),
    ({"nothing": [{"exists": False}]}, True),
    ({"note": [{"exists": True}]}, True),
    ({"tags": [{"exists": True}]}, True),
    ({"owner": [{"exists": True}]}, False),  # no leaf
    ({"owner": [{"exists": False}]}, True),
    ({"hollow": [{"exists": True}]}, False),
    ({"none": [{"exists": False}]}, True),
    ({"lines": [{"exists": False}]}, True),
    ({"nothing": {"inner": [{"exists": False}]}}, True),
    ({"owner": {"zip": [{"exists": False}, "53111"]}}, True),
    # wildcard
    ({"status": [{"wildcard": "Av*le"}]}, True),
    ({"status": [{"wildcard": "*"}]}, True),
    ({"status": [{"wildcard": "A*a*l*"}]}, True),
    ({"status": [{"wildcard": "*x*"}]}, False),
    ({"status": [{"wildcard": "Available*Available"}]}, False),
    ({"status": [{"wildcard": "Available"}]}, True),
    ({"path": [{"wildcard": "a\\*b\\\\c/*.png"}]}, True),
    ({"path": [{"wildcard": "a\\*c*"}]}, False),
    # cidr
    ({"ip": [{"cidr": "10.0.0.0/24"}]}, True),
    ({"ip": [{"cidr": "10.0.1.0/24"}]}, False),
    ({"six": [{"cidr": "2001:db8::/32"}]}, True),
    ({"six": [{"cidr": "10.0.0.0/24"}]}, False),
    ({"status": [{"cidr": "10.0.0.0/24"}]}, False),
    # $or
    ({"$or": [{"status": ["sold"]}, {"price": [300]}]}, True),
    ({"$or": [{"status": ["sold"]}, {"price": [301]}]}, False),
    ({"id": ["7"], "$or": [{"status": ["sold"]}, {"price": [300]}]}, True),
    ({"id": ["8"], "$or": [{"status": ["sold"]}, {"price": [300]}]}, False),
    ({"owner": {"$or": [{"name": ["x"]}, {"city": ["Bonn"], "name": ["Anna"]}]}}, True),
    ({"$or": [{"$or": [{"id": ["1"]}, {"id": ["7"]}]}, {"id": ["2"]}]}, True),
]


@pytest.mark.parametrize(("pattern", "expected"), CASES, ids=lambda value: json.dumps(value))
def test_a_pattern_matches_as_eventbridge_does(pattern: Any, expected: bool) -> None:
    assert patterns.check(pattern) == []
    assert patterns.matches(patterns.compiled(pattern), PAYLOAD) is expected


WRONG = [
    ([], ""),
    ({}, ""),
    ({"a": "x"}, "/a"),
    ({"a": []}, "/a"),
    ({"a": {}}, "/a"),
    ({"a": None}, "/a"),
    ({"a": [[1]]}, "/a/0"),
    ({"a": ["x", {"begins": "x"}]}, "/a/1"),
    ({"a": [{}]}, "/a/0"),
    ({"a": [{"prefix": "x", "suffix": "y"}]}, "/a/0"),
    ({"a": [{"exists": "true"}]}, "/a/0/exists"),
    ({"a": [{"prefix": 1}]}, "/a/0/prefix"),
    ({"a": [{"prefix": {"x": "y"}}]}, "/a/0/prefix"),
    ({"a": [{"suffix": ["x"]}]}, "/a/0/suffix"),
    ({"a": [{"equals-ignore-case": 1}]}, "/a/0/equals-ignore-case"),
    ({"a": [{"anything-but": []}]}, "/a/0/anything-but"),
    ({"a": [{"anything-but": ["x", 1]}]}, "/a/0/anything-but"),
    ({"a": [{"anything-but": None}]}, "/a/0/anything-but"),
    ({"a": [{"anything-but": True}]}, "/a/0/anything-but"),
    ({"a": [{"anything-but": {"cidr": "x"}}]}, "/a/0/anything-but"),
    ({"a": [{"anything-but": {"prefix": ""}}]}, "/a/0/anything-but/prefix"),
    ({"a": [{"anything-but": {"wildcard": "x**"}}]}, "/a/0/anything-but/wildcard"),
    ({"a": [{"numeric": [">"]}]}, "/a/0/numeric"),
    ({"a": [{"numeric": ["!=", 1]}]}, "/a/0/numeric/0"),
    ({"a": [{"numeric": [">", "1"]}]}, "/a/0/numeric/1"),
    ({"a": [{"numeric": [">", True]}]}, "/a/0/numeric/1"),
    ({"a": [{"numeric": [">", 5_000_000_001]}]}, "/a/0/numeric/1"),
    ({"a": [{"numeric": ["<", 5, ">", 1]}]}, "/a/0/numeric"),
    ({"a": [{"numeric": [">", 5, "<", 5]}]}, "/a/0/numeric/3"),
    ({"a": [{"wildcard": "x**y"}]}, "/a/0/wildcard"),
    ({"a": [{"wildcard": "x\\y"}]}, "/a/0/wildcard"),
    ({"a": [{"cidr": "10.0.0.0/33"}]}, "/a/0/cidr"),
    ({"a": [{"cidr": 1}]}, "/a/0/cidr"),
    ({"$or": {"a": [1]}}, "/$or"),
    ({"$or": [{"a": [1]}]}, "/$or"),
    ({"$or": [{"a": [1]}, {}]}, "/$or/1"),
    ({"a/b~": {"c": [{"exists": 1}]}}, "/a~1b~0/c/0/exists"),
    ({"a": ["x" * 2100]}, ""),
    (json.loads('{"a":' * 25 + "[1]" + "}" * 25), "/a" * 21),
    # 2**10 combinations
    ({f"{number}": {"$or": [{"a": [1]}, {"b": [1]}]} for number in range(10)}, ""),
]


@pytest.mark.parametrize(("pattern", "pointer"), WRONG, ids=lambda value: json.dumps(value)[:80])
def test_what_is_no_pattern_is_told_with_its_place(pattern: Any, pointer: str) -> None:
    found = patterns.check(pattern)
    assert [place for place, _ in found] == [pointer]
    assert all(message.endswith((".", "}", "]")) for _, message in found)
    with pytest.raises(ValueError, match=r"."):
        patterns.compiled(pattern)


def test_all_that_is_wrong_is_told_at_once() -> None:
    pattern: Any = {"a": [{"prefix": 1}, 2, {"x": 1}], "b": {"c": "d"}, "$or": []}
    assert [place for place, _ in patterns.check(pattern)] == ["/$or", "/a/0/prefix", "/a/2", "/b/c"]


@pytest.mark.parametrize(
    ("pattern", "pointer", "sentence"),
    [
        ({"id": ["7"], "status": ["sold"]}, "/status", '/status is "Available", and ["sold"] is asked for'),
        ({"/~": {"a": ["x"]}}, "/~1~0/a", '/~1~0/a is not there, and ["x"] is asked for'),
        ({"tags": [{"prefix": "b"}]}, "/tags", '/tags is "red", "green", and [{"prefix":"b"}] is asked for'),
        (
            {"lines": {"sku": ["a"], "count": [2]}},
            "/lines/count",
            "/lines/count meets [2] in no element that meets the other conditions, too",
        ),
        ({"$or": [{"id": ["1"]}, {"id": ["2"]}]}, "", "the payload meets none of the 2 alternatives of $or"),
        (
            {"owner": {"$or": [{"name": ["1"]}, {"name": ["2"]}]}},
            "/owner",
            "/owner meets none of the 2 alternatives of $or",
        ),
        ({"status": [{"exists": False}]}, "/status", '/status is "Available", and [{"exists":false}] is asked for'),
    ],
)
def test_the_first_unmet_condition_is_told(pattern: Any, pointer: str, sentence: str) -> None:
    unmet = patterns.compiled(pattern).unmet(PAYLOAD)
    assert unmet is not None
    assert (unmet.pointer, str(unmet)) == (pointer, sentence)


def test_a_payload_of_many_values_is_told_briefly() -> None:
    unmet = patterns.compiled({"a": ["x"]}).unmet({"a": ["y" * 1000, 1, 2, 3, 4]})
    assert len(str(unmet)) < 150


TEXTS = st.text("aBc*\\", max_size=8)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=5))
def test_a_wildcard_is_found_wherever_its_pieces_are(text: str, pieces: list[str]) -> None:
    pieces = [pieces[0], *filter(None, pieces[1:-1]), *pieces[1:][-1:]]
    written = "*".join(piece.replace("\\", "\\\\").replace("*", "\\*") for piece in pieces)
    pattern = patterns.compiled({"a": [{"wildcard": written}]})
    assert patterns.matches(pattern, {"a": text.join(pieces)})
    assert patterns.matches(pattern, {"a": text}) is _wildcard_oracle(pieces, text)


def _wildcard_oracle(pieces: list[str], text: str) -> bool:
    """Every way to fill the stars."""
    first, *others = pieces
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    rest = text[len(first) :]
    return any(_wildcard_oracle(others, rest[skipped:]) for skipped in range(len(rest) + 1))


# Where moto is right: it takes true for 1, and {} and [] for leaves; it looks neither into arrays of objects nor into
# arrays in arrays; it takes a member `a.b` for `b` in `a`; and its stars stop at the end of a line.
SCALARS = st.sampled_from(["a", "ab", "B", "", 1, 2.5, -3, None])
PAYLOADS = st.dictionaries(
    st.sampled_from("xyz"),
    SCALARS | st.lists(SCALARS, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("xy"), SCALARS, min_size=1),
    max_size=3,
)
CONDITIONS = st.lists(
    SCALARS
    | st.sampled_from("aAbB").map(lambda text: {"prefix": text})
    | st.sampled_from("aAbB").map(lambda text: {"suffix": text})
    | st.sampled_from(["A", "AB", "b"]).map(lambda text: {"equals-ignore-case": text})
    | st.sampled_from(["a*", "*b", "a*b", "*"]).map(lambda text: {"wildcard": text})
    | st.sampled_from([["=", 1], [">", 0], ["<=", 2.5], [">", -3, "<", 2]]).map(lambda limits: {"numeric": limits})
    | st.sampled_from(["a", 1, ["a", "ab"], [1, 2.5], {"prefix": "a"}, {"suffix": ["b", "B"]}, {"wildcard": "a*"}]).map(
        lambda excluded: {"anything-but": excluded}
    )
    | st.booleans().map(lambda exists: {"exists": exists}),
    min_size=1,
    max_size=3,
)
LEVEL = st.dictionaries(st.sampled_from("xyz"), CONDITIONS, min_size=1, max_size=3)
PATTERNS = st.dictionaries(st.sampled_from("xyz"), CONDITIONS | LEVEL, min_size=1, max_size=3) | st.lists(
    LEVEL, min_size=2, max_size=3
).map(lambda alternatives: {"$or": alternatives})


@given(PATTERNS, PAYLOADS)
def test_a_pattern_matches_as_motos_matcher_does_where_that_is_right(pattern: Any, payload: Any) -> None:
    assert patterns.matches(patterns.compiled(pattern), payload) is EventPattern(None, pattern).matches_event(payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_any_json_is_a_pattern_or_told_to_be_none(document: Any, payload: Any) -> None:
    if patterns.check(document):
        with pytest.raises(ValueError, match=r"."):
            patterns.compiled(document)
    else:
        unmet = patterns.compiled(document).unmet(payload)
        assert unmet is None or str(unmet)
