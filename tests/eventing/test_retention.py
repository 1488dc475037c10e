"""What is old enough goes, in small batches; what is not, and whatever still waits, stays."""

from __future__ import annotations

import json
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend import checks as backend_checks
from blockforger.backend.models import Item, OperationRecord, Origin
from blockforger.backend.retention import Pace
from eventing import checks, outbox, publishing, retention, tasks
from eventing.answers import Answer, Verdict
from eventing.consuming import Disposition
from eventing.models import OutboxEvent, OutboxStatus
from tenants.models import LedgerEntry, TokenAccount
from tests.cast import BUS, FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle
from tests.eventing.event_bridge import EventBridge, event_bridge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django import Settings

    from tenants.models import Tenant

__all__ = ["event_bridge"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

AT_ONCE = Pace(pause=0)
NOTHING = {
    "delivered events": 0,
    "dead events": 0,
    "records of events": 0,
    "records of REST requests": 0,
}


@pytest.fixture
def tenant() -> Tenant:
    return a_tenant()


def an_event(
    tenant: Tenant, status: OutboxStatus, *, written: timedelta, settled: timedelta | None = None
) -> OutboxEvent:
    """An event that was written that long ago, and delivered or dead since `settled` (or as long)."""
    now = timezone.now()
    written_at, settled_at = now - written, now - (written if settled is None else settled)
    milliseconds = int(written_at.timestamp() * 1000)
    return OutboxEvent.objects.create(
        id=UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | secrets.randbits(62)),
        tenant=tenant,
        schema_name="petstore",
        item_key="123",
        operation="POST",
        sequence=1,
        place=0,
        rule_id=1,
        bus_arn=BUS,
        source="blockforger-output",
        detail_type="petstore.POST",
        item_urn="urn:blockforger:item:mytenant:petstore:123",
        detail="{}",
        time=written_at,
        stream=0,
        lane=0,
        status=status,
        next_attempt_at=settled_at if status == OutboxStatus.DEAD else written_at,
        delivered_at=settled_at if status == OutboxStatus.DELIVERED else None,
    )


def a_record(origin: Origin, *, received: timedelta) -> OperationRecord:
    return OperationRecord.objects.create(
        origin=origin,
        idempotency_key=str(uuid4()),
        operation=uuid4(),
        status=201,
        received_at=timezone.now() - received,
    )


def some_of_everything(tenant: Tenant, *, margin: timedelta) -> None:
    """A row of each kind that is so much older than its time."""
    an_event(tenant, OutboxStatus.DELIVERED, written=timedelta(days=30) + margin)
    an_event(tenant, OutboxStatus.DEAD, written=timedelta(days=90) + margin)
    a_record(Origin.EVENT, received=timedelta(days=30) + margin)
    a_record(Origin.API, received=timedelta(hours=24) + margin)


def test_what_is_older_than_its_time_goes_and_what_is_not_stays(tenant: Tenant) -> None:
    some_of_everything(tenant, margin=timedelta(minutes=1))
    some_of_everything(tenant, margin=timedelta(minutes=-1))
    pruned = retention.prune(AT_ONCE)
    assert pruned.deleted == dict.fromkeys(NOTHING, 1)
    assert pruned.finished
    assert (OutboxEvent.objects.count(), OperationRecord.objects.count()) == (2, 2)
    assert retention.prune(AT_ONCE).deleted == NOTHING


def test_a_pending_event_stays_for_ever(tenant: Tenant) -> None:
    waiting = an_event(tenant, OutboxStatus.PENDING, written=timedelta(days=3650))
    assert retention.prune(AT_ONCE).deleted == NOTHING
    assert OutboxEvent.objects.get() == waiting


def test_an_event_is_kept_from_when_it_was_delivered_or_died_however_long_it_waited(tenant: Tenant) -> None:
    for status in (OutboxStatus.DELIVERED, OutboxStatus.DEAD):
        an_event(tenant, status, written=timedelta(days=400), settled=timedelta(days=1))
    assert retention.prune(AT_ONCE).deleted == NOTHING


def test_an_event_that_is_refused_is_kept_from_then_on(tenant: Tenant) -> None:
    event = an_event(tenant, OutboxStatus.PENDING, written=timedelta(days=400))
    outbox._apply(event, Answer(Verdict.REFUSED, code="MalformedDetail"), timezone.now())
    event.save()
    assert retention.prune(AT_ONCE).deleted == NOTHING
    OutboxEvent.objects.update(next_attempt_at=timezone.now() - timedelta(days=91))
    assert retention.prune(AT_ONCE).deleted == {**NOTHING, "dead events": 1}


def test_the_settings_say_how_long(tenant: Tenant, settings: Settings) -> None:
    some_of_everything(tenant, margin=timedelta())
    settings.BLOCKFORGER_KEEP_OUTBOX_DAYS = 31
    settings.BLOCKFORGER_KEEP_DEAD_EVENTS_DAYS = 91
    settings.BLOCKFORGER_KEEP_EVENT_RECORDS_DAYS = 31
    assert retention.prune(AT_ONCE).deleted == {**NOTHING, "records of REST requests": 1}
    settings.BLOCKFORGER_KEEP_OUTBOX_DAYS = 1
    settings.BLOCKFORGER_KEEP_DEAD_EVENTS_DAYS = 1
    settings.BLOCKFORGER_KEEP_EVENT_RECORDS_DAYS = 15
    assert retention.prune(AT_ONCE).deleted == {**dict.fromkeys(NOTHING, 1), "records of REST requests": 0}


def test_batches_are_small_and_each_a_transaction_of_its_own(tenant: Tenant) -> None:
    for number in range(5):
        a_record(Origin.EVENT, received=timedelta(days=40 - number))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert retention.prune(Pace(batch=2, pause=0)).deleted["records of events"] == 5
    statements = [query["sql"] for query in queries if "backend_operationrecord" in query["sql"]]
    selects = [sql for sql in statements if sql.startswith("SELECT") and "'event'" in sql]
    deletes = [sql for sql in statements if sql.startswith("DELETE")]
    assert (len(selects), len(deletes)) == (3, 3)
    assert all("LIMIT 2" in sql for sql in selects)
    if connection.features.has_select_for_update_skip_locked:
        assert all(sql.endswith("FOR UPDATE SKIP LOCKED") for sql in selects)
    begun = [query["sql"] for query in queries if query["sql"].startswith("SAVEPOINT")]
    assert len(begun) >= 3


def test_rows_of_the_same_moment_all_go(tenant: Tenant) -> None:
    for _ in range(5):
        a_record(Origin.API, received=timedelta(days=2))
    OperationRecord.objects.update(received_at=timezone.now() - timedelta(days=2))
    assert retention.prune(Pace(batch=2, pause=0)).deleted["records of REST requests"] == 5


def test_a_flood_of_one_kind_does_not_keep_the_others(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        an_event(tenant, OutboxStatus.DELIVERED, written=timedelta(days=40))
    some_of_everything(tenant, margin=timedelta(days=1))
    clock = iter(range(1000))
    monkeypatch.setattr("blockforger.backend.retention.time.monotonic", lambda: next(clock))
    pruned = retention.prune(Pace(batch=3, pause=0, ends_at=5))
    assert pruned.deleted == {**dict.fromkeys(NOTHING, 1), "delivered events": 6}
    assert not pruned.finished


def test_the_ledger_is_left_alone(tenant: Tenant) -> None:
    assert "ledger" not in " ".join(kind.rows.model._meta.db_table for kind in retention.expired())


def test_the_command_says_how_many_of_what(tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    some_of_everything(tenant, margin=timedelta(days=1))
    call_command("prune")
    assert capsys.readouterr().out == (
        "delivered events deleted: 1\n"
        "dead events deleted: 1\n"
        "records of events deleted: 1\n"
        "records of REST requests deleted: 1\n"
    )


def test_a_dry_run_counts_and_changes_nothing(tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    some_of_everything(tenant, margin=timedelta(days=1))
    an_event(tenant, OutboxStatus.DELIVERED, written=timedelta(days=35))
    with CaptureQueriesContext(connection) as queries:
        call_command("prune", "--dry-run")
    assert capsys.readouterr().out == (
        "delivered events that would be deleted: 2\n"
        "dead events that would be deleted: 1\n"
        "records of events that would be deleted: 1\n"
        "records of REST requests that would be deleted: 1\n"
    )
    assert all(query["sql"].startswith("SELECT") for query in queries)
    assert (OutboxEvent.objects.count(), OperationRecord.objects.count()) == (3, 2)


def test_the_command_stops_when_its_time_is_up_and_says_so(tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    some_of_everything(tenant, margin=timedelta(days=1))
    call_command("prune", "--max-seconds", "0")
    shown = capsys.readouterr()
    assert shown.out.startswith("delivered events deleted: 0\n")
    assert shown.err == "prune: the time is up; run it again for the rest\n"


@pytest.mark.parametrize("size", ["0", "-1", "many", "10001"])
def test_a_batch_that_is_no_sensible_number_is_refused(size: str) -> None:
    with pytest.raises(CommandError, match="must be a number from 1 to 10000"):
        call_command("prune", f"--batch={size}")


def test_beat_runs_the_task_which_ends_before_celery_ends_it(
    tenant: Tenant, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tasks.prune.name in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    paces: list[Pace] = []
    monkeypatch.setattr(retention, "prune", paces.append)
    tasks.prune()
    assert paces[0].ends_at - time.monotonic() < settings.CELERY_TASK_SOFT_TIME_LIMIT / 2


@pytest.mark.parametrize("days", [14, 0, -1])
def test_too_short_a_memory_of_events_is_an_error_and_nothing_is_deleted(
    tenant: Tenant, settings: Settings, days: int
) -> None:
    some_of_everything(tenant, margin=timedelta(days=1))
    settings.BLOCKFORGER_KEEP_EVENT_RECORDS_DAYS = days
    [error] = backend_checks.events_are_known_for_as_long_as_they_can_come_again()
    assert (error.id, error.msg) == (
        "backend.E001",
        f"BLOCKFORGER_KEEP_EVENT_RECORDS_DAYS is {days}; it must be 15 or more days.",
    )
    with pytest.raises(ImproperlyConfigured):  # Celery's workers run the checks but start all the same
        retention.prune(AT_ONCE)
    assert (OutboxEvent.objects.count(), OperationRecord.objects.count()) == (2, 2)


def test_fifteen_days_are_enough(settings: Settings) -> None:
    settings.BLOCKFORGER_KEEP_EVENT_RECORDS_DAYS = 15
    assert backend_checks.events_are_known_for_as_long_as_they_can_come_again() == []


@pytest.mark.parametrize("setting", ["BLOCKFORGER_KEEP_OUTBOX_DAYS", "BLOCKFORGER_KEEP_DEAD_EVENTS_DAYS"])
def test_events_are_kept_for_a_day_at_least(settings: Settings, setting: str) -> None:
    assert list(checks.check_retention()) == []
    setattr(settings, setting, 0)
    [error] = checks.check_retention()
    assert (error.id, error.msg) == ("eventing.E003", f"{setting} is 0; it must be 1 or more days.")


@pytest.fixture
def key(tenant: Tenant) -> str:
    a_schema(tenant)
    a_rule(tenant)
    return a_key(tenant)


@pytest.mark.django_db(transaction=True)
def test_an_event_that_comes_again_within_its_time_is_still_known(key: str) -> None:
    body = json.dumps(envelope(Ask("POST", FLUFFY, api_key=key)))
    assert handle(body) is Disposition.CARRIED_OUT
    OperationRecord.objects.update(received_at=timezone.now() - timedelta(days=29))
    retention.prune(AT_ONCE)
    assert handle(body) is Disposition.REPEATED
    assert (Item.objects.count(), LedgerEntry.objects.filter(kind="debit").count()) == (1, 1)


needs_row_locks = pytest.mark.skipif(
    not connection.features.has_select_for_update_skip_locked, reason="only PostgreSQL locks rows"
)


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Starts a call in a thread with a connection of its own. Gives its future."""
    with ThreadPoolExecutor(2) as threads:

        def start(call: Callable[[], Any]) -> Any:
            def run() -> Any:
                try:
                    return call()
                finally:
                    connection.close()

            return threads.submit(run)

        yield start


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_has_locked_is_left_without_waiting(tenant: Tenant, elsewhere: Any) -> None:
    locked = an_event(tenant, OutboxStatus.DELIVERED, written=timedelta(days=50))
    an_event(tenant, OutboxStatus.DELIVERED, written=timedelta(days=40))
    with transaction.atomic():
        # As a replay would: the event is about to be pending again.
        OutboxEvent.objects.select_for_update().get(pk=locked.pk)
        pruned = elsewhere(lambda: retention.prune(AT_ONCE)).result(5)
        assert pruned.deleted["delivered events"] == 1
        OutboxEvent.objects.filter(pk=locked.pk).update(status=OutboxStatus.PENDING)
    assert retention.prune(AT_ONCE).deleted == NOTHING
    assert OutboxEvent.objects.get() == locked


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_nobody_who_writes_or_publishes_waits_for_a_batch_that_is_being_deleted(
    tenant: Tenant, key: str, elsewhere: Any, event_bridge: EventBridge
) -> None:
    some_of_everything(tenant, margin=timedelta(days=1))
    deleted, may_commit = threading.Semaphore(0), threading.Semaphore(0)

    def stop_before_commit(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql.startswith("DELETE"):
            deleted.release()
            assert may_commit.acquire(timeout=20)
        return result

    def slow_prune() -> Any:
        with connection.execute_wrapper(stop_before_commit):
            return retention.prune(AT_ONCE)

    pruning = elsewhere(slow_prune)
    for kind in NOTHING:
        assert deleted.acquire(timeout=20)
        body = json.dumps(envelope(Ask("POST", {**FLUFFY, "id": kind}, api_key=key)))
        assert elsewhere(lambda body=body: handle(body)).result(5) is Disposition.CARRIED_OUT
        assert elsewhere(publishing.drain).result(5).delivered == 1
        may_commit.release()
    assert pruning.result(20).deleted == dict.fromkeys(NOTHING, 1)
    assert TokenAccount.objects.get().balance == 960
    assert OutboxEvent.objects.filter(status=OutboxStatus.DELIVERED).count() == 4
