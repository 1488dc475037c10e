"""What one operation costs the database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection

from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, over_rest
from tests.eventing.statements import statements

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


@pytest.fixture
def key() -> str:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    key = a_key(tenant)
    # what a process asks once: the rules, the compiled schema, the minute of the key's last use
    over_rest(Ask("POST", {**FLUFFY, "id": "first"}, api_key=key))
    over_rest(Ask("POST", {**FLUFFY, "id": "changed"}, api_key=key))
    return key


def changing(method: str) -> Any:
    return {"id": "changed"} if method == "DELETE" else {**FLUFFY, "id": "changed"}


@pytest.fixture
def written() -> int:
    """What PostgreSQL does in one statement: items, account, ledger, outbox."""
    return 1 if connection.vendor == "postgresql" else 4


def test_a_new_item_takes_one_statement_over_rest(key: str, written: int) -> None:
    # before them SQLite asks for key, tenant and schema, which PostgreSQL's statement finds unchanged, and for the item
    expected = (1, 0) if connection.vendor == "postgresql" else (1, 1 + written)
    assert statements(lambda: over_rest(Ask("POST", FLUFFY, api_key=key))) == expected


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_change_takes_one_more(key: str, method: str, written: int) -> None:
    ask = Ask(method, changing(method), api_key=key)
    expected = (2, 0) if connection.vendor == "postgresql" else (1, 1 + written)
    assert statements(lambda: over_rest(ask)) == expected


def test_a_read_takes_one(key: str) -> None:
    # on SQLite the item, the account and the ledger
    expected = (1, 0) if connection.vendor == "postgresql" else (1, 3)
    assert statements(lambda: over_rest(Ask("GET", {"id": "changed"}, api_key=key))) == expected


def test_a_read_with_a_condition_takes_one_more(key: str) -> None:
    ask = Ask("GET", {"id": "changed"}, api_key=key, headers={"If-None-Match": '"other"'})
    expected = (2, 0) if connection.vendor == "postgresql" else (1, 3)
    assert statements(lambda: over_rest(ask)) == expected


def looked_for(method: str) -> int:
    """How many statements it takes to see what is there: whether a new item is, PostgreSQL says when it is written."""
    return 0 if method == "POST" and connection.vendor == "postgresql" else 1


def test_a_write_that_may_be_repeated_takes_few_more(key: str, written: int) -> None:
    ask = Ask("POST", FLUFFY, api_key=key, headers={"Idempotency-Key": "once"})
    lock = 1 if connection.vendor == "postgresql" else 0
    # the record, and the answer on it
    assert statements(lambda: over_rest(ask)) == (1, looked_for("POST") + written + 2 + lock)
    assert statements(lambda: over_rest(ask)) == (1, 2 + lock)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_an_event_takes_few_statements(key: str, method: str, written: int) -> None:
    payload = FLUFFY if method == "POST" else changing(method)
    body = json.dumps(envelope(Ask(method, payload, api_key=key)))
    # the record, the item, and what is written
    assert statements(lambda: handle(body)) == (1, 1 + looked_for(method) + written)


def test_a_redelivered_event_only_finds_its_record(key: str) -> None:
    body = json.dumps(envelope(Ask("POST", FLUFFY, api_key=key)))
    handle(body)
    # the insert that meets the record, and the record
    assert statements(lambda: handle(body)) == (1, 2)


def test_more_rules_for_a_write_take_no_more_statements(key: str) -> None:
    from tenants.models import Tenant

    tenant = Tenant.objects.get()
    few = statements(lambda: over_rest(Ask("POST", {**FLUFFY, "id": "one rule"}, api_key=key)))
    for position in range(1, 6):
        a_rule(tenant, position=position)
    over_rest(Ask("POST", {**FLUFFY, "id": "rules are read"}, api_key=key))
    assert statements(lambda: over_rest(Ask("POST", FLUFFY, api_key=key))) == few
