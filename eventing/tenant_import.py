"""Importing tenants' files: a plan first, and then all of it or nothing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction

from blockforger.backend import deadlocks, schema_changes, schema_keys
from blockforger.backend.models import Schema
from eventing import rule_checks, rule_lists, rule_warnings, rules, tenant_files
from eventing.file_problems import Problem
from eventing.models import AllowedBus, FeedbackBus, OutputRule
from eventing.tenant_plans import Stored, TenantPlan
from tenants.models import Tenant, TokenAccount

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from django.db.models import QuerySet

    from eventing.rule_warnings import Warned
    from eventing.tenant_files import File, Folder, TenantDocument
    from eventing.tenant_plans import SchemaPlan


class ImportRefused(Exception):
    """The files have problems, and nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class PlanOutdated(Exception):
    """What was planned is not what would be done now, and nothing was changed."""


def plan(paths: Iterable[Path]) -> list[TenantPlan]:
    """What an import of the paths would do, by tenant. Raises ImportRefused."""
    return plan_of(*tenant_files.find(paths))


def plan_of(folders: Sequence[Folder[File]], problems: Sequence[Problem] = ()) -> list[TenantPlan]:
    """The same of files that are found already, and of what was wrong in finding them."""
    return _plans(_documents(folders, problems), Tenant.objects.all(), Schema.objects.all())


def carry_out(paths: Iterable[Path], *, who: str = "import_tenant_properties") -> list[TenantPlan]:
    """Import the files, all of them or none. Returns what was done, by tenant. Raises ImportRefused.

    `who` is told in the history of the rules.
    """
    return _carry_out(_documents(*tenant_files.find(paths)), None, who)


def carry_out_planned(folders: Sequence[Folder[File]], fingerprint: str, *, who: str) -> list[TenantPlan]:
    """The same, if plans with that fingerprint are what is done. Raises ImportRefused and PlanOutdated."""
    return _carry_out(_documents(folders, ()), fingerprint, who)


def fingerprint_of(plans: Iterable[TenantPlan]) -> str:
    """Another one as soon as a file says something else, or something else is stored of their tenants."""
    return hashlib.sha256("\n".join(tenant_plan.text for tenant_plan in plans).encode()).hexdigest()


def further_warnings(tenant_plan: TenantPlan) -> list[Warned]:
    """What those may want to know who only ask: of rules that send the same, and of their buses."""
    listed = tenant_plan.listed_rules()
    return [
        *rule_warnings.of_pairs(listed, tenant_plan.paths()),
        *rule_warnings.of_buses(listed, rule_lists.buses_of(listed, tenant_plan.wanted.name)),
    ]


def _carry_out(documents: Sequence[TenantDocument], fingerprint: str | None, who: str) -> list[TenantPlan]:
    # Done again when a tenant of that name was made meanwhile.
    return deadlocks.retried(partial(_carry_out_once, documents, fingerprint, who))


def _carry_out_once(documents: Sequence[TenantDocument], fingerprint: str | None, who: str) -> list[TenantPlan]:
    with transaction.atomic(durable=True):
        # Imports, and changes of a tenant's rules and schemas, wait for each other here; writes of its items, which
        # refer to it, do not wait. A schema that changes locks its tenant afterwards (a trigger does), so we do, too.
        schemas = Schema.objects.select_for_update(of=("self",), no_key=True)
        plans = _plans(documents, Tenant.objects.select_for_update(no_key=True), schemas)
        if fingerprint is not None and fingerprint != fingerprint_of(plans):
            raise PlanOutdated
        for tenant_plan in plans:
            if not tenant_plan.is_empty:
                _apply(tenant_plan, who)
    return plans


def _documents(folders: Sequence[Folder[File]], found: Sequence[Problem]) -> list[TenantDocument]:
    patterns = defaultdict(list)
    names = [folder.tenant for folder in folders]
    for name, pattern in AllowedBus.objects.filter(tenant__name__in=names).values_list("tenant__name", "arn_pattern"):
        patterns[name].append(pattern)
    documents = [tenant_files.read(folder, tenant_patterns=patterns[folder.tenant]) for folder in folders]
    if problems := [*found, *(problem for document in documents for problem in document.problems)]:
        raise ImportRefused(problems)
    return documents


def _plans(
    documents: Sequence[TenantDocument], tenants: QuerySet[Tenant], schemas_of_all: QuerySet[Schema]
) -> list[TenantPlan]:
    names = [document.name for document in documents]
    schemas: dict[int, dict[str, Schema]] = defaultdict(dict)
    for schema in schemas_of_all.filter(tenant__name__in=names).order_by("name", "pk"):
        schemas[schema.tenant_id][schema.name] = schema
    by_name = {tenant.name: tenant for tenant in tenants.filter(name__in=names)}
    rows: dict[int, dict[int | None, list[OutputRule]]] = defaultdict(lambda: defaultdict(list))
    for row in OutputRule.objects.filter(tenant__in=by_name.values()).order_by("position", "id"):
        rows[row.tenant_id][row.schema_id].append(row)
    feedback_buses = dict(
        FeedbackBus.objects.filter(tenant__in=by_name.values()).values_list("tenant_id", "eventbridge_arn")
    )
    plans = []
    for document in documents:
        tenant = by_name.get(document.name)
        stored = None
        if tenant:
            stored = Stored(tenant, schemas[tenant.pk], rows[tenant.pk], feedback_buses.get(tenant.pk))
        plans.append(TenantPlan.of(document, stored))
    if problems := [
        problem for tenant_plan in plans for problem in [*_key_problems(tenant_plan), *_number_problems(tenant_plan)]
    ]:
        raise ImportRefused(problems)
    return plans


def _key_problems(tenant_plan: TenantPlan) -> Iterator[Problem]:
    for schema in tenant_plan.schemas:
        if schema.stored is None or "meta" not in schema.changed_parts:
            continue
        key_field = str(schema.wanted.meta.get("key", "id"))
        if message := schema_keys.problem_of_change(schema.stored, key_field):
            file = f"{tenant_plan.wanted.name}/{schema.wanted.name}.json"
            yield Problem(file, message, json_path="$.meta.key")


def _number_problems(tenant_plan: TenantPlan) -> Iterator[Problem]:
    """Told of the file that has most of the rules."""
    number = len(tenant_plan.listed_rules())
    if message := rule_checks.problem_of_number(number, before=tenant_plan.number_before):
        wanted = tenant_plan.wanted
        files = {tenant_files.PROPERTIES: len(wanted.rules)}
        files |= {f"{schema.name}{tenant_files.SCHEMA_SUFFIX}": len(schema.rules) for schema in wanted.schemas}
        yield Problem(f"{wanted.name}/{max(files, key=files.__getitem__)}", message)


def _apply(tenant_plan: TenantPlan, who: str) -> None:
    tenant = _apply_to_tenant(tenant_plan)
    if tenant_plan.changes_feedback:
        _apply_feedback(tenant_plan.wanted.feedback_bus, tenant)
    rule_lists.apply(tenant_plan.rules, tenant, schema=None, who=who)
    for schema_plan in tenant_plan.schemas:
        if schema_plan.lines:
            schema = _apply_to_schema(schema_plan, tenant)
            rule_lists.apply(schema_plan.rules, tenant, schema=schema, who=who)
    if tenant_plan.changes_rules:
        rules.changed(tenant.pk)


def _apply_to_tenant(tenant_plan: TenantPlan) -> Tenant:
    wanted, stored = tenant_plan.wanted, tenant_plan.stored
    tenant = stored.tenant if stored else Tenant(name=wanted.name)
    if tenant_plan.changes_tenant:
        tenant.accepts_events = wanted.accepts_events
        tenant.extra_properties = wanted.extra_properties
        tenant.save(update_fields=["accepts_events", "extra_properties"] if stored else None)
    if stored is None:
        TokenAccount.objects.create(tenant=tenant)
    return tenant


def _apply_feedback(bus_arn: str | None, tenant: Tenant) -> None:
    if bus_arn:
        FeedbackBus.objects.update_or_create(tenant=tenant, defaults={"eventbridge_arn": bus_arn})
    else:
        FeedbackBus.objects.filter(tenant=tenant).delete()


def _apply_to_schema(schema_plan: SchemaPlan, tenant: Tenant) -> Schema:
    wanted, schema = schema_plan.wanted, schema_plan.stored
    if schema and not schema_plan.changed_parts:
        return schema
    return schema_changes.store(
        schema or Schema(tenant=tenant, name=wanted.name), document=wanted.document, meta=wanted.meta
    )
