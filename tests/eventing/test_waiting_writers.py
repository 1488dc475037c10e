"""A writer that waits for another goes on from what that one left: balance, numbers, items."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from blockforger.backend.models import Item
from blockforger.backend.operations import execute_batch
from eventing import lanes, outbox
from eventing.answers import Answer, Verdict
from eventing.models import OutboxEvent, OutboxStatus
from eventing.outbox import Tally
from tenants import balances
from tenants.models import LedgerEntry, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, an_event, over_rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

ANOTHER_BILL = """
WITH account AS (
    UPDATE tenants_tokenaccount SET balance = balance - 30, sequence = sequence + 3 WHERE tenant_id = {} RETURNING *
)
INSERT INTO tenants_ledgerentry
    (account_id, kind, amount, balance_after, operation, sequence, api_key_prefix, reference, created_at)
SELECT tenant_id, 'debit', -30, balance, gen_random_uuid(), sequence, '', 'another', now() FROM account
"""
CHANGED = "UPDATE backend_item SET version = version + 1, payload = payload || '{\"other\": 1}'"
GONE = "DELETE FROM backend_item"
MADE = """
INSERT INTO backend_item (schema_id, key, payload, version, created_at, updated_at)
SELECT id, '123', '{"id": "123", "name": "other"}', 1, now(), now() FROM backend_schema
"""


@pytest.fixture
def key() -> str:
    if connection.vendor != "postgresql":
        pytest.skip("On SQLite a writer waits before it begins.")
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return a_key(tenant)


def another_connection(**options: Any) -> psycopg.Connection[Any]:
    settings = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return psycopg.connect(**{name: settings[name] for name in names if name in settings}, **options)


@contextmanager
def waiting_for(change: str, call: Callable[[], Any], *, end: str = "commit") -> Iterator[list[Any]]:
    """Make the call while another has changed something, and end that one once the call waits for it.

    The body runs meanwhile; the list has the call's result afterwards.
    """

    def called() -> Any:
        try:
            return call()
        finally:
            connection.close()

    found: list[Any] = []
    with ThreadPoolExecutor(1) as threads, another_connection() as another, another_connection(autocommit=True) as eye:
        another.execute(change.encode())
        answer = threads.submit(called)
        query = b"SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        while not eye.execute(query, [another.info.backend_pid]).fetchone():
            assert not answer.done()
            time.sleep(0.01)
        yield found
        getattr(another, end)()
        found.append(answer.result(30))


def is_free(tenant_id: int) -> bool:
    with another_connection() as another:
        try:
            another.execute("SELECT FROM tenants_tokenaccount WHERE tenant_id = %s FOR UPDATE NOWAIT", [tenant_id])
        except psycopg.errors.LockNotAvailable:
            return False
    return True


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
def test_bill_and_number_follow_from_those_before(key: str, method: str) -> None:
    over_rest(Ask("POST", FLUFFY, api_key=key))
    ask = Ask(method, {**FLUFFY, "id": "new"} if method == "POST" else FLUFFY, api_key=key)
    with waiting_for(ANOTHER_BILL.format(TokenAccount.objects.get().pk), partial(over_rest, ask)) as found:
        pass
    assert found[0].status < 300
    assert list(balances.discrepancies()) == []
    numbers = [1] if method == "GET" else [1, 5]
    assert list(OutboxEvent.objects.order_by("sequence").values_list("sequence", flat=True)) == numbers


def test_what_was_accepted_is_not_recorded_for_a_lane_that_is_leased_meanwhile(key: str) -> None:
    for name in range(20):
        over_rest(Ask("POST", {**FLUFFY, "id": str(name)}, api_key=key))
    lease = lanes.lease(range(lanes.LANES), at_most=lanes.LANES, holder="this")
    assert lease is not None
    events = outbox.batch(lease.fences, at_most=20, at=timezone.now())
    lost = events[0].lane
    accepted = [(event, Answer(Verdict.ACCEPTED, event_id="x")) for event in events]
    another_lease = f"UPDATE eventing_lane SET fence = fence + 1 WHERE id = {lost}"
    with waiting_for(another_lease, partial(outbox.record, lease, accepted)) as found:
        pass
    pending = OutboxEvent.objects.filter(status=OutboxStatus.PENDING)
    assert set(pending.values_list("lane", flat=True)) == {lost}
    assert found == [Tally(delivered=20 - pending.count())]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_what_another_took_is_not_there_any_more(key: str, method: str) -> None:
    over_rest(Ask("POST", FLUFFY, api_key=key))
    ask = Ask(method, {**FLUFFY, "id": "new"} if method == "POST" else FLUFFY, api_key=key)
    with waiting_for("UPDATE tenants_tokenaccount SET balance = 5", partial(over_rest, ask)) as found:
        pass
    assert (found[0].status, found[0].problem["balance"]) == (402, 5)
    counts = Item.objects.count(), OutboxEvent.objects.count(), LedgerEntry.objects.count()
    assert counts == (1, 1, 2)


@pytest.mark.parametrize(
    ("change", "end", "method", "status"),
    [
        (CHANGED, "commit", "PUT", 200),
        (CHANGED, "commit", "PATCH", 200),
        (CHANGED, "commit", "DELETE", 204),
        (CHANGED, "rollback", "PATCH", 200),
        (GONE, "commit", "PUT", 404),
        (GONE, "commit", "PATCH", 404),
        (GONE, "commit", "DELETE", 404),
        (GONE, "rollback", "DELETE", 204),
        (GONE, "commit", "POST", 201),
        (GONE, "rollback", "POST", 409),
        (MADE, "commit", "POST", 409),
        (MADE, "rollback", "POST", 201),
    ],
)
def test_an_item_is_what_another_made_of_it(key: str, change: str, end: str, method: str, status: int) -> None:
    over_rest(Ask("POST", {**FLUFFY, "id": "first"} if change == MADE else FLUFFY, api_key=key))
    ask = Ask(method, {**FLUFFY, "mine": 1}, api_key=key)
    with waiting_for(change, partial(over_rest, ask), end=end) as found:
        pass
    assert found[0].status == status
    assert list(balances.discrepancies()) == []
    assert OutboxEvent.objects.count() == TokenAccount.objects.get().sequence == (2 if status < 300 else 1)
    if method == "PATCH" and status == 200:
        item = Item.objects.get()
        assert (item.version, "other" in item.payload) == ((3, True) if end == "commit" else (2, False))


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_precondition_is_of_what_another_made_of_the_item(key: str, method: str) -> None:
    over_rest(Ask("POST", FLUFFY, api_key=key))
    ask = Ask(method, FLUFFY, api_key=key, headers={"If-Match": Item.objects.get().etag})
    with waiting_for(CHANGED, partial(over_rest, ask)) as found:
        pass
    assert found[0].status == 412
    assert TokenAccount.objects.get().sequence == 1


@pytest.mark.parametrize("held", [0, 1, 2])
def test_accounts_of_several_tenants_are_taken_in_one_order(key: str, held: int) -> None:
    keys = {"mytenant": key}
    for name in ("second", "third"):
        tenant = a_tenant(name)
        a_schema(tenant)
        keys[name] = a_key(tenant)
    batch = [
        an_event(keys[name], "POST", {**FLUFFY, "id": str(turn)}, event_id=f"{name} {turn}", tenant=name)
        for turn in range(3)
        for name in ("third", "mytenant", "second")
    ]
    accounts = list(TokenAccount.objects.order_by("pk").values_list("pk", flat=True))
    for account in reversed(accounts):  # so that they lie in another order in their table
        TokenAccount.objects.filter(pk=account).update(sequence=0)
    with waiting_for(ANOTHER_BILL.format(accounts[held]), partial(execute_batch, batch)) as found:
        assert [is_free(account) for account in accounts] == [place > held for place in range(3)]
    assert {outcome.status for outcome in found[0]} == {201}
    assert list(balances.discrepancies()) == []
