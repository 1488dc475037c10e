"""Requests that come at the same time are committed together, and each is answered and billed as if it were alone."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

import pytest
from django.db import connection
from rest_framework.test import APIClient

from blockforger.backend import at_once, group_commit, operations
from blockforger.backend.admission import Admitted, admit_as_kept
from blockforger.backend.models import Item, Origin
from blockforger.backend.operations import Operation
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import ApiKey, LedgerEntry, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import state
from tests.eventing.test_waiting_writers import another_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

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


def asked(method: str, payload: dict[str, Any], name: str, keys: dict[str, str]) -> Any:
    """The response to a request for an item of the tenant's."""
    path = f"/api/{name}/petstore" + ("" if method == "POST" else f"/{payload['id']}")
    client = APIClient(headers={"X-API-Key": keys[name]})
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

    def send(self, method: str, payload: dict[str, Any], name: str) -> Future[Any]:
        """Send a request that has to wait for the first."""
        there = len(at_once._group_commit._waiting)
        coming = self._submit(method, payload, name)
        until(lambda: len(at_once._group_commit._waiting) > there)
        return coming

    def together(self, *requests: tuple[str, dict[str, Any], str]) -> list[Any]:
        """The answers to requests that make a group."""
        with self.behind("first"):
            coming = [self.send(*request) for request in requests]
        return [future.result(30) for future in coming]

    def _submit(self, method: str, payload: dict[str, Any], name: str) -> Future[Any]:
        def send() -> Any:
            try:
                return asked(method, payload, name, self._keys)
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


def test_two_of_which_one_can_be_paid(crowd: Crowd, keys: dict[str, str]) -> None:
    for _ in range(98):
        assert asked("GET", {"id": "123"}, "red", keys).status_code == 200
    answers = crowd.together(("POST", new("a"), "red"), ("POST", new("b"), "red"), ("POST", new("c"), "blue"))
    assert sorted(statuses(answers[:2])) == [201, 402]
    assert answers[2].status_code == 201
    assert (held("red"), held("blue")) == (0, 980)
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


def test_writes_of_the_same_item_follow_one_another(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def settle(group: Sequence[at_once.Ready]) -> list[at_once.Settled] | None:
        sizes.append(len(group))
        return at_once._settle(group)

    monkeypatch.setattr(at_once._group_commit, "_carry_out", settle)
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


def test_what_was_changed_after_it_was_read_undoes_all_of_the_group(keys: dict[str, str]) -> None:
    put = ready("PUT", {**FLUFFY, "name": "of old"}, "red", keys)
    post = ready("POST", new("a"), "blue", keys)
    assert asked("PUT", {**FLUFFY, "name": "newer"}, "red", keys).status_code == 200
    before = state()
    assert at_once._settle([put, post]) is None
    assert state() == before


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
    planned = operations._ready_write(operation, admission)
    assert planned is not None
    return planned
