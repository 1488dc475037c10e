"""Requests that come at the same time are committed together, and each is answered and billed as if it were alone."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString

import pytest
from django.db import connection
from rest_framework.test import APIClient

from blockforger.backend import at_once, group_commit, operations, settlement_statements, settlements
from blockforger.backend.admission import Admitted, admit_as_kept
from blockforger.backend.models import Item, Origin
from blockforger.backend.operations import Operation
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import ApiKey, LedgerEntry, Tenant, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import state
from tests.eventing.test_waiting_writers import CHANGED, another_connection, waiting_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from blockforger.backend.settlements import Settlement

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

LOCKED = "SELECT FROM tenants_tokenaccount JOIN tenants_tenant t ON t.id = tenant_id WHERE t.name = %s FOR UPDATE"
MAKING = """
INSERT INTO backend_item (schema_id, key, payload, version, created_at, updated_at)
SELECT s.id, 'a', '{}', 1, now(), now() FROM backend_schema s JOIN tenants_tenant t ON t.id = s.tenant_id
WHERE t.name = %s
"""


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """By the name of their tenant; each has an item and a rule."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no such statements.")
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 30)
    keys = {}
    for name in ("first", "red", "green", "blue"):
        tenant = a_tenant(name)
        a_schema(tenant)
        a_rule(tenant)
        keys[name] = a_key(tenant)
        assert asked("POST", FLUFFY, name, keys).status_code == 201
    return keys


def asked(method: str, payload: dict[str, Any], name: str, keys: dict[str, str], **headers: str) -> Any:
    """The response to a request for an item of the tenant's."""
    path = f"/api/{name}/petstore" + ("" if method == "POST" else f"/{payload['id']}")
    client = APIClient(headers={"X-API-Key": keys[name], **headers})
    return client.generic(method, path, json.dumps(payload), content_type="application/json")


class Crowd:
    """Requests in threads of their own, all of which come while the first of them waits for an account."""

    def __init__(self, keys: dict[str, str], threads: ThreadPoolExecutor) -> None:
        self._keys, self._threads = keys, threads

    @contextmanager
    def behind(self, locked: str) -> Iterator[None]:
        """Another has the account until the block ends, and a request of its tenant's waits for it."""
        with another_connection() as another:
            another.execute(LOCKED, [locked])
            first = self._submit("POST", new("behind"), locked)
            until(lambda: at_once._group_commit._is_busy)
            yield
            another.rollback()
        assert first.result(30).status_code == 201

    def send(self, method: str, payload: dict[str, Any], name: str, **headers: str) -> Future[Any]:
        """Send a request that has to wait for the first."""
        there = len(at_once._group_commit._waiting)
        coming = self._submit(method, payload, name, **headers)
        until(lambda: len(at_once._group_commit._waiting) > there)
        return coming

    def together(self, *requests: tuple[str, dict[str, Any], str]) -> list[Any]:
        """The answers to requests that make a group."""
        with self.behind("first"):
            coming = [self.send(*request) for request in requests]
        return [future.result(30) for future in coming]

    def _submit(self, method: str, payload: dict[str, Any], name: str, **headers: str) -> Future[Any]:
        def send() -> Any:
            try:
                return asked(method, payload, name, self._keys, **headers)
            finally:
                connection.close()

        return self._threads.submit(send)


@pytest.fixture
def crowd(keys: dict[str, str]) -> Iterator[Crowd]:
    with ThreadPoolExecutor(20) as threads:
        yield Crowd(keys, threads)


def until(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.005)


def new(key: str) -> dict[str, Any]:
    return {**FLUFFY, "id": key}


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many operations the statements were."""
    sizes: list[int] = []
    really_settle = settlements.settle_at_once

    def settle(settlement: Settlement, tenants: Any) -> Any:
        sizes.append(settlement.items)
        return really_settle(settlement, tenants)

    monkeypatch.setattr(settlements, "settle_at_once", settle)
    return sizes


def statuses(answers: Sequence[Any]) -> list[int]:
    return [answer.status_code for answer in answers]


def held(name: str) -> int:
    return TokenAccount.objects.get(tenant__name=name).balance


def transactions_of(model: type[Any], **of: Any) -> int:
    """In how many transactions these rows were written last."""
    return len(set(model.objects.filter(**of).extra(select={"xmin": "xmin::text"}).values_list("xmin", flat=True)))


def test_writes_of_several_tenants_are_one_transaction(crowd: Crowd) -> None:
    answers = crowd.together(
        ("POST", new("a"), "red"),
        ("PUT", {**FLUFFY, "name": "Brave"}, "green"),
        ("PATCH", {"id": "123", "name": "Calm"}, "blue"),
        ("POST", new("b"), "red"),
    )
    assert statuses(answers) == [201, 200, 200, 201]
    assert (held("red"), held("green"), held("blue")) == (970, 980, 980)
    newest = LedgerEntry.objects.order_by("-pk").values_list("pk", flat=True)[:4]
    assert transactions_of(LedgerEntry, pk__in=list(newest)) == 1
    assert not list(balances.discrepancies())
    red = list(OutboxEvent.objects.filter(tenant__name="red").order_by("pk").values_list("sequence", "item_key"))
    assert red == [(1, "123"), (2, "a"), (3, "b")]
    assert Item.objects.get(schema__tenant__name="green").payload["name"] == "Brave"
    assert Item.objects.get(schema__tenant__name="blue").payload["name"] == "Calm"


def test_a_delete_goes_with_others(crowd: Crowd) -> None:
    answers = crowd.together(("DELETE", {"id": "123"}, "red"), ("DELETE", {"id": "123"}, "green"))
    assert statuses(answers) == [204, 204]
    assert set(Item.objects.values_list("schema__tenant__name", flat=True)) == {"first", "blue"}
    assert not list(balances.discrepancies())


def test_each_is_told_its_own_item_and_its_own_balance(crowd: Crowd, keys: dict[str, str]) -> None:
    for name in ("red", "green"):
        assert asked("PUT", {**FLUFFY, "name": name}, name, keys).status_code == 200
    told = crowd.together(*[("GET", FLUFFY, name) for name in ("red", "green", "red")])
    assert [answer.json()["name"] for answer in told] == ["red", "green", "red"]
    assert [answer["Token-Balance"] for answer in told] == ["970", "970", "960"]
    assert {answer["Token-Cost"] for answer in told} == {"10"}
    assert transactions_of(LedgerEntry, reference="GET petstore") == 1
    assert not list(balances.discrepancies())


@pytest.mark.parametrize(
    ("odd", "status"), [(("POST", FLUFFY, "green"), 409), (("GET", {"id": "nowhere"}, "green"), 404)]
)
def test_one_that_is_refused_harms_nobody_else(crowd: Crowd, odd: tuple[str, dict[str, Any], str], status: int) -> None:
    answers = crowd.together(("POST", new("a"), "red"), odd, ("GET", {"id": "123"}, "blue"))
    assert statuses(answers) == [201, status, 200]
    assert (held("red"), held("green"), held("blue")) == (980, 990, 980)
    assert not list(balances.discrepancies())


def test_only_those_that_nothing_is_in_the_way_of_are_tried_again(crowd: Crowd, sizes: list[int]) -> None:
    nowhere = ("GET", {"id": "nowhere"}, "green")
    fine = [("GET", {"id": "123"}, name) for name in ("red", "blue", "green")]
    answers = crowd.together(fine[0], nowhere, fine[1], nowhere, fine[2])
    assert statuses(answers) == [200, 404, 200, 404, 200]
    assert sizes == [1, 5, 3]


def test_two_of_which_one_can_be_paid(crowd: Crowd, keys: dict[str, str], sizes: list[int]) -> None:
    for _ in range(98):
        assert asked("GET", {"id": "123"}, "red", keys).status_code == 200
    sizes.clear()
    answers = crowd.together(("POST", new("a"), "red"), ("POST", new("b"), "red"), ("POST", new("c"), "blue"))
    assert sorted(statuses(answers[:2])) == [201, 402]
    assert answers[2].status_code == 201
    assert (held("red"), held("blue")) == (0, 980)
    assert sizes == [1, 3, 1]
    assert not list(balances.discrepancies())


def test_a_key_that_was_revoked_meanwhile_is_of_no_use(crowd: Crowd) -> None:
    with crowd.behind("first"):
        late, other = crowd.send("POST", new("a"), "red"), crowd.send("POST", new("b"), "blue")
        row = ApiKey.objects.get(tenant__name="red")
        row.is_active = False
        row.save()
    assert late.result(30).status_code == 401
    assert other.result(30).status_code == 201
    assert not Item.objects.filter(schema__tenant__name="red", key="a").exists()


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("order", [["revoked", "valid"], ["valid", "revoked"]])
def test_no_request_vouches_for_another_of_its_tenant(
    crowd: Crowd, keys: dict[str, str], method: str, order: list[str]
) -> None:
    """What the process knows of the one key is older than what it knows of the other."""
    ApiKey.objects.filter(tenant__name="red").update(is_active=False)
    of_red = {"revoked": keys["red"], "valid": a_key(Tenant.objects.get(name="red"))}
    keys["red"] = of_red["valid"]
    assert asked("GET", FLUFFY, "red", keys).status_code == 200
    coming = {}
    with crowd.behind("first"):
        for which in order:
            keys["red"] = of_red[which]
            coming[which] = crowd.send(method, FLUFFY if method == "GET" else new(which), "red")
    assert coming["revoked"].result(30).status_code == 401
    assert coming["valid"].result(30).status_code == (200 if method == "GET" else 201)
    assert not Item.objects.filter(schema__tenant__name="red", key="revoked").exists()


def test_nobody_waits_for_what_is_large(crowd: Crowd, keys: dict[str, str]) -> None:
    large = {**new("large"), "text": "x" * 20_000}
    with crowd.behind("first"):  # nor does that wait for others
        assert asked("POST", large, "red", keys).status_code == 201
        assert asked("PUT", large, "red", keys).status_code == 200
        assert asked("PATCH", {"id": "large", "name": "y"}, "red", keys).status_code == 200


@pytest.mark.parametrize("condition", [{"If-None-Match": '"other"'}, {}])
def test_no_tenant_vouches_for_another(crowd: Crowd, keys: dict[str, str], condition: dict[str, str]) -> None:
    """Reads with a condition are made before they are billed."""
    assert asked("GET", FLUFFY, "red", keys, **condition).status_code == 200
    row = ApiKey.objects.get(tenant__name="red")
    row.is_active = False
    row.save()
    with crowd.behind("first"):
        late = crowd.send("GET", FLUFFY, "red", **condition)
        other = crowd.send("GET", FLUFFY, "blue", **{"If-None-Match": '"other"'})
    assert (late.result(30).status_code, other.result(30).status_code) == (401, 200)
    assert (held("red"), held("blue")) == (980, 980)


def test_writes_of_the_same_item_follow_one_another(crowd: Crowd, sizes: list[int]) -> None:
    answers = crowd.together(*[("PUT", {**FLUFFY, "name": f"{number}"}, "red") for number in range(3)])
    assert statuses(answers) == [200, 200, 200]
    assert sizes[:2] == [1, 1]
    assert Item.objects.get(schema__tenant__name="red").version == 4
    assert held("red") == 960


@pytest.mark.parametrize("change", [LOCKED, MAKING])
def test_the_others_do_not_wait_for_what_one_of_them_has_to_wait_for(crowd: Crowd, change: LiteralString) -> None:
    with another_connection() as another:
        with crowd.behind("first"):
            red, green, blue = (crowd.send("POST", new("a"), name) for name in ("red", "green", "blue"))
            another.execute(change, ["green"])
        assert [red.result(30).status_code, blue.result(30).status_code] == [201, 201]
        assert not green.done()
        another.rollback()
    assert green.result(30).status_code == 201
    assert not list(balances.discrepancies())


def test_what_was_changed_after_it_was_read_is_left_out(keys: dict[str, str]) -> None:
    put = ready("PUT", {**FLUFFY, "name": "of old"}, "red", keys)
    delete = ready("DELETE", {"id": "123"}, "green", keys)
    post = ready("POST", new("a"), "blue", keys)
    for name in ("red", "green"):
        assert asked("PUT", {**FLUFFY, "name": "newer"}, name, keys).status_code == 200
    assert at_once._settle([put, delete, post]) == [None, None, at_once.Settled(980, None)]
    assert set(Item.objects.exclude(schema__tenant__name="first").values_list("key", "payload__name")) == {
        ("123", "newer"),
        ("123", "Fluffy"),
        ("a", "Fluffy"),
    }
    assert not list(balances.discrepancies())


def test_what_is_changed_while_it_is_written_undoes_all_of_the_group(
    keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement_statements, "_LOCK_TIMEOUT", "30s")
    settlement_statements.text_of.cache_clear()
    group = [ready("PUT", {**FLUFFY, "name": "n"}, "red", keys), ready("POST", new("a"), "blue", keys)]
    before = state()
    with waiting_for(CHANGED, partial(at_once._settle, group)) as settled, another_connection() as third:
        free = third.execute("SELECT FROM tenants_tokenaccount FOR UPDATE SKIP LOCKED").rowcount
    settlement_statements.text_of.cache_clear()
    assert free == 4  # who waits for an item has nobody's account
    assert settled == [None]
    after = state()
    assert (after.accounts, after.ledger_entries, after.outbox) == (
        before.accounts,
        before.ledger_entries,
        before.outbox,
    )
    assert [item[0] for item in after.items] == ["123"] * 4


def ready(method: str, payload: dict[str, Any], name: str, keys: dict[str, str]) -> at_once.Ready:
    """A write that knows its item as it is now."""
    key = None if method == "POST" else payload["id"]
    operation = Operation(
        origin=Origin.API,
        method=method,
        tenant=name,
        schema="petstore",
        api_key=keys[name],
        key=key,
        payload=payload,
    )
    admission = admit_as_kept(operation)
    assert isinstance(admission, Admitted)
    planned = operations._ready(operation, admission)
    assert planned is not None
    return planned
