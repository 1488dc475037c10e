"""Events that went out and came in, as their tenant may see them: the newest first, a page at a time.

Where no index knows what is asked for, a page is what is found among the next LOOK events, and may be short of its
limit, or empty, while there is more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockforger.backend.models import OperationRecord, Origin
from eventing import event_sources
from eventing.models import OutboxEvent
from tenants import keyset

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from blockforger.backend.json_values import JsonObject
    from eventing.replays import Selection
    from tenants.models import Tenant

LOOK = keyset.LOOK


@dataclass(frozen=True, slots=True)
class Received:
    """Which operations that came in: those that pass every filter given."""

    item: tuple[str, str] | None = None
    schema: str | None = None
    # Of the outcome: at least this, and below that.
    statuses: tuple[int, int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    # None: requests that have an Idempotency-Key, too.
    origin: Origin | None = Origin.EVENT


def sent(selection: Selection, *, before: UUID | None, limit: int) -> tuple[list[OutboxEvent], UUID | None]:
    """Events of the outbox, and what the next page comes before; None if there is no next page."""
    events = OutboxEvent.objects.defer("detail")
    page = keyset.page(event_sources.of_sent(selection, events), before=before, limit=limit, look=LOOK)
    return page.rows, page.older


def received(
    tenant: Tenant, which: Received, *, before: int | None, limit: int
) -> tuple[list[OperationRecord], int | None]:
    """Records of events that came in, and what the next page comes before; None if there is no next page."""
    rows = OperationRecord.objects.defer("payload")
    page = keyset.page(event_sources.of_received(tenant, which, rows), before=before, limit=limit, look=LOOK)
    return page.rows, page.older


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


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
