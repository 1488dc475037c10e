"""The page of the admin that shows the timeline of one item."""

# Django's admin classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.http import Http404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from eventing import delivery_words, timelines
from eventing.models import OutboxStatus
from tenants.admin_keyset import moment
from tenants.admin_scope import access_of, tenant_named
from tenants.members import EVERYBODY

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from eventing.models import OutboxEvent
    from eventing.timelines import Moment
    from tenants.admin_scope import ModelAdmin
    from tenants.models import Tenant

_TONES = {OutboxStatus.DELIVERED: "success", OutboxStatus.DEAD: "danger", OutboxStatus.PENDING: "warning"}
# From a write's time to that of its entry in the ledger.
_SOON = timedelta(seconds=1)


def url(tenant: str, schema: str, key: str, **more: str) -> str:
    query = urlencode({"tenant": tenant, "schema": schema, "key": key, **more})
    return f"{reverse('admin:eventing_outboxevent_timeline')}?{query}"


def link(tenant: str, schema: str, key: str) -> SafeString:
    return format_html('<a class="underline" href="{}">{}/{}</a>', url(tenant, schema, key), schema, key)


def show(model_admin: ModelAdmin, request: HttpRequest) -> HttpResponse:
    name, schema, key = (request.GET.get(parameter, "") for parameter in ("tenant", "schema", "key"))
    tenant = tenant_named(name)
    # Of a tenant that is not the user's, nobody is to learn that it is there.
    if tenant is None or not access_of(request).allows(EVERYBODY, tenant.pk) or "\0" in schema + key:
        raise Http404
    before = moment(request.GET.get("before", ""))
    timeline = timelines.of(tenant, schema, key, before=before)
    item = timeline.item
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": f"Timeline of {schema}/{key}",
        "tenant": tenant,
        "schema": schema,
        "key": key,
        "item": item,
        "item_link": item and reverse("admin:backend_item_change", args=[item.pk]),
        "moments": [_shown(tenant, moment) for moment in timeline.moments],
        "before": before,
        "newest": url(name, schema, key) if before else "",
        "older": url(name, schema, key, before=timeline.older.isoformat()) if timeline.older else "",
        "outbox": f"{reverse('admin:eventing_outboxevent_changelist')}?{_query(name, schema, key)}",
        "inbox": f"{reverse('admin:backend_operationrecord_changelist')}?{_query(name, schema, key)}",
    }
    return TemplateResponse(request, "admin/timeline.html", context)


def _query(tenant: str, schema: str, key: str) -> str:
    return urlencode({"tenant": tenant, "schema": schema, "key": key})


def _shown(tenant: Tenant, moment: Moment) -> dict[str, Any]:
    record = moment.record
    return {
        "moment": moment,
        "record_link": record and reverse("admin:backend_operationrecord_change", args=[record.pk]),
        "bill_link": _bill_link(tenant, moment),
        "events": [_shown_event(event) for event in moment.events],
    }


def _bill_link(tenant: Tenant, moment: Moment) -> str:
    """To the entry in the ledger; where no record names it, to the entries up to that time, of which it is the last."""
    if moment.entry:
        return reverse("admin:tenants_ledgerentry_change", args=[moment.entry.pk])
    if moment.sequence is None:
        return ""
    query = urlencode({"tenant": tenant.name, "until": (moment.at + _SOON).isoformat()})
    return f"{reverse('admin:tenants_ledgerentry_changelist')}?{query}"


def _shown_event(event: OutboxEvent) -> dict[str, Any]:
    return {
        "event": event,
        "link": reverse("admin:eventing_outboxevent_change", args=[event.pk]),
        "tone": _TONES[OutboxStatus(event.status)],
        "bus": event.bus_arn.rpartition("/")[2],
        "latency": delivery_words.latency(event),
        "error": delivery_words.error(event),
    }
