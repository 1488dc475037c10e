"""What a process keeps of its callers never outlives a change, whoever makes it and however."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from blockforger.backend import callers
from blockforger.backend.models import Item, Schema
from eventing.models import OutboxEvent
from tenants import api_keys
from tenants.models import ApiKey, Permission, Tenant, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.statements import statements

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"
ANOTHER_SCHEMA = '{"type": "object", "required": ["colour"]}'


class Client(APIClient):
    default_format = "json"


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def client() -> APIClient:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    client = Client(headers={"X-API-Key": a_key(tenant)})
    for key in ("first", "second"):
        assert client.post(PETS, {**FLUFFY, "id": key}).status_code == 201
    return client


def rotated() -> None:
    api_keys.rotate(ApiKey.objects.get(), overlap=timedelta(0))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda: ApiKey.objects.update(is_active=False), 401),
        (lambda: sql("UPDATE tenants_apikey SET is_active = FALSE"), 401),
        (lambda: ApiKey.objects.update(expires_at=timezone.now()), 401),
        (lambda: ApiKey.objects.update(permissions=[Permission.READ_EVENTS]), 403),
        (lambda: ApiKey.objects.update(digest="0" * 64), 401),
        (lambda: ApiKey.objects.all().delete(), 401),
        (rotated, 401),
        (lambda: Tenant.objects.update(name="other"), 401),
        (lambda: Schema.objects.update(document=ANOTHER_SCHEMA, version=2), 400),
        (lambda: Schema.objects.update(name="other"), 404),
        (lambda: Schema.objects.update(meta={"require_if_match": True}), 428),
        (lambda: TokenAccount.objects.update(balance=9), 402),
    ],
)
def test_a_change_counts_from_the_next_request_on(client: APIClient, change: Callable[[], Any], status: int) -> None:
    change()
    assert client.put(f"{PETS}/first", {**FLUFFY, "id": "first"}).status_code == status
    if status != 428:  # which is for changes alone
        assert client.post(PETS, {**FLUFFY, "id": "third"}).status_code == status
    assert set(Item.objects.values_list("key", "version")) == {("first", 1), ("second", 1)}


def test_so_does_an_end(client: APIClient) -> None:
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(seconds=1))
    assert client.get(f"{PETS}/first").status_code == 200
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(f"{PETS}/first").status_code == 401


def test_a_new_rule_gets_the_next_write(client: APIClient) -> None:
    a_rule(Tenant.objects.get(), position=1)
    assert client.post(PETS, {**FLUFFY, "id": "third"}).status_code == 201
    assert OutboxEvent.objects.filter(item_key="third").count() == 2


def test_a_schema_of_that_name_is_found_when_there_is_one(client: APIClient) -> None:
    assert client.get("/api/mytenant/later/1").status_code == 404
    Item.objects.create(schema=a_schema(Tenant.objects.get(), "later"), key="1", payload={"id": "1"})
    assert client.get("/api/mytenant/later/1").status_code == 200


def test_a_use_that_is_noted_changes_nothing(client: APIClient) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("Nothing is kept on SQLite.")
    long_ago = timezone.now() - timedelta(hours=1)
    ApiKey.objects.update(last_used_at=long_ago)
    assert statements(lambda: client.post(PETS, {**FLUFFY, "id": "third"})) == (1, 0)


def test_a_tenant_that_was_read_earlier_takes_no_version_back(client: APIClient) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no such trigger, and keeps nothing.")
    stale = Tenant.objects.get()
    a_rule(stale, position=1)
    ApiKey.objects.update(is_active=False)
    after = Tenant.objects.values_list("configuration_version", "admission_version").get()
    stale.save()
    assert Tenant.objects.values_list("configuration_version", "admission_version").get() == after
    assert client.get(f"{PETS}/first").status_code == 401


def test_one_that_is_forgotten_while_the_database_is_asked_does_no_harm(client: APIClient) -> None:
    pairs = {callers.asked(a_key(Tenant.objects.get()), "petstore")}
    assert callers.find(pairs).keys() == pairs

    def forget(execute: Any, *arguments: Any) -> Any:
        callers._kept.clear()
        return execute(*arguments)

    with connection.execute_wrapper(forget):
        assert callers.find(pairs).keys() == pairs


def test_no_more_are_kept_than_there_is_room_for(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_MOST_KEPT", 3)
    for number in range(5):
        tenant = a_tenant(f"tenant-{number}")
        a_schema(tenant)
        path, headers = f"/api/{tenant.name}/petstore", {"X-API-Key": a_key(tenant)}
        assert Client(headers=headers).post(path, FLUFFY).status_code == 201
        assert Client(headers=headers).get(f"{path}/{FLUFFY['id']}").status_code == 200
        assert len(callers._kept) <= 3


def test_what_is_kept_of_a_schema_is_small_however_large_it_is(client: APIClient) -> None:
    callers._kept.clear()
    tenant = Tenant.objects.get()
    manager = Client(
        headers={"X-API-Key": a_key(tenant, permissions=[Permission.BACKEND_CALLS, Permission.MANAGE_SCHEMAS])}
    )
    a_schema(tenant, "long", document={"description": "x" * 100_000})
    a_schema(tenant, "wide", note="x" * 100_000)
    for name in ("long", "wide"):
        for key in "ab":
            assert client.post(f"/api/mytenant/{name}", {**FLUFFY, "id": key}).status_code == 201
        assert manager.get(f"/api/mytenant/{name}/a").status_code == 200
        assert manager.get(f"/api/mytenant/{name}/$schema").status_code == 200
    schemas = [caller.schema for caller in callers._kept.values() if caller.schema]
    assert all("document" in schema.get_deferred_fields() for schema in schemas)
    assert {schema.name for schema in schemas if len(str(schema.meta)) > 10_000} == set()
