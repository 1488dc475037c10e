"""The admin of the history of rules: who changed what, and one click to bring back what was before."""

# Django's admin classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.http import Http404, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from eventing import rule_documents, rule_edits, rule_history, rule_overviews
from eventing.models import OutputRule, RuleChange
from eventing.rule_edits import EditRefused
from eventing.rule_history import Difference
from tenants.admin_scope import ModelAdmin, ReadOnly, TenantFilter, access_of, pretty_json
from tenants.members import MANAGERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern
    from django.utils.safestring import SafeString

    from blockforger.backend.json_values import JsonObject

MAX_SHOWN = 100
# Of so many orders of its list, those are found that moved a rule.
MAX_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class ShownChange:
    """An entry, as a page shows it."""

    entry: RuleChange
    differences: list[Difference]
    may_be_undone: bool

    @property
    def is_of_order(self) -> bool:
        return self.entry.rule_id is None

    @property
    def documents(self) -> list[tuple[str, SafeString]]:
        """What the rule said, whole."""
        said = [] if self.is_of_order else [("Before", self.entry.before), ("After", self.entry.after)]
        return [(when, pretty_json(json.dumps(document))) for when, document in said if document is not None]


@admin.register(RuleChange)
class RuleChangeAdmin(ReadOnly):
    change_form_template = "admin/rules/change.html"
    empty_text = "Each change of an output rule adds an entry here, whoever made it, and by whichever door."
    list_display = ["at", "tenant", "what", "about", "who"]
    list_filter = [TenantFilter, "what"]
    list_select_related = ["tenant"]
    fields = ("at", "tenant", "who", "what", "about")
    readonly_fields = ("about",)

    def get_urls(self) -> list[URLPattern]:
        restore = self.admin_site.admin_view(require_POST(self.restore))
        own = path("<path:object_id>/restore/", restore, name="eventing_rulechange_restore")
        return [own, *super().get_urls()]

    @admin.display(description="about")
    def about(self, entry: RuleChange) -> str:
        """What the rule said, or whose order it is."""
        if entry.rule_id is None:
            return f"The order of the rules of {f'schema {entry.schema_name}' if entry.schema_name else 'the tenant'}"
        return _title(entry.after or entry.before, entry.schema_name)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: RuleChange, **kwargs: Any
    ) -> HttpResponse:
        rows = OutputRule.objects.filter(tenant=obj.tenant_id).select_related("schema")
        rules = {rule.pk: rule for rule in rows.defer("schema__document", "schema__meta")}
        may = access_of(request).allows(MANAGERS, obj.tenant_id)
        context["change_shown"] = shown(obj, rules, may_restore=may)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def restore(self, request: HttpRequest, object_id: str) -> HttpResponse:
        entry: RuleChange | None = self.get_object(request, object_id)
        if entry is None:
            raise Http404
        self.check_row(request, entry, MANAGERS)
        try:
            rule = rule_edits.restore(entry, who=request.user.get_username())
        except EditRefused as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:eventing_rulechange_change", args=[entry.pk]))
        if rule is None:
            self.message_user(request, "The order is as it was before.", messages.SUCCESS)
            url = f"{reverse('admin:eventing_outputrule_changelist')}?tenant={entry.tenant.name}"
            return HttpResponseRedirect(url)
        self.message_user(request, "The rule says again what it said before.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:eventing_outputrule_history", args=[rule.pk]))


def history_page(model_admin: ModelAdmin, request: HttpRequest, rule: OutputRule) -> TemplateResponse:
    """All that became of a rule, the newest first."""
    found = RuleChange.objects.filter(tenant=rule.tenant_id)
    own = found.filter(rule_id=rule.pk)[:MAX_SHOWN]
    orders = found.filter(rule_id=None, schema_name=rule.schema.name if rule.schema else "")[:MAX_LOOKED_AT]
    moved = [entry for entry in orders if rule.pk in {pk for pk, *_ in rule_history.moves(entry)}]
    entries = sorted([*own, *moved], key=lambda entry: -entry.pk)[:MAX_SHOWN]
    may = access_of(request).allows(MANAGERS, rule.tenant_id)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "History of a rule",
        "subtitle": None,
        "opts": model_admin.opts,
        "rule": rule,
        "rule_title": _title(
            rule_documents.written(rule_documents.of_row(rule)), rule.schema.name if rule.schema else None
        ),
        "changes": [shown(entry, {rule.pk: rule}, may_restore=may) for entry in entries],
    }
    return TemplateResponse(request, "admin/rules/history.html", context)


def shown(entry: RuleChange, rules: Mapping[int, OutputRule], *, may_restore: bool) -> ShownChange:
    """The entry, telling of an order where those rules were and are."""
    if entry.rule_id is not None:
        differences = rule_history.differences(entry.before, entry.after)
    else:
        differences = [
            Difference(_title_of_row(rules[pk]), was, is_now)
            for pk, was, is_now in rule_history.moves(entry)
            if pk in rules
        ]
    return ShownChange(entry, differences, may_be_undone=may_restore and entry.before is not None)


def _title(said: JsonObject | None, own_schema: str | None) -> str:
    document: Any = rule_documents.members_of(said or {})
    return rule_overviews.title_of(document, own_schema or None)


def _title_of_row(rule: OutputRule) -> str:
    return rule_overviews.title_of(rule_documents.of_row(rule), rule.schema.name if rule.schema else None)
