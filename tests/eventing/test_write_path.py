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


@pytest.mark.parametrize(
    ("method", "payload", "outside", "inside"),
    [
        # item, account, ledger, outbox; before them key, tenant and schema
        ("POST", FLUFFY, 1, 4),
        # the item is locked first, then written
        ("PUT", changing("PUT"), 1, 5),
        ("PATCH", changing("PATCH"), 1, 5),
        ("DELETE", changing("DELETE"), 1, 5),
    ],
)
def test_a_write_over_rest_takes_few_statements(key: str, method: str, payload: Any, outside: int, inside: int) -> None:
    ask = Ask(method, payload, api_key=key)
    assert statements(lambda: over_rest(ask)) == (outside, inside)


def test_a_write_that_may_be_repeated_takes_few_more(key: str) -> None:
    ask = Ask("POST", FLUFFY, api_key=key, headers={"Idempotency-Key": "once"})
    lock = 1 if connection.vendor == "postgresql" else 0
    # the record, and the answer on it
    assert statements(lambda: over_rest(ask)) == (1, 4 + 2 + lock)
    assert statements(lambda: over_rest(ask)) == (1, 2 + lock)


@pytest.mark.parametrize(
    ("method", "payload", "outside", "inside"),
    [
        # the same, and the record
        ("POST", FLUFFY, 1, 5),
        ("PUT", changing("PUT"), 1, 6),
        ("PATCH", changing("PATCH"), 1, 6),
        ("DELETE", changing("DELETE"), 1, 6),
    ],
)
def test_an_event_takes_few_statements(key: str, method: str, payload: Any, outside: int, inside: int) -> None:
    body = json.dumps(envelope(Ask(method, payload, api_key=key)))
    assert statements(lambda: handle(body)) == (outside, inside)


def test_a_redelivered_event_only_finds_its_record(key: str) -> None:
    body = json.dumps(envelope(Ask("POST", FLUFFY, api_key=key)))
    handle(body)
    # the insert that meets the record, and the record
    assert statements(lambda: handle(body)) == (1, 2)


def test_more_rules_for_a_write_take_no_more_statements(key: str) -> None:
    from tenants.models import Tenant

    tenant = Tenant.objects.get()
    for position in range(1, 6):
        a_rule(tenant, position=position)
    over_rest(Ask("POST", {**FLUFFY, "id": "rules are read"}, api_key=key))
    assert statements(lambda: over_rest(Ask("POST", FLUFFY, api_key=key))) == (1, 4)
