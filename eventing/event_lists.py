"""Events that went out and came in, as their tenant may see them: the newest first, a page at a time.

No index knows items or statuses of old events: it would cost each write more than the few who look back are worth. So
a page is what is found among the next LOOK events, and may be short of its limit, or empty, while there is more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from blockforger.backend.models import OperationRecord, Origin
from eventing import replays
from tenants import by_time

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import Model, QuerySet

    from blockforger.backend.json_values import JsonObject
    from eventing.models import OutboxEvent
    from eventing.replays import Selection
    from tenants.models import Tenant

M = TypeVar("M", bound="Model")

LOOK = 10_000
# By this much the clocks of hosts may differ.
_SLACK = timedelta(hours=1)
_LAST_ID = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Received:
    """Which events that came in: those that pass every filter given."""

    item: tuple[str, str] | None = None
    # Of the outcome: at least this, and below that.
    statuses: tuple[int, int] | None = None
    since: datetime | None = None
    until: datetime | None = None


def sent(selection: Selection, *, before: UUID | None, limit: int) -> tuple[list[OutboxEvent], UUID | None]:
    """Events of the outbox, and what the next page comes before; None if there is no next page."""
    looked_at = replays.matching(replays.Selection(selection.tenant, since=selection.since))
    found = replays.matching(selection)
    if selection.status is not None:
        found = found.filter(status=selection.status)
    if selection.until is not None:
        before = min(before or _LAST_ID, replays.first_id_of(selection.until + replays.CLOCK_CHANGE))
    return _page(looked_at, found.defer("detail"), before=before, limit=limit)


def received(
    tenant: Tenant, which: Received, *, before: int | None, limit: int
) -> tuple[list[OperationRecord], int | None]:
    """Records of events that came in, and what the next page comes before; None if there is no next page."""
    rows = OperationRecord.objects.filter(tenant=tenant)
    looked_at = rows
    if which.since is not None:
        first = by_time.first_pk_since(rows, "received_at", which.since - _SLACK)
        looked_at = looked_at.filter(pk__gte=first) if first is not None else looked_at.none()
    if which.until is not None:
        end = by_time.first_pk_since(rows, "received_at", which.until + _SLACK)
        looked_at = looked_at.filter(pk__lt=end) if end is not None else looked_at
    schema_name, item_key = which.item or (None, None)
    low, high = which.statuses or (None, None)
    filters = {
        "schema_name": schema_name,
        "item_key": item_key,
        "status__gte": low,
        "status__lt": high,
        "received_at__gte": which.since,
        "received_at__lt": which.until,
    }
    found = looked_at.filter(
        origin=Origin.EVENT, **{name: value for name, value in filters.items() if value is not None}
    )
    return _page(looked_at, found.defer("payload"), before=before, limit=limit)


def as_sent(event: OutboxEvent) -> JsonObject:
    """What a list says of an event of the outbox."""
    return {
        "id": str(event.pk),
        "schema": event.schema_name,
        "key": event.item_key,
        "operation": event.operation,
        "sequence": event.sequence,
        "time": event.time.isoformat(),
        "rule": event.rule_id,
        "bus": event.bus_arn,
        "source": event.source,
        "detail_type": event.detail_type,
        "resources": [*event.resources],
        "status": event.status,
        "attempts": event.attempts,
        "next_attempt_at": _moment(event.next_attempt_at),
        "failing_since": _moment(event.failing_since),
        "error": {"code": event.error_code, "message": event.error_message} if event.error_code else None,
        "delivered_at": _moment(event.delivered_at),
        "eventbridge_id": event.eventbridge_id or None,
        "replay": event.replay_id,
    }


def as_received(record: OperationRecord) -> JsonObject:
    """What a list says of an event that came in."""
    problem: Any = record.problem
    return {
        "id": record.idempotency_key,
        "received_at": record.received_at.isoformat(),
        "operation": str(record.operation),
        "method": record.method,
        "schema": record.schema_name,
        "key": record.item_key,
        "status": record.status,
        "tokens": record.tokens,
        "problem": problem,
    }


def in_full(event: OutboxEvent | OperationRecord) -> JsonObject:
    """What is said of one event alone."""
    if isinstance(event, OperationRecord):
        return {**as_received(event), "payload": json.loads(event.payload) if event.payload else None}
    return {**as_sent(event), "detail": json.loads(event.detail)}


def _page(looked_at: QuerySet[M], found: QuerySet[M], *, before: Any, limit: int) -> tuple[list[M], Any]:
    if before is not None:
        looked_at, found = looked_at.filter(pk__lt=before), found.filter(pk__lt=before)
    last = looked_at.order_by("-pk").values_list("pk", flat=True)[LOOK - 1 : LOOK].first()
    if last is not None:
        found = found.filter(pk__gte=last)
    rows = list(found.order_by("-pk")[: limit + 1])
    if len(rows) > limit:
        return rows[:limit], rows[limit - 1].pk
    return rows, last


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
