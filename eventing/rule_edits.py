"""Edits of single rules, as people make them: one transaction each, told in the history with who made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Max

from eventing import rule_checks, rule_documents, rule_history, rule_lists
from eventing.models import AllowedBus, OutputRule, RuleChange

if TYPE_CHECKING:
    from blockforger.backend.models import Schema
    from eventing.rule_documents import RuleDocument
    from tenants.models import Tenant

What = RuleChange.What


class EditRefused(Exception):
    """The rule cannot be added, or be what it was before; the message says why, and what to do."""


def add(row: OutputRule, *, who: str, what: What = What.ADDED) -> None:
    """Save a new rule, as the last of its list. Raises EditRefused."""
    with transaction.atomic():
        tenant = rule_lists.lock(row.tenant_id)
        if problem := problem_of_adding(tenant):
            raise EditRefused(problem)
        last = OutputRule.objects.filter(tenant=tenant, schema=row.schema).aggregate(last=Max("position"))["last"]
        row.position = 0 if last is None else last + 1
        row.save(force_insert=True)
        rule_history.added([row], who=who, what=what)


def problem_of_adding(tenant: Tenant) -> str | None:
    """Why the tenant may have no further rule, if it may not."""
    return rule_checks.problem_of_number(tenant.output_rules.count() + 1)


def change(row: OutputRule, *, who: str, what: What = What.CHANGED) -> None:
    """Save what a rule says, if it says something else. Its place, which others may change meanwhile, stays."""
    with transaction.atomic():
        rule_lists.lock(row.tenant_id)
        stored = OutputRule.objects.select_related("schema").get(pk=row.pk)
        if rule_documents.of_row(stored) == rule_documents.of_row(row):
            return
        row.save(update_fields=rule_checks.COLUMNS)
        rule_history.changed(stored, row, who=who, what=what)


def switch(row: OutputRule, *, on: bool, who: str) -> None:
    """Let a rule rest, or work again."""
    row.enabled = on
    change(row, who=who)


def remove(row: OutputRule, *, who: str) -> None:
    """Delete a rule, if it is still there."""
    with transaction.atomic():
        rule_lists.lock(row.tenant_id)
        stored = OutputRule.objects.select_related("schema").filter(pk=row.pk).first()
        if stored is not None:
            rule_history.removed([stored], who=who)
            stored.delete()


def restore(entry: RuleChange, *, who: str) -> OutputRule | None:
    """Bring back what was before the change. Gives the rule, or None of an order. Raises EditRefused."""
    with transaction.atomic():
        rule_lists.lock(entry.tenant_id)
        if entry.what == What.MOVED:
            _restore_order(entry, who)
            return None
        document = _restorable(entry)
        row = OutputRule.objects.filter(tenant=entry.tenant_id, pk=entry.rule_id or 0).first()
        if row is None:
            # The rule that it was: restored again, it is not a second one.
            row = OutputRule(pk=entry.rule_id, tenant_id=entry.tenant_id, schema=_schema_of(entry), **document)
            add(row, who=who, what=What.RESTORED)
        else:
            for column in rule_checks.COLUMNS:
                setattr(row, column, document[column])  # type: ignore[literal-required]
            change(row, who=who, what=What.RESTORED)
        return row


def _restorable(entry: RuleChange) -> RuleDocument:
    """What the rule said before, if that may be said today."""
    if entry.before is None:
        raise EditRefused("There was no rule before. Remove it, or switch it off.")
    patterns = list(AllowedBus.objects.filter(tenant=entry.tenant_id).values_list("arn_pattern", flat=True))
    own_schema = entry.schema_name or None
    documents, problems = rule_documents.read([entry.before], own_schema=own_schema, tenant_patterns=patterns)
    if problems:
        raise EditRefused(" ".join(message for _, message in problems))
    return documents[0]


def _restore_order(entry: RuleChange, who: str) -> None:
    """The rules that are still there as they were then, and those that came later after them."""
    schema = _schema_of(entry)
    rows = OutputRule.objects.filter(tenant=entry.tenant_id, schema=schema).order_by("position", "id")
    seen = [row.pk for row in rows]
    then: list[int] = entry.before or []
    wanted = sorted(seen, key=lambda pk: then.index(pk) if pk in then else len(then))
    rule_lists.reorder(entry.tenant, schema=schema, seen=seen, wanted=wanted, who=who)


def _schema_of(entry: RuleChange) -> Schema | None:
    if not entry.schema_name:
        return None
    schema = entry.tenant.schemas.filter(name=entry.schema_name).first()
    if schema is None:
        raise EditRefused(f"The tenant has no schema '{entry.schema_name}' any more. Make it first, then restore.")
    return schema
