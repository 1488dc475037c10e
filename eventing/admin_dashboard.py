"""The admin's first page, and a tenant's dashboard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from eventing import dashboards, onboarding, troubles
from tenants import charts
from tenants.admin_scope import access_of, tenant_named
from tenants.admin_site import Site
from tenants.members import EVERYBODY, MANAGERS, OPERATORS
from tenants.models import Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest, HttpResponse

    from eventing.dashboards import Dashboard, Hour

# What a page lists of tenants that are not in trouble.
_MOST_LISTED = 100


def tenant_of(request: HttpRequest, name: str) -> Tenant:
    """The tenant of a page. Whoever may not see it is told the same as of one that is not there."""
    tenant = tenant_named(name)
    if tenant is None or not access_of(request).allows(EVERYBODY, tenant.pk):
        raise PermissionDenied
    return tenant


def overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page shows: an operator the tenants in trouble, a member of one tenant its dashboard."""
    access, at = access_of(request), timezone.now()
    if access.is_operator:
        rows = troubles.of_the_platform(at)
        return {**context, "is_operator": True, "troubles": [_row(trouble, at) for trouble in rows]}
    own = access.tenants(EVERYBODY)
    if len(own) == 1:
        return {**context, **_shown(request, Tenant.objects.get(pk=own[0]), at)}
    rows = troubles.of_tenants(sorted(own)[:_MOST_LISTED], at)
    return {**context, "troubles": [_row(trouble, at) for trouble in rows]}


def dashboard(request: HttpRequest, name: str) -> HttpResponse:
    """The page of one tenant."""
    if request.method != "GET":
        return HttpResponseNotAllowed(["GET"])
    tenant = tenant_of(request, name)
    context = {**admin.site.each_context(request), "title": "Dashboard", **_shown(request, tenant, timezone.now())}
    return TemplateResponse(request, "admin/dashboard.html", context)


def _shown(request: HttpRequest, tenant: Tenant, at: datetime) -> dict[str, Any]:
    figures, access = dashboards.of(tenant, at=at), access_of(request)
    may_manage = access.allows(MANAGERS, tenant.pk)
    steps = onboarding.steps(onboarding.of(tenant))
    return {
        "tenant": tenant,
        "steps": steps,
        "next_step": next((step for step in steps if not step.is_done), None),
        "may_manage": may_manage,
        "cards": _cards(tenant, figures, at, is_operator=access.allows(OPERATORS, tenant.pk)),
        "charts": _charts(figures),
        "paused": figures.queue.paused,
        "live_url": reverse("admin:live_tail", args=[tenant.name]),
        "tenant_url": reverse("admin:tenants_tenant_change", args=[tenant.pk]),
    }


def _cards(tenant: Tenant, figures: Dashboard, at: datetime, *, is_operator: bool) -> list[dict[str, Any]]:
    hours, times, queue = figures.hours, figures.times, figures.queue
    out, received, refused = (_sum([getattr(hour, name) for hour in hours]) for name in ("out", "received", "refused"))
    return [
        _card("Events out, 24 h", out, _list("eventing_outboxevent", tenant), _about_out(hours)),
        _card(
            "Events in, 24 h",
            received,
            _list("backend_operationrecord", tenant, origin="event"),
            f"{refused} refused" if received != "0" else _about_input(tenant),
            is_bad=refused != "0",
        ),
        _card(
            "Time to bus",
            f"{seconds(times.p50)} / {seconds(times.p95)}" if times else "–",
            "",
            f"p50 / p95 of the last {times.of:,} that arrived" if times else "No event of the last day has arrived.",
        ),
        _card(
            "Dead",
            so_far(figures.dead, dashboards.MOST),
            _list("eventing_outboxevent", tenant, status="dead"),
            "See why, then replay them." if figures.dead else "Nothing was given up.",
            is_bad=figures.dead > 0,
        ),
        _card(
            "Waiting",
            so_far(queue.depth, dashboards.MOST),
            _list("eventing_outboxevent", tenant, status="pending"),
            _about_queue(figures, at),
            is_bad=bool(queue.retried or queue.paused),
        ),
        _card(
            "Balance in tokens",
            f"{figures.balance.tokens:,}",
            reverse("admin:tenants_ledgerentry_add") + f"?tenant={tenant.pk}"
            if is_operator and figures.balance.runs_out is None and not figures.balance.tokens
            else _list("tenants_ledgerentry", tenant),
            _about_balance(figures, at),
            is_bad=figures.balance.tokens <= 0 or _runs_out_soon(figures, at),
        ),
    ]


def _card(title: str, value: str, url: str, text: str, *, is_bad: bool = False) -> dict[str, Any]:
    return {"title": title, "value": value, "url": url, "text": text, "is_bad": is_bad}


def _charts(figures: Dashboard) -> list[dict[str, Any]]:
    hours = figures.hours
    return [
        {
            "title": "Events out per hour",
            "empty": "Nothing went out in the last 24 hours. Write an item that an output rule matches.",
            **_chart([(hour.begin, hour.out, hour.dead) for hour in hours], "out", "died"),
        },
        {
            "title": "Events in per hour",
            "empty": "No event came in during the last 24 hours. Senders put them on the input bus, with an API key.",
            **_chart([(hour.begin, hour.received, hour.refused) for hour in hours], "in", "refused"),
        },
    ]


def _chart(hours: Sequence[tuple[datetime, int, int]], which: str, marked_as: str) -> dict[str, Any]:
    """What there is to draw of these hours: when, how many events, and how many of them are marked; and to read."""
    values, marked = [value for _, value, _ in hours], [part for _, _, part in hours]
    if not any(values) and not any(marked):
        return {"drawn": None}
    # What died within an hour may have been written before.
    named = [(f"{begin:%H:%M}", max(value, part)) for begin, value, part in hours]
    label = f"Events {which} per hour (UTC), {_sum(values)} in 24 hours, {_sum(marked)} {marked_as}."
    return {
        "drawn": charts.bars(named, label=label, marked=marked, marked_as=marked_as, most=dashboards.MOST),
        "marked": marked_as,
        "rows": [
            (f"{begin:%H:%M}", so_far(value, dashboards.MOST), so_far(part, dashboards.MOST))
            for begin, value, part in hours
        ],
    }


def _about_out(hours: Sequence[Hour]) -> str:
    died = _sum([hour.dead for hour in hours])
    return f"{died} died" if died != "0" else "Nothing died."


def _about_input(tenant: Tenant) -> str:
    if not tenant.accepts_events:
        return "They are refused: tick “accepts events” in the configuration."
    return "Events come in by the input bus."


def _about_queue(figures: Dashboard, at: datetime) -> str:
    queue = figures.queue
    if not queue.depth:
        return "Nothing waits."
    parts = [f"the oldest for {age(queue.oldest, at)}"] if queue.oldest else []
    if queue.retried:
        parts.append(f"{so_far(queue.retried, dashboards.MOST)} failed before, or wait behind such")
    return "; ".join(parts)


def _about_balance(figures: Dashboard, at: datetime) -> str:
    balance = figures.balance
    if balance.tokens <= 0:
        return "Requests are refused with 402: have tokens added."
    if balance.runs_out is None:
        return f"Nothing was spent in the last {dashboards.PACE_DAYS} days."
    pace = f"{balance.spent / balance.days:,.0f} a day"
    if (balance.runs_out - at).days > 366:
        return f"At {pace}, it lasts for more than a year."
    return f"At {pace}, it runs out on {balance.runs_out:%-d %B %Y}."


def _runs_out_soon(figures: Dashboard, at: datetime) -> bool:
    runs_out = figures.balance.runs_out
    return runs_out is not None and (runs_out - at).days < dashboards.PACE_DAYS


def _row(trouble: troubles.Trouble, at: datetime) -> dict[str, Any]:
    return {
        "name": trouble.tenant.name,
        "url": reverse("admin:dashboard", args=[trouble.tenant.name]),
        "dead": so_far(trouble.dead, troubles.MOST) if trouble.dead else "",
        "dead_url": _list("eventing_outboxevent", trouble.tenant, status="dead"),
        "retried": so_far(trouble.retried, troubles.MOST) if trouble.retried else "",
        "paused": trouble.paused,
        "oldest": age(trouble.oldest, at) if trouble.oldest else "",
    }


def _list(model: str, tenant: Tenant, **query: str) -> str:
    return f"{reverse(f'admin:{model}_changelist')}?{urlencode({'tenant': tenant.name, **query})}"


def _sum(numbers: Sequence[int]) -> str:
    return f"{sum(numbers):,}" + ("+" if any(number >= dashboards.MOST for number in numbers) else "")


def so_far(number: int, most: int) -> str:
    """A number that was counted up to `most`."""
    return f"{number:,}+" if number >= most else f"{number:,}"


def seconds(number: float) -> str:
    """Seconds, as short as they are told: 84 ms, 1.2 s, 3 min."""
    if number < 1:
        return f"{number * 1000:.0f}\u00a0ms"
    return f"{number:.1f}\u00a0s" if number < 60 else _long(number)


def age(since: datetime, at: datetime) -> str:
    """For how long something has been so: 12 s, 3 min, 5 h, 2 days."""
    passed = max(0.0, (at - since.astimezone(UTC)).total_seconds())
    return f"{passed:.0f}\u00a0s" if passed < 60 else _long(passed)


def _long(number: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if number >= size * (2 if size == 86_400 else 1):
            return f"{number / size:.0f}\u00a0{unit}"
    return f"{number:.0f}\u00a0s"


def register() -> None:
    """Give the pages their places in the admin."""
    from eventing import live_tail

    Site.more_pages += [
        ("dashboard/<str:name>/", dashboard, "dashboard"),
        ("live/<str:name>/", live_tail.page, "live_tail"),
        ("live/<str:name>/events/", live_tail.events, "live_tail_events"),
    ]
