"""How a new tenant gets from nothing to its first event: which steps are done, and what to do next.

What is done is read from the data, so a step that was taken over REST or by a file is ticked, too.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from blockforger.backend import example_payloads
from blockforger.backend.deeds import COST
from blockforger.backend.models import Method, Schema
from eventing.models import EventBus, OutboxEvent, OutboxStatus
from tenants.models import Permission, TokenAccount

if TYPE_CHECKING:
    from eventing.models import OutputRule
    from tenants.models import ApiKey, Tenant

# Of so many of the newest events, one that was delivered is looked for.
_LOOK = 100
_MOST_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the way. Only the first that is not done says what to do."""

    title: str
    is_done: bool
    text: str = ""
    # Where it is done: address and label.
    link: tuple[str, str] | None = None
    # Whether it takes a role that may change the configuration.
    is_for_managers: bool = True
    command: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a tenant has of all that its first event takes."""

    tenant: Tenant
    schema: Schema | None
    key: ApiKey | None
    rule: OutputRule | None
    has_tokens: bool
    has_written: bool
    # The newest event, and whether one of the newest has arrived.
    event: OutboxEvent | None
    has_arrived: bool

    @property
    def is_complete(self) -> bool:
        return bool(self.schema and self.key and self.rule) and self.has_written and self.has_arrived


def of(tenant: Tenant) -> Progress:
    """How far the tenant has come."""
    rule = _rule(tenant)
    account = TokenAccount.objects.filter(pk=tenant.pk).first()
    newest = list(OutboxEvent.objects.filter(tenant=tenant).order_by("-pk").defer("detail")[:_LOOK])
    has_written = account is not None and account.sequence > 0
    arrived = any(event.delivered_at for event in newest) or (has_written and not newest and _is_old(tenant))
    return Progress(
        tenant=tenant,
        schema=_schema(tenant, rule),
        key=_key(tenant),
        rule=rule,
        has_tokens=account is not None and account.balance >= COST,
        has_written=has_written,
        event=newest[0] if newest else None,
        has_arrived=arrived,
    )


def steps(progress: Progress) -> list[Step]:
    """The way, in its order; empty when it is behind."""
    if progress.is_complete:
        return []
    way = [_schema_step, _key_step, _rule_step, _request_step, _event_step]
    found = [make(progress) for make in way]
    following = next((step for step in found if not step.is_done), None)
    return [step if step is following else Step(step.title, step.is_done) for step in found]


def _schema_step(progress: Progress) -> Step:
    tenant = progress.tenant
    return Step(
        "Make a schema",
        progress.schema is not None,
        "It says what your items look like. They are then served at "
        f"{_site()}/api/{tenant.name}/ and the schema's name.",
        (f"{reverse('admin:backend_schema_add')}?tenant={tenant.pk}", "Add a schema"),
    )


def _key_step(progress: Progress) -> Step:
    link = f"{reverse('admin:tenants_apikey_add')}?tenant={progress.tenant.pk}&permissions={Permission.BACKEND_CALLS}"
    return Step(
        "Make an API key",
        progress.key is not None,
        "Whoever calls the API needs one with the permission to call the backend API. It is shown once: keep it.",
        (link, "Add an API key"),
    )


def _rule_step(progress: Progress) -> Step:
    return Step(
        "Make an output rule",
        progress.rule is not None,
        "It names the event bus to which writes are published. Without one, nothing goes out.",
        (f"{reverse('admin:eventing_outputrule_add')}?tenant={progress.tenant.name}", "Add an output rule"),
    )


def _request_step(progress: Progress) -> Step:
    title, schema = "Send the first request", progress.schema
    if progress.has_written or schema is None:
        return Step(title, progress.has_written)
    if not progress.has_tokens:
        return Step(
            title,
            is_done=False,
            text=f"A request costs {COST} tokens, and there are none: ask the platform's operator to add some.",
        )
    payload, fits = example_payloads.of(schema)
    name = f" ({progress.key.prefix}…)" if progress.key else ""
    text = f"In a terminal. Put the key{name} in the place of …; it was shown when it was made."
    if not fits:
        text += " The payload is a guess from the schema: mend what the answer names."
    return Step(title, is_done=False, text=text, command=first_request(progress.tenant, schema, payload))


def first_request(tenant: Tenant, schema: Schema, payload: object) -> str:
    """A command to paste that makes an item."""
    body = shlex.quote(json.dumps(payload, ensure_ascii=False))
    url = shlex.quote(f"{_site()}/api/{tenant.name}/{schema.name}")
    return f"KEY='…'\ncurl -i {url} \\\n  -H \"X-API-Key: $KEY\" -H 'Content-Type: application/json' \\\n  -d {body}"


def _event_step(progress: Progress) -> Step:
    title = "See the first event arrive"
    if progress.has_arrived:
        return Step(title, is_done=True)
    live = (reverse("admin:live_tail", args=[progress.tenant.name]), "Watch events as they pass")
    return Step(title, is_done=False, text=_why_not_yet(progress), link=live, is_for_managers=False)


def _why_not_yet(progress: Progress) -> str:
    event = progress.event
    if event is None:
        return (
            "The write matched no rule, or was made before there was one. Look at the rule's operations and schemas,"
            " then write once more."
        )
    bus = EventBus.objects.filter(arn=event.bus_arn).first()
    if event.status == OutboxStatus.DEAD:
        return f"The event for {event.bus_arn} is dead: {event.error_code} {event.error_message}".strip()
    if bus and bus.paused_until and bus.paused_until > timezone.now():
        return f"Nothing is sent to {event.bus_arn} now: {bus.pause_reason}"
    if event.error_code:
        return f"{event.bus_arn} has not taken it yet: {event.error_code} {event.error_message}".strip()
    return f"The event is on its way to {event.bus_arn}. If it stays so, ask the operator whether a publisher runs."


def _schema(tenant: Tenant, rule: OutputRule | None) -> Schema | None:
    """A schema that the rule is for; else any."""
    schemas = Schema.objects.filter(tenant=tenant).order_by("pk")
    meant = Q(pk=rule.schema_id) | Q(name__in=rule.schema_names) if rule else Q()
    return schemas.filter(meant).first() or schemas.first()


def _key(tenant: Tenant) -> ApiKey | None:
    now = timezone.now()
    keys = tenant.api_keys.filter(is_active=True).order_by("-pk")[:_MOST_LOOKED_AT]
    return next((key for key in keys if key.is_valid(at=now) and key.allows(Permission.BACKEND_CALLS)), None)


def _rule(tenant: Tenant) -> OutputRule | None:
    """A rule that is on; rather one that publishes what is made."""
    rules = list(tenant.output_rules.filter(enabled=True)[:_MOST_LOOKED_AT])
    return next(
        (rule for rule in rules if not rule.operations or Method.POST in rule.operations), next(iter(rules), None)
    )


def _is_old(tenant: Tenant) -> bool:
    """Whether what was delivered may have had its time."""
    return tenant.created_at < timezone.now() - timedelta(days=settings.BLOCKFORGER_KEEP_OUTBOX_DAYS)


def _site() -> str:
    return str(settings.SITE_URL.geturl()).rstrip("/")
