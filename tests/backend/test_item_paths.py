"""Which paths a schema knows, and of which types; and what of an item `fields` choose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend.item_paths import SCALARS, Paths, parsed, written
from blockforger.backend.list_fields import selected, selection

ALL = SCALARS | {"array", "object"}
STRING = frozenset({"string"})
NODE = {"type": "object", "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}}}
DOCUMENT: dict[str, Any] = {
    "$defs": {"node": NODE, "text": {"type": "string"}, "loop": {"$ref": "#/$defs/loop"}},
    "properties": {
        "id": {"type": "string"},
        "whole": {"type": "integer"},
        "several": {"type": ["integer", "null", "string"]},
        "free": {},
        "anything": True,
        "nothing": False,
        "options": {"enum": ["a", 1, None]},
        "constant": {"const": True},
        "reference": {"$ref": "#/$defs/text"},
        "both": {"type": ["string", "number"], "allOf": [{"type": ["number", "null"]}]},
        "either": {"anyOf": [{"type": "string"}, {"type": "boolean"}], "description": "…"},
        "loop": {"$ref": "#/$defs/loop"},
        "node": {"$ref": "#/$defs/node"},
        "map": {"type": "object", "additionalProperties": {"type": "number"}},
        "open": {"type": "object", "additionalProperties": True, "properties": {"x": {"type": "string"}}},
        "patterned": {"type": "object", "patternProperties": {"^n_": {"type": "number"}, "_s$": {"type": "string"}}},
        "texts": {"type": "array", "items": {"type": "string"}},
        "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
        "objects": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
        "a.b": {"type": "string"},
        "narrowed": {"type": "string"},
    },
    "allOf": [{"properties": {"narrowed": {"minLength": 3}, "added": {"type": "boolean"}}}],
    "if": {"properties": {"id": {"const": "x"}}},
    "then": {"properties": {"conditional": {"type": "number"}}},
    "not": {"properties": {"denied": {"type": "string"}}},
}
PATHS = Paths(DOCUMENT, "id", {"string"})


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("id", STRING),
        ("whole", {"number"}),
        ("several", {"number", "null", "string"}),
        ("free", ALL),
        ("anything", ALL),
        ("options", {"string", "number", "null"}),
        ("constant", {"boolean"}),
        ("reference", STRING),
        ("both", {"number"}),
        ("either", {"string", "boolean"}),
        ("loop", ALL),
        ("node", {"object"}),
        ("node.name", STRING),
        ("node.next.next.name", STRING),
        ("map.whatever", {"number"}),
        ("open.x", STRING),
        ("patterned.n_x", {"number"}),
        ("patterned.n_s", {"number", "string"}),
        ("texts", {"array"}),
        (r"a\.b", STRING),
        # A schema that names no type adds none.
        ("narrowed", STRING),
        ("added", {"boolean"}),
        ("conditional", {"number"}),
    ],
)
def test_a_path_has_the_types_that_the_schema_lets_stand_there(text: str, types: set[str]) -> None:
    path = PATHS.find(text)
    assert path is not None
    assert path.types == types
    assert str(path) == text


@pytest.mark.parametrize(("text", "types"), [("texts", STRING), ("pair", {"string", "number"}), ("free", ALL)])
def test_an_array_has_the_types_of_its_elements(text: str, types: set[str]) -> None:
    path = PATHS.find(text)
    assert path is not None
    assert path.element_types == types


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "a.b",
        "id.x",
        "nothing",
        "open.y",
        "patterned.x",
        "objects.x",
        "texts.0",
        "denied",
        ".",
        "id.",
        "free.x",
    ],
)
def test_what_the_schema_does_not_speak_of_is_no_path(text: str) -> None:
    assert PATHS.find(text) is None


def test_a_path_as_deep_as_no_one_means_it_is_none() -> None:
    assert PATHS.find("node" + ".next" * 19) is not None
    assert PATHS.find("node" + ".next" * 20) is None


def test_the_key_is_a_path_even_where_the_schema_does_not_speak_of_it() -> None:
    path = Paths({}, "sku", {"integer"}).find("sku")
    assert path is not None
    assert path.types == {"number"}
    assert Paths({}, "sku", {"integer"}).told() == ["sku"]


def test_paths_are_told_by_name_outer_ones_first_and_never_without_end() -> None:
    told = PATHS.told()
    assert told[:4] == ["id", "whole", "several", "free"]
    assert "node.next.next.name" in told
    assert "node.next.next.next.name" not in told
    assert {r"a\.b", "added", "conditional"} <= set(told)
    assert not {"nothing", "denied"} & set(told)
    assert all(PATHS.find(text) for text in told)
    wide = Paths({"properties": {f"p{n}": {} for n in range(500)}}, "id", {"string"})
    assert len(wide.told()) == 100


@given(st.lists(st.text(), min_size=1))
def test_a_path_as_text_means_the_same_names(names: list[str]) -> None:
    assert parsed(written(tuple(names))) == tuple(names)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([("a",)], {"a": 1}),
        ([("b", "c")], {"b": {"c": 2}}),
        ([("b", "d", "e"), ("b", "c")], {"b": {"c": 2, "d": {"e": 3}}}),
        ([("b", "c"), ("b",)], {"b": {"c": 2, "d": {"e": 3, "f": 4}}}),
        ([("b",), ("b", "c")], {"b": {"c": 2, "d": {"e": 3, "f": 4}}}),
        # In the item's order. What is not there is left out, and what is no object has no members.
        ([("g",), ("x",), ("a",), ("g", "h")], {"a": 1, "g": [5]}),
        ([("b", "x")], {"b": {}}),
        ([("a", "x")], {}),
    ],
)
def test_fields_choose_members(paths: list[tuple[str, ...]], expected: dict[str, Any]) -> None:
    payload: Any = {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": 4}}, "g": [5]}
    result = selected(payload, selection(paths))
    assert result == expected
    assert list(result) == [name for name in payload if name in expected]
