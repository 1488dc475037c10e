"""The admin of what came in: events, and requests that have an Idempotency-Key, each with what became of it."""

# Django's admin classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"
# ruff: noqa: ARG002

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q
from django.urls import path, reverse
from unfold.decorators import display

from blockforger.backend.models import OperationRecord, Origin
from eventing import admin_redrive, admin_timeline, event_filters, event_sources
from eventing.admin_deliveries import of_tenants, tenants_of
from eventing.delivery_filters import ReceivedFilters
from tenants import keyset
from tenants.admin_keyset import KeysetTable
from tenants.admin_scope import access_of, pretty_json
from tenants.keyset import Page, Source

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern
    from django.utils.safestring import SafeString

    from tenants.admin_keyset import KeysetChangeList

_DETAIL_CHARACTERS = 80


@admin.register(OperationRecord)
class OperationRecordAdmin(KeysetTable):
    empty_text = (
        "Events that came in, and requests with an Idempotency-Key, are recorded here with what became of them."
    )
    list_display = ["received", "origin", "tenant", "outcome", "method", "item", "tokens", "refusal"]
    list_display_links = ["received"]
    list_select_related = ["tenant"]
    list_before_template = "admin/delivery_filters.html"
    own_parameters = ReceivedFilters.names()
    search_fields = ["idempotency_key", "operation", "item_key"]
    search_help_text = "A whole idempotency key (of an event: its id), id of an operation, or item key."
    fields = (
        *("received_at", "origin", "idempotency_key", "tenant", "operation", "method", "schema_name", "item"),
        *("status", "problem_shown", "tokens", "answer_shown", "payload_shown", "request_hash"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[OperationRecord]:
        return super().get_queryset(request).defer("payload", "answer")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.dead_letters_view)
        return [path("dead-letters/", view, name="backend_operationrecord_dead_letters"), *super().get_urls()]

    def dead_letters_view(self, request: HttpRequest) -> HttpResponse:
        return admin_redrive.show(self, request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term or _named(queryset, search_term).exists():
            return (_named(queryset, search_term) if search_term else queryset), False
        others = Q(item_key=search_term)
        if (operation := event_filters.uuid_of(search_term)) is not None:
            others |= Q(operation=operation)
        return queryset.filter(others), False

    def page_of(
        self, request: HttpRequest, changelist: KeysetChangeList, *, before: Any, after: Any
    ) -> Page[OperationRecord]:
        filters = ReceivedFilters(request)
        changelist.filters = filters
        if access_of(request).is_operator:
            changelist.dead_letters_link = reverse("admin:backend_operationrecord_dead_letters")
        found = changelist.queryset
        if changelist.query and _named(found, changelist.query).exists():
            found = of_tenants(request, found)
            return keyset.page([Source(found, found)], limit=self.list_per_page, before=before, after=after)
        which = filters.wanted(event_filters.received)
        if which is None:
            return Page([], None, None)
        which = replace(which, origin=filters.wanted_origin)
        sources = [
            source for tenant in tenants_of(request) for source in event_sources.of_received(tenant, which, found)
        ]
        return keyset.page(sources, limit=self.list_per_page, before=before, after=after)

    @admin.display(description="received (UTC)")
    def received(self, record: OperationRecord) -> str:
        return f"{record.received_at:%Y-%m-%d %H:%M:%S}"

    @display(description="status", label={"done": "success", "refused": "danger"})
    def outcome(self, record: OperationRecord) -> tuple[str, str]:
        return ("done", f"{record.status} done") if record.status < 400 else ("refused", f"{record.status} refused")

    @admin.display(description="item")
    def item(self, record: OperationRecord) -> SafeString | str:
        if record.tenant and record.item_key:
            return admin_timeline.link(record.tenant.name, record.schema_name, record.item_key)
        return record.schema_name

    @admin.display(description="why refused")
    def refusal(self, record: OperationRecord) -> str:
        problem: Any = record.problem or {}
        text = f"{problem.get('code', '')}: {problem.get('detail', '')}" if problem else ""
        return text if len(text) <= _DETAIL_CHARACTERS else f"{text[:_DETAIL_CHARACTERS]}…"

    @admin.display(description="problem")
    def problem_shown(self, record: OperationRecord) -> SafeString | None:
        return pretty_json(json.dumps(record.problem)) if record.problem else None

    @admin.display(description="answer")
    def answer_shown(self, record: OperationRecord) -> SafeString | None:
        return pretty_json(record.answer) if record.answer else None

    @admin.display(description="payload")
    def payload_shown(self, record: OperationRecord) -> SafeString:
        return pretty_json(record.payload)


def _named(records: QuerySet[OperationRecord], key: str) -> QuerySet[OperationRecord]:
    """The records of that idempotency key: at most one of each origin, by an index."""
    return records.filter(origin__in=Origin.values, idempotency_key=key)
