"""What rules make of a write, asked over REST."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from blockforger.backend.models import Item
from eventing import explanations
from eventing.models import OutboxEvent
from tenants.models import LedgerEntry, Permission, Tenant
from tests.cast import BUS, FLUFFY, a_key, a_rule, a_schema, a_tenant

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/api/mytenant/$rules/explain"


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    Item.objects.create(schema=a_schema(tenant), key="123", payload=FLUFFY)
    return tenant


def ask(tenant: Tenant, *permissions: Permission, **body: Any) -> Any:
    key = a_key(tenant, permissions=permissions or (Permission.MANAGE_RULES,))
    return APIClient(headers={"X-API-Key": key}).post(URL, body, format="json")


def test_each_rule_is_told_with_its_event_or_why_not(tenant: Tenant) -> None:
    first = a_rule(tenant, filter={"status": ["sold"]}, fields={"drop": ["name"]})
    second = a_rule(tenant, position=1, on_change=["name"])
    body = {"schema": "petstore", "operation": "PATCH", "payload": {"status": "sold"}, "before": FLUFFY}
    answer = ask(tenant, **body)
    assert answer.status_code == 200
    detail = {
        "tenant": "mytenant",
        "rootSchema": "petstore",
        "operation": "PATCH",
        "payload": {"id": "123", "status": "sold"},
    }
    event = {
        "Source": "blockforger-output",
        "DetailType": "petstore.PATCH",
        "EventBusName": BUS,
        "Resources": ["urn:blockforger:item:mytenant:petstore:123", "urn:blockforger:event:{id}:{sequence}"],
        "Detail": detail,
    }
    assert answer.json()["rules"] == [
        {"id": first.pk, "matches": True, "mismatch": None, "event": event},
        {"id": second.pk, "matches": False, "mismatch": "nothing has changed in name", "event": None},
    ]
    assert not OutboxEvent.objects.exists()
    assert not LedgerEntry.objects.filter(kind="debit").exists()


def test_a_stored_item_can_be_asked_about_by_those_who_may_read_it(tenant: Tenant) -> None:
    a_rule(tenant, filter={"status": ["available"]})
    body = {"schema": "petstore", "operation": "DELETE", "key": "123"}
    assert ask(tenant, **body).status_code == 403
    answer = ask(tenant, Permission.MANAGE_RULES, Permission.BACKEND_CALLS, **body)
    assert answer.json()["rules"][0]["event"]["Detail"]["payload"] == {"id": "123"}
    body["key"] = "nothing"
    assert ask(tenant, Permission.MANAGE_RULES, Permission.BACKEND_CALLS, **body).status_code == 404


def test_of_many_large_events_the_last_are_told_without_payload(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for position in range(4):
        a_rule(tenant, position=position, filter={"name": ["Rex"]} if position == 1 else None)
    monkeypatch.setattr(explanations, "MAX_SHOWN_CHARACTERS", 1_000)
    answer = ask(tenant, schema="petstore", operation="PUT", payload={"id": "1", "name": "R" * 1_000}).json()
    details = [rule["event"] and set(rule["event"]["Detail"]) for rule in answer["rules"]]
    whole = {"tenant", "rootSchema", "operation", "payload"}
    assert details == [whole, None, whole - {"payload"}, whole - {"payload"}]
    assert [rule["matches"] for rule in answer["rules"]] == [True, False, True, True]
    assert answer["warnings"][0] == "The events are large: of the last 2, the payload is not shown"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["", ""]),
        ({"schema": "petstore", "operation": "GET"}, ["/operation"]),
        ({"schema": 1, "operation": "PUT", "payload": [], "before": 1}, ["/schema", "/payload", "/before"]),
        ({"schema": "petstore", "operation": "PUT", "key": "1", "before": {}}, ["/key"]),
        ({"schema": "petstore", "operation": "PUT", "colour": 1}, [""]),
    ],
)
def test_what_cannot_be_explained_is_told(tenant: Tenant, body: Any, pointers: list[str]) -> None:
    answer = ask(tenant, *Permission, **body)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


def test_a_schema_must_be_the_tenants(tenant: Tenant) -> None:
    a_schema(a_tenant("other"), "theirs")
    assert ask(tenant, schema="theirs", operation="POST").status_code == 404
