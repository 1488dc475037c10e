"""A write that is sent again with its Idempotency-Key: answered as before, carried out and billed once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from blockforger.backend import retention, settlements
from blockforger.backend.models import OperationRecord
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import ApiKey, Tenant, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import state

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"
FLUFFYS_URL = f"{PETS}/123"


@pytest.fixture
def client() -> APIClient:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return APIClient(headers={"X-API-Key": a_key(tenant)})


def send(client: Any, method: str, path: str, payload: Any = None, *, key: str = '"once"') -> Any:
    body = b"" if payload is None else json.dumps(payload).encode()
    headers = {"Idempotency-Key": key}
    return client.generic(method, path, body, content_type="application/json", headers=headers)


WRITES = [
    ("POST", PETS, {"name": "no key", "b": 1, "a": 2}),
    ("PUT", FLUFFYS_URL, {"name": "Rex"}),
    ("PATCH", FLUFFYS_URL, {"status": "sold"}),
    ("DELETE", FLUFFYS_URL, None),
]


@pytest.mark.parametrize(("method", "path", "payload"), WRITES)
def test_a_repetition_is_answered_as_before_and_changes_nothing(
    client: APIClient, method: str, path: str, payload: Any
) -> None:
    client.post(PETS, FLUFFY, format="json")
    first = send(client, method, path, payload)
    after = state()
    second = send(client, method, path, payload)
    assert first.status_code in {200, 201, 204}
    assert state() == after
    assert (second.status_code, second.content) == (first.status_code, first.content)
    lasting = {name: value for name, value in first.headers.items() if not name.startswith("Token-")}
    assert second.headers == {**lasting, "Idempotent-Replayed": "true", "Token-Cost": "0"}
    assert "Idempotent-Replayed" not in first
    assert ("ETag" in second, "Location" in second) == (method != "DELETE", method == "POST")


@pytest.mark.parametrize(
    ("method", "path", "payload", "status"),
    [
        ("POST", PETS, FLUFFY, 409),
        ("POST", PETS, {"name": 7}, 400),
        ("POST", PETS, [], 400),
        ("PUT", f"{PETS}/none", {"name": "x"}, 404),
        ("POST", "/api/mytenant/nope", FLUFFY, 404),
        ("POST", PETS, {"name": "x" * 1_100_000}, 413),
    ],
)
def test_a_refusal_is_answered_again_too(client: APIClient, method: str, path: str, payload: Any, status: int) -> None:
    client.post(PETS, FLUFFY, format="json")
    first = send(client, method, path, payload)
    client.delete(FLUFFYS_URL)
    second = send(client, method, path, payload)
    assert (first.status_code, second.status_code) == (status, status)
    assert second.json() == first.json()
    assert second["Idempotent-Replayed"] == "true"


def test_another_body_under_the_same_key_is_refused_and_the_first_is_still_known(client: APIClient) -> None:
    send(client, "POST", PETS, FLUFFY)
    answer = send(client, "POST", PETS, {**FLUFFY, "id": "124"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert send(client, "POST", PETS, FLUFFY).status_code == 201
    assert TokenAccount.objects.get().balance == 990


def test_the_order_of_members_and_spaces_make_no_other_body(client: Any) -> None:
    send(client, "POST", PETS, {"id": "1", "name": "x"})
    body = b'{ "name": "x",\n "id": "1" }'
    headers = {"Idempotency-Key": "once"}
    answer = client.generic("POST", PETS, body, content_type="application/json", headers=headers)
    assert (answer.status_code, answer["Idempotent-Replayed"]) == (201, "true")


def test_the_key_is_one_callers_one_methods_and_one_urls(client: APIClient) -> None:
    other_key = a_key(Tenant.objects.get())
    send(client, "POST", PETS, FLUFFY)
    colleague = APIClient(headers={"X-API-Key": other_key})
    assert send(colleague, "POST", PETS, FLUFFY).status_code == 409
    assert send(client, "PUT", FLUFFYS_URL, FLUFFY).status_code == 200
    assert send(client, "PATCH", FLUFFYS_URL, FLUFFY).status_code == 200
    assert send(client, "PUT", f"{PETS}/124", FLUFFY).status_code == 400


@pytest.mark.parametrize("path", [PETS, f"{PETS}/"])
def test_a_trailing_slash_makes_no_other_url(client: APIClient, path: str) -> None:
    send(client, "POST", PETS, FLUFFY)
    assert send(client, "POST", path, FLUFFY)["Idempotent-Replayed"] == "true"


def test_neither_the_key_nor_the_request_is_stored(client: APIClient) -> None:
    send(client, "DELETE", FLUFFYS_URL, key="a secret of the client's".replace(" ", "-"))
    (record,) = OperationRecord.objects.values()
    assert "secret" not in str(record)
    assert client.defaults["HTTP_X_API_KEY"][-20:] not in str(record)


class TestWhatARetryMayGetPastIsNotKept:
    def test_a_stranger_is_neither_recorded_nor_told_what_became_of_anothers(self, client: APIClient) -> None:
        stolen_prefix = client.defaults["HTTP_X_API_KEY"][:-1] + "!"
        send(client, "POST", PETS, FLUFFY)
        for stranger in (APIClient(), APIClient(headers={"X-API-Key": stolen_prefix})):
            assert send(stranger, "POST", PETS, FLUFFY).status_code == 401
        assert OperationRecord.objects.count() == 1

    def test_a_key_that_was_revoked_gets_no_answer_again(self, client: APIClient) -> None:
        send(client, "POST", PETS, FLUFFY)
        ApiKey.objects.update(is_active=False)
        assert send(client, "POST", PETS, FLUFFY).status_code == 401

    def test_a_permission_that_lacks(self, client: APIClient) -> None:
        ApiKey.objects.update(permissions=[])
        assert send(client, "POST", PETS, FLUFFY).status_code == 403
        ApiKey.objects.update(permissions=["backend_calls"])
        assert send(client, "POST", PETS, FLUFFY).status_code == 201

    def test_a_balance_that_is_too_low(self, client: APIClient) -> None:
        TokenAccount.objects.update(balance=5)
        assert send(client, "POST", PETS, FLUFFY).status_code == 402
        assert not OperationRecord.objects.exists()
        TokenAccount.objects.update(balance=10)
        answer = send(client, "POST", PETS, FLUFFY)
        assert (answer.status_code, "Idempotent-Replayed" in answer) == (201, False)

    def test_a_fault(self, client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as broken:

            def away(*args: object) -> None:
                raise OperationalError("the connection is lost")

            broken.setattr(settlements, "settle", away)
            assert send(client, "POST", PETS, FLUFFY).status_code == 503
        assert not OperationRecord.objects.exists()
        assert send(client, "POST", PETS, FLUFFY).status_code == 201


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('"abc"', "abc"),
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (r'"a\"b\\c"', r'"a\"b\\c" '),
        ('"with a space"', ' "with a space"'),
        ("x" * 255, f'"{"x" * 255}"'),
        ("order:7/a=b@c", '"order:7/a=b@c"'),
    ],
)
def test_a_key_may_stand_in_quotes_or_without(client: APIClient, one: str, other: str) -> None:
    send(client, "POST", PETS, FLUFFY, key=one)
    assert send(client, "POST", PETS, FLUFFY, key=other)["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    "key", ["", '""', "x" * 256, "a b", "a,b", '"a", "b"', '"a";p=1', 'a"b', '"a', r'"a\b"', "é", '"é"', "a\\"]
)
def test_what_is_no_key_is_a_400(client: APIClient, key: str) -> None:
    answer = send(client, "POST", PETS, FLUFFY, key=key)
    assert (answer.status_code, answer.json()["header"]) == (400, "Idempotency-Key")
    assert (OutboxEvent.objects.count(), OperationRecord.objects.count()) == (0, 0)


def test_a_read_takes_no_notice_of_a_key(client: APIClient) -> None:
    for _ in range(2):
        assert "Idempotent-Replayed" not in client.get(PETS, headers={"Idempotency-Key": "once"})
    assert TokenAccount.objects.get().balance == 980


def test_what_a_day_has_passed_over_is_a_new_request(client: APIClient) -> None:
    send(client, "DELETE", FLUFFYS_URL)
    OperationRecord.objects.update(received_at="2026-01-01T00:00:00Z")
    retention.prune(retention.expired_records(), retention.Pace())
    client.post(PETS, FLUFFY, format="json")
    assert send(client, "DELETE", FLUFFYS_URL).status_code == 204
    assert list(balances.discrepancies()) == []
