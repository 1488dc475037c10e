"""The admin of replays: their list, and the page that tells what one would do before it is asked for."""

# Django's admin classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextInputWidget

from eventing import event_filters, replay_previews, replay_requests, replays
from eventing.delivery_filters import SentFilters, event_named
from eventing.models import OutboxStatus, Replay
from tenants.admin_keyset import tenants_looked_at
from tenants.admin_scope import ReadOnly, TenantFilter, access_of
from tenants.members import MANAGERS
from tenants.models import Tenant

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

    from eventing.replays import Selection
    from tenants.admin_scope import ModelAdmin

_LIST = "admin:eventing_outboxevent_changelist"


class NotReplayable(ValueError):
    """A replay that cannot be asked for; the text says what to do."""


class WhyForm(forms.Form):
    why = forms.CharField(
        label="Why",
        max_length=event_filters.MAX_WHY,
        widget=UnfoldAdminTextInputWidget(attrs={"class": "vLargeTextField"}),
        help_text="Kept with the replay, beside your name: such as a ticket, and what was mended.",
    )


@admin.register(Replay)
class ReplayAdmin(ReadOnly):
    empty_text = "Choose events in the outbox to send them once more; or use the command replay_events, or REST."
    list_display = ["created_at", "tenant", "who", "why", "selected", "events", "finished_at"]
    list_filter = [TenantFilter]
    list_select_related = ["tenant"]
    fields = ("id", "tenant", "who", "why", "selected", "events", "created_at", "finished_at")

    @admin.display(description="selection")
    def selected(self, replay: Replay) -> str:
        text = replay_previews.described(replays.selection_of(replay))
        return f"{text[:200]}…" if len(text) > 200 else text


def ask(model_admin: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """The page that tells what the replay would do; and, sent back, the replay."""
    if not access_of(request).allows_somewhere(MANAGERS):
        raise PermissionDenied
    try:
        selection = _selection(model_admin, request)
    except NotReplayable as refusal:
        model_admin.message_user(request, str(refusal), messages.ERROR)
        return HttpResponseRedirect(reverse(_LIST))
    form = WhyForm(request.POST or None)
    if form.is_valid():
        return _begin(model_admin, request, selection, form.cleaned_data["why"])
    preview = replay_previews.of(selection)
    rate = settings.BLOCKFORGER_REPLAYS_PER_SECOND
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": "Send events once more",
        "selected": replay_previews.described(selection),
        "preview": preview,
        "replayable": f"{preview.replayable:,}",
        "delivered": f"{preview.delivered:,}",
        "dead": f"{preview.dead:,}",
        "pending": f"{preview.pending:,}",
        "look": f"{replay_previews.LOOK:,}",
        "rate": rate,
        "seconds": f"{-(-preview.replayable // rate):,}",
        "under_way": replays.unfinished(selection),
        "form": form,
    }
    return TemplateResponse(request, "admin/replay.html", context)


def _begin(model_admin: ModelAdmin, request: HttpRequest, selection: Selection, why: str) -> HttpResponse:
    under_way = replays.unfinished(selection)
    replay = replay_requests.ask(selection, who=request.user.get_username()[:150], why=why)
    if under_way and under_way.pk == replay.pk:
        text = f"Replay {replay.pk} of the same events, begun by {replay.who}, is still going on: no other was begun."
        model_admin.message_user(request, text, messages.WARNING)
    else:
        model_admin.log_addition(request, replay, f"Asked for: {why}")
        text = f"Replay {replay.pk} has been asked for. It goes on by itself; this page says how far it is."
        model_admin.message_user(request, text, messages.SUCCESS)
    return HttpResponseRedirect(reverse("admin:eventing_replay_change", args=[replay.pk]))


def _selection(model_admin: ModelAdmin, request: HttpRequest) -> Selection:
    """The events that are named, or else those that the filters find; of one tenant, in which the user may replay."""
    if "ids" in request.GET:
        ids = tuple(filter(None, map(event_named, request.GET.getlist("ids")[: event_filters.MAX_IDS])))
        return replays.Selection(_tenant_of(model_admin, request, ids), ids=ids)
    tenants = tenants_looked_at(request)
    if tenants is None or len(tenants) != 1:
        raise NotReplayable("Choose a tenant in the filters first: a replay is of one tenant's events.")
    tenant = _allowed(request, Tenant.objects.get(pk=tenants[0]))
    filters = SentFilters(request)
    selection = filters.wanted(partial(event_filters.sent, tenant=tenant))
    if selection is None:
        raise NotReplayable(" ".join(str(error[0]) for error in filters.errors.values()))
    if selection.is_everything:
        raise NotReplayable("Choose a filter first: without one, all that the tenant ever sent would be sent again.")
    if selection.status == OutboxStatus.PENDING:
        raise NotReplayable("Pending events are sent anyway. Choose delivered or dead ones.")
    return selection


def _tenant_of(model_admin: ModelAdmin, request: HttpRequest, ids: tuple[UUID, ...]) -> Tenant:
    """The tenant of these events, which the user must see."""
    rows: Any = model_admin.get_queryset(request)
    owners = list(Tenant.objects.filter(pk__in=rows.filter(pk__in=ids).order_by().values("tenant")))
    if not owners:
        raise NotReplayable("There are no such events, or their time is over.")
    if len(owners) > 1:
        raise NotReplayable("Choose events of one tenant: a replay is of one tenant's events.")
    return _allowed(request, owners[0])


def _allowed(request: HttpRequest, tenant: Tenant) -> Tenant:
    if not access_of(request).allows(MANAGERS, tenant.pk):
        raise PermissionDenied
    return tenant
