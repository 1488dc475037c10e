"""A reader who pages while others write sees every item that nobody touches exactly once, in order."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from blockforger.backend import lists
from blockforger.backend.list_queries import Query
from blockforger.backend.models import Item, Schema
from tests.backend import list_oracle
from tests.backend.list_oracle import Condition, Sorting
from tests.cast import a_schema, a_tenant

DOCUMENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "price": {"type": ["number", "null"]},
        "sold": {"type": "boolean"},
    },
}
PRICE, NAME, SOLD = (("price",), ["number"]), (("name",), ["string"]), (("sold",), ["boolean"])
# Queries, each with what it means.
QUERIES: list[tuple[str, list[Condition], list[Sorting]]] = [
    ("", [], []),
    ("sort=price", [], [Sorting(*PRICE, descending=False)]),
    ("sort=-price", [], [Sorting(*PRICE, descending=True)]),
    ("sort=name", [], [Sorting(*NAME, descending=False)]),
    ("sort=-sold,name", [], [Sorting(*SOLD, descending=True), Sorting(*NAME, descending=False)]),
    ("sort=name,-price", [], [Sorting(*NAME, descending=False), Sorting(*PRICE, descending=True)]),
    (
        "sort=sold,price,-name",
        [],
        [
            Sorting(*SOLD, descending=False),
            Sorting(*PRICE, descending=False),
            Sorting(*NAME, descending=True),
        ],
    ),
    ("filter[price][gte]=3&sort=-name", [Condition(*PRICE, "gte", [3])], [Sorting(*NAME, descending=True)]),
    ("filter[name][ne]=a", [Condition(*NAME, "ne", ["a"])], []),
    (
        "filter[sold][exists]=false&sort=price",
        [Condition(*SOLD, "exists", [False])],
        [
            Sorting(*PRICE, descending=False),
        ],
    ),
]

payloads = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["", "a", "b", "B", "ä", "é", "a" * 300]),
        "price": st.sampled_from([None, 0, 1, 2.5, 3, 3.0, 10, -1]),
        "sold": st.booleans(),
    },
)
# What is written between two pages: a payload and which item it is for; None deletes.
writes = st.lists(st.tuples(st.sampled_from(["insert", "change", "delete"]), st.integers(0, 99), payloads), max_size=4)


class Shop:
    """A schema's items, some of which are never touched."""

    def __init__(self, untouched: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
        self.schema = Schema.objects.first() or a_schema(a_tenant(), "things", DOCUMENT)
        Item.objects.all().delete()
        self.untouched: list[dict[str, Any]] = []
        self.others: list[Item] = []
        for number, payload in enumerate(untouched):
            self.untouched.append(self._insert(f"untouched {number}", payload).payload)
            # In turn, so that what comes and goes stands between what stays.
            if number < len(others):
                self.others.append(self._insert(f"other {number}", others[number]))

    def write(self, kind: str, number: int, payload: dict[str, Any]) -> None:
        if kind == "insert" or not self.others:
            self.others.append(self._insert(f"new {len(self.others)} {number} {random.random()}", payload))
            return
        item = self.others[number % len(self.others)]
        if kind == "delete":
            self.others.remove(item)
            item.delete()
        else:
            item.payload = {"id": item.key, **payload}
            item.save()

    def _insert(self, key: str, payload: dict[str, Any]) -> Item:
        return Item.objects.create(schema=self.schema, key=key, payload={"id": key, **payload})


def read_page(schema: Schema, query: str, cursor: str, limit: int) -> tuple[list[str], str | None]:
    pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&")) if name]
    page: Any = lists.read(schema, Query.read([*pairs, ("limit", str(limit)), ("cursor", cursor)]))
    return [payload["id"] for payload in page["items"]], page["next"]


@pytest.mark.django_db
@settings(max_examples=150)
@given(
    query=st.sampled_from(QUERIES),
    untouched=st.lists(payloads, min_size=1, max_size=12),
    others=st.lists(payloads, max_size=6),
    between=st.lists(writes, max_size=12),
    limit=st.integers(1, 5),
)
def test_untouched_items_are_seen_once_and_in_order_whatever_is_written_between_pages(
    query: tuple[str, list[Condition], list[Sorting]],
    untouched: list[dict[str, Any]],
    others: list[dict[str, Any]],
    between: list[list[tuple[str, int, dict[str, Any]]]],
    limit: int,
) -> None:
    text, conditions, sortings = query
    shop = Shop(untouched, others)
    seen: list[str] = []
    cursor: str | None = ""
    waiting = iter(between)
    while cursor is not None:
        ids, cursor = read_page(shop.schema, text, cursor, limit)
        seen += ids
        assert len(seen) < 1000, "The pages have no end."
        for write in next(waiting, []):
            shop.write(*write)
    expected = list_oracle.listed(shop.untouched, conditions, sortings)
    assert [key for key in seen if key.startswith("untouched")] == expected


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("query", "conditions", "sortings"), QUERIES)
def test_untouched_items_are_seen_once_and_in_order_while_others_write(
    query: str, conditions: list[Condition], sortings: list[Sorting]
) -> None:
    chance = random.Random(query)
    shop = Shop([a_payload(chance) for _ in range(150)], [a_payload(chance) for _ in range(75)])
    expected = list_oracle.listed(shop.untouched, conditions, sortings)
    is_over = threading.Event()
    written: list[str] = []

    def write() -> None:
        try:
            while not is_over.is_set():
                kind = chance.choice(["insert", "change", "delete"])
                shop.write(kind, chance.randrange(100), a_payload(chance))
                written.append(kind)
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            seen: list[str] = []
            cursor: str | None = ""
            while cursor is not None:
                ids, cursor = read_page(shop.schema, query, cursor, 7)
                seen += [key for key in ids if key.startswith("untouched")]
                assert len(seen) <= len(expected)
            assert seen == expected
    finally:
        is_over.set()
        writer.join()
    assert set(written) == {"insert", "change", "delete"}


def a_payload(chance: random.Random) -> dict[str, Any]:
    payload: dict[str, Any] = {"name": chance.choice("abcABCäé"), "price": chance.choice([None, 1, 2.5, 3, 10, -1])}
    return payload if chance.random() < 0.5 else {**payload, "sold": chance.random() < 0.5}
