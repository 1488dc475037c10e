"""Many items in one request: all or nothing, one bill, an event each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from blockforger.backend import signals
from blockforger.backend.models import Item, OperationRecord, Schema
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import LedgerEntry, Tenant, TokenAccount
from tests.cast import a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import state
from tests.eventing.statements import statements

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"


@pytest.fixture
def client() -> APIClient:
    tenant = a_tenant(tokens=100_000)
    a_schema(tenant)
    a_rule(tenant)
    return APIClient(headers={"X-API-Key": a_key(tenant)})


def send(client: Any, method: str, payload: Any, **headers: str) -> Any:
    return client.generic(method, PETS, json.dumps(payload), content_type="application/json", headers=headers)


def pets(count: int, **members: Any) -> list[dict[str, Any]]:
    return [{"id": str(number), "name": "x", **members} for number in range(count)]


def test_items_are_made_changed_and_deleted_together(client: APIClient) -> None:
    made = send(client, "POST", [{"id": "b", "name": "B"}, {"id": "a", "name": "A"}])
    assert (made.status_code, made.json()) == (201, {"items": [{"id": "b", "name": "B"}, {"id": "a", "name": "A"}]})
    assert ("ETag" in made, "Location" in made) == (False, False)
    changed = send(client, "PATCH", [{"id": "a", "status": "sold"}, {"id": "b", "name": "C"}])
    both = [{"id": "a", "name": "A", "status": "sold"}, {"id": "b", "name": "C"}]
    assert (changed.status_code, changed.json()) == (200, {"items": both})
    assert list(Item.objects.order_by("key").values_list("payload", "version")) == [(both[0], 2), (both[1], 2)]
    deleted = send(client, "DELETE", ["b", "a"])
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert not Item.objects.exists()


def test_there_is_one_bill_for_all_and_an_event_for_each_in_their_order(client: APIClient) -> None:
    send(client, "POST", [{"id": key, "name": "x"} for key in "cab"])
    send(client, "DELETE", ["b", "c"])
    entries = LedgerEntry.objects.filter(kind="debit").order_by("pk")
    assert list(entries.values_list("amount", "sequence", "balance_after", "reference")) == [
        (-30, 3, 99_970, "POST petstore, 3 items"),
        (-20, 5, 99_950, "DELETE petstore, 2 items"),
    ]
    events = OutboxEvent.objects.order_by("sequence").values_list("sequence", "item_key", "operation")
    assert list(events) == [
        (1, "c", "POST"),
        (2, "a", "POST"),
        (3, "b", "POST"),
        (4, "b", "DELETE"),
        (5, "c", "DELETE"),
    ]
    assert json.loads(OutboxEvent.objects.get(sequence=5).detail)["payload"] == {"id": "c"}
    assert list(balances.discrepancies()) == []


def test_items_without_a_key_get_one(client: APIClient) -> None:
    made = send(client, "POST", [{"name": "x"}, {"name": "y"}]).json()["items"]
    assert sorted(item["id"] for item in made) == list(Item.objects.order_by("key").values_list("key", flat=True))


def test_integer_keys_can_be_deleted_as_integers(client: APIClient) -> None:
    Schema.objects.update(document='{"type": "object", "properties": {"id": {"type": "integer"}}}')
    assert send(client, "POST", [{"id": 5}, {"id": 6}, {"id": 1255}]).status_code == 201
    assert send(client, "DELETE", [5, "6", 1255.0]).status_code == 204


def test_who_deletes_by_anything_but_keys_is_told_what_to_send(client: APIClient) -> None:
    answer = send(client, "DELETE", [{"id": "0"}]).json()
    assert answer["detail"].endswith("send nothing of each but its key: a string or an integer.")
    assert "field" not in answer
    assert "field" not in send(client, "DELETE", ["0", "0"]).json()


@pytest.mark.parametrize(
    ("method", "payload", "status", "code", "pointers"),
    [
        ("POST", [{"id": "n", "name": "x"}, {"name": 7, "status": "eaten"}, []], 400, "payload-invalid",
         ["/1/name", "/1/status", "/2"]),
        ("POST", [{"id": "n", "name": "x"}, {"id": "0", "name": "x"}, {"id": "1", "name": "x"}], 409, "item-exists",
         ["/1", "/2"]),
        ("POST", [{"id": "n", "name": "x"}, {"id": "m", "name": "x"}, {"id": "n", "name": "y"}], 400, "key-repeated",
         ["/2/id"]),
        ("POST", [{"id": "n", "name": "x"}, {"id": "$n", "name": "x"}], 400, "key-field-invalid", ["/1/id"]),
        ("POST", [{"id": "n", "name": "x"}, {"id": "m", "name": "x" * 1_100_000}], 413, "payload-too-large", ["/1"]),
        ("PATCH", [{"id": "0", "name": "y"}, {"name": "y"}], 400, "key-field-invalid", ["/1/id"]),
        ("PATCH", [{"id": "0", "name": "y"}, {"id": "none", "name": "y"}], 404, "item-unknown", ["/1"]),
        ("PATCH", [{"id": "0", "name": "y"}, {"id": "1", "name": None}], 400, "payload-invalid", ["/1"]),
        ("PATCH", [{"id": "0", "name": "y"}, {"id": "0", "name": "z"}], 400, "key-repeated", ["/1/id"]),
        ("DELETE", ["0", "none", "1"], 404, "item-unknown", ["/1"]),
        ("DELETE", ["0", "0"], 400, "key-repeated", ["/1"]),
        ("DELETE", ["0", 0.0], 400, "key-repeated", ["/1"]),
        ("DELETE", ["0", {"id": "1"}, True, 1.5, None], 400, "malformed", ["/1", "/2", "/3", "/4"]),
        ("DELETE", ["0", "$1", "x" * 256, ""], 404, "item-unknown", ["/1", "/2", "/3"]),
    ],
)  # fmt: skip
def test_one_item_that_is_refused_stops_all_and_is_named(
    client: APIClient, method: str, payload: Any, status: int, code: str, pointers: list[str]
) -> None:
    send(client, "POST", pets(2))
    before = state()
    answer = send(client, method, payload)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers
    assert state() == before


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("payload", [[], ["x"] * 1001])
def test_there_are_1_to_1000_items(client: APIClient, method: str, payload: Any) -> None:
    answer = send(client, method, payload)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert "1 to 1,000" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("payload", [{}, "0", None])
def test_what_is_no_array_is_refused(client: APIClient, method: str, payload: Any) -> None:
    assert send(client, method, payload).json()["code"] == "malformed"


def test_what_json_cannot_carry_is_named_by_its_index(client: APIClient) -> None:
    answer = send(client, "POST", [*pets(7), {"id": "7", "name": "\0"}])
    assert (answer.status_code, answer.json()["pointer"]) == (400, "/7/name")


def test_a_thousand_errors_are_told_in_part(client: APIClient) -> None:
    assert len(send(client, "POST", pets(1000, name=7)).json()["errors"]) == 100


def test_a_balance_that_does_not_pay_for_all_pays_for_nothing(client: APIClient) -> None:
    TokenAccount.objects.update(balance=29)
    before = state()
    answer = send(client, "POST", pets(3))
    assert (answer.status_code, answer.json()["balance"], answer.json()["cost"]) == (402, 29, 30)
    assert state() == before
    TokenAccount.objects.update(balance=30)
    assert send(client, "POST", pets(3)).status_code == 201


def test_a_repetition_is_answered_as_before(client: APIClient) -> None:
    first = send(client, "POST", pets(2), **{"Idempotency-Key": "once"})
    second = send(client, "POST", pets(2), **{"Idempotency-Key": "once"})
    assert (first.status_code, second.status_code, second.content) == (201, 201, first.content)
    assert second["Idempotent-Replayed"] == "true"
    assert (OperationRecord.objects.get().tokens, TokenAccount.objects.get().balance) == (20, 99_980)
    refused = [send(client, "POST", pets(2), **{"Idempotency-Key": "twice"}) for _ in range(2)]
    assert [answer.status_code for answer in refused] == [409, 409]
    assert (refused[1].json(), refused[1]["Idempotent-Replayed"]) == (refused[0].json(), "true")


def test_a_schema_that_demands_if_match_takes_no_bulk_changes(client: APIClient) -> None:
    send(client, "POST", pets(2))
    Schema.objects.update(meta={"require_if_match": True})
    assert send(client, "PATCH", pets(2)).status_code == 428
    assert send(client, "DELETE", ["0"]).status_code == 428
    assert send(client, "POST", [{"id": "new", "name": "x"}]).status_code == 201
    assert send(client, "DELETE", ["0"], **{"If-Match": "*"}).json()["header"] == "If-Match"


def test_a_body_may_be_as_large_as_bulk_bodies_may(client: APIClient, settings: Settings) -> None:
    large = pets(3, note="x" * 600_000)
    assert send(client, "POST", large).status_code == 201
    settings.BLOCKFORGER_MAX_BULK_BYTES = 1_500_000
    answer = send(client, "POST", large)
    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (413, "body-too-large", 1_500_000)


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_stored_items_that_are_too_much_to_be_read_at_once_are_refused(
    client: APIClient, settings: Settings, method: str
) -> None:
    send(client, "POST", pets(3, note="x" * 1000))
    settings.BLOCKFORGER_MAX_BULK_BYTES = 2500
    before = state()

    def change(count: int) -> Any:
        few = [{"id": str(number), "status": "sold"} for number in range(count)]
        return send(client, method, [pet["id"] for pet in few] if method == "DELETE" else few)

    answer = change(3)
    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (413, "items-too-large", 2500)
    assert state() == before
    assert change(2).status_code in {200, 204}


def test_events_that_are_too_much_to_be_written_at_once_are_refused(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_rule(Tenant.objects.get(), fields={"drop": ["note"]})
    monkeypatch.setattr(signals, "MAX_TOLD_BYTES", 6000)
    before = state()
    for headers in ({}, {"Idempotency-Key": "again"}, {"Idempotency-Key": "again"}):
        answer = send(client, "POST", pets(3), **headers)
        assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (413, "events-too-large", 6000)
        assert "Send fewer items in a request" in answer.json()["detail"]
    assert state() == before
    assert send(client, "POST", pets(2)).status_code == 201
    assert OutboxEvent.objects.count() == 4


def test_so_are_those_of_a_single_item(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    send(client, "POST", {"id": "fluffy", "name": "x"})
    before = state()
    monkeypatch.setattr(signals, "MAX_TOLD_BYTES", 2000)
    large = {"id": "fluffy", "name": "\N{CAT FACE}" * 300}
    for url, method in ((f"{PETS}/fluffy", "PUT"), (f"{PETS}/fluffy", "PATCH")):
        answer = client.generic(method, url, json.dumps(large), content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (413, "events-too-large")
    assert state() == before
    assert client.delete(f"{PETS}/fluffy").status_code == 204


@pytest.mark.django_db(transaction=True)
def test_a_thousand_items_take_no_more_statements_than_ten(client: APIClient) -> None:
    send(client, "POST", [{"id": "first", "name": "x"}])
    for method in ("POST", "PATCH", "DELETE"):
        few: list[Any] = [{"id": f"few {n}", "name": "x"} for n in range(10)]
        many: list[Any] = pets(1000)
        if method == "DELETE":
            few, many = [item["id"] for item in few], [item["id"] for item in many]
        expected = statements(lambda: send(client, method, few))  # noqa: B023 - called at once
        assert expected <= (1, 6)
        assert statements(lambda: send(client, method, many)) == expected  # noqa: B023
    assert TokenAccount.objects.get().sequence == 1 + 3 * 1010
