"""The timeline of one item: its writes, the events that they sent out, the events that came in for it, and the bill.

Its writes are known by what they left: their events out, and the records of events in (and of requests with an
Idempotency-Key). A write over REST that no rule matched has left an entry in the ledger alone, which names no item.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from blockforger.backend.deeds import COST
from blockforger.backend.models import Item, OperationRecord
from eventing import event_sources, replays
from eventing.event_lists import Received
from eventing.models import OutboxEvent
from eventing.replays import Selection
from tenants import keyset
from tenants.models import LedgerEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenants.models import Tenant

ROWS = 50
_INSTANT = timedelta(microseconds=1)


@dataclass(slots=True)
class Moment:
    """A write, with the events that it sent, or something that came in and changed nothing."""

    at: datetime
    method: str
    # The tenant's number of the write; None: nothing was written.
    sequence: int | None = None
    # What came in, if a record of it was kept.
    record: OperationRecord | None = None
    # What paid for it. None for what was refused, and where no record says which entry it is.
    entry: LedgerEntry | None = None
    events: list[OutboxEvent] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """What the item was charged for it; a bulk's entry in the ledger is of all its items."""
        if self.sequence is not None:
            return COST
        return self.record.tokens if self.record else 0

    @property
    def problem(self) -> str:
        """Why it was refused."""
        problem = self.record.problem if self.record else None
        return f"{problem.get('code', '')}: {problem.get('detail', '')}" if isinstance(problem, dict) else ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The newest moments before a time, and before which time there are older ones; None: that was all."""

    item: Item | None
    moments: list[Moment]
    older: datetime | None


def of(tenant: Tenant, schema_name: str, item_key: str, *, before: datetime | None = None) -> Timeline:
    """The moments of an item, which may be gone by now."""
    item = Item.objects.filter(schema__tenant=tenant, schema__name=schema_name, key=item_key).defer("payload").first()
    wanted = (schema_name, item_key)
    sent = keyset.page(
        event_sources.of_sent(Selection(tenant, item=wanted, until=before), OutboxEvent.objects.defer("detail")),
        limit=ROWS,
    )
    received = keyset.page(
        event_sources.of_received(
            tenant, Received(item=wanted, until=before, origin=None), OperationRecord.objects.defer("payload", "answer")
        ),
        limit=ROWS,
    )
    ends = (_end(sent, "time"), _end(received, "received_at"))
    older = max((end for end in ends if end is not None), default=None)
    moments = _moments(tenant, sent.rows, received.rows)
    if older is not None:
        # Of the one list or the other, what is older is not known yet.
        moments = [moment for moment in moments if moment.at > older] or moments[:1]
        older = min(older + _INSTANT, moments[-1].at) if moments else older
    return Timeline(item, moments, older)


def _end(page: keyset.Page[OutboxEvent] | keyset.Page[OperationRecord], column: str) -> datetime | None:
    """Down to which time that page is all."""
    if isinstance(page.older, UUID) and not (page.rows and page.rows[-1].pk == page.older):
        return replays.moment_of(page.older)
    return getattr(page.rows[-1], column) if page.older is not None and page.rows else None


def _moments(tenant: Tenant, events: Iterable[OutboxEvent], records: Iterable[OperationRecord]) -> list[Moment]:
    """Events of one write belong together, and so does what came in and was carried out by it."""
    received = {record.operation: record for record in records}
    entries = _entries(tenant, received)
    writes: dict[int, Moment] = {}
    others: list[Moment] = []
    for operation, record in received.items():
        entry = entries.get(operation)
        moment = Moment(record.received_at, record.method, entry.sequence if entry else None, record, entry)
        if moment.sequence is None:
            others.append(moment)
        else:
            writes[moment.sequence] = moment
    for event in sorted(events, key=lambda event: (event.sequence or 0, event.place)):
        if event.sequence is not None:
            write = writes.setdefault(event.sequence, Moment(event.time, event.operation, event.sequence))
            write.events.append(event)
    return sorted([*writes.values(), *others], key=lambda moment: (moment.at, moment.sequence or 0), reverse=True)


def _entries(tenant: Tenant, operations: Iterable[UUID]) -> dict[UUID, LedgerEntry]:
    rows = LedgerEntry.objects.filter(account=tenant.pk, operation__in=list(operations)).order_by()
    return {entry.operation: entry for entry in rows}
