"""Which tenants are in trouble: whose events are dead, wait for a bus that is paused, or wait for long.

Indexes hold what is in trouble and what waits; they are walked from tenant to tenant and from queue to queue, so that
what lies between is not read. Only so many tenants and queues are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection

from eventing import queues, value_rows
from eventing.lanes import LANES
from eventing.models import EventBus, OutputRule
from tenants.models import Tenant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MOST_TENANTS = 100
"""So many tenants with dead events, and with failing ones, are looked at, and so many shown."""
MOST = 1_000
"""Up to here the events of a tenant are counted."""
QUEUES_OF_A_LANE = 10
LATE_AFTER = timedelta(minutes=1)
_MOST_BUSES = 100

# As the indexes outbox_dead_of_a_tenant and outbox_retried_of_a_tenant have it.
_TENANTS = """
WITH RECURSIVE walk(tenant, step) AS (
    SELECT (SELECT MIN(tenant_id) FROM eventing_outboxevent WHERE {in_trouble}), 1
    UNION ALL
    SELECT (SELECT MIN(tenant_id) FROM eventing_outboxevent WHERE {in_trouble} AND tenant_id > walk.tenant), step + 1
    FROM walk WHERE walk.tenant IS NOT NULL AND step < %(most)s
)
SELECT tenant FROM walk WHERE tenant IS NOT NULL
"""
_DEAD = _TENANTS.format(in_trouble="status = 'dead'")
_RETRIED = _TENANTS.format(in_trouble="tenant_id >= 0 AND status = 'pending' AND next_attempt_at IS NOT NULL")
_COUNTS = """
SELECT one.tenant, (SELECT count(*) FROM (
    SELECT 1 FROM eventing_outboxevent WHERE tenant_id = one.tenant AND status = 'dead' LIMIT %(most)s) AS counted
), (SELECT count(*) FROM (
    SELECT 1 FROM eventing_outboxevent
    WHERE tenant_id >= 0 AND tenant_id = one.tenant AND status = 'pending' AND next_attempt_at IS NOT NULL
    LIMIT %(most)s) AS counted
), (SELECT time FROM eventing_outboxevent
    WHERE tenant_id >= 0 AND tenant_id = one.tenant AND status = 'pending' AND next_attempt_at IS NOT NULL
    ORDER BY id LIMIT 1)
FROM {tenants}
"""


@dataclass(slots=True)
class Trouble:
    """What is wrong with a tenant's events. Counts end at MOST."""

    tenant: Tenant
    dead: int = 0
    # Failed before, or behind one that did.
    retried: int = 0
    # The buses of its rules that are paused.
    paused: list[str] = field(default_factory=list)
    # The time of the oldest that waits, of those that were looked at.
    oldest: datetime | None = None

    @property
    def is_serious(self) -> bool:
        return bool(self.dead or self.paused)


def of_the_platform(at: datetime) -> list[Trouble]:
    """The tenants in trouble, the worst first."""
    oldest = _late(at)
    paused = _paused(at)
    with connection.cursor() as cursor:
        failing = []
        for walk in (_DEAD, _RETRIED):
            cursor.execute(walk, {"most": MOST_TENANTS})
            failing += [tenant for (tenant,) in cursor.fetchall()]
    return _worst_first(_troubles({*failing, *paused, *oldest}, paused, oldest))[:MOST_TENANTS]


def of_tenants(tenant_ids: Collection[int], at: datetime) -> list[Trouble]:
    """These tenants, whether in trouble or not, the worst first."""
    return _worst_first(_troubles(tenant_ids, _paused(at, tenant_ids), {}))


def _troubles(tenant_ids: Collection[int], paused: dict[int, list[str]], oldest: dict[int, datetime]) -> list[Trouble]:
    tenants = Tenant.objects.in_bulk(sorted(tenant_ids))
    if not tenants:
        return []
    table, values = value_rows.table("one", ("tenant",), [(tenant,) for tenant in tenants])
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS.format(tenants=table), {**values, "most": MOST})
        rows = cursor.fetchall()
    found = []
    for tenant, dead, retried, first in rows:
        times = [moment for moment in (queues.moment_of(first), oldest.get(tenant)) if moment]
        found.append(Trouble(tenants[tenant], dead, retried, paused.get(tenant, []), min(times, default=None)))
    return found


def _worst_first(troubles: Iterable[Trouble]) -> list[Trouble]:
    def badness(trouble: Trouble) -> tuple[Any, ...]:
        since = trouble.oldest.timestamp() if trouble.oldest else float("inf")
        return -trouble.dead, -len(trouble.paused), since, trouble.tenant.name

    return sorted(troubles, key=badness)


def _paused(at: datetime, tenant_ids: Collection[int] | None = None) -> dict[int, list[str]]:
    """The paused buses of each tenant that has a rule for one."""
    buses = EventBus.objects.filter(paused_until__gt=at).order_by("arn").values_list("arn", flat=True)[:_MOST_BUSES]
    rules = OutputRule.objects.filter(eventbridge_arn__in=list(buses)).order_by("eventbridge_arn")
    if tenant_ids is not None:
        rules = rules.filter(tenant__in=tenant_ids)
    found: dict[int, list[str]] = {}
    for tenant, arn in rules.values_list("tenant", "eventbridge_arn").distinct()[: MOST_TENANTS * 10]:
        found.setdefault(tenant, []).append(arn)
    return found


def _late(at: datetime) -> dict[int, datetime]:
    """The tenants for whom something has been ready for long, with the time of its oldest."""
    found: dict[int, datetime] = {}
    for tenant, moment in queues.heads(range(LANES), at_most=QUEUES_OF_A_LANE, at=at):
        if moment < at - LATE_AFTER:
            found[tenant] = min(moment, found.get(tenant, moment))
    return dict(sorted(found.items(), key=lambda item: item[1])[:MOST_TENANTS])
