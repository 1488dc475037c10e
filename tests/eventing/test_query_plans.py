"""What a page of each list reads of a large table: by an index, and no more than it may look at."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend.models import OperationRecord
from eventing import event_lists, replay_previews, timelines
from eventing.event_lists import Received
from eventing.models import OutboxEvent, OutboxStatus
from eventing.replays import Scope, Selection
from tenants import keyset
from tenants.keyset import Source
from tenants.models import LedgerEntry
from tests.cast import a_tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tenants.models import Tenant

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL tells what a plan reads"),
]

EVENTS, LOOK, LIMIT = 40_000, 1_000, 50
# The tables that grow with the traffic.
BIG = {"eventing_outboxevent", "backend_operationrecord", "tenants_ledgerentry"}
ITEM = ("petstore", "17")
_SEED = """
INSERT INTO eventing_outboxevent (id, tenant_id, schema_name, item_key, operation, sequence, place, rule_id, bus_arn,
    source, detail_type, item_urn, detail, time, stream, lane, status, attempts, next_attempt_at, error_code,
    error_message, eventbridge_id, delivered_at)
SELECT (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid,
    {tenant}, 'petstore', (n % 4000)::text, 'PUT', n, 0, n % 5, 'bus', 's', 't', 'u', '[]', at, n, n % 64,
    status, 1, CASE status WHEN 'dead' THEN at END, '', '', '', CASE status WHEN 'delivered' THEN at END
FROM (SELECT n, now() - interval '30 days' + n * interval '1 minute' AS at,
        CASE WHEN n % 400 = 3 THEN 'dead' WHEN n % 400 = 4 THEN 'pending' ELSE 'delivered' END AS status
    FROM generate_series({first}, {last}) n) events;
INSERT INTO backend_operationrecord (origin, idempotency_key, operation, method, schema_name, item_key, payload,
    request_hash, status, answer, tokens, received_at, tenant_id)
SELECT 'event', n::text, gen_random_uuid(), 'PUT', 'petstore', (n % 4000)::text, '[]', '',
    CASE WHEN n % 400 = 3 THEN 404 ELSE 200 END, '', 10, now() - interval '30 days' + n * interval '1 minute',
    {tenant}
FROM generate_series({first}, {last}) n;
INSERT INTO tenants_ledgerentry (kind, amount, balance_after, operation, sequence, api_key_prefix, reference,
    created_at, account_id)
SELECT 'debit', -10, 1, gen_random_uuid(), n, '', 'PUT petstore', now() - interval '30 days' + n * interval '1 minute',
    {tenant}
FROM generate_series({first}, {last}) n;
"""


@pytest.fixture
def tenant(monkeypatch: pytest.MonkeyPatch) -> Tenant:
    """One of two whose events lie beside each other."""
    monkeypatch.setattr(event_lists, "LOOK", LOOK)
    monkeypatch.setattr(replay_previews, "LOOK", LOOK)
    monkeypatch.setitem(keyset.page.__kwdefaults__ or {}, "look", LOOK)
    tenants = [a_tenant("first"), a_tenant("second")]
    with connection.cursor() as cursor:
        for number, of_tenant in enumerate(tenants):
            first = number * EVENTS // 2
            seed = _SEED.format(tenant=of_tenant.pk, first=first + 1, last=first + EVENTS // 2)
            for statement in seed.split(";\n")[:-1]:
                cursor.execute(statement)
        for table in sorted(BIG):
            # Other tests have left indexes that are large and empty, which the planner would rather not read.
            cursor.execute(f"REINDEX TABLE {table}")
            cursor.execute(f"ANALYZE {table}")
    return tenants[0]


def sent(**filters: Any) -> Callable[[Tenant], object]:
    return lambda tenant: event_lists.sent(Selection(**{"tenant": tenant, **filters}), before=None, limit=LIMIT)


def received(**filters: Any) -> Callable[[Tenant], object]:
    return lambda tenant: event_lists.received(tenant, Received(**filters), before=None, limit=LIMIT)


def ledger(tenant: Tenant) -> object:
    rows = LedgerEntry.objects.filter(**keyset.one_of("account", tenant.pk))
    return keyset.page([Source(rows, rows, by="account_id")], limit=LIMIT)


DAYS_AGO = timezone.now() - timedelta(days=20)
HALF_A_DAY = {"since": DAYS_AGO, "until": DAYS_AGO + timedelta(hours=12)}
MIDDLE = UUID(int=int((timezone.now() - timedelta(days=25)).timestamp() * 1000) << 80)
# By name: what is asked for, and how many rows may be read for it, of 40,000.
CASES: dict[str, tuple[Callable[[Tenant], object], int]] = {
    "outbox": (sent(), LIMIT + 1),
    "outbox of everybody": (sent(tenant=Scope.EVERY_TENANT), LIMIT + 1),
    "outbox, a page in the middle": (
        lambda tenant: event_lists.sent(Selection(tenant), before=MIDDLE, limit=LIMIT),
        LIMIT + 1,
    ),
    "outbox, an item": (sent(item=ITEM), 210),  # what waits in all is read to find the item's
    "outbox, dead": (sent(status=OutboxStatus.DEAD), LIMIT + 1),
    "outbox, dead of everybody": (sent(status=OutboxStatus.DEAD, tenant=Scope.EVERY_TENANT), 300),
    "outbox, pending": (sent(status=OutboxStatus.PENDING), 300),
    "outbox, delivered": (sent(status=OutboxStatus.DELIVERED), 2 * LIMIT),
    "outbox, a rule": (sent(rule=99), LOOK),
    "outbox, a schema": (sent(schema="none"), LOOK),
    "outbox, half a day": (sent(**HALF_A_DAY), LOOK),
    "outbox, dead in half a day": (sent(status=OutboxStatus.DEAD, **HALF_A_DAY), LIMIT + 1),
    "outbox, ids": (sent(ids=(MIDDLE,)), 1),
    "inbox": (received(), LIMIT + 1),
    "inbox, an item": (received(item=ITEM), LIMIT + 1),
    "inbox, refused": (received(statuses=(400, 600)), LIMIT + 1),
    "inbox, 404": (received(statuses=(404, 405)), LIMIT + 1),
    "inbox, a status that nothing has": (received(statuses=(409, 410)), LOOK),
    "inbox, a schema": (received(schema="none"), LOOK),
    "inbox, half a day": (received(**HALF_A_DAY), LOOK),
    "ledger": (ledger, LIMIT + 1),
    "timeline": (lambda tenant: timelines.of(tenant, *ITEM), 320),
    "preview of a replay": (lambda tenant: replay_previews.of(Selection(tenant, rule=3)), LOOK),
}


def test_lists_read_what_they_show_by_an_index(tenant: Tenant) -> None:
    """All of them on the same tables: those take a while to fill."""
    assert OutboxEvent.objects.count() == OperationRecord.objects.count() == EVENTS
    assert LedgerEntry.objects.count() == EVENTS + 2
    problems = []
    for name, (ask, at_most) in CASES.items():
        with CaptureQueriesContext(connection) as queries:
            ask(tenant)
        statements = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
        problems += [
            f"{name}: {problem}"
            for statement in statements
            for node in nodes_of(plan_of(statement))
            if node.get("Relation Name") in BIG and (problem := problem_of(node, at_most))
        ]
    assert problems == [], "\n".join(problems)


def problem_of(node: dict[str, Any], at_most: int) -> str:
    if node["Node Type"] == "Seq Scan":
        return f"reads all of it: {node}"
    # Entries of an index that are only counted, up to the place LOOK rows on, are not rows read.
    if node["Node Type"] != "Index Only Scan" and rows_of(node) > at_most:
        return f"reads {rows_of(node)} rows: {node}"
    return ""


def plan_of(statement: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement.replace("%", "%%"))
        [[answer]] = cursor.fetchall()
    [explained] = json.loads(answer) if isinstance(answer, str) else answer
    plan: dict[str, Any] = explained["Plan"]
    return plan


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


def rows_of(node: dict[str, Any]) -> int:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])
