"""What rules with conditions send of real writes: filters, changes, fields, and rules that rest."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from rest_framework.test import APIClient

from eventing import tenant_export
from eventing.models import OutboxEvent, OutputRule
from tenants.models import Permission, Tenant
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"
REX: dict[str, Any] = {"id": "1", "name": "Rex", "status": "available"}


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    return tenant


@pytest.fixture
def client(tenant: Tenant) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(tenant, permissions=list(Permission))})


def write(client: APIClient) -> None:
    """A pet comes, is renamed, sold, replaced and taken away."""
    client.post(PETS, REX, format="json")
    client.patch(f"{PETS}/1", {"name": "Max"}, format="json")
    client.patch(f"{PETS}/1", {"status": "sold"}, format="json")
    client.put(f"{PETS}/1", {"name": "Max", "status": "available"}, format="json")
    client.delete(f"{PETS}/1")


def sent(source: str) -> list[tuple[int, str, Any]]:
    """Number, operation and payload of what the rule with that source has sent."""
    events = OutboxEvent.objects.filter(source=source).order_by("sequence")
    return [(event.sequence or 0, event.operation, json.loads(event.detail)["payload"]) for event in events]


def test_a_filter_looks_at_the_item_as_it_is_then_or_was_before_it_went(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant, source="available", filter={"status": ["available"]})
    a_rule(tenant, source="sold", filter={"status": [{"anything-but": "available"}], "name": ["Max"]})
    write(client)
    assert sent("available") == [
        (1, "POST", REX),
        (2, "PATCH", {"id": "1", "name": "Max"}),  # the item's status, not the patch's
        (4, "PUT", {"id": "1", "name": "Max", "status": "available"}),
        (5, "DELETE", {"id": "1"}),
    ]
    assert sent("sold") == [(3, "PATCH", {"id": "1", "status": "sold"})]


def test_a_change_is_one_of_what_is_stored(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant, source="status", on_change=["status"])
    a_rule(tenant, source="name", on_change=["name", "owner.city"])
    a_rule(tenant, source="none", on_change=["owner"])
    write(client)
    assert [number for number, *_ in sent("status")] == [1, 3, 4, 5]
    assert [number for number, *_ in sent("name")] == [1, 2, 5]
    assert sent("none") == []


def test_both_can_be_asked_for(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant, source="sold", on_change=["status"], filter={"status": ["sold"]})
    write(client)
    client.post(PETS, {**REX, "status": "sold"}, format="json")
    client.patch(f"{PETS}/1", {"name": "Moritz"}, format="json")
    assert [(number, operation) for number, operation, _ in sent("sold")] == [(3, "PATCH"), (6, "POST")]


def test_only_what_the_rule_names_is_sent(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant, source="kept", fields={"keep": ["status"]})
    a_rule(tenant, source="masked", fields={"drop": ["status"], "mask": ["id", "name"]}, filter={"name": ["Rex"]})
    a_rule(tenant, source="whole")
    client.post(PETS, REX, format="json")
    assert sent("kept") == [(1, "POST", {"id": "1", "status": "available"})]
    assert sent("masked") == [(1, "POST", {"id": "1", "name": "***"})]
    assert sent("whole") == [(1, "POST", REX)]


def test_a_disabled_rule_matches_nothing_and_keeps_its_place(tenant: Tenant, client: APIClient) -> None:
    rules = {"rules": [{"eventbridge_arn": BUS, "source": name} for name in "abc"], "schemas": {}}
    before = client.put("/api/mytenant/$rules", rules, format="json").json()
    rules["rules"][1]["enabled"] = False  # type: ignore[index]
    after = client.put("/api/mytenant/$rules", rules, format="json").json()
    assert [rule.get("enabled", True) for rule in after["rules"]] == [True, False, True]
    assert [after["rules"][place]["id"] for place in (0, 2)] == [before["rules"][place]["id"] for place in (0, 2)]
    client.post(PETS, REX, format="json")
    assert list(OutboxEvent.objects.order_by("place").values_list("source", flat=True)) == ["a", "c"]


CONDITIONS: dict[str, Any] = {
    "enabled": False,
    "filter": {"status": ["sold", {"prefix": "x"}], "a": [{"numeric": [">", 1.0]}]},
    "on_change": ["status", "a\\.b"],
    "fields": {"mask": ["owner.mail"], "keep": ["owner"]},
}


def test_the_api_tells_what_it_was_told(client: APIClient) -> None:
    rule = {"eventbridge_arn": BUS, "source": "x", "detail_type": "y", **CONDITIONS}
    body = {"rules": [rule], "schemas": {"petstore": [rule]}}
    answer = client.put("/api/mytenant/$rules", body, format="json").json()
    assert {**answer["rules"][0], "id": 0} == {"id": 0, **rule}
    again = client.put("/api/mytenant/$rules", answer, format="json").json()
    assert again == answer


def test_the_api_names_what_is_wrong(client: APIClient) -> None:
    wrong = {"eventbridge_arn": BUS, "filter": {"a": [{"numeric": [">"]}]}, "on_change": ["/a"], "fields": {"keep": []}}
    answer = client.put("/api/mytenant/$rules", {"rules": [wrong], "schemas": {}}, format="json")
    assert answer.status_code == 400
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == ["/rules/0/filter/a/0/numeric", "/rules/0/on_change", "/rules/0/fields"]


def test_a_file_says_the_same_after_export_and_import(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    rule = {"eventbridge_arn": BUS, **CONDITIONS}
    (folder / "tenant.properties").write_text(f"eventbridge-output={json.dumps([rule], indent=1)}")
    call_command("import_tenant_properties", str(folder), stdout=StringIO())
    stored = OutputRule.objects.get()
    assert (stored.enabled, stored.filter, stored.fields) == (False, CONDITIONS["filter"], CONDITIONS["fields"])
    (folder / "tenant.properties").write_text(tenant_export.properties_text(stored.tenant))
    output = StringIO()
    call_command("import_tenant_properties", str(folder), stdout=output)
    assert "Nothing to change." in output.getvalue()


def test_an_item_whose_masks_are_longer_than_what_they_hide_is_sent(
    tenant: Tenant, client: APIClient, settings: Any
) -> None:
    settings.BLOCKFORGER_MAX_EVENT_BYTES = 10_000
    a_rule(tenant, fields={"mask": ["pins.n"]})
    pins = [{"n": 1}] * 400
    assert client.post(PETS, {**REX, "pins": pins}, format="json").status_code == 201
    event = OutboxEvent.objects.get()
    assert json.loads(event.detail)["payload"]["pins"] == [{}] * 400
