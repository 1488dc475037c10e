"""The REST door alone: what has no counterpart in an event."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from blockforger.backend import api
from blockforger.backend.models import Item
from eventing.models import OutboxEvent
from tenants.models import LedgerEntry, Tenant, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"


@pytest.fixture
def client() -> APIClient:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return APIClient(headers={"X-API-Key": a_key(tenant)})


def post(client: APIClient, payload: Any, path: str = PETS) -> Any:
    return client.post(path, payload, format="json")


def send(client: Any, method: str, path: str, body: bytes, *, content_type: str) -> Any:
    return client.generic(method, path, body, content_type=content_type)


def test_the_life_of_an_item(client: APIClient) -> None:
    created = post(client, FLUFFY)
    assert (created.status_code, created.json(), created["Location"]) == (201, FLUFFY, f"{PETS}/123")
    assert client.get(f"{PETS}/123").json() == FLUFFY
    assert client.put(f"{PETS}/123", {"name": "Rex"}, format="json").json() == {"id": "123", "name": "Rex"}
    patched = client.patch(f"{PETS}/123", {"status": "sold"}, format="json")
    assert (patched.status_code, patched.json()) == (200, {"id": "123", "name": "Rex", "status": "sold"})
    deleted = client.delete(f"{PETS}/123")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert client.get(f"{PETS}/123").status_code == 404
    assert TokenAccount.objects.get().balance == 1000 - 5 * 10


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_trailing_slash_is_optional(client: APIClient, slash: str) -> None:
    assert post(client, FLUFFY, PETS + slash).status_code == 201
    assert client.get(f"{PETS}/123{slash}").json() == FLUFFY
    assert client.get(PETS + slash).json() == {"items": [FLUFFY], "next": None}


@pytest.mark.parametrize("key", ["a b", "a/b", "/a", "ä", "%2F", "a?b#c", "a:b", "..x", "x" * 255])
def test_any_key_can_be_addressed_by_a_percent_encoded_url(client: APIClient, key: str) -> None:
    created = post(client, {"id": key, "name": "x"})
    assert created.status_code == 201
    assert client.get(f"{PETS}/{quote(key, safe='')}").json() == {"id": key, "name": "x"}
    assert client.get(created["Location"]).json() == {"id": key, "name": "x"}


@pytest.mark.parametrize("key", ["", "a/", "..", ".", "../../other/x", "a/./b", "$x", "x" * 256, "a\nb"])
def test_a_key_that_no_url_could_name_is_refused(client: APIClient, key: str) -> None:
    answer = post(client, {"id": key, "name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "key-field-invalid")


def test_an_integer_is_one_however_it_is_written(client: APIClient) -> None:
    a_schema(Tenant.objects.get(), "orders", {"properties": {"id": {"type": "integer"}}})
    created = send(client, "POST", "/api/mytenant/orders", b'{"id": 1255.0}', content_type="application/json")
    assert (created.status_code, created["Location"]) == (201, "/api/mytenant/orders/1255")
    assert post(client, {"id": 1255}, "/api/mytenant/orders").status_code == 409
    assert post(client, {"id": 1255.5}, "/api/mytenant/orders").status_code == 400


@pytest.mark.parametrize("key", ["$other", "%00", "%ED%A0%80", "x" * 256])
def test_a_url_of_a_key_that_no_item_can_have_is_an_unknown_item(client: APIClient, key: str) -> None:
    assert client.get(f"{PETS}/{key}").status_code == 404
    assert client.delete(f"{PETS}/{key}").status_code == 404


def test_a_post_without_a_key_gets_one(client: APIClient) -> None:
    created = post(client, {"name": "x"}).json()
    assert list(created) == ["id", "name"]
    assert client.get(f"{PETS}/{created['id']}").json() == created
    assert json.loads(OutboxEvent.objects.get().detail)["payload"] == created


def test_a_schema_of_integer_keys_wants_one_and_keeps_it_an_integer(client: APIClient) -> None:
    document = {"type": "object", "properties": {"id": {"type": "integer"}, "n": {"type": "integer"}}}
    a_schema(TokenAccount.objects.get().tenant, "numbers", document)
    numbers = "/api/mytenant/numbers"
    refused = post(client, {"n": 1}, numbers)
    assert (refused.status_code, refused.json()["code"]) == (400, "key-field-invalid")
    assert post(client, {"id": 5}, numbers).status_code == 201
    assert client.put(f"{numbers}/5", {"n": 2}, format="json").json() == {"id": 5, "n": 2}
    client.patch(f"{numbers}/5", {"n": 3}, format="json")
    client.delete(f"{numbers}/5")
    sent = [json.loads(event.detail)["payload"] for event in OutboxEvent.objects.order_by("sequence")]
    assert sent == [{"id": 5}, {"id": 5, "n": 2}, {"id": 5, "n": 3}, {"id": 5}]


def test_another_member_can_hold_the_key(client: APIClient) -> None:
    tenant = TokenAccount.objects.get().tenant
    a_schema(tenant, "users", {"type": "object"}, key="email")
    users = "/api/mytenant/users"
    assert post(client, {"email": "a@example.com"}, users).status_code == 201
    assert client.get(f"{users}/a@example.com").json() == {"email": "a@example.com"}
    client.delete(f"{users}/a@example.com")
    assert json.loads(OutboxEvent.objects.get(operation="DELETE").detail)["payload"] == {"email": "a@example.com"}


def test_an_item_that_lacks_the_key_field_can_be_changed_all_the_same(client: APIClient) -> None:
    post(client, FLUFFY)
    Item.objects.update(payload={"name": "from another time"})
    assert client.patch(f"{PETS}/123", {"status": "sold"}, format="json").json()["id"] == "123"
    assert client.delete(f"{PETS}/123").status_code == 204


def test_the_key_of_the_payload_must_be_that_of_the_url(client: APIClient) -> None:
    post(client, FLUFFY)
    answer = client.put(f"{PETS}/123", {**FLUFFY, "id": "124"}, format="json")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "key-mismatch", "id")


def test_a_patch_cannot_remove_the_key(client: APIClient) -> None:
    post(client, FLUFFY)
    assert client.patch(f"{PETS}/123", {"id": None}, format="json").json()["code"] == "key-field-invalid"


def test_a_merge_patch_has_a_media_type_of_its_own(client: APIClient) -> None:
    post(client, FLUFFY)
    patched = client.generic("PATCH", f"{PETS}/123", '{"status": null}', content_type="application/merge-patch+json")
    assert patched.json() == {"id": "123", "name": "Fluffy"}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "The text is not JSON"),
        (b'\xef\xbb\xbf{"name": "x"}', "The text begins with a byte order mark"),
        (b'{"id": "1", "id": "2", "name": "x"}', 'The member "id" stands twice'),
        (b"\xff", "not UTF-8"),
        (b'{"name": NaN}', "NaN is not JSON"),
        (b'{"name": 1e999}', "A number is too large"),
        (b'{"name": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"name": "\\u0000"}', "U+0000"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nested deeper"),
    ],
)
def test_a_body_that_could_not_be_carried_is_refused(client: APIClient, body: bytes, detail: str) -> None:
    answer = send(client, "POST", PETS, body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert detail in answer.json()["detail"]


def test_a_write_without_a_body_is_refused(client: APIClient) -> None:
    answer = send(client, "POST", PETS, b"", content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, "payload-not-object")


def test_a_stranger_does_not_learn_what_is_wrong_with_a_body(client: APIClient) -> None:
    answer = send(APIClient(), "POST", PETS, b"{", content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (401, "api-key-missing")


def test_the_key_can_come_as_a_bearer_token(client: APIClient) -> None:
    key = client.defaults["HTTP_X_API_KEY"]
    assert APIClient(headers={"Authorization": f"Bearer {key}"}).get(PETS).status_code == 200
    assert APIClient(headers={"Authorization": f"Basic {key}"}).get(PETS).status_code == 401


def test_a_list_is_read_page_by_page(client: APIClient) -> None:
    for number in range(5):
        post(client, {"id": str(number), "name": "x"})
    seen, pages = [], 0
    cursor: Any = ""
    while cursor is not None:
        page = client.get(PETS, {"limit": 2, "cursor": cursor}).json()
        seen += [item["id"] for item in page["items"]]
        cursor, pages = page["next"], pages + 1
    assert (seen, pages) == (["0", "1", "2", "3", "4"], 3)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "9" * 30}, "cursor"),
    ],
)
def test_a_bad_parameter_is_named(client: APIClient, query: dict[str, str], parameter: str) -> None:
    answer = client.get(PETS, query)
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


def test_a_read_costs_ten_tokens_takes_no_number_and_publishes_nothing(client: APIClient) -> None:
    client.get(PETS)
    account = TokenAccount.objects.get()
    assert (account.balance, account.sequence) == (990, 0)
    entry = LedgerEntry.objects.get(kind="debit")
    assert (entry.amount, entry.sequence, entry.reference) == (-10, None, "GET petstore")
    assert not OutboxEvent.objects.exists()


def test_a_refused_read_costs_nothing(client: APIClient) -> None:
    assert client.get(f"{PETS}/none").status_code == 404
    assert TokenAccount.objects.get().balance == 1000


def test_one_tenants_key_opens_nothing_of_anothers(client: APIClient) -> None:
    other = a_tenant("other")
    a_schema(other)
    post(client, FLUFFY)
    stranger = APIClient(headers={"X-API-Key": a_key(other)})
    for method in ("get", "put", "patch", "delete"):
        assert getattr(stranger, method)(f"{PETS}/123", {}, format="json").status_code == 401
    assert stranger.get("/api/other/petstore").json()["items"] == []
    assert stranger.get("/api/other/petstore/123").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "content_type", "status"),
    [
        ("PUT", PETS, "application/json", 405),
        ("POST", f"{PETS}/123", "application/json", 405),
        ("POST", PETS, "text/plain", 415),
        ("POST", PETS, "multipart/form-data", 415),
    ],
)
def test_errors_of_http_are_problem_documents_too(
    client: APIClient, method: str, path: str, content_type: str, status: int
) -> None:
    answer = send(client, method, path, b"x", content_type=content_type)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_an_accept_header_of_another_format_is_answered_with_406(client: APIClient) -> None:
    answer = client.get(PETS, headers={"Accept": "text/csv"})
    assert (answer.status_code, answer["Content-Type"]) == (406, "application/problem+json")


def test_a_head_is_a_get_without_its_body(client: APIClient) -> None:
    post(client, FLUFFY)
    answer = client.head(f"{PETS}/123")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_url_that_leads_nowhere_is_a_problem_document(client: APIClient) -> None:
    answer = client.get("/nowhere")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


def test_an_absent_database_is_a_503_with_a_time_to_come_back(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(api, "execute", away)
    answer = client.get(PETS)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json()["code"] == "database-unavailable"


def test_a_fault_is_a_500_that_tells_nothing(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr(api, "execute", broken)
    client.raise_request_exception = False
    answer = client.get(PETS)
    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")
    assert "secret" not in answer.content.decode()
