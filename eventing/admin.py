"""The admin of rules and buses, part of it on the tenant's page, and a view of the outbox."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import CharField, F
from django.forms.formsets import DELETION_FIELD_NAME
from django.utils.functional import cached_property
from unfold import admin as unfold_admin
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from blockforger.backend import admin as backend_admin
from blockforger.backend.models import WRITES, Schema
from eventing import admin_dashboard, rule_checks, rule_documents, tenant_files
from eventing.models import AllowedBus, EventBus, FeedbackBus, Lane, OutboxEvent, OutputRule, Replay
from tenants.admin import TenantAdmin
from tenants.admin_scope import BigTable, ModelAdmin, OperatorsOnly, ReadOnly, Scoped, TenantFilter, pretty_json
from tenants.members import NOBODY, OPERATORS
from tenants.models import Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

    from blockforger.backend.json_values import JsonObject


RULE_FIELDS = (
    ("position", "schema"),
    "eventbridge_arn",
    ("source", "detail_type"),
    ("operations", "schema_names"),
    "enabled",
    ("filter", "on_change", "fields"),
)
# The databases differ on where empty values come.
ORDER_OF_EVENTS = (F("schema_id").asc(nulls_first=True), "position", "id")
WIDE_TEXT = UnfoldAdminTextInputWidget(attrs={"class": "vLargeTextField"})


class AllowedBusInline(Scoped, unfold_admin.TabularInline):
    """The operators' limit: whoever is bound by it sees it, and does not widen it."""

    model = AllowedBus
    may_add = may_change = may_delete = OPERATORS
    formfield_overrides = {CharField: {"widget": WIDE_TEXT}}
    extra = 0


class OutputRuleForm(forms.ModelForm):
    schema = forms.ModelChoiceField(
        Schema.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="Leave empty for a rule of the tenant.",
    )
    operations = forms.MultipleChoiceField(
        choices=[(method, method) for method in WRITES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        required=False,
        help_text="None: all four.",
    )
    schema_names = forms.MultipleChoiceField(
        widget=UnfoldAdminCheckboxSelectMultipleWidget, required=False, help_text="None: all schemas."
    )

    class Meta:
        widgets = {"eventbridge_arn": WIDE_TEXT}

    def clean_on_change(self) -> Any:
        return self.cleaned_data["on_change"] or []

    def has_changed(self) -> bool:
        """Also for a new rule that is left as it was filled in: unlike other empty forms, it means something."""
        return self.instance.pk is None or super().has_changed()

    def offer(self, schemas: Sequence[Schema]) -> None:
        """Let the rule choose among these schemas. Names that it has already are offered too, whatever they name."""
        names = dict.fromkeys([*(schema.name for schema in schemas), *self.instance.schema_names])
        cast("forms.ChoiceField", self.fields["schema_names"]).choices = [(name, name) for name in names]
        own_schema = cast("forms.ModelChoiceField", self.fields["schema"])
        own_schema.queryset = Schema.objects.filter(pk__in=[schema.pk for schema in schemas])
        # Without this, the choices of each rule on a page would be a query of their own.
        own_schema.choices = [("", "---------"), *((schema.pk, schema.name) for schema in schemas)]


class SingleRuleForm(OutputRuleForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer(list(self.instance.tenant.schemas.defer("document")))


_AllowedBusFormSet = forms.inlineformset_factory(Tenant, AllowedBus, fields=["arn_pattern"])


class OutputRuleFormSet(forms.BaseInlineFormSet):
    """The rules of a tenant, checked against the allowed buses as the same page changes them."""

    @cached_property
    def schemas(self) -> list[Schema]:
        return list(Schema.objects.filter(tenant_id=self.instance.pk).defer("document"))

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        form.offer(self.schemas)
        if index is None:  # the form of which the browser makes new rules: they come last
            form.initial["position"] = max((rule.position + 1 for rule in self.get_queryset()), default=0)

    def clean(self) -> None:
        super().clean()
        patterns = _patterns_on_page(self)
        for form in filter(_is_kept, self.forms):
            rule = rule_documents.of_row(form.instance)
            for problem in rule_checks.problems_of(rule, tenant_patterns=patterns).get("eventbridge_arn", ()):
                form.add_error("eventbridge_arn", problem)


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
    formset = FeedbackBusFormSet
    formfield_overrides = {CharField: {"widget": WIDE_TEXT}}
    extra = 0


class OutputRuleInline(Scoped, unfold_admin.StackedInline):
    model = OutputRule
    form = OutputRuleForm
    formset = OutputRuleFormSet
    extra = 0
    ordering = ORDER_OF_EVENTS
    fields = RULE_FIELDS


@admin.register(OutputRule)
class OutputRuleAdmin(ModelAdmin):
    form = SingleRuleForm
    may_add = NOBODY  # a rule begins on its tenant's page
    empty_text = "A rule publishes each write that it matches to an event bus. Open a tenant to add its first one."
    list_display = ["__str__", "tenant", "schema", "position", "eventbridge_arn", "source", "detail_type"]
    list_filter = [TenantFilter]
    list_select_related = ["tenant", "schema"]
    search_fields = ["tenant__name", "eventbridge_arn"]
    ordering = ("tenant__name", *ORDER_OF_EVENTS)
    readonly_fields = ("tenant",)
    fields = ("tenant", *RULE_FIELDS)


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


@admin.register(OutboxEvent)
class OutboxEventAdmin(BigTable):
    empty_text = "Each write adds an event here for every output rule that it matches."
    list_display = [
        "time",
        "tenant",
        "status",
        "attempts",
        "error_code",
        "operation",
        "schema_name",
        "item_key",
        "sequence",
        "bus_arn",
    ]
    list_filter = [TenantFilter, "status"]
    list_select_related = ["tenant"]
    search_fields = ["id", "item_key"]
    search_help_text = "The whole id of an event, or a whole item key."
    fields = (
        *("id", "tenant", "sequence", "place", "rule_id", "operation", "schema_name", "item_key"),
        *("status", "attempts", "error_code", "error_message", "eventbridge_id"),
        *("time", "next_attempt_at", "failing_since", "delivered_at", "replay"),
        *("bus_arn", "source", "detail_type", "resources_shown", "detail_shown", "lane", "stream"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxEvent]:
        return super().get_queryset(request).defer("detail")

    @admin.display(description="resources")
    def resources_shown(self, event: OutboxEvent) -> str:
        return "\n".join(event.resources)

    @admin.display(description="detail")
    def detail_shown(self, event: OutboxEvent) -> SafeString:
        return pretty_json(event.detail)


@admin.register(Replay)
class ReplayAdmin(ReadOnly):
    empty_text = "Events are sent once more by the command replay_events, or over REST."
    list_display = ["created_at", "tenant", "who", "why", "events", "finished_at"]
    list_filter = [TenantFilter]
    list_select_related = ["tenant"]
    fields = ("id", "tenant", "who", "why", "selection", "events", "created_at", "finished_at")


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
TenantAdmin.inlines = [*TenantAdmin.inlines, OutputRuleInline, FeedbackBusInline, AllowedBusInline]
TenantAdmin.linked += [OutputRule, OutboxEvent]
TenantAdmin.linked_pages += [("admin:dashboard", "dashboard"), ("admin:live_tail", "live")]
admin_dashboard.register()


def _patterns_on_page(formset: forms.BaseInlineFormSet) -> list[str]:
    """The tenant's allowed buses as the page that is sent makes them."""
    buses = _AllowedBusFormSet(formset.data, instance=formset.instance)
    return [form.cleaned_data["arn_pattern"] for form in buses if _is_kept(form)]


def _is_kept(form: forms.ModelForm) -> bool:
    return form.is_valid() and bool(form.cleaned_data) and not form.cleaned_data.get(DELETION_FIELD_NAME)
