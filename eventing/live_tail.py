"""Events as they pass, in a browser: a page, and the stream of server-sent events that it listens to.

Each second the newest events of the tenant are looked at, in the order of an index, and what is new or has changed is
sent. Whoever watches holds a thread of the web process, so there may be so many, each for so long; the
browser comes back by itself, and says what it has seen. Between two looks no connection to the database is held.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, auth
from django.db import connections
from django.http import HttpRequest, HttpResponseNotAllowed, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from blockforger.backend.models import WRITES, OperationRecord, Origin, Schema
from eventing import admin_dashboard
from eventing.models import OutboxEvent, OutboxStatus
from eventing.replays import first_id_of
from tenants import members
from tenants.members import EVERYBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.http import HttpResponse
    from django.http.response import HttpResponseBase

    from tenants.models import Tenant

LOOKS = 120
"""So often a stream looks, once a second, before it ends and the browser comes back."""
# A write has its id before it is committed, and its status changes after it is shown: so long it is looked at again.
_AGAIN = timedelta(seconds=30)
# What a page shows that was just opened.
_FIRST = timedelta(minutes=10)
# Of so many of the newest events those that pass the filter are sent, at most so many at once.
_LOOK, _SEND = 500, 100
_MOST_SCHEMAS = 200
OUTCOMES = ("pending", "delivered", "dead", "done", "refused")

_watching = threading.BoundedSemaphore(max(1, settings.BLOCKFORGER_LIVE_TAILS))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are shown; empty: all."""

    schema: str = ""
    operation: str = ""
    outcome: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        return cls(query.get("schema", ""), query.get("operation", ""), query.get("outcome", ""))

    def passes(self, event: Passing) -> bool:
        return (
            self.schema in ("", event.schema)
            and self.operation in ("", event.operation)
            and self.outcome in ("", event.outcome)
        )


@dataclass(frozen=True, slots=True)
class Passing:
    """An event that goes out or has come in, as it is shown."""

    id: str
    direction: str
    at: datetime
    operation: str
    schema: str
    key: str
    outcome: str
    # Where it goes, or why it was refused.
    note: str
    url: str

    def as_json(self) -> dict[str, str]:
        return {
            "id": self.id,
            "direction": self.direction,
            "time": f"{self.at.astimezone(UTC):%H:%M:%S.%f}"[:-3],
            "operation": self.operation,
            "schema": self.schema,
            "key": self.key,
            "outcome": self.outcome,
            "note": self.note,
            "url": self.url,
        }


@dataclass
class Watch:
    """What one browser watches, and what it was told."""

    tenant: Tenant
    chosen: Filter
    # Of what is told, nothing is older.
    since: datetime
    # By id: the outcome that was told.
    told: dict[str, str] = field(default_factory=dict)

    def look(self, at: datetime) -> list[Passing]:
        """What is new or has changed, the oldest first."""
        found = [
            event for event in newest(self.tenant, self.since) if self.chosen.passes(event) or event.id in self.told
        ]
        news = [event for event in found if self.told.get(event.id) != event.outcome]
        self.told = {event.id: event.outcome for event in found}
        self.since = max(self.since, at - _AGAIN)
        return news[-_SEND:]


def page(request: HttpRequest, name: str) -> HttpResponse:
    """The page that shows the stream."""
    if request.method != "GET":
        return HttpResponseNotAllowed(["GET"])
    tenant = admin_dashboard.tenant_of(request, name)
    context = {
        **admin.site.each_context(request),
        "title": "Live",
        "tenant": tenant,
        "stream_url": reverse("admin:live_tail_events", args=[tenant.name]),
        "dashboard_url": reverse("admin:dashboard", args=[tenant.name]),
        "schemas": Schema.objects.filter(tenant=tenant).order_by("name").values_list("name", flat=True)[:_MOST_SCHEMAS],
        "operations": [str(method) for method in WRITES],
        "outcomes": OUTCOMES,
        "chosen": Filter.of(request.GET),
    }
    return TemplateResponse(request, "admin/live_tail.html", context)


def events(request: HttpRequest, name: str) -> HttpResponseBase:
    """The stream: text/event-stream."""
    if request.method != "GET":
        return HttpResponseNotAllowed(["GET"])
    tenant = admin_dashboard.tenant_of(request, name)
    now = timezone.now()
    since = _moment(request.headers.get("Last-Event-ID", ""), now) or now - _FIRST
    watch = Watch(tenant, Filter.of(request.GET), since)
    key = request.session.session_key or ""
    stream = follow(watch, may_go_on=lambda: is_let_in(key, tenant.pk), rest=rest)
    response = StreamingHttpResponse(stream, content_type="text/event-stream")
    response["X-Accel-Buffering"] = "no"  # of nginx, which would hold it back
    return response


def follow(watch: Watch, *, may_go_on: Callable[[], bool], rest: Callable[[], None]) -> Iterator[str]:
    """What is sent to the browser, until it has had its time or may watch no more. Rests between two looks."""
    places = _watching
    if not places.acquire(blocking=False):
        yield "retry: 10000\nevent: full\ndata: {}\n\n"
        return
    try:
        yield "retry: 1000\n\n"
        for _ in range(LOOKS):
            if not may_go_on():
                yield "event: ended\ndata: {}\n\n"
                return
            at = timezone.now()
            told = "".join(f"data: {json.dumps(event.as_json())}\n\n" for event in watch.look(at))
            # Also where there is nothing to tell: by writing it is noticed that nobody listens any more.
            yield f"{told}id: {at.isoformat()}\nevent: looked\ndata: {{}}\n\n"
            rest()
    finally:
        places.release()


def rest() -> None:
    """Wait for the next look, without a connection to the database."""
    connections.close_all()
    time.sleep(1)


def is_let_in(session_key: str, tenant_id: int) -> bool:
    """Whether that session still is of somebody who may see the tenant, by what stands in the database now."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    request.user = auth.get_user(request)
    return admin.site.has_permission(request) and members.access_of(request.user).allows(EVERYBODY, tenant_id)


def newest(tenant: Tenant, since: datetime) -> list[Passing]:
    """The newest events of a tenant that went out or came in since then, the oldest first."""
    out = OutboxEvent.objects.filter(tenant=tenant, pk__gte=first_id_of(since)).order_by("-pk").defer("detail")
    # In the order of the index that has events by their time; those of a tenant are by their numbers in another.
    records = OperationRecord.objects.filter(origin=Origin.EVENT, received_at__gte=since, tenant=tenant)
    received = records.order_by("-received_at").defer("payload", "answer")
    found = [*map(_sent, out[:_LOOK]), *map(_received, received[:_LOOK])]
    return sorted(found, key=lambda event: (event.at, event.id))


def _sent(event: OutboxEvent) -> Passing:
    bus = event.bus_arn.rsplit("/", 1)[-1]
    failed = event.status != OutboxStatus.DELIVERED and event.error_code
    return Passing(
        id=str(event.pk),
        direction="out",
        at=event.time,
        operation=event.operation,
        schema=event.schema_name,
        key=event.item_key,
        outcome=event.status,
        note=f"{bus}: {event.error_code}" if failed else bus,
        url=reverse("admin:eventing_outboxevent_change", args=[event.pk]),
    )


def _received(record: OperationRecord) -> Passing:
    problem: Any = record.problem or {}
    return Passing(
        id=f"in-{record.pk}",
        direction="in",
        at=record.received_at,
        operation=record.method,
        schema=record.schema_name,
        key=record.item_key,
        outcome="done" if record.status < 400 else "refused",
        note=f"{record.status} {problem.get('code', '')}".strip(),
        url=reverse("admin:backend_operationrecord_change", args=[record.pk]),
    )


def _moment(text: str, now: datetime) -> datetime | None:
    """When the browser was last told something; from a little before, because of what was committed meanwhile."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return min(max(moment, now - _FIRST + _AGAIN), now) - _AGAIN if moment.tzinfo else None
