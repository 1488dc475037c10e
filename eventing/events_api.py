"""Events over REST, out and in, and replays: translation from and to HTTP, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.urls import reverse
from rest_framework.response import Response

from blockforger.backend.errors import ResourceUnknown
from blockforger.backend.models import OperationRecord, Origin
from blockforger.backend.request_bodies import PayloadParser
from blockforger.backend.requests import ManagementViewSet, Page, check_parameters, payload_of
from eventing import event_filters, event_lists, replay_requests, replays
from eventing.models import OutboxEvent, Replay
from tenants.models import Permission

if TYPE_CHECKING:
    from rest_framework.request import Request

    from blockforger.backend.json_values import JsonObject

_PAGE = ("limit", "cursor")
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NUMBER = "[0-9]{1,18}"


class SentViewSet(ManagementViewSet):
    """The outbox: events that went out, or are to."""

    def list(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.READ_EVENTS).api_key.tenant
        check_parameters(request, ["schema", "key", "rule", "bus", "status", "since", "until", *_PAGE])
        page = Page.read(request.query_params, cursors=_UUID)
        selection = event_filters.sent(request.query_params, owner)
        before = UUID(page.cursor) if page.cursor else None
        rows, following = event_lists.sent(selection, before=before, limit=page.limit)
        shown = [event_lists.as_sent(event) for event in rows]
        return Response({"events": shown, "next": str(following) if following else None})

    def retrieve(self, request: Request, tenant: str, event: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.READ_EVENTS).api_key.tenant
        check_parameters(request, [])
        row = OutboxEvent.objects.filter(tenant=owner, pk=UUID(event)).first()
        if row is None:
            raise ResourceUnknown("There is no such event in the outbox, or its time is over.")
        return Response(event_lists.in_full(row))


class ReceivedViewSet(ManagementViewSet):
    """Events that came in, each with what became of it."""

    def list(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.READ_EVENTS).api_key.tenant
        check_parameters(request, ["schema", "key", "status", "since", "until", *_PAGE])
        page = Page.read(request.query_params, cursors=_NUMBER)
        which = event_filters.received(request.query_params)
        before = int(page.cursor) if page.cursor else None
        rows, following = event_lists.received(owner, which, before=before, limit=page.limit)
        shown = [event_lists.as_received(record) for record in rows]
        return Response({"events": shown, "next": str(following) if following else None})

    def retrieve(self, request: Request, tenant: str, event: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.READ_EVENTS).api_key.tenant
        check_parameters(request, [])
        records = OperationRecord.objects.filter(tenant=owner, origin=Origin.EVENT)
        row = None if "\0" in event else records.filter(idempotency_key=event).first()
        if row is None:
            raise ResourceUnknown("No such event came in, or its time is over.")
        return Response(event_lists.in_full(row))


class ReplayViewSet(ManagementViewSet):
    """Events of the outbox that are sent once more."""

    parser_classes = [PayloadParser]

    def create(self, request: Request, tenant: str) -> Response:
        api_key = self.caller_of(request, tenant, Permission.READ_EVENTS).api_key
        check_parameters(request, [])
        wanted = event_filters.ReplayRequest.read(payload_of(request), api_key.tenant)
        if wanted.is_dry_run:
            counts = replays.count(wanted.selection)
            return Response({"delivered": counts.delivered, "dead": counts.dead, "pending": counts.pending})
        replay = replay_requests.ask(wanted.selection, who=f"API key {api_key}"[:150], why=wanted.why)
        url = reverse("replay", args=[tenant, replay.pk])
        return Response(_replay(replay), status=202, headers={"Location": url})

    def retrieve(self, request: Request, tenant: str, number: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.READ_EVENTS).api_key.tenant
        check_parameters(request, [])
        replay = Replay.objects.filter(tenant=owner, pk=int(number)).first()
        if replay is None:
            raise ResourceUnknown("There is no such replay of the tenant's events.")
        return Response(_replay(replay))


def _replay(replay: Replay) -> JsonObject:
    return {
        "replay": replay.pk,
        "who": replay.who,
        "why": replay.why,
        "selection": replay.selection,
        "events": replay.events,
        "created_at": replay.created_at.isoformat(),
        "finished_at": replay.finished_at.isoformat() if replay.finished_at else None,
    }
