"""Where events that went out and came in are looked for: which index has them in their order, for what is asked for.

What no index knows (a rule, a bus, a whole schema) is found among the next so many events of the tenant: it would cost
each write more than the few who look back are worth.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from blockforger.backend.models import OperationRecord
from eventing import replays
from eventing.models import OutboxEvent, OutboxStatus
from eventing.replays import REPLAYABLE, Scope
from tenants import by_time
from tenants.keyset import Source, one_of
from tenants.models import Tenant

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import Model, QuerySet

    from eventing.event_lists import Received
    from eventing.replays import Selection

M = TypeVar("M", bound="Model")

# So many that wait are read to find those that are wanted; of so many, each is named.
_WAITING_AT_MOST, _NAMED_AT_MOST = 10_000, 1_000
# By this much the clocks of hosts may differ.
_SLACK = timedelta(hours=1)
_LAST = 2**63 - 1
_REFUSED = 400


def of_sent(selection: Selection, events: QuerySet[OutboxEvent] | None = None) -> list[Source[OutboxEvent]]:
    """Where the selected events are, of those or of all."""
    found = replays.matching(selection, events)
    everything = OutboxEvent.objects.filter(**_of_tenant(selection.tenant))
    if selection.status is not None:
        found = found.filter(status=selection.status)
    if selection.ids:
        return [Source(found, found)]
    if selection.status == OutboxStatus.PENDING:
        return [_bounded(_waiting(selection, found, everything), selection)]
    if isinstance(selection.tenant, Tenant):
        if selection.item:
            return [_bounded(source, selection) for source in _of_an_item(selection, found, everything)]
        if selection.status == OutboxStatus.DEAD:
            return [_bounded(_source(everything.filter(status=OutboxStatus.DEAD), found, selection.tenant), selection)]
    elif selection.status == OutboxStatus.DEAD:
        dead = OutboxEvent.objects.filter(status=OutboxStatus.DEAD).order_by("tenant_id", "id")
        few = _few([dead], selection)
        return [_bounded(Source(everything, found) if few is None else _named(found, few), selection)]
    return [_bounded(_source(everything, found, selection.tenant), selection)]


def of_received(
    tenant: Tenant | Scope, which: Received, records: QuerySet[OperationRecord] | None = None
) -> list[Source[OperationRecord]]:
    """Where the records asked for are, of those or of all."""
    everything = OperationRecord.objects.all()
    found = everything if records is None else records
    if isinstance(tenant, Tenant):
        found = found.filter(tenant=tenant)
    schema_name, item_key = which.item or (which.schema, None)
    low, high = which.statuses or (None, None)
    filters = {
        "origin": which.origin,
        "schema_name": schema_name,
        "item_key": item_key,
        "status__gte": low,
        "status__lt": high,
        "received_at__gte": which.since,
        "received_at__lt": which.until,
    }
    found = found.filter(**{name: value for name, value in filters.items() if value is not None})
    if isinstance(tenant, Tenant) and which.item:
        looked_at = everything.filter(schema_name=schema_name, item_key=item_key, **_of_tenant(tenant))
        return [_source(looked_at, found, tenant)]
    between = _between(which)
    looked_at, found = everything.filter(**_of_tenant(tenant), **between), found.filter(**between)
    if isinstance(tenant, Tenant) and low is not None and low >= _REFUSED:
        # As the index says it: the planner is to see that it is the same.
        return [_source(looked_at.filter(status__gte=_REFUSED), found.filter(status__gte=_REFUSED), tenant)]
    return [_source(looked_at, found, tenant)]


def _between(which: Received) -> dict[str, int]:
    """The keys of the records of that time, whoever's they are."""
    rows, keys = OperationRecord.objects.all(), {}
    if which.since is not None:
        first = by_time.first_pk_since(rows, "received_at", which.since - _SLACK)
        keys["pk__gte"] = _LAST if first is None else first
    if which.until is not None:
        end = by_time.first_pk_since(rows, "received_at", which.until + _SLACK)
        if end is not None:
            keys["pk__lt"] = end
    return keys


def _of_an_item(
    selection: Selection, found: QuerySet[OutboxEvent], everything: QuerySet[OutboxEvent]
) -> list[Source[OutboxEvent]]:
    """An index has what of an item is settled. What is not is looked for among what waits."""
    schema_name, item_key = selection.item or ("", "")
    # As the index says it: the planner is to see that it is the same.
    settled = {"status__in": list(REPLAYABLE)}
    sources = [
        _source(
            everything.filter(schema_name=schema_name, item_key=item_key, **settled),
            found.filter(**settled),
            selection.tenant,
        )
    ]
    if selection.status is None:
        sources.append(_waiting(selection, found.filter(status=OutboxStatus.PENDING), everything))
    return sources


def _waiting(
    selection: Selection, found: QuerySet[OutboxEvent], everything: QuerySet[OutboxEvent]
) -> Source[OutboxEvent]:
    """What is pending: named one by one, while it is little in all; else it is most of what is newest."""
    pending = OutboxEvent.objects.filter(status=OutboxStatus.PENDING)
    # The publisher's own indexes, in their order.
    ready = pending.filter(next_attempt_at=None).order_by("lane", "bus_arn", "tenant_id")
    later = pending.filter(next_attempt_at__isnull=False, lane__gte=0).order_by("lane", "next_attempt_at")
    few = _few([ready, later], selection)
    return _source(everything, found, selection.tenant) if few is None else _named(found, few)


def _few(queues: list[QuerySet[OutboxEvent]], selection: Selection) -> list[UUID] | None:
    """The keys of all events in there that are the tenant's; None if they are many."""
    keys: list[UUID] = []
    for queue in queues:
        rows = list(queue.values_list("pk", "tenant_id")[: _WAITING_AT_MOST + 1])
        if len(rows) > _WAITING_AT_MOST:
            return None
        wanted = selection.tenant.pk if isinstance(selection.tenant, Tenant) else None
        keys += [pk for pk, tenant in rows if wanted in (None, tenant)]
    return keys if len(keys) <= _NAMED_AT_MOST else None


def _named(found: QuerySet[OutboxEvent], keys: list[UUID]) -> Source[OutboxEvent]:
    found = found.filter(pk__in=keys)
    return Source(found, found)


def _of_tenant(tenant: Tenant | Scope) -> dict[str, list[int]]:
    return one_of("tenant", tenant.pk) if isinstance(tenant, Tenant) else {}


def _source(looked_at: QuerySet[M], found: QuerySet[M], tenant: Tenant | Scope) -> Source[M]:
    return Source(looked_at, found, by="tenant_id" if isinstance(tenant, Tenant) else "")


def _bounded(source: Source[OutboxEvent], selection: Selection) -> Source[OutboxEvent]:
    """The same, between the times: ids begin with theirs."""
    looked_at, found = source.looked_at, source.found
    if selection.since is not None:
        looked_at = looked_at.filter(pk__gte=replays.first_id_of(selection.since - replays.CLOCK_CHANGE))
    if selection.until is not None:
        end = replays.first_id_of(selection.until + replays.CLOCK_CHANGE)
        looked_at, found = looked_at.filter(pk__lt=end), found.filter(pk__lt=end)
    return Source(looked_at, found, source.by)
