"""Output rules: which of them a write matches, in which order; and the cache that makes asking cheap.

The cache holds what else a tenant configures about its events, too: everything that is valid for one version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import F
from django.db.models.signals import post_delete, post_save

from blockforger.backend import item_paths
from blockforger.backend.items import EVENT_OVERHEAD
from eventing import patterns, rule_checks
from eventing.models import AllowedBus, FeedbackBus, OutputRule
from eventing.projections import Projection, has_changed
from tenants.models import Tenant

if TYPE_CHECKING:
    from blockforger.backend.item_paths import Names
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import Schema
    from eventing.patterns import Pattern, Unmet

_CACHED_TENANTS = 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """An output rule as it was read: it cannot change, so that it can be shared."""

    pk: int
    # None for a rule of the tenant.
    schema_id: int | None
    eventbridge_arn: str
    source: str
    detail_type: str
    # Empty: all.
    operations: tuple[str, ...]
    schema_names: tuple[str, ...]
    enabled: bool = True
    filter: Pattern | None = None
    # Paths, of which one must have changed. Empty: a change of none is asked for.
    on_change: tuple[Names, ...] = ()
    projection: Projection | None = None

    @classmethod
    def of(cls, row: OutputRule) -> Rule:
        return cls(
            pk=row.pk,
            schema_id=row.schema_id,
            eventbridge_arn=row.eventbridge_arn,
            source=row.source,
            detail_type=row.detail_type,
            operations=tuple(row.operations),
            schema_names=tuple(rule_checks.schema_name_of(name) for name in row.schema_names),
            enabled=row.enabled,
            filter=patterns.compiled(row.filter) if row.filter is not None else None,
            on_change=tuple(map(item_paths.parsed, row.on_change)),
            projection=Projection.of(row.fields) if row.fields else None,
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """A tenant's rules, its own and then its schemas', each in order; and the bus that it wants feedback on."""

    rules: tuple[Rule, ...]
    feedback_bus: str | None


def matching(
    tenant: Tenant,
    schema: Schema,
    operation: str,
    *,
    before: JsonObject | None = None,
    after: JsonObject | None = None,
) -> list[Rule]:
    """The rules that ask for an event of such a write, in the order in which their events go out.

    The tenant's rules come first, by position, then the schema's own. Costs two queries when the tenant's
    configuration has changed since this process last asked, and none otherwise.
    """
    rules = of_tenant(tenant)
    return [rule for rule in rules if mismatch(rule, schema, operation, before=before, after=after) is None]


def of_tenant(tenant: Tenant) -> tuple[Rule, ...]:
    """All rules of a tenant as of its `configuration_version`: its own, then its schemas', each in order."""
    return _configuration(tenant.pk, tenant.configuration_version).rules


def find(tenant: Tenant, pk: int) -> Rule | None:
    """The tenant's rule with that id, be it of a schema or its own."""
    return next((rule for rule in of_tenant(tenant) if rule.pk == pk), None)


def feedback_bus_of(tenant: Tenant) -> str | None:
    """The ARN of the bus on which the tenant wants feedback, if it does. As cheap as its rules."""
    return _configuration(tenant.pk, tenant.configuration_version).feedback_bus


def mismatch(
    rule: Rule, schema: Schema, operation: str, *, before: JsonObject | None = None, after: JsonObject | None = None
) -> str | Unmet | None:
    """Why the rule does not match such a write, as a text or what becomes one; None if it does.

    `before` and `after` are the item as it was and as it is; None where there was or is none. A filter looks at the
    item as it is, or as it was where it is gone (docs/decisions/0014).
    """
    if not rule.enabled:
        return "it is disabled"
    if rule.schema_id not in (None, schema.pk):
        return "it is of another schema"
    if rule.operations and operation not in rule.operations:
        return f"it is for {', '.join(rule.operations)} only"
    if rule.schema_names and schema.name not in rule.schema_names:
        return f"it is for {', '.join(rule.schema_names)} only"
    if rule.on_change and not any(has_changed(path, before, after) for path in rule.on_change):
        return f"nothing has changed in {', '.join(map(item_paths.written, rule.on_change))}"
    if rule.filter is None:
        return None
    return rule.filter.unmet((before if after is None else after) or {})


def may_match(rule: Rule, schema: Schema, operation: str) -> bool:
    """Whether the rule matches writes of that kind: all of them, unless it has conditions on the item."""
    return mismatch(replace(rule, filter=None, on_change=()), schema, operation) is None


def payload_of(rule: Rule, schema: Schema, payload: JsonObject) -> JsonObject:
    """What the rule sends of a payload."""
    if rule.projection is None:
        return payload
    limit = settings.BLOCKFORGER_MAX_EVENT_BYTES - EVENT_OVERHEAD
    return rule.projection.of_payload(payload, schema.key_field, max_bytes=limit)


def detail_type_of(rule: Rule, schema_name: str, operation: str) -> str:
    """The detail-type of the rule's event for such a write."""
    return rule_checks.rendered(rule.detail_type, schema_name=schema_name, operation=operation)


def problems_by_field(rule: OutputRule) -> dict[str, list[str]]:
    """What is wrong with a rule, by field; empty if nothing is."""
    problems = rule_checks.problems_of(
        {column: getattr(rule, column) for column in rule_checks.COLUMNS},
        own_schema=rule.schema.name if rule.schema else None,
        tenant_patterns=_patterns_of(rule.tenant_id),
    )
    if rule.schema and rule.schema.tenant_id != rule.tenant_id:
        problems["schema"] = ["The schema is another tenant's. Choose one of the rule's own tenant."]
    return problems


def problems_of_bus(arn: str, tenant_id: int) -> list[str]:
    """What is wrong with a bus that a tenant names; empty if nothing is."""
    return rule_checks.problems_of_arn(arn, _patterns_of(tenant_id))


def connect() -> None:
    """Keep the cache current: what of it is saved or deleted starts a new configuration of its tenant."""
    for signal in (post_save, post_delete):
        for model in (OutputRule, FeedbackBus):
            signal.connect(_note_change, sender=model, dispatch_uid="eventing.rules")


def changed(tenant_id: int) -> None:
    """Start a new configuration of the tenant. To be called after bulk changes, which send no signals."""
    Tenant.objects.filter(pk=tenant_id).update(configuration_version=F("configuration_version") + 1)


def clear_cache() -> None:
    """Forget everything. For tests, whose transactions do not commit."""
    _configuration.cache_clear()


@lru_cache(maxsize=_CACHED_TENANTS)
def _configuration(tenant_id: int, _version: int) -> Configuration:
    # A version that is not yet, or no longer, the current one does no harm: what is cached and version change in one
    # transaction, so what is read under a version is never older than it.
    rows = OutputRule.objects.filter(tenant_id=tenant_id)
    ordered = rows.order_by(F("schema_id").asc(nulls_first=True), "position", "id")
    feedback_bus = FeedbackBus.objects.filter(tenant_id=tenant_id).values_list("eventbridge_arn", flat=True).first()
    return Configuration(tuple(Rule.of(row) for row in ordered), feedback_bus)


def _patterns_of(tenant_id: int) -> list[str]:
    return list(AllowedBus.objects.filter(tenant_id=tenant_id).values_list("arn_pattern", flat=True))


def _note_change(instance: OutputRule | FeedbackBus, **_: object) -> None:
    changed(instance.tenant_id)
