"""Random items under random queries, page by page: a list is what plain Python makes of them, on every database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockforger.backend import lists
from blockforger.backend.item_paths import written
from blockforger.backend.list_queries import Query
from blockforger.backend.models import Item, Schema
from tests.backend import list_oracle
from tests.backend.list_oracle import Condition, Sorting
from tests.cast import a_schema, a_tenant

pytestmark = pytest.mark.django_db

ANY_SCALAR = {"type": ["string", "number", "boolean", "null"]}
DOCUMENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "text": {"type": "string"},
        "number": {"type": "number"},
        "whole": {"type": ["integer", "null"]},
        "flag": {"type": "boolean"},
        "mixed": ANY_SCALAR,
        "anything": {},
        "tags": {"type": "array", "items": {"type": "string"}},
        "list": {"type": "array"},
        "inner": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "0": {"type": "number"}, 'é."]\\,': ANY_SCALAR},
        },
    },
}
# By path: the types there, and those in its arrays.
SCALARS = ["string", "number", "boolean", "null"]
PATHS: dict[tuple[str, ...], tuple[list[str], list[str]]] = {
    ("text",): (["string"], []),
    ("number",): (["number"], []),
    ("whole",): (["number", "null"], []),
    ("flag",): (["boolean"], []),
    ("mixed",): (SCALARS, []),
    ("anything",): (SCALARS, SCALARS),
    ("tags",): ([], ["string"]),
    ("list",): ([], SCALARS),
    ("inner", "text"): (["string"], []),
    ("inner", "0"): (["number"], []),
    ("inner", 'é."]\\,'): (SCALARS, []),
}

LONG = "a" * 255
TEXTS = ["", "a", "A", "ab", "b", "ä", "~", '"', "'", "%", "\\", ",", "\n", "null", "true", "1", "10", "9"]
TEXTS += ["\uffff", "\U0001f600", LONG, LONG + "a", LONG + "ab", LONG + "aa", LONG + "b"]
NUMBERS = [0, -0.0, 1, 1.0, 1.5, 9, 10, -1, -1.5, 0.1, 1e-300, 5e-324, -(2**63), 2**63 - 1, 2**53, 2**53 + 1, 1e16]
NUMBERS += [1.2345678901234567e18, 1234567890123456768, 1234567890123456700, 1234567890123456701]

texts = st.sampled_from(TEXTS)
numbers = st.sampled_from(NUMBERS)
scalars = st.one_of(texts, numbers, st.booleans(), st.none())
arrays = st.lists(scalars, max_size=3)


def an_object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


# Some values are of types that the schema does not have: it may have been another when they were stored.
payloads = st.lists(
    an_object(
        text=st.one_of(texts, scalars),
        number=st.one_of(numbers, scalars),
        whole=st.one_of(st.none(), numbers),
        flag=st.one_of(st.booleans(), scalars),
        mixed=scalars,
        anything=st.one_of(scalars, arrays, st.just({"a": 1})),
        tags=st.one_of(st.lists(texts, max_size=3), scalars),
        list=st.one_of(arrays, st.just([[1], {"a": 1}])),
        inner=st.one_of(an_object(**{"text": texts, "0": numbers, 'é."]\\,': scalars}), arrays, scalars),
    ),
    max_size=12,
)


@st.composite
def conditions(draw: st.DrawFn) -> tuple[tuple[str, str], Condition]:
    """A parameter, and what it means."""
    names = draw(st.sampled_from(list(PATHS)))
    path_types, elements = PATHS[names]
    types = path_types
    operators = ["exists"]
    if types:
        operators += ["eq", "ne", "in"]
    if {"string", "number"} & set(types):
        operators += ["lt", "lte", "gt", "gte"]
    if "string" in types or elements:
        operators += ["contains"]
    operator = draw(st.sampled_from(operators))
    if operator == "contains":
        types = [*elements, *(["string"] if "string" in types else [])]
    elif operator in {"lt", "lte", "gt", "gte"}:
        types = [name for name in types if name in {"string", "number"}]
    elif operator == "exists":
        types = ["boolean"]
    texts_drawn = [draw(a_text(types)) for _ in range(draw(st.integers(1, 3)) if operator == "in" else 1)]
    values = [value for text in texts_drawn for value in meanings(text, types)]
    text = ",".join(map(escaped, texts_drawn)) if operator == "in" else texts_drawn[0]
    suffix = "" if operator == "eq" and draw(st.booleans()) else f"[{operator}]"
    return (f"filter[{written(names)}]{suffix}", text), Condition(names, path_types, operator, values)


def a_text(types: list[str]) -> st.SearchStrategy[str]:
    by_type = {"string": texts, "number": numbers, "boolean": st.booleans(), "null": st.none()}
    values = st.one_of([by_type[name] for name in types])
    return values.map(lambda value: value if isinstance(value, str) else json.dumps(value))


def meanings(text: str, types: list[str]) -> list[Any]:
    """Everything that a text can be read as."""
    values: list[Any] = [text] if "string" in types else []
    try:
        value = json.loads(text)
    except ValueError:
        return values
    is_scalar = list_oracle.kind(value) in types and not isinstance(value, str)
    return [*values, value] if is_scalar else values


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")


sortable = [(names, types) for names, (types, _) in PATHS.items() if types]
sortings = st.lists(
    st.builds(lambda path, descending: Sorting(path[0], path[1], descending), st.sampled_from(sortable), st.booleans()),
    max_size=3,
    unique_by=lambda sorting: sorting.names,
)


def stored(payloads: list[dict[str, Any]]) -> tuple[Schema, list[dict[str, Any]]]:
    Item.objects.all().delete()
    schema = Schema.objects.first() or a_schema(a_tenant(), document=DOCUMENT)
    items = [Item(schema=schema, key=str(n), payload={"id": str(n), **each}) for n, each in enumerate(payloads)]
    return schema, [item.payload for item in Item.objects.bulk_create(items)]


def read_all(schema: Schema, parameters: list[tuple[str, str]], *, limit: int) -> list[str]:
    """The ids that a reader of all pages sees."""
    seen: list[str] = []
    cursor = ""
    for _ in range(20):
        page: Any = lists.read(schema, Query.read([*parameters, ("limit", str(limit)), ("cursor", cursor)]))
        assert len(page["items"]) == limit or page["next"] is None
        seen += [payload["id"] for payload in page["items"]]
        if page["next"] is None:
            return seen
        cursor = page["next"]
    raise AssertionError("The pages have no end.")


@settings(max_examples=150)
@given(
    payloads=payloads,
    filters=st.lists(conditions(), max_size=2, unique_by=lambda pair: pair[0][0]),
    sorts=sortings,
    limit=st.integers(1, 13),
)
def test_a_list_is_what_plain_python_makes_of_the_items(
    payloads: list[dict[str, Any]],
    filters: list[tuple[tuple[str, str], Condition]],
    sorts: list[Sorting],
    limit: int,
) -> None:
    schema, items = stored(payloads)
    sort = ",".join(f"{'-' if descending else ''}{written(names)}" for names, _, descending in sorts)
    expected = list_oracle.listed(items, [condition for _, condition in filters], sorts)
    assert read_all(schema, [*(pair for pair, _ in filters), ("sort", sort)], limit=limit) == expected
