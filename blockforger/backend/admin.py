"""The admin of schemas, and views of their items and of the operations on them."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection, transaction
from django.db.models import F, JSONField
from django.forms.fields import InvalidJSONInput
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminTextareaWidget

from blockforger.backend import json_schemas, json_values, schema_indexes, schema_keys, usage
from blockforger.backend.json_values import NotPortable
from blockforger.backend.models import Item, OperationRecord, Schema
from tenants import charts, spending
from tenants.admin import TenantAdmin
from tenants.admin_scope import BigTable, BoundedPaginator, Editable, TenantFilter, pretty_json
from tenants.admin_tokens import TokenAccountAdmin
from tenants.fresh_forms import OUTDATED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

    from blockforger.backend.json_values import JsonObject
    from tenants.models import TokenAccount

PROTECTED_ITEMS_SHOWN = 10
BURN_DOWN_DAYS = 30
# Of so many entries of the ledger, the days are added up; of more, it would take too long.
MOST_DRAWN = 50_000


class DocumentField(forms.CharField):
    """A text of several lines. Browsers send CRLF for every line end: alone, that is no change."""

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed((initial or "").replace("\r\n", "\n"), data)


class DocumentWidget(UnfoldAdminTextareaWidget):
    # Django's: without the line end that it begins with, browsers would drop one of the document's own.
    template_name = "django/forms/widgets/textarea.html"


class MetaField(forms.JSONField):
    """JSON that can be carried. Django's own fails at what is nested deeply, or has numbers of thousands of digits."""

    def to_python(self, value: Any) -> Any:
        if not isinstance(value, str) or not value.strip():
            return super().to_python(value)
        try:
            return json_values.parse(value)
        except NotPortable as error:
            raise ValidationError(_sentence(error.pointer, error.message)) from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            self.to_python(data)
        except ValidationError:
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


class SchemaForm(forms.ModelForm):
    """Refuses to overwrite what somebody else has saved since the page was opened."""

    document = DocumentField(
        strip=False,
        widget=DocumentWidget(attrs={"rows": 30, "spellcheck": "false", "class": "monospace"}),
        help_text="A JSON Schema (draft 2020-12), without the member 'meta'.",
    )
    # The version that the page shows. The document itself would be sent twice.
    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        help_texts = {
            "meta": """An object, such as {"key": "id"}, which names the member that holds an item's key;
            "indexes": ["price", "owner.name"] makes lists fast that filter or sort by those paths."""
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["seen"] = self.instance.version

    def clean_document(self) -> str:
        text: str = self.cleaned_data["document"]
        try:
            value = json_values.parse(text)
        except NotPortable as error:
            raise ValidationError(_sentence(error.pointer, error.message)) from error
        if not isinstance(value, dict):
            raise ValidationError("Write a JSON Schema that is an object.")
        if "meta" in value:
            raise ValidationError("Move the content of the member 'meta' to the field below, and leave it out here.")
        return text

    def clean_meta(self) -> JsonObject:
        meta = {} if self.cleaned_data["meta"] is None else self.cleaned_data["meta"]
        if not isinstance(meta, dict):
            raise ValidationError('Write an object, such as {"key": "id"}.')
        key_field = meta.get("key", "id")
        if not isinstance(key_field, str) or not key_field:
            raise ValidationError(_sentence("/key", "Write the name of the member that holds an item's key."))
        if not isinstance(meta.get("require_if_match", False), bool):
            raise ValidationError(_sentence("/require_if_match", "Write true or false."))
        if self.instance.pk and (problem := schema_keys.problem_of_change(self.instance, key_field)):
            raise ValidationError(_sentence("/key", problem))
        return meta

    def clean(self) -> None:
        super().clean()
        if self.instance.pk and self.cleaned_data.get("seen") != self.instance.version:
            raise ValidationError(OUTDATED)
        if "document" in self.cleaned_data and "meta" in self.cleaned_data:
            schema = Schema(document=self.cleaned_data["document"], meta=self.cleaned_data["meta"])
            document = schema.parsed_document()
            problems = json_schemas.problems(document, schema.key_field)
            for problem in problems:
                self.add_error("document", _sentence(problem.pointer, problem.message))
            if not problems:
                for problem in schema_indexes.problems(document, schema.meta, schema.key_field):
                    self.add_error("meta", _sentence(problem.pointer, problem.message))


@admin.register(Schema)
class SchemaAdmin(Editable):
    form = SchemaForm
    formfield_overrides = {JSONField: {"form_class": MetaField}}
    empty_text = "A schema says what items look like; its items are then served at /api/{tenant}/{schema}."
    list_display = ["name", "tenant", "version", "key_field", "updated_at"]
    list_filter = [TenantFilter]
    list_select_related = ["tenant"]
    search_fields = ["name", "tenant__name"]
    autocomplete_fields = ["tenant"]
    add_fields = ("tenant", "name", "document", "meta")
    # The name is part of URLs, of published events and of their order.
    readonly_fields = ("tenant", "name", "version", "items", "created_at", "updated_at")
    fields = ("tenant", "name", "document", "meta", "version", "items", "created_at", "updated_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schema]:
        return super().get_queryset(request).defer("document")

    def get_fields(self, request: HttpRequest, obj: Schema | None = None) -> tuple[Any, ...]:
        fields = super().get_fields(request, obj)
        return (*fields, "seen") if obj and self.has_change_permission(request, obj) else fields

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Schema | None:
        """The schema; while its page is saved, other changes of it wait."""
        schema = super().get_object(request, object_id, from_field)
        if schema is None or request.method != "POST" or not connection.in_atomic_block:
            return schema
        return Schema.objects.select_for_update(no_key=True).filter(pk=schema.pk).first()

    def save_model(self, request: HttpRequest, obj: Schema, form: SchemaForm, change: Any) -> None:
        self.check_row(request, obj, self.may_change if change else self.may_add)
        if not change:
            obj.save()
        elif form.changed_data:
            obj.version = F("version") + 1
            obj.save(update_fields=[*form.changed_data, "version", "updated_at"])

    def get_deleted_objects(
        self, objs: Sequence[Schema] | QuerySet[Schema], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Stops at items: a schema that has any stays, and there may be too many to be listed."""
        if request.method == "POST" and connection.in_atomic_block:
            _lock(objs)
        found = Item.objects.filter(schema__in=objs).defer("payload").order_by("pk")
        if shown := [f"Item: {item}" for item in found[:PROTECTED_ITEMS_SHOWN]]:
            count = found.order_by()[: BoundedPaginator.max_count].count()
            at_least = "at least " if count == BoundedPaginator.max_count else ""
            return [], {}, set(), [*shown, f"{at_least}{count:,} in all: delete them first, over the API"]
        return super().get_deleted_objects(objs, request)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Schema]) -> None:
        chosen = list(queryset)
        _lock(chosen)
        if Item.objects.filter(schema__in=chosen).exists():
            raise PermissionDenied
        super().delete_queryset(request, queryset)

    @admin.display(description="items")
    def items(self, schema: Schema) -> SafeString:
        url = reverse("admin:backend_item_changelist")
        return format_html('<a href="{}?schema__exact={}">Items of this schema</a>', url, schema.pk)


class ItemFilter(TenantFilter):
    column = "schema__tenant"


@admin.register(Item)
class ItemAdmin(BigTable):
    tenant_path = "schema__tenant"
    linked_lookups = ("schema__exact",)
    empty_text = "Items come by POST to /api/{tenant}/{schema}, or by events."
    list_display = ["key", "schema", "tenant", "version", "updated_at"]
    list_filter = [ItemFilter]
    list_select_related = ["schema__tenant"]
    ordering = ["schema_id", "key"]
    search_fields = ["key"]
    search_help_text = "A whole key."
    # What other apps know of an item, they add here.
    fields: tuple[Any, ...] = ("tenant", "schema", "key", "payload_shown", "version", "created_at", "updated_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Item]:
        return super().get_queryset(request).defer("payload", "schema__document")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Item], search_term: str
    ) -> tuple[QuerySet[Item], bool]:
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        # The index has keys schema by schema: without naming any, all items would be read, as for counting them.
        return found.filter(schema__in=Schema.objects.order_by().values("pk")) if search_term else found, may_repeat

    @admin.display(description="tenant")
    def tenant(self, item: Item) -> str:
        return item.schema.tenant.name

    @admin.display(description="payload")
    def payload_shown(self, item: Item) -> SafeString:
        return pretty_json(json.dumps(item.payload))


@admin.display(description=f"spent in the last {BURN_DOWN_DAYS} days")
def spent(account: TokenAccount) -> SafeString:
    """The account's tokens, and for how many such days it will do; day by day, unless there were many operations."""
    begin = timezone.now() - timedelta(days=BURN_DOWN_DAYS)
    total, entries = spending.since(begin, account=account.pk, balance=account.balance)
    text = f"{total:,} tokens in {BURN_DOWN_DAYS} days."
    if total > 0:
        text += f" At that pace, the balance will do for {account.balance * BURN_DOWN_DAYS // total:,} days more."
    if entries.order_by()[: MOST_DRAWN + 1].count() > MOST_DRAWN:
        return format_html("<p>{}</p>", text)
    used: Any = usage.of(account.tenant, days=BURN_DOWN_DAYS)
    days = [(day["day"], day["tokens"]) for day in used["days"]]
    return format_html("{}<p>{}</p>", charts.bars(days, label=f"Tokens spent per day (UTC). {text}"), text)


TenantAdmin.linked += [Schema, Item, OperationRecord]
TokenAccountAdmin.fields = (*TokenAccountAdmin.fields, spent)
TokenAccountAdmin.readonly_fields = (spent,)


def _lock(schemas: Sequence[Schema] | QuerySet[Schema]) -> None:
    """Until the transaction's end, no item of the schemas is committed."""
    locked = Schema.objects.select_for_update().filter(pk__in=[schema.pk for schema in schemas])
    list(locked.order_by("pk").values_list("pk"))


def _sentence(pointer: str, message: str) -> str:
    return f"{pointer}: {message}" if pointer else message
