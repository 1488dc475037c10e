"""The admin of buses, part of it on the tenant's page. Those of rules and of deliveries are beside it."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import CharField
from django.forms.formsets import DELETION_FIELD_NAME
from unfold import admin as unfold_admin
from unfold.widgets import UnfoldAdminTextInputWidget

from blockforger.backend import admin as backend_admin
from eventing import (
    admin_dashboard,
    admin_deliveries,
    admin_explain,
    admin_files,
    admin_inbox,
    admin_rule_changes,
    admin_rules,
    rule_checks,
    tenant_files,
)
from eventing.models import AllowedBus, EventBus, FeedbackBus, Lane, OutboxEvent, OutputRule
from tenants.admin import TenantAdmin
from tenants.admin_scope import OperatorsOnly, Scoped
from tenants.fresh_forms import FreshForm
from tenants.members import NOBODY, OPERATORS
from tenants.models import Tenant

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from blockforger.backend.json_values import JsonObject

# They add their pages themselves.
__all__ = ["admin_deliveries", "admin_explain", "admin_files", "admin_inbox", "admin_rule_changes", "admin_rules"]

WIDE_TEXT = UnfoldAdminTextInputWidget(attrs={"class": "vLargeTextField"})


class AllowedBusFormSet(forms.BaseInlineFormSet):
    """The operators' limit. It allows the buses that rules name already."""

    def clean(self) -> None:
        super().clean()
        if not self.instance.pk or not self.has_changed():
            return
        patterns = [form.cleaned_data["arn_pattern"] for form in self.forms if _is_kept(form)]
        named = OutputRule.objects.filter(tenant=self.instance).values_list("eventbridge_arn", flat=True)
        if refused := sorted({arn for arn in named if not rule_checks.is_allowed(arn, patterns)}):
            raise ValidationError(f"Output rules name {', '.join(refused)}. Allow it too, or change those rules first.")


class AllowedBusInline(Scoped, unfold_admin.TabularInline):
    """The operators' limit: whoever is bound by it sees it, and does not widen it."""

    model = AllowedBus
    form = FreshForm
    formset = AllowedBusFormSet
    may_add = may_change = may_delete = OPERATORS
    formfield_overrides = {CharField: {"widget": WIDE_TEXT}}
    extra = 0


_AllowedBusFormSet = forms.inlineformset_factory(Tenant, AllowedBus, fields=["arn_pattern"])


class FeedbackBusFormSet(forms.BaseInlineFormSet):
    """The bus for feedback, checked as the rules' are."""

    def clean(self) -> None:
        super().clean()
        for form in filter(_is_kept, self.forms):
            arn = form.instance.eventbridge_arn
            for problem in rule_checks.problems_of_arn(arn, _patterns_on_page(self)):
                form.add_error("eventbridge_arn", problem)


class FeedbackBusInline(Scoped, unfold_admin.TabularInline):
    model = FeedbackBus
    form = FreshForm
    formset = FeedbackBusFormSet
    formfield_overrides = {CharField: {"widget": WIDE_TEXT}}
    extra = 0


@admin.register(EventBus)
class EventBusAdmin(OperatorsOnly, unfold_admin.ModelAdmin):
    may_add = may_change = may_delete = NOBODY
    list_display = ["arn", "paused_until", "refusals", "failures", "pause_reason", "verified_at", "verification_note"]
    search_fields = ["arn"]
    ordering = ["arn"]
    actions = ["resume"]

    @admin.action(description="Resume now: try the bus with one event", permissions=["view"])
    def resume(self, request: HttpRequest, queryset: QuerySet[EventBus]) -> None:
        for bus in queryset:
            self.log_change(request, bus, "Resumed.")
        # Its refusals stay until it takes an event: with them it gets one event, and no full batch.
        resumed = queryset.update(paused_until=None)
        self.message_user(request, f"Buses resumed: {resumed}. The next sweep tries each with one event.")


@admin.register(Lane)
class LaneAdmin(OperatorsOnly, unfold_admin.ModelAdmin):
    may_add = may_change = may_delete = NOBODY
    list_display = ["id", "fence", "leased_until", "holder"]


class SchemaForm(backend_admin.SchemaForm):
    def clean_meta(self) -> JsonObject:
        meta = super().clean_meta()
        if tenant_files.OUTPUT in meta:
            raise ValidationError(
                f"Leave '{tenant_files.OUTPUT}' out, and add the rules on the tenant's page, with this schema chosen."
            )
        return meta


backend_admin.SchemaAdmin.form = SchemaForm
TenantAdmin.inlines = [*TenantAdmin.inlines, FeedbackBusInline, AllowedBusInline]
TenantAdmin.linked += [OutboxEvent]
TenantAdmin.linked_pages += [("admin:dashboard", "dashboard"), ("admin:live_tail", "live")]
admin_dashboard.register()


def _patterns_on_page(formset: forms.BaseInlineFormSet) -> list[str]:
    """The tenant's allowed buses as the page that is sent makes them."""
    buses = _AllowedBusFormSet(formset.data, instance=formset.instance)
    return [form.cleaned_data["arn_pattern"] for form in buses if _is_kept(form)]


def _is_kept(form: forms.ModelForm) -> bool:
    return form.is_valid() and bool(form.cleaned_data) and not form.cleaned_data.get(DELETION_FIELD_NAME)
