"""Schemas over REST."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from blockforger.backend import schema_changes
from blockforger.backend.models import Item, Schema
from blockforger.backend.requests import preconditions_of
from eventing.models import OutputRule
from tenants.models import LedgerEntry, Permission, Tenant
from tests.cast import FLUFFY, PET, a_key, a_rule, a_schema, a_tenant
from tests.eventing.test_concurrency import at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from blockforger.backend.preconditions import Preconditions

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

API = "/api/mytenant"
SCHEMA = f"{API}/petstore/$schema"
TEXT = '{\n  "type": "object",\n  "properties": {"b": {}, "a": {"type": "number"}}\n}\n'


@pytest.fixture
def tenant() -> Tenant:
    return a_tenant()


@pytest.fixture
def client(tenant: Tenant) -> APIClient:
    return client_of(tenant, Permission.MANAGE_SCHEMAS, Permission.BACKEND_CALLS)


def client_of(tenant: Tenant, *permissions: Permission) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(tenant, permissions=permissions)})


def put(client: APIClient, body: Any, path: str = SCHEMA, **headers: str) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return client.generic("PUT", path, text, content_type="application/json", headers=headers)


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_the_life_of_a_schema(client: APIClient) -> None:
    made = put(client, PET)
    assert (made.status_code, made.json()["version"], made.json()["items"]) == (201, 1, f"{API}/petstore")
    assert client.post(f"{API}/petstore", FLUFFY, format="json").status_code == 201
    changed = put(client, {**PET, "required": []})
    assert (changed.status_code, changed.json()["version"], changed["Schema-Version"]) == (200, 2, "2")
    assert changed["ETag"] != made["ETag"]
    assert client.post(f"{API}/petstore", {"id": "nameless"}, format="json").status_code == 201
    assert code_of(client.delete(SCHEMA)) == (409, "schema-not-empty")
    Item.objects.all().delete()
    gone = client.delete(SCHEMA)
    assert (gone.status_code, gone.content) == (204, b"")
    assert code_of(client.get(SCHEMA)) == (404, "schema-unknown")
    assert code_of(client.delete(SCHEMA)) == (404, "schema-unknown")


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Have something done after a reader of a schema was identified, and before its document is read."""

    def arrange(act: Callable[[], Any]) -> None:
        def acting(request: Any) -> Preconditions:
            act()
            return preconditions_of(request)

        monkeypatch.setattr("blockforger.backend.schemas_api.preconditions_of", acting)

    return arrange


def test_a_schema_that_is_deleted_while_it_is_read_is_unknown(client: APIClient, meanwhile: Any) -> None:
    put(client, PET)
    meanwhile(Schema.objects.all().delete)
    assert code_of(client.get(SCHEMA)) == (404, "schema-unknown")


def test_a_schema_that_is_changed_while_it_is_read_comes_with_the_etag_of_what_comes(
    client: APIClient, meanwhile: Any
) -> None:
    etag = put(client, PET)["ETag"]
    meanwhile(lambda: Schema.objects.update(document=TEXT, version=2))
    answer = client.get(SCHEMA)
    assert (answer.content.decode(), answer["Schema-Version"]) == (TEXT, "2")
    assert answer["ETag"] == Schema.objects.get().etag != etag


def test_a_schema_that_is_changed_while_it_is_read_is_not_what_if_match_asks_for(
    client: APIClient, meanwhile: Any
) -> None:
    etag = put(client, PET)["ETag"]
    meanwhile(lambda: Schema.objects.update(document=TEXT, version=2))
    assert code_of(client.get(SCHEMA, headers={"If-Match": etag})) == (412, "precondition-failed")


def test_a_document_comes_out_as_it_went_in(client: APIClient) -> None:
    put(client, TEXT)
    answer = client.get(SCHEMA)
    assert (answer.content.decode(), answer["Content-Type"]) == (TEXT, "application/json")


def test_the_meta_is_part_of_the_document(client: APIClient) -> None:
    put(client, {"type": "object", "meta": {"key": "sku", "owner": "desk"}})
    schema = Schema.objects.get()
    assert (schema.key_field, schema.parsed_document()) == ("sku", {"type": "object"})
    assert client.get(SCHEMA).json() == {"type": "object", "meta": {"key": "sku", "owner": "desk"}}


def test_what_was_read_can_be_sent_again_and_changes_nothing(client: APIClient) -> None:
    put(client, {"type": "object", "meta": {"key": "sku"}})
    before = Schema.objects.values().get()
    again = put(client, client.get(SCHEMA).content.decode())
    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert Schema.objects.values().get() == before


@pytest.mark.parametrize(
    ("name", "body", "pointer", "detail"),
    [
        ("petstore", "{", "", "not JSON"),
        ("petstore", "", "", "not JSON"),
        ("petstore", "[]", "", "an object"),
        ("petstore", '{"a": 1, "a": 2}', "", "stands twice"),
        ("petstore", {"type": "nothing"}, "/type", "Write one of array"),
        ("petstore", {"properties": {"a": {"$ref": "https://example.com"}}}, "/properties/a/$ref", ""),
        ("petstore", {"meta": 1}, "/meta", "Write an object"),
        ("petstore", {"meta": {"key": 1}}, "/meta/key", "holds an item's key"),
        ("petstore", {"meta": {"indexes": ["nothing"]}}, "/meta/indexes/0", "no path of the schema"),
        ("petstore", {"meta": {"eventbridge-output": []}}, "/meta/eventbridge-output", "$rules"),
        ("a b", PET, "", "cannot be the name"),
        ("petstore.json", PET, "", "cannot be the name"),
    ],
)
def test_what_is_wrong_with_a_schema_is_told_with_its_place(
    client: APIClient, name: str, body: Any, pointer: str, detail: str
) -> None:
    answer = put(client, body, f"{API}/{name}/$schema")
    assert code_of(answer) == (400, "schema-invalid")
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]
    assert not Schema.objects.exists()


def test_a_change_that_items_violate_is_refused_and_names_them(client: APIClient, tenant: Tenant) -> None:
    schema = a_schema(tenant)
    for number in range(3):
        Item.objects.create(schema=schema, key=str(number), payload={"id": str(number), "name": "x" * number})
    stricter = {"type": "object", "properties": {"name": {"minLength": 2}}}
    answer = put(client, stricter)
    assert code_of(answer) == (409, "items-violate-schema")
    assert [(error["key"], error["pointer"]) for error in answer.json()["errors"]] == [("0", "/name"), ("1", "/name")]
    assert Schema.objects.get().version == 1
    forced = put(client, stricter, f"{SCHEMA}?force")
    assert (forced.status_code, forced.json()["version"]) == (200, 2)
    assert Item.objects.count() == 3


def test_only_some_of_many_items_that_violate_a_change_are_named_and_no_more_are_read(
    client: APIClient, tenant: Tenant
) -> None:
    schema = a_schema(tenant)
    Item.objects.bulk_create(
        Item(schema=schema, key=str(n), payload={"id": str(n), "name": "x"}) for n in range(4 * schema_changes._PORTION)
    )
    with CaptureQueriesContext(connection) as queries:
        answer = put(client, {**PET, "required": ["name", "status"]})
    assert len(answer.json()["errors"]) == schema_changes.MAX_MISFITS
    assert sum('FROM "backend_item"' in query["sql"] for query in queries) == 1


def test_every_item_is_looked_at_however_many(client: APIClient, tenant: Tenant) -> None:
    schema = a_schema(tenant)
    count = 2 * schema_changes._PORTION + 1
    Item.objects.bulk_create(
        Item(schema=schema, key=str(n), payload={"name": "x"} if n < count - 1 else {}) for n in range(count)
    )
    Item.objects.update(updated_at=timezone.now() - timedelta(days=1))
    answer = put(client, {**PET, "title": "changed"})
    assert [error["key"] for error in answer.json()["errors"]] == [str(count - 1)]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite lets nobody write meanwhile")
def test_an_item_that_is_written_while_the_others_are_looked_at_is_looked_at_too(
    client: APIClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = a_schema(tenant, document={"type": "object"})
    Item.objects.create(schema=schema, key="first", payload={"id": "first", "name": "x"})
    look = schema_changes._misfits
    passes = 0

    def looking(*arguments: Any) -> Any:
        nonlocal passes
        found = list(look(*arguments))
        passes += 1
        if passes == 1:
            item = Item.objects.get()
            changed = Item.objects.filter(pk=item.pk)
            assert at_once([lambda: changed.update(payload={"id": "first"}, updated_at=timezone.now())]) == [1]
        return iter(found)

    monkeypatch.setattr(schema_changes, "_misfits", looking)
    assert code_of(put(client, PET)) == (409, "items-violate-schema")


def test_a_change_of_the_meta_alone_asks_nothing_of_items(client: APIClient, tenant: Tenant) -> None:
    Item.objects.create(schema=a_schema(tenant), key="1", payload={"id": "1"})
    assert put(client, {**PET, "meta": {"owner": "desk"}}).json()["version"] == 2


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks the whole database")
def test_a_schema_is_deleted_or_gets_an_item_but_not_both(client: APIClient, tenant: Tenant) -> None:
    writer = client_of(tenant, Permission.BACKEND_CALLS)
    for number in range(8):
        a_schema(tenant)
        item = {**FLUFFY, "id": str(number)}
        deleted, made = at_once(
            [lambda: client.delete(SCHEMA), partial(writer.post, f"{API}/petstore", item, format="json")]
        )
        assert (deleted.status_code, made.status_code) in {(204, 404), (409, 201)}
        Item.objects.all().delete()
        Schema.objects.all().delete()


def test_the_key_field_is_settled_once_there_are_items(client: APIClient, tenant: Tenant) -> None:
    schema = a_schema(tenant)
    other_key = {**PET, "meta": {"key": "name"}}
    Item.objects.create(schema=schema, key="1", payload={"id": "1", "name": "x"})
    for path in (SCHEMA, f"{SCHEMA}?force"):
        answer = put(client, other_key, path)
        assert (*code_of(answer), answer.json()["pointer"]) == (409, "key-field-settled", "/meta/key")
    Item.objects.all().delete()
    assert put(client, other_key).json()["key"] == "name"


def test_a_change_can_ask_for_the_version_that_it_is_about(client: APIClient) -> None:
    assert code_of(put(client, PET, **{"If-Match": "*"})) == (412, "precondition-failed")
    first = put(client, PET, **{"If-None-Match": "*"})["ETag"]
    assert code_of(put(client, TEXT, **{"If-None-Match": "*"})) == (412, "precondition-failed")
    second = put(client, TEXT, **{"If-Match": first})["ETag"]
    assert code_of(put(client, PET, **{"If-Match": first})) == (412, "precondition-failed")
    assert code_of(client.delete(SCHEMA, headers={"If-Match": first})) == (412, "precondition-failed")
    assert client.get(SCHEMA, headers={"If-None-Match": second}).status_code == 304
    assert client.delete(SCHEMA, headers={"If-Match": second}).status_code == 204


def test_a_schema_takes_its_rules_along(client: APIClient, tenant: Tenant) -> None:
    a_rule(tenant, schema=a_schema(tenant))
    before = Tenant.objects.get().configuration_version
    assert client.delete(SCHEMA).status_code == 204
    assert not OutputRule.objects.exists()
    assert Tenant.objects.get().configuration_version > before


def test_schemas_are_listed_by_name_page_by_page(client: APIClient, tenant: Tenant) -> None:
    for name in "cabd":
        a_schema(tenant, name)
    a_schema(a_tenant("other"), "e")
    first = client.get(f"{API}?limit=3").json()
    assert ([schema["name"] for schema in first["schemas"]], first["next"]) == (["a", "b", "c"], "c")
    second = client.get(f"{API}/?limit=3&cursor=c").json()
    assert ([schema["name"] for schema in second["schemas"]], second["next"]) == (["d"], None)


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        (f"{API}?limit=0", "limit"),
        (f"{API}?limit=1001", "limit"),
        (f"{API}?cursor=%00", "cursor"),
        (f"{API}?name=x", "name"),
    ],
)
def test_a_bad_parameter_is_named(client: APIClient, path: str, parameter: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


def test_a_slip_in_a_parameter_forces_nothing(client: APIClient) -> None:
    assert put(client, PET, f"{SCHEMA}?forced").json()["parameter"] == "forced"
    assert put(client, PET, f"{SCHEMA}?force=yes").json()["parameter"] == "force"


@pytest.mark.parametrize(
    ("permissions", "statuses"),
    [
        ([], [403, 403, 403, 403]),
        ([Permission.BACKEND_CALLS], [200, 200, 403, 403]),
        ([Permission.MANAGE_SCHEMAS], [200, 200, 200, 204]),
        ([Permission.MANAGE_RULES, Permission.READ_EVENTS], [403, 403, 403, 403]),
    ],
)
def test_each_permission_opens_its_own_doors(
    tenant: Tenant, permissions: Collection[Permission], statuses: list[int]
) -> None:
    a_schema(tenant)
    client = client_of(tenant, *permissions)
    answers = [client.get(API), client.get(SCHEMA), put(client, TEXT), client.delete(SCHEMA)]
    assert [answer.status_code for answer in answers] == statuses


def test_a_stranger_learns_and_changes_nothing(tenant: Tenant) -> None:
    a_schema(tenant)
    stranger = client_of(a_tenant("other"), *Permission)
    for path in (SCHEMA, f"{API}/nothing/$schema"):
        answers = [stranger.get(path), put(stranger, "{", path), put(stranger, PET, path), stranger.delete(path)]
        assert {code_of(answer) for answer in answers} == {(401, "api-key-invalid")}
    assert code_of(stranger.get(API)) == (401, "api-key-invalid")
    assert code_of(APIClient().get(API)) == (401, "api-key-missing")
    assert Schema.objects.get().parsed_document() == PET


def test_another_tenants_schema_of_the_same_name_is_another(client: APIClient, tenant: Tenant) -> None:
    other = a_schema(a_tenant("other"), document={"title": "theirs"})
    assert put(client, PET).status_code == 201
    assert client.delete(SCHEMA).status_code == 204
    assert Schema.objects.get() == other


def test_nothing_of_it_costs_tokens_and_reading_takes_two_statements(client: APIClient, tenant: Tenant) -> None:
    a_schema(tenant)
    client.get(API)
    for path in (API, SCHEMA):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        assert len(queries) == 2
    put(client, TEXT)
    assert not LedgerEntry.objects.filter(kind="debit").exists()


def test_a_body_of_another_media_type_is_refused(client: APIClient) -> None:
    assert client.generic("PUT", SCHEMA, "{}", content_type="text/plain").status_code == 415
    sent = client.generic("PUT", SCHEMA, "{}", content_type="application/schema+json")
    assert sent.status_code == 201
