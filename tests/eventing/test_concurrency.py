"""Two connections at once, on a database that has row locks."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from rest_framework.test import APIClient

from blockforger.backend import deadlocks, operations, records
from blockforger.backend.models import Item, OperationRecord
from blockforger.backend.operations import Operation, execute_batch
from eventing import publishing
from eventing.consuming import Disposition
from eventing.models import OutboxEvent, OutboxStatus
from tenants import balances
from tenants.models import EntryKind, LedgerEntry, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import DOORS, Answer, Ask, an_event, envelope, handle, over_rest
from tests.eventing.event_bridge import EventBridge, event_bridge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["event_bridge"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


def at_once(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Call all of them at the same moment, each in a thread with a connection of its own."""
    calls = list(calls)
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(30)
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


@pytest.fixture
def key() -> str:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return a_key(tenant)


def test_duplicates_of_an_event_at_the_same_moment_have_one_effect(key: str) -> None:
    body = json.dumps(envelope(Ask("POST", FLUFFY, api_key=key)))
    dispositions = at_once([lambda: handle(body)] * 8)
    assert Counter(dispositions) == {Disposition.CARRIED_OUT: 1, Disposition.REPEATED: 7}
    assert (Item.objects.count(), OutboxEvent.objects.count(), OperationRecord.objects.count()) == (1, 1, 1)
    assert TokenAccount.objects.get().balance == 990


def test_posts_of_one_key_at_the_same_moment_make_one_item(key: str) -> None:
    answers = at_once([lambda: over_rest(Ask("POST", FLUFFY, api_key=key)).status] * 8)
    assert Counter(answers) == {201: 1, 409: 7}
    assert TokenAccount.objects.get().balance == 990


def test_64_writers_get_exactly_what_the_balance_pays_for(key: str) -> None:
    TokenAccount.objects.update(balance=0)
    tenant = TokenAccount.objects.get().tenant
    balances.top_up(tenant, amount=375, reference="for 37 operations")
    asks = [Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key) for number in range(64)]
    answers = [answer.status for answer in at_once([partial(over_rest, ask) for ask in asks])]
    assert Counter(answers) == {201: 37, 402: 27}
    account = TokenAccount.objects.get()
    assert (account.balance, account.sequence, Item.objects.count()) == (5, 37, 37)
    assert list(OutboxEvent.objects.order_by("sequence").values_list("sequence", flat=True)) == list(range(1, 38))


def test_32_writers_at_each_door_get_together_exactly_what_the_balance_pays_for(key: str) -> None:
    TokenAccount.objects.update(balance=0)
    tenant = TokenAccount.objects.get().tenant
    balances.top_up(tenant, amount=375, reference="for 37 operations")
    asks = [Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key) for number in range(64)]
    calls = [partial(DOORS[door], ask) for door, ask in zip(["rest", "event"] * 32, asks, strict=True)]
    answers = [answer.status for answer in at_once(calls)]
    assert Counter(answers) == {201: 37, 402: 27}
    account = TokenAccount.objects.get()
    assert (account.balance, account.sequence, Item.objects.count()) == (5, 37, 37)
    assert LedgerEntry.objects.filter(kind=EntryKind.DEBIT).count() == 37
    assert OperationRecord.objects.filter(status=201, tokens=10).count() == answers[1::2].count(201)
    assert OperationRecord.objects.filter(status=402, tokens=0).count() == answers[1::2].count(402)
    assert list(OutboxEvent.objects.order_by("sequence").values_list("sequence", flat=True)) == list(range(1, 38))


def test_patches_of_one_item_at_the_same_moment_lose_nothing(key: str) -> None:
    over_rest(Ask("POST", FLUFFY, api_key=key))
    asks = [Ask("PATCH", {"id": "123", f"member{number}": number}, api_key=key) for number in range(12)]
    at_once([partial(over_rest, ask) for ask in asks])
    item = Item.objects.get()
    assert item.version == 13
    assert {f"member{number}" for number in range(12)} <= item.payload.keys()


def test_batches_at_the_same_moment_carry_each_event_out_once(key: str) -> None:
    """The same events in other orders, as two consumers get them."""
    batch = [an_event(key, "POST", {**FLUFFY, "id": str(number)}, event_id=str(number)) for number in range(12)]
    orders = [batch, batch[::-1], batch[6:] + batch[:6]]
    outcomes = at_once([partial(execute_batch, [replace(one, id=uuid4()) for one in order]) for order in orders])
    assert Counter(outcome.repeated for of_batch in outcomes for outcome in of_batch) == {False: 12, True: 24}
    assert (Item.objects.count(), OutboxEvent.objects.count()) == (12, 12)
    assert TokenAccount.objects.get().balance == 880


def test_batches_that_make_and_change_each_others_items_do_not_wait_in_a_circle(
    key: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlocks_seen: list[Exception] = []
    worth = deadlocks.is_worth_another_try

    def noting(error: Any) -> bool:
        deadlocks_seen.append(error)
        return worth(error)

    monkeypatch.setattr(deadlocks, "is_worth_another_try", noting)
    for name in "ab":
        over_rest(Ask("POST", {**FLUFFY, "id": name}, api_key=key))
    for attempt in range(10):
        crossing = [
            [
                an_event(key, first, {**FLUFFY, "id": "a"}, event_id=f"{attempt} {first} a"),
                an_event(key, second, {**FLUFFY, "id": "b"}, event_id=f"{attempt} {second} b"),
            ]
            for first, second in (("PUT", "POST"), ("POST", "PUT"))
        ]
        outcomes = at_once([partial(execute_batch, batch) for batch in crossing])
        assert [[outcome.status for outcome in of_batch] for of_batch in outcomes] == [[200, 409], [409, 200]]
    assert deadlocks_seen == []


def test_batches_of_several_tenants_get_what_their_balances_pay_for(key: str) -> None:
    tenants = ["mytenant", "second", "third"]
    keys = {"mytenant": key}
    for name in tenants[1:]:
        tenant = a_tenant(name, tokens=0)
        a_schema(tenant)
        keys[name] = a_key(tenant)
    TokenAccount.objects.update(balance=0)
    for account in TokenAccount.objects.select_related("tenant"):
        balances.top_up(account.tenant, amount=75, reference="for 7 operations")

    def batch(number: int) -> list[Operation]:
        order = tenants if number % 2 else tenants[::-1]
        return [
            an_event(
                keys[name],
                "POST",
                {**FLUFFY, "id": f"{number} {turn}"},
                event_id=f"{name} {number} {turn}",
                tenant=name,
            )
            for turn in range(4)
            for name in order
        ]

    outcomes = at_once([partial(execute_batch, batch(number)) for number in range(4)])
    assert Counter(outcome.status for of_batch in outcomes for outcome in of_batch) == {201: 21, 402: 27}
    assert set(TokenAccount.objects.values_list("balance", "sequence")) == {(5, 7)}
    assert TokenAccount.objects.count() == 3


def test_of_changes_to_the_same_state_at_the_same_moment_one_is_made(key: str) -> None:
    over_rest(Ask("POST", FLUFFY, api_key=key))
    headers = {"If-Match": Item.objects.get().etag}
    asks = [Ask("PATCH", {"id": "123", f"member{number}": 1}, api_key=key, headers=headers) for number in range(8)]
    answers = at_once([partial(over_rest, ask) for ask in asks])
    assert Counter(answer.status for answer in answers) == {200: 1, 412: 7}
    assert (Item.objects.get().version, TokenAccount.objects.get().balance) == (2, 980)


def test_bulk_requests_for_the_same_items_at_the_same_moment_are_done_whole_or_not_at_all(key: str) -> None:
    def made(number: int) -> int:
        numbers = list(range(30))
        random.Random(number).shuffle(numbers)
        payload = [{"id": str(each), "name": f"of {number}"} for each in numbers]
        return APIClient(headers={"X-API-Key": key}).post("/api/mytenant/petstore", payload, format="json").status_code

    assert Counter(at_once([partial(made, number) for number in range(4)])) == {201: 1, 409: 3}
    assert len({item.payload["name"] for item in Item.objects.all()}) == 1
    account = TokenAccount.objects.get()
    assert (Item.objects.count(), account.balance, account.sequence) == (30, 700, 30)
    assert list(balances.discrepancies()) == []


def test_repetitions_of_a_request_at_the_same_moment_have_one_effect(key: str) -> None:
    ask = Ask("POST", FLUFFY, api_key=key, headers={"Idempotency-Key": "once"})
    answers = at_once([partial(over_rest, ask)] * 8)
    problems = {answer.problem["code"] for answer in answers if answer.problem}
    assert {answer.status for answer in answers} <= {201, 409}
    assert problems <= {"idempotency-key-in-use"}
    assert (Item.objects.count(), OutboxEvent.objects.count(), OperationRecord.objects.count()) == (1, 1, 1)
    assert (TokenAccount.objects.get().balance, over_rest(ask).status) == (990, 201)


def test_a_repetition_of_a_request_that_is_still_running_is_told_so_or_waits(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Ask("POST", FLUFFY, api_key=key, headers={"Idempotency-Key": "once"})
    settle, running, answered = records.settle, threading.Event(), threading.Event()
    # SQLite's second transaction begins when the first has ended: there it is answered only afterwards
    patience = iter([20 if connection.vendor == "postgresql" else 1])

    def held_up(*args: Any) -> None:
        running.set()
        answered.wait(next(patience, 0))
        settle(*args)

    def repeated() -> Answer:
        running.wait(30)
        answer = over_rest(ask)
        answered.set()
        return answer

    monkeypatch.setattr(records, "settle", held_up)
    first, second = at_once([partial(over_rest, ask), repeated])
    assert first.status == 201
    assert second.status == (409 if connection.vendor == "postgresql" else 201)
    assert TokenAccount.objects.get().balance == 990


def test_publishers_at_the_same_moment_send_each_event_once_and_in_order(key: str, event_bridge: EventBridge) -> None:
    for item in range(5):
        over_rest(Ask("POST", {"id": str(item), "name": "0"}, api_key=key))
        for version in range(1, 6):
            over_rest(Ask("PUT", {"id": str(item), "name": str(version)}, api_key=key))
    at_once([publishing.drain] * 4)
    publishing.drain()
    assert set(OutboxEvent.objects.values_list("status", flat=True)) == {OutboxStatus.DELIVERED}
    versions: dict[str, list[str]] = {}
    for entry in event_bridge.entries:
        payload = json.loads(entry["Detail"])["payload"]
        versions.setdefault(payload["id"], []).append(payload["name"])
    assert versions == {str(item): [str(version) for version in range(6)] for item in range(5)}


def test_a_deadlock_is_tried_again_and_no_fault(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out, failures = operations._carry_out, iter(["40P01", "40001"])

    def deadlocked(*args: Any, **options: Any) -> Any:
        for sqlstate in failures:
            cause = Exception()
            cause.sqlstate = sqlstate  # type: ignore[attr-defined]
            raise OperationalError from cause
        return carry_out(*args, **options)

    monkeypatch.setattr(operations, "_carry_out", deadlocked)
    assert handle(json.dumps(envelope(Ask("POST", FLUFFY, api_key=key)))) is Disposition.CARRIED_OUT
    assert TokenAccount.objects.get().balance == 990


def test_a_crash_between_commit_and_delete_is_harmless(key: str) -> None:
    """The message comes again, because nobody deleted it; the record answers."""
    body = json.dumps(envelope(Ask("POST", FLUFFY, api_key=key)))
    assert handle(body) is Disposition.CARRIED_OUT
    assert handle(body) is Disposition.REPEATED
    assert list(balances.discrepancies()) == []
