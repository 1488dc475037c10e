"""How items are found that an operation is about: one by one, in one order, without a look at the others."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from blockforger.backend import items
from blockforger.backend.items import Look, Request
from blockforger.backend.models import Item, Method
from blockforger.backend.settlements import Settlement, settle_at_once
from tenants import balances
from tests.cast import a_schema, a_tenant
from tests.eventing.test_query_plans import nodes_of, plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.models import Schema

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL locks rows and tells its plans"),
]


@pytest.fixture
def schema() -> Schema:
    return a_schema(a_tenant())


def statement_that_looks_for(schema: Schema, keys: Sequence[str]) -> str:
    requests = [Request.read(schema, Method.PATCH, key=key, payload={"name": "other"}) for key in keys]
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        items.plan(requests, look=Look.AT_ALL)
    (statement,) = [query["sql"] for query in queries if "FOR UPDATE" in query["sql"]]
    return statement


def test_items_are_locked_in_the_same_order_by_whoever_wants_them(schema: Schema) -> None:
    keys = ["a", "B", "b", "Ä", "ä", "10", "9", "_"]
    orders = []
    for seed in range(4):
        shuffled = random.Random(seed).sample(keys, len(keys))
        statement = statement_that_looks_for(schema, shuffled)
        # A literal of SQL doubles the backslashes of JSON.
        places = json.loads(statement[statement.index("[") : statement.index("]") + 1].replace("\\\\", "\\"))
        orders.append([place["key"] for place in places])
    assert orders == [sorted(keys)] * 4


def test_the_other_items_are_not_read_in_a_table_of_some_thousands(schema: Schema) -> None:
    Item.objects.bulk_create(Item(schema=schema, key=str(number), payload={}) for number in range(5_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE backend_item")
    plan = plan_of(statement_that_looks_for(schema, [str(number) for number in range(0, 2_000, 2)]))
    scans = [node for node in nodes_of(plan) if node.get("Relation Name") == "backend_item"]
    assert [(node["Node Type"], node["Actual Loops"]) for node in scans] == [("Index Scan", 1_000)]


def test_items_of_a_group_are_made_in_the_order_that_all_share(schema: Schema) -> None:
    plans = []
    for key in ("b", "c", "a"):
        request = Request.read(schema, Method.POST, key=None, payload={"id": key, "name": "x"})
        plans.append(items.plan([request], look=Look.AT_OLD_UNLOCKED)[0])
    assert [item.key for item in items.Plan.of_all(plans).created] == ["a", "b", "c"]


def test_a_group_does_not_read_the_items_of_others(schema: Schema) -> None:
    Item.objects.bulk_create(Item(schema=schema, key=str(number), payload={}) for number in range(5_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE backend_item")
    new = [Item(schema=schema, key=key, payload={}) for key in ("new", "other")]
    claims = {schema.tenant_id: balances.Claim(tokens=40, numbers=2)}
    settlement = Settlement(new, [], [], claims, [], reads=[(schema.pk, "7"), (schema.pk, "8")])
    with CaptureQueriesContext(connection) as queries:
        assert settle_at_once(settlement, [schema.tenant]) is not None
    (statement,) = [query["sql"] for query in queries if "clear" in query["sql"]]
    scans = [node for node in nodes_of(plan_of(statement)) if node.get("Relation Name") == "backend_item"]
    assert {node["Node Type"] for node in scans if "Scan" in node["Node Type"]} <= {"Index Scan", "Index Only Scan"}
    assert len(scans) >= 3
