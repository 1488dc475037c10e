"""The admin of the outbox: a list by filters, the page of an event, and what leads to its item and to replays."""

# Django's admin classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"
# ruff: noqa: ARG002

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import action, display

from eventing import admin_replays, admin_timeline, delivery_words, event_filters, event_sources
from eventing.delivery_filters import SentFilters, event_named
from eventing.models import OutboxEvent, OutboxStatus
from eventing.replays import Scope
from tenants import keyset
from tenants.admin_keyset import KeysetTable, tenants_looked_at
from tenants.admin_scope import pretty_json
from tenants.keyset import Page, Source
from tenants.members import MANAGERS
from tenants.models import Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern
    from django.utils.safestring import SafeString

    from tenants.admin_keyset import KeysetChangeList

M = TypeVar("M", bound="Model")

# As the list shows it; the event's page has all of it.
_ERROR_CHARACTERS = 60


@admin.register(OutboxEvent)
class OutboxEventAdmin(KeysetTable):
    may_replay = MANAGERS
    empty_text = "Each write adds an event here for every output rule that it matches."
    list_display = ["written", "tenant", "state", "item", "operation", "latency", "attempts", "error", "rule_id", "bus"]
    list_display_links = ["written"]
    list_select_related = ["tenant"]
    list_before_template = "admin/delivery_filters.html"
    # Django's own names of the statuses: links to this list have them.
    linked_lookups = ("status__exact",)
    own_parameters = SentFilters.names()
    search_fields = ["id", "item_key"]
    search_help_text = "The id of an event, or a whole item key."
    actions = ["replay_chosen"]
    actions_detail = ["replay"]
    fieldsets = (
        (None, {"fields": ("status", "story", "item", "tenant", "operation", "written", "delivered_at", "latency")}),
        (
            "The event",
            {"fields": ("id", "bus_arn", "source", "detail_type", "resources_shown", "detail_shown", "rule_id")},
        ),
        (
            "Attempts",
            {
                "fields": (
                    *("attempts", "error_code", "error_message", "failing_since", "next_attempt_at"),
                    *("eventbridge_id", "replay", "sequence", "place", "lane", "stream"),
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxEvent]:
        return super().get_queryset(request).defer("detail")

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("replay/", self.admin_site.admin_view(self.replay_view), name="eventing_outboxevent_replay_found"),
            path("timeline/", self.admin_site.admin_view(self.timeline_view), name="eventing_outboxevent_timeline"),
        ]
        return own + super().get_urls()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        event = event_named(search_term)
        return (queryset.filter(pk=event) if event else queryset.filter(item_key=search_term.strip())), False

    def page_of(
        self, request: HttpRequest, changelist: KeysetChangeList, *, before: Any, after: Any
    ) -> Page[OutboxEvent]:
        filters = SentFilters(request)
        changelist.filters = filters
        changelist.may_replay = self.has_replay_permission(request)
        changelist.replay_link = f"{reverse('admin:eventing_outboxevent_replay_found')}?{_filters_of(request)}"
        found = changelist.queryset
        if event_named(changelist.query):
            found = of_tenants(request, found)
            return keyset.page([Source(found, found)], limit=self.list_per_page, before=before, after=after)
        sources: list[Source[OutboxEvent]] = []
        for tenant in tenants_of(request):
            selection = filters.wanted(partial(event_filters.sent, tenant=tenant))
            if selection is None:
                return Page([], None, None)
            sources += event_sources.of_sent(selection, found)
        return keyset.page(sources, limit=self.list_per_page, before=before, after=after)

    def has_replay_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_allowed(request, self.may_replay, obj)

    @action(description="Send once more", icon="replay", permissions=["replay"])
    def replay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return _to_replay([object_id])

    @admin.action(description="Send the chosen events once more", permissions=["replay"])
    def replay_chosen(self, request: HttpRequest, queryset: QuerySet[OutboxEvent]) -> HttpResponse:
        return _to_replay(request.POST.getlist("_selected_action"))

    def replay_view(self, request: HttpRequest) -> HttpResponse:
        return admin_replays.ask(self, request)

    def timeline_view(self, request: HttpRequest) -> HttpResponse:
        return admin_timeline.show(self, request)

    @admin.display(description="time (UTC)")
    def written(self, event: OutboxEvent) -> str:
        return f"{event.time:%Y-%m-%d %H:%M:%S}"

    @display(
        description="status",
        label={OutboxStatus.DELIVERED: "success", OutboxStatus.DEAD: "danger", OutboxStatus.PENDING: "warning"},
    )
    def state(self, event: OutboxEvent) -> tuple[str, str]:
        return event.status, event.get_status_display()

    @admin.display(description="item")
    def item(self, event: OutboxEvent) -> SafeString | str:
        if not event.item_key:
            return f"{event.schema_name} (feedback)"
        return admin_timeline.link(event.tenant.name, event.schema_name, event.item_key)

    @admin.display(description="latency")
    def latency(self, event: OutboxEvent) -> str:
        return delivery_words.latency(event)

    @admin.display(description="error")
    def error(self, event: OutboxEvent) -> str:
        text = delivery_words.error(event)
        return text if len(text) <= _ERROR_CHARACTERS else f"{text[:_ERROR_CHARACTERS]}…"

    @admin.display(description="bus")
    def bus(self, event: OutboxEvent) -> SafeString:
        return format_html('<span title="{}">{}</span>', event.bus_arn, event.bus_arn.rpartition("/")[2])

    @admin.display(description="what became of it")
    def story(self, event: OutboxEvent) -> SafeString:
        return format_html_join("", "<p>{}</p>", ((sentence,) for sentence in delivery_words.story(event)))

    @admin.display(description="resources")
    def resources_shown(self, event: OutboxEvent) -> str:
        return "\n".join(event.resources)

    @admin.display(description="detail")
    def detail_shown(self, event: OutboxEvent) -> SafeString:
        return pretty_json(event.detail)


def tenants_of(request: HttpRequest) -> Sequence[Tenant | Scope]:
    """Whose events a list shows: those of the tenant that is chosen, else of all that the user may see."""
    chosen = tenants_looked_at(request)
    return [Scope.EVERY_TENANT] if chosen is None else list(Tenant.objects.filter(pk__in=chosen).order_by("pk"))


def of_tenants(request: HttpRequest, rows: QuerySet[M]) -> QuerySet[M]:
    """Those of the tenant that is chosen."""
    chosen = tenants_looked_at(request)
    return rows if chosen is None else rows.filter(tenant__in=chosen)


def _filters_of(request: HttpRequest) -> str:
    return urlencode([(name, request.GET[name]) for name in SentFilters.names() if request.GET.get(name)])


def _to_replay(ids: Sequence[str]) -> HttpResponse:
    url = reverse("admin:eventing_outboxevent_replay_found")
    return HttpResponseRedirect(f"{url}?{urlencode([('ids', pk) for pk in ids])}")
