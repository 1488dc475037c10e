"""The form of an output rule: what of it is a list or JSON is written as people write it."""

# Django's form classes take type arguments in their stubs only.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from blockforger.backend import json_values
from blockforger.backend.json_values import NotPortable
from blockforger.backend.models import WRITES, Schema
from eventing import projections, rule_documents, rule_edits
from eventing.models import OutputRule, RuleChange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.json_values import JsonObject, JsonValue
    from tenants.models import Tenant

BUSES = "rule-buses"
"""The id of the list of buses that the page offers."""
# The column of which three fields of the form are made.
_FIELDS = "fields"
_PARTS = (projections.KEEP, projections.DROP, projections.MASK)


def _text(rows: int, placeholder: str) -> UnfoldAdminTextareaWidget:
    attributes = {"rows": rows, "spellcheck": "false", "class": "monospace", "placeholder": placeholder}
    return UnfoldAdminTextareaWidget(attrs=attributes)


class PathsField(forms.CharField):
    """Paths into an item, one a line."""

    def __init__(self, placeholder: str = "", **kwargs: Any) -> None:
        super().__init__(required=False, widget=_text(2, placeholder), **kwargs)

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)


class FilterField(forms.CharField):
    """A pattern as JSON. Whether it is one is asked of the rule."""

    def to_python(self, value: Any) -> JsonValue:  # type: ignore[override]
        if not isinstance(value, str):
            return cast("JsonValue", value)
        if not value.strip():
            return None
        try:
            return json_values.parse(value)
        except NotPortable as error:
            where = f"{error.pointer}: " if error.pointer else ""
            remedy = 'Write a JSON object, such as {"status": ["sold"]}.'
            raise ValidationError(f"{where}{error.message} {remedy}") from error

    def prepare_value(self, value: Any) -> Any:
        return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return self.to_python(initial) != self.to_python(data)
        except ValidationError:
            return True


class RuleForm(forms.ModelForm):
    """A rule of `tenant`. Refuses to overwrite what somebody else has saved since the page was opened."""

    tenant: Tenant
    # The rule that a new one begins as.
    like: OutputRule | None = None

    schema = forms.ModelChoiceField(
        Schema.objects.none(),
        label="Belongs to",
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="The rules of the tenant come first, those of a schema after them. It cannot be changed later.",
    )
    operations = forms.MultipleChoiceField(
        choices=[(method, method) for method in WRITES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        required=False,
        help_text="None: all four.",
    )
    schema_names = forms.MultipleChoiceField(
        label="Schemas",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        required=False,
        help_text="None: all schemas, and those to come.",
    )
    filter = FilterField(
        required=False,
        label="Only if the item is like this",
        widget=_text(3, '{"status": ["sold"], "price": [{"numeric": [">", 100]}]}'),
        help_text="A pattern as in EventBridge's rules, asked of the item as it is stored. Empty: no condition.",
    )
    on_change = PathsField(
        label="Only if one of these has changed",
        placeholder="status",
        help_text="Paths, one a line, such as status or owner.city. Empty: any write.",
    )
    keep = PathsField(label="Send only", help_text="Paths, one a line; the key is always sent. Empty: everything.")
    drop = PathsField(label="Leave out", help_text="Paths, one a line. Use this or the one above.")
    mask = PathsField(label="Mask", help_text='Paths, one a line, for whose values "***" is sent.')
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = OutputRule
        fields = (
            *("enabled", "schema", "eventbridge_arn", "source", "detail_type", "operations", "schema_names"),
            *("filter", "on_change"),
        )
        labels = {"enabled": "On"}
        help_texts = {
            "enabled": "Off: it sends nothing, and keeps its place.",
            "eventbridge_arn": "arn:aws:events:{region}:{account}:event-bus/{name}",
        }
        widgets = {
            "eventbridge_arn": UnfoldAdminTextInputWidget(
                attrs={"class": "vLargeTextField", "list": BUSES, "autocomplete": "off", "spellcheck": "false"}
            )
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.was = ""
        if self.instance.pk is None:
            self.instance.tenant = self.tenant
        else:
            self.was = _digest(self.instance)
            self.initial["seen"] = self.was
        said = self.instance.fields or {}
        for part in _PARTS:
            self.initial.setdefault(part, said.get(part, []))
        if "eventbridge_arn" in self.fields:  # which it is not for those who may not change it
            allowed = list(self.instance.tenant.allowed_buses.values_list("arn_pattern", flat=True))
            if patterns := allowed or settings.BLOCKFORGER_ALLOWED_BUS_ARNS:
                self.fields["eventbridge_arn"].help_text = f"Allowed: {', '.join(patterns)}"
        self._offer(list(self.instance.tenant.schemas.defer("document").order_by("name")))

    def clean_seen(self) -> str:
        seen: str = self.cleaned_data["seen"]
        if self.instance.pk and seen != self.was:
            last = RuleChange.objects.filter(rule_id=self.instance.pk).first()
            who = last.who if last else "Somebody"
            self.add_error(
                None, f"{who} has changed this rule since you opened it. Open it again, and change it as it is now."
            )
        return seen

    def clean(self) -> None:
        super().clean()
        said = {part: self.cleaned_data.get(part) for part in _PARTS}
        self.instance.fields = {part: paths for part, paths in said.items() if paths} or None
        if self.instance.pk is None and (problem := rule_edits.problem_of_adding(self.tenant)):
            self.add_error(None, problem)

    def _offer(self, schemas: Sequence[Schema]) -> None:
        """Names that the rule has already are offered too, whatever they name."""
        had = (self.like or self.instance).schema_names
        names = dict.fromkeys([*(schema.name for schema in schemas), *had])
        cast("forms.ChoiceField", self.fields["schema_names"]).choices = [(name, name) for name in names]
        if "schema" in self.fields:
            own_schema = cast("forms.ModelChoiceField", self.fields["schema"])
            own_schema.queryset = Schema.objects.filter(pk__in=[schema.pk for schema in schemas])
            own_schema.choices = [("", "The tenant"), *((schema.pk, f"Schema {schema.name}") for schema in schemas)]

    def _update_errors(self, errors: ValidationError) -> None:
        """What is wrong with `fields` stands at the part of the form that it is about."""
        found = getattr(errors, "error_dict", {})
        for problem in found.pop(_FIELDS, ()):
            [message] = problem.messages
            part, _, rest = message.partition(": ")
            name, text = (part, rest) if part in _PARTS else (projections.DROP, message)
            found.setdefault(name, []).append(ValidationError(text))
        super()._update_errors(errors)  # type: ignore[misc]


def initial_of(rule: OutputRule) -> JsonObject:
    """The form for a rule that begins as another one."""
    document = rule_documents.of_row(rule)
    said = document["fields"] or {}
    initial = {**document, **{part: said.get(part, []) for part in _PARTS}, "schema": rule.schema_id}
    return cast("JsonObject", initial)


def _digest(rule: OutputRule) -> str:
    text = json_values.compact(cast("JsonObject", rule_documents.of_row(rule)))
    return hashlib.sha256(text.encode()).hexdigest()
