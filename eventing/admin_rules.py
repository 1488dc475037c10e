"""The admin of output rules: a tenant's lists in their order, and a rule beside the event that it sends."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"
# ruff: noqa: ARG002

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F
from django.http import Http404, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.views.decorators.http import require_POST

from blockforger.backend import json_values
from blockforger.backend.json_values import NotPortable
from eventing import rule_checks, rule_documents, rule_edits, rule_forms, rule_lists, rule_overviews, rule_previews
from eventing.admin_rule_changes import history_page
from eventing.models import AllowedBus, OutputRule
from eventing.rule_forms import RuleForm
from eventing.rule_lists import OrderOutdated
from eventing.rule_previews import Wish
from tenants.admin import TenantAdmin
from tenants.admin_scope import ModelAdmin, TenantFilter, access_of, tenant_named
from tenants.members import MANAGERS
from tenants.models import Tenant

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.forms import ModelForm
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern
    from django.utils.safestring import SafeString

    from blockforger.backend.json_values import JsonObject
    from tenants.members import Access

OUTDATED = (
    "Somebody else has changed these rules since you opened the page. Here they are as they are now: move the rule"
    " again if you still want to."
)

_FOR = ("operations", "schema_names")
_PAYLOAD = "What of the payload is sent"
# By heading: the fields of the form.
FIELDSETS: tuple[Any, ...] = (
    ("What it is for", {"fields": ("enabled", *_FOR)}),
    ("Where it sends to", {"fields": ("eventbridge_arn", "source", "detail_type")}),
    ("Conditions", {"fields": ("filter", "on_change")}),
    (_PAYLOAD, {"fields": ("keep", "drop", "mask", "seen")}),
)
FIELDSETS_TO_ADD = (("What it is for", {"fields": ("enabled", "schema", *_FOR)}), *FIELDSETS[1:])
# Who may not change them sees the columns.
FIELDSETS_SHOWN = (*FIELDSETS[:3], (_PAYLOAD, {"fields": ("fields",)}))


@admin.register(OutputRule)
class OutputRuleAdmin(ModelAdmin):
    form = RuleForm
    change_form_template = "admin/rules/change_form.html"
    change_list_template = "admin/rules/change_list.html"
    show_add_link = False  # a rule is added to its tenant's list
    compressed_fields = False
    empty_text = "A rule publishes each write that it matches to an event bus. Open a tenant to add its first one."
    list_before_template = "admin/rules/hint.html"
    list_display = ["title", "of_tenant", "schema", "enabled", "eventbridge_arn", "source", "detail_type"]
    list_filter = [TenantFilter, "enabled"]
    list_select_related = ["tenant", "schema"]
    search_fields = ["tenant__name", "eventbridge_arn"]
    # The databases differ on where empty values come.
    ordering = ("tenant__name", F("schema_id").asc(nulls_first=True), "position", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutputRule]:
        return super().get_queryset(request).defer("schema__document", "schema__meta")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("preview/", wrap(require_POST(self.preview)), name="eventing_outputrule_preview"),
            path("order/", wrap(require_POST(self.reorder)), name="eventing_outputrule_order"),
            path("<path:object_id>/switch/", wrap(require_POST(self.switch)), name="eventing_outputrule_switch"),
        ]
        return own + super().get_urls()

    # --- the list ----------------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """One tenant's rules in their order; of several, or found by a search, a list as others are."""
        context = dict(extra_context or {})
        tenant = self._tenant(request, access_of(request), self.may_view)
        if tenant and request.method == "GET" and request.GET.keys() <= {"tenant"}:
            context |= panel(request, tenant)
        return super().changelist_view(request, context)

    @admin.display(description="rule")
    def title(self, rule: OutputRule) -> str:
        own_schema = rule.schema.name if rule.schema else None
        return rule_overviews.title_of(rule_documents.of_row(rule), own_schema)

    @admin.display(description="tenant", ordering="tenant__name")
    def of_tenant(self, rule: OutputRule) -> SafeString:
        return format_html('<a class="underline" href="{}">{}</a>', url_of_list(rule.tenant), rule.tenant)

    def reorder(self, request: HttpRequest) -> HttpResponse:
        tenant = self._tenant_to_change(request, request.POST.get("tenant", ""))
        schema = None
        if number := _number(request.POST.get("schema", "")):
            schema = tenant.schemas.defer("document").filter(pk=number).first()
        seen, wanted = (_numbers(request.POST.get(name, "")) for name in ("seen", "wanted"))
        try:
            rule_lists.reorder(tenant, schema=schema, seen=seen, wanted=wanted, who=_who(request))
        except OrderOutdated:
            return _lists(request, tenant, problem=OUTDATED)
        return _lists(request, tenant, message="The order is saved.")

    def switch(self, request: HttpRequest, object_id: str) -> HttpResponse:
        on = request.POST.get("on") == "true"
        with transaction.atomic():
            rule = self._rule(request, object_id)
            self.check_row(request, rule, self.may_change)
            rule_lists.lock(rule.tenant_id)
            rule = self._rule(request, object_id)  # as it is by now
            rule_edits.switch(rule, on=on, who=_who(request))
        state = "on" if on else "off: it sends nothing, and keeps its place"
        return _lists(request, rule.tenant, message=f"The rule is {state}.")

    # --- a rule ------------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        if self._tenant(request, access_of(request), self.may_add) is None:
            self.message_user(request, "Open the tenant that the rule is for, and add it there.", messages.INFO)
            return HttpResponseRedirect(reverse("admin:tenants_tenant_changelist"))
        return super().add_view(request, form_url, extra_context)

    def get_fieldsets(self, request: HttpRequest, obj: OutputRule | None = None) -> Any:
        if obj is None:
            return FIELDSETS_TO_ADD
        return FIELDSETS if self.has_change_permission(request, obj) else FIELDSETS_SHOWN

    def get_readonly_fields(self, request: HttpRequest, obj: OutputRule | None = None) -> tuple[str, ...]:
        return ("schema",) if obj else ()  # told at the head of its page

    def get_form(self, request: HttpRequest, obj: OutputRule | None = None, **kwargs: Any) -> type[ModelForm]:
        form: Any = super().get_form(request, obj, **kwargs)
        form.tenant = obj.tenant if obj else self._tenant(request, access_of(request), self.may_add)
        if obj is None and form.tenant and request.method == "POST" and transaction.get_connection().in_atomic_block:
            rule_lists.lock(form.tenant.pk)  # while it is saved, nobody adds another one
        form.like = None if obj else self._like(request, form.tenant)
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A new rule that is to be like another begins as that one."""
        like = self._like(request, self._tenant(request, access_of(request), self.may_add))
        return rule_forms.initial_of(like) if like else {}

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> OutputRule | None:
        """The rule; while it is saved, changes of its tenant's rules wait for each other."""
        rule: OutputRule | None = super().get_object(request, object_id, from_field)
        if rule and request.method == "POST" and transaction.get_connection().in_atomic_block:
            rule_lists.lock(rule.tenant_id)
            return self.get_queryset(request).select_related("tenant", "schema").filter(pk=rule.pk).first()
        return rule

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: OutputRule | None = None, **kwargs: Any
    ) -> HttpResponse:
        form: Any = context["adminform"].form
        tenant = form.instance.tenant
        query = {"rule": obj.pk} if obj else {"tenant": tenant.name}
        context |= {
            "tenant": tenant,
            "url_of_list": url_of_list(tenant),
            "url_of_preview": f"{reverse('admin:eventing_outputrule_preview')}?{urlencode(query)}",
            "buses": buses_of(tenant),
            "bus_list": rule_forms.BUSES,
            "show_save_and_add_another": False,
        }
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def save_model(self, request: HttpRequest, obj: OutputRule, form: Any, change: Any) -> None:
        self.check_row(request, obj, self.may_change if change else self.may_add)
        if change:
            rule_edits.change(obj, who=_who(request))
        else:
            rule_edits.add(obj, who=_who(request))

    def delete_model(self, request: HttpRequest, obj: OutputRule) -> None:
        rule_edits.remove(obj, who=_who(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[OutputRule]) -> None:
        for rule in queryset:
            rule_edits.remove(rule, who=_who(request))

    def response_post_save_add(self, request: HttpRequest, obj: OutputRule) -> HttpResponse:
        return HttpResponseRedirect(url_of_list(obj.tenant))

    response_post_save_change = response_post_save_add

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        rule = super().get_object(request, object_id)
        if rule is None:
            return super().history_view(request, object_id, extra_context)
        if not self.has_view_permission(request, rule):
            raise PermissionDenied
        return history_page(self, request, rule)

    def preview(self, request: HttpRequest) -> HttpResponse:
        """What the rule of a form would send. Nothing is saved; those who may not change rules ask of one as it is."""
        rule = None
        if "rule" in request.GET:
            rule = self._rule(request, request.GET["rule"])
            self.check_row(request, rule, self.may_view)
        else:
            self._tenant_to_change(request, request.GET.get("tenant", ""))
        errors: dict[str, list[str]] = {}
        draft = rule
        if rule is None or self.has_change_permission(request, rule):
            form = self.get_form(request, rule, change=rule is not None)(request.POST, instance=rule)
            errors = {name: list(map(str, found)) for name, found in form.errors.items()}
            draft = form.instance
        payload = _sample(request.POST.get("sample_payload", ""), errors)
        if errors or draft is None:
            return JsonResponse({"errors": errors})
        return JsonResponse(_preview(draft, request, payload))

    def _rule(self, request: HttpRequest, object_id: str) -> OutputRule:
        rule = self.get_queryset(request).select_related("tenant", "schema").filter(pk=_number(object_id)).first()
        if rule is None:
            raise Http404
        return rule

    def _like(self, request: HttpRequest, tenant: Tenant | None) -> OutputRule | None:
        """The rule of the tenant that a new one begins as."""
        number = _number(request.GET.get("like", ""))
        return self.get_queryset(request).filter(pk=number, tenant=tenant).first() if number and tenant else None

    def _tenant(self, request: HttpRequest, access: Access, who: frozenset[str]) -> Tenant | None:
        """The tenant that the URL names, or the only one in which the user may do that."""
        tenants = Tenant.objects.all() if access.is_operator else Tenant.objects.filter(pk__in=access.tenants(who))
        if "tenant" in request.GET:
            return tenants.filter(name=request.GET["tenant"].replace("\0", "")).first()
        found = [] if access.is_operator else list(tenants[:2])
        return found[0] if len(found) == 1 else None

    def _tenant_to_change(self, request: HttpRequest, name: str) -> Tenant:
        tenant = tenant_named(name)
        if tenant is None or not access_of(request).allows(self.may_change, tenant.pk):
            raise PermissionDenied
        return tenant


def url_of_list(tenant: Tenant) -> str:
    return f"{reverse('admin:eventing_outputrule_changelist')}?{urlencode({'tenant': tenant.name})}"


def panel(request: HttpRequest, tenant: Tenant) -> dict[str, Any]:
    """What the templates need to show a tenant's lists of rules."""
    return {
        "rules_of": tenant,
        "lists": rule_overviews.lists_of(tenant),
        "may_change_rules": access_of(request).allows(MANAGERS, tenant.pk),
    }


def buses_of(tenant: Tenant) -> list[tuple[str, str]]:
    """Buses that the tenant may name: those that it names already, is allowed by name, or gets by default.

    Each with a text that people know it by.
    """
    patterns = list(AllowedBus.objects.filter(tenant=tenant).values_list("arn_pattern", flat=True))
    named = OutputRule.objects.filter(tenant=tenant).order_by("eventbridge_arn").values_list("eventbridge_arn")
    found = [*(arn for (arn,) in named.distinct()), *patterns, settings.BLOCKFORGER_DEFAULT_BUS_ARN]
    allowed = [arn for arn in dict.fromkeys(found) if not rule_checks.problems_of_arn(arn, patterns)]
    return [(arn, _bus_text(arn)) for arn in allowed]


def _bus_text(arn: str) -> str:
    region, account, name = arn.split(":")[3:6]
    return f"{name.removeprefix('event-bus/')} ({region}, {account})"


def _lists(request: HttpRequest, tenant: Tenant, **said: str) -> JsonResponse:
    """The lists, drawn anew, and what is said of it: a message or a problem."""
    html = render_to_string("admin/rules/lists.html", panel(request, tenant), request=request)
    return JsonResponse({"html": html, **said}, status=409 if "problem" in said else 200)


def _preview(draft: OutputRule, request: HttpRequest, payload: JsonObject | None) -> dict[str, Any]:
    wish = Wish(
        schema=request.POST.get("sample_schema", ""),
        operation=request.POST.get("sample_operation", ""),
        key=request.POST.get("sample_key", ""),
        payload=payload,
    )
    found = rule_previews.of(draft, wish)
    shown = rule_overviews.of_draft(draft)
    return {
        **asdict(found),
        "errors": {},
        "title": shown.title,
        "warnings": shown.warnings,
        "notes": shown.notes,
        "entry": found.entry and _pretty(found.entry),
        "payload": _pretty(found.payload),
    }


def _sample(text: str, errors: dict[str, list[str]]) -> JsonObject | None:
    """The payload that was typed, if one was."""
    if not text.strip():
        return None
    with suppress(NotPortable):
        value = json_values.parse(text)
        if isinstance(value, dict):
            return value
    errors["sample_payload"] = ['Write a JSON object, such as {"id": "123"}.']
    return None


def _pretty(document: JsonObject) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def _who(request: HttpRequest) -> str:
    return request.user.get_username()


def _number(text: str) -> int:
    """The id that the text is; 0, which no row has, if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def _numbers(text: str) -> list[int]:
    return [_number(part) for part in text.split(",") if part]


TenantAdmin.linked += [OutputRule]
TenantAdmin.change_form_outer_after_template = "admin/rules/tenant.html"
