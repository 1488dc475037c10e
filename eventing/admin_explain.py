"""The admin's pages that tell what rules do: of a write that might be, of the last writes, and of a sample event."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from unfold.decorators import action
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from blockforger.backend import json_texts, json_values
from blockforger.backend.admin import DocumentField, DocumentWidget, ItemAdmin
from blockforger.backend.errors import DocumentInvalid, ItemUnknown, SchemaUnknown
from blockforger.backend.json_values import NotPortable
from blockforger.backend.models import WRITES, Method
from eventing import backtests, explanations, rule_documents, rule_lists, rule_requests, rule_tests, rules
from eventing.models import OutputRule
from eventing.rule_requests import BEFORE, KEY, OPERATION, PAYLOAD, SCHEMA
from tenants.admin import TenantAdmin

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Item, Schema
    from eventing.backtests import Comparison
    from eventing.explanations import Explanation, Write
    from eventing.rule_tests import Sent
    from tenants.models import Tenant

DEFAULT_WRITES = 100


class JsonField(DocumentField):
    """A JSON text, which becomes the value that it stands for; nothing becomes None."""

    def __init__(self, *, rows: int, **options: Any) -> None:
        widget = DocumentWidget(attrs={"rows": rows, "spellcheck": "false", "class": "monospace"})
        super().__init__(strip=False, widget=widget, **options)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return json_values.parse(text) if text.strip() else None
        except NotPortable as error:
            raise ValidationError(_sentence(error.pointer, error.message)) from error


class WriteForm(forms.Form):
    """A write that might be."""

    schema = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    operation = forms.ChoiceField(choices=[(name, name) for name in WRITES], widget=UnfoldAdminSelectWidget)
    payload = JsonField(
        rows=8, required=False, help_text='What is sent: a JSON object, such as {"id": "1", "name": "Fluffy"}.'
    )
    key = forms.CharField(
        label="Key of a stored item",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="The item that is written, as it is stored now. A POST or PUT without a payload sends it as it is.",
    )
    before = JsonField(
        rows=4,
        label="Or the item before the write",
        required=False,
        help_text="A JSON object, for rules that ask what has changed. Neither of the two: nothing was stored.",
    )

    def __init__(self, tenant: Tenant, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = tenant.schemas.order_by("name").values_list("name", flat=True)
        cast("forms.ChoiceField", self.fields["schema"]).choices = [(name, name) for name in names]

    def write(self, tenant: Tenant) -> tuple[Schema, Write] | None:
        """The write that is asked about. None if it cannot be: then it is told at the fields."""
        said = self.cleaned_data
        document: JsonObject = {name: said[name] for name in (SCHEMA, OPERATION)}
        document |= {name: said[name] for name in (PAYLOAD, BEFORE) if said[name] is not None}
        document |= {KEY: said[KEY]} if said[KEY] else {}
        try:
            if KEY in document and PAYLOAD not in document and said[OPERATION] in (Method.POST, Method.PUT):
                document[PAYLOAD] = rule_requests.stored(tenant, said[SCHEMA], said[KEY])
            return rule_requests.write(document, tenant)
        except DocumentInvalid as error:
            for problem in problems_of(error):
                self.add_error(problem["pointer"].split("/")[1] or None, problem["detail"])
        except (SchemaUnknown, ItemUnknown) as error:
            self.add_error(SCHEMA if isinstance(error, SchemaUnknown) else KEY, error.message)
        return None


class BacktestForm(forms.Form):
    """Rules as they might be, and the writes that they are tried on."""

    rules = JsonField(
        rows=20,
        help_text="All rules of the tenant, and those of its schemas, as they might be: change them, and see. "
        "Nothing is saved.",
    )
    last = forms.IntegerField(
        label="Last writes",
        min_value=1,
        max_value=backtests.MAX_WRITES,
        initial=DEFAULT_WRITES,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=f"How many of the last writes to look at, up to {backtests.MAX_WRITES:,}.",
    )

    def compare(self, tenant: Tenant) -> Comparison | None:
        """What the rules would have sent. None if they cannot be used: then it is told at the field."""
        try:
            wanted = rule_lists.read(tenant, self.cleaned_data["rules"])
        except DocumentInvalid as error:
            for problem in problems_of(error):
                self.add_error("rules", _sentence(problem["pointer"], problem["detail"]))
            return None
        return backtests.compare(tenant, wanted, last=self.cleaned_data["last"])


class SampleForm(forms.Form):
    """A sample event of a rule."""

    rule = forms.TypedChoiceField(coerce=int, widget=UnfoldAdminSelectWidget)
    payload = JsonField(
        rows=6,
        required=False,
        help_text="What the sample says of the item, as a JSON object. Nothing: its key alone, which is 'sample'.",
    )

    def __init__(self, told: list[Told], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(rule.pk, f"{rule.number}. {rule.text}") for rule in told]
        cast("forms.ChoiceField", self.fields["rule"]).choices = choices

    def send(self, tenant: Tenant) -> Sent | None:
        """Send the sample. None if that cannot be now: then it is told at the fields."""
        rule = rules.find(tenant, self.cleaned_data["rule"])
        payload = self.cleaned_data["payload"]
        if rule is None:
            self.add_error("rule", "The rule was removed meanwhile. Choose another one.")
        elif payload is not None and not isinstance(payload, dict):
            self.add_error("payload", "Write an object, or leave it out.")
        elif (allowance := rule_tests.allowance_of(tenant)) and allowance.left < 0:
            quota, seconds = allowance.policy.quota, allowance.policy.seconds
            text = f"At most {quota} tests are sent in {seconds} seconds. Try again in {allowance.seconds} seconds."
            self.add_error(None, text)
        else:
            return rule_tests.send(rule, tenant, payload)
        return None


@dataclass(frozen=True, slots=True)
class Told:
    """A rule as people are told of it; numbers count in the order of events."""

    pk: int
    number: int
    owner: str
    text: str


@action(description="Explain", url_path="explain", icon="quiz", permissions=["view"])
def explain(site: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """What each rule makes of a write."""
    tenant = site.find(request, object_id)
    form = WriteForm(tenant, request.POST if request.method == "POST" else None, initial=request.GET.dict())
    asked = form.write(tenant) if form.is_valid() else None
    context: dict[str, Any] = {"title": "Explain rules", "page": "explain", "form": form}
    if asked:
        schema, write = asked
        found = explanations.explain(tenant, schema, write)
        entries, left_out = explanations.shown(found)
        context |= {
            "operation": write.operation,
            "schema": schema,
            "explanations": _shown(found, entries, told_of(tenant)),
            "matching": sum(explanation.event is not None for explanation in found),
            "warnings": [*left_out, *map(str, rule_lists.warnings_of(tenant))],
        }
    return site.page(request, tenant, "explain_rules", **context)


@action(description="Backtest", url_path="backtest", permissions=["view"])
def backtest(site: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """What other rules would have sent."""
    tenant = site.find(request, object_id)
    today = {"rules": json_texts.readable(rule_lists.document_of(tenant))}
    form = BacktestForm(request.POST if request.method == "POST" else None, initial=today)
    found = form.compare(tenant) if form.is_valid() else None
    context: dict[str, Any] = {"title": "Backtest rules", "page": "backtest", "form": form}
    if found:
        context |= {
            "found": found,
            "limits": found.limits,
            "changes": [
                ("Gained", found.gains, list(map(_sent_event, found.gained))),
                ("Lost", found.losses, list(map(_sent_event, found.lost))),
            ],
        }
    return site.page(request, tenant, "backtest_rules", **context)


@action(description="Send a test", url_path="test-rule", permissions=["change"])
def test_rule(site: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """A sample event for a rule's bus."""
    tenant = site.find(request, object_id)
    told = told_of(tenant)
    form = SampleForm(told, request.POST if request.method == "POST" else None, initial=request.GET.dict())
    sent = form.send(tenant) if form.is_valid() else None
    context: dict[str, Any] = {"title": "Send a test", "page": "test", "form": form, "told": told}
    if sent:
        outcome = f"accepted as {sent.answer.event_id}" if sent.is_accepted else f"refused, {sent.answer.code}"
        site.log_change(request, tenant, f"Sent a test of the rule {form.cleaned_data['rule']}: {outcome}.")
        context |= {
            "sent": sent,
            "entry": json_texts.readable(sent.event.entry),
            "policy": json_texts.readable(sent.policy) if sent.policy else "",
        }
    return site.page(request, tenant, "test_rule", **context)


@admin.display(description="rules")
def rules_of_item(item: Item) -> SafeString:
    """Leads to what rules make of the item."""
    url = reverse("admin:tenants_tenant_explain", args=[item.schema.tenant_id])
    query = urlencode({SCHEMA: item.schema.name, OPERATION: Method.PUT, KEY: item.key})
    return format_html('<a href="{}?{}">What the rules make of it</a>', url, query)


def told_of(tenant: Tenant) -> list[Told]:
    """The tenant's rules, in the order of their events."""
    found = OutputRule.objects.filter(tenant=tenant).select_related("schema").defer("schema__document", "schema__meta")
    rows = {row.pk: row for row in found}
    told = []
    for number, rule in enumerate(rules.of_tenant(tenant), start=1):
        if row := rows.get(rule.pk):
            owner = f"of the schema {row.schema.name}" if row.schema else "of the tenant"
            told.append(Told(row.pk, number, owner, rule_documents.described(rule_documents.of_row(row))))
    return told


def problems_of(error: DocumentInvalid) -> list[dict[str, str]]:
    """The problems, each with `pointer` and `detail`."""
    return cast("list[dict[str, str]]", error.data["errors"])


def _shown(found: list[Explanation], entries: list[JsonObject | None], told: list[Told]) -> list[dict[str, Any]]:
    by_pk = {rule.pk: rule for rule in told}
    return [
        {
            "rule": by_pk[explanation.rule.pk],
            "mismatch": explanation.mismatch,
            "entry": json_texts.readable(entry) if entry else "",
        }
        for explanation, entry in zip(found, entries, strict=True)
        if explanation.rule.pk in by_pk
    ]


def _sent_event(event: JsonValue) -> dict[str, Any]:
    entry = dict(cast("JsonObject", event))
    return {
        "sequence": entry.pop("sequence"),
        "detail_type": entry["DetailType"],
        "bus_arn": entry["EventBusName"],
        "entry": json_texts.readable(entry),
    }


def _sentence(pointer: str, message: str) -> str:
    return f"{pointer}: {message}" if pointer else message


ItemAdmin.fields = (*ItemAdmin.fields, rules_of_item)
TenantAdmin.add_page(explain)
TenantAdmin.add_page(backtest, has_button=False)
TenantAdmin.add_page(test_rule, has_button=False)
