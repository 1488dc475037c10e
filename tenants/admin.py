"""The admin of tenants, keys and tokens, for superusers; and what the other apps' admins share with it."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"
# ruff: noqa: ARG002

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join

from tenants import api_keys, balances
from tenants.models import AllowedOrigin, ApiKey, LedgerEntry, Membership, Permission, Tenant, TokenAccount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

ROTATION_OVERLAP = timedelta(hours=24)
MAX_TOP_UP = 10**12


class SuperusersOnly:
    """Hides a model from everyone but superusers, whatever permissions others were given."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.is_superuser

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.is_superuser


class ReadOnly(SuperusersOnly):
    """Shows rows that only the product itself may write."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class Editable(SuperusersOnly, admin.ModelAdmin):
    """Asks for `add_fields` when a row is made. Shows `fields` afterwards, and then fixes `readonly_fields`."""

    add_fields: tuple[str, ...]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        return tuple(super().get_fields(request, obj)) if obj else self.add_fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return tuple(super().get_readonly_fields(request, obj)) if obj else ()


class BoundedPaginator(Paginator):
    """Stops counting where nobody turns pages any more: to count millions of rows takes seconds."""

    max_count = 10_000

    @cached_property
    def count(self) -> int:
        rows = cast("QuerySet[Any]", self.object_list)
        return rows.order_by()[: self.max_count].count()


class BigTable(ReadOnly, admin.ModelAdmin):
    """A list of millions of rows: in the order of an index, and searched by equality."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The rows of which a search field equals the whole term."""
        if not search_term:
            return queryset, False
        found = Q(pk__in=[])
        for field in self.opts.fields:
            if field.name in self.search_fields:
                with suppress(ValidationError):  # the term is no value of that column, such as a UUID
                    found |= Q((field.name, field.to_python(search_term)))
        return queryset.filter(found), False


class TenantFilter(admin.SimpleListFilter):
    """The rows of the tenant from whose page the list was opened. Offers no choice: there may be thousands."""

    title = "tenant"
    parameter_name = "tenant"
    column = "tenant"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        name = self.value()
        return [(name, name)] if name else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # Looked up first, and not joined, so that the index on the tenant's number serves the list's order too.
        tenant = Tenant.objects.filter(name=self.value()).first()
        return queryset.filter((self.column, tenant.pk)) if tenant else queryset.none()


def pretty_json(text: str) -> SafeString:
    """A JSON text with its structure made visible; any other text as it is."""
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    # Half a surrogate pair, which a refused payload may hold, cannot be sent to a browser.
    return format_html("<pre>{}</pre>", text.encode(errors="backslashreplace").decode())


# Whoever may change users can become any of them, in any tenant.
admin.site.unregister([User, Group])


@admin.register(User)
class UserAdmin(SuperusersOnly, auth_admin.UserAdmin):
    pass


@admin.register(Group)
class GroupAdmin(SuperusersOnly, auth_admin.GroupAdmin):
    pass


class MembershipInline(SuperusersOnly, admin.TabularInline):
    model = Membership
    autocomplete_fields = ["user"]
    extra = 0


class AllowedOriginInline(SuperusersOnly, admin.TabularInline):
    model = AllowedOrigin
    extra = 0


@admin.register(Tenant)
class TenantAdmin(Editable):
    add_fields = ("name", "accepts_events")
    # The name is part of URLs, of published events and of their order.
    readonly_fields = ("name", "balance", "clock", "links", "other_properties", "created_at")
    fields = ("name", "accepts_events", "balance", "clock", "links", "other_properties", "created_at")
    list_display = ["name", "accepts_events", "balance", "created_at"]
    list_filter = ["accepts_events"]
    list_select_related = ["account"]
    search_fields = ["name"]
    inlines = [MembershipInline, AllowedOriginInline]
    # Models whose lists the page links to; they have a TenantFilter. Other apps add theirs, as they do with `inlines`.
    linked: ClassVar[list[type[Model]]] = [ApiKey, LedgerEntry]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Tenant | None:
        """The tenant; locked while its page is saved, so that an import of its files waits, or is waited for."""
        tenant = super().get_object(request, object_id, from_field)
        if tenant is None or request.method != "POST":
            return tenant
        return Tenant.objects.select_for_update(no_key=True).filter(pk=tenant.pk).first()

    def get_deleted_objects(
        self, objs: Sequence[Tenant] | QuerySet[Tenant], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Stops at token accounts: a tenant that has one stays, and all else that it has is too much to be listed."""
        accounts = TokenAccount.objects.filter(tenant__in=objs).select_related("tenant")
        if accounts:
            return [], {}, set(), [f"Token account: {account}" for account in accounts]
        return super().get_deleted_objects(objs, request)

    @admin.display(description="balance in tokens")
    def balance(self, tenant: Tenant) -> int:
        account = _account(tenant)
        return account.balance if account else 0

    @admin.display(description="clock")
    def clock(self, tenant: Tenant) -> str:
        account = _account(tenant)
        return f"{account.sequence if account else 0} (the number of the last write)"

    @admin.display(description="see also")
    def links(self, tenant: Tenant) -> SafeString:
        linked = [self.admin_site.get_model_admin(model).opts for model in self.linked]
        lists = [
            (reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"), tenant.name, opts.verbose_name_plural)
            for opts in linked
        ]
        return format_html(
            "{} · {}", _add_tokens(tenant.pk), format_html_join(" · ", '<a href="{}?tenant={}">{}</a>', lists)
        )

    @admin.display(description="other properties")
    def other_properties(self, tenant: Tenant) -> SafeString | None:
        return pretty_json(json.dumps(tenant.extra_properties)) if tenant.extra_properties else None


class ApiKeyForm(forms.ModelForm):
    permissions = forms.TypedMultipleChoiceField(
        choices=Permission.choices,
        coerce=Permission,
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text="Without any, the key may do nothing.",
    )


@admin.register(ApiKey)
class ApiKeyAdmin(Editable):
    form = ApiKeyForm
    add_fields = ("tenant", "name", "permissions", "expires_at")
    readonly_fields = ("tenant", "prefix", "last_used_at", "replaced_by", "created_at")
    fields = (
        *("tenant", "name", "permissions", "is_active", "expires_at"),
        *("prefix", "last_used_at", "replaced_by", "created_at"),
    )
    list_display = ["name", "tenant", "prefix", "may", "is_active", "expires_at", "last_used_at", "replaced_by"]
    list_filter = [TenantFilter, "is_active"]
    list_select_related = ["tenant", "replaced_by"]
    search_fields = ["name", "prefix", "tenant__name"]
    autocomplete_fields = ["tenant"]
    actions = ["rotate"]

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False  # it is revoked instead, and still explains the ledger

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: Any) -> None:
        if change:
            # The changed columns alone: the key's use and its rotation are written by others meanwhile.
            obj.save(update_fields=form.changed_data)
            return
        made, key = api_keys.create(
            obj.tenant, name=obj.name, permissions=form.cleaned_data["permissions"], expires_at=obj.expires_at
        )
        obj.pk, obj.prefix = made.pk, made.prefix
        self._show(request, key)

    @admin.action(description="Rotate the selected key: both work for 24 hours", permissions=["change"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        if queryset.count() != 1:
            self.message_user(request, "Choose one key: the new one is shown only once.", messages.ERROR)
            return
        old = queryset.get()
        try:
            new, key = api_keys.rotate(old, overlap=ROTATION_OVERLAP)
        except api_keys.NotRotatable as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return
        self.log_change(request, old, f"Rotated: replaced by {new.prefix}.")
        self._show(request, key)

    @admin.display(description="permissions")
    def may(self, api_key: ApiKey) -> str:
        return ", ".join(api_key.permissions)

    def _show(self, request: HttpRequest, key: str) -> None:
        # Messages travel in a cookie, but those that do not fit into it are kept in the session, which is in the
        # database. So what has waited until now is dropped.
        list(messages.get_messages(request))
        text = "Copy the new API key now: it is not kept, and cannot be shown again. <code>{}</code>"
        messages.success(request, format_html(text, key))


@admin.register(TokenAccount)
class TokenAccountAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["tenant", "balance", "sequence", "add_tokens"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name"]
    ordering = ["tenant__name"]
    fields = ["tenant", "balance", "sequence", "add_tokens"]

    @admin.display(description="")
    def add_tokens(self, account: TokenAccount) -> SafeString:
        return _add_tokens(account.pk)


class TopUpForm(forms.ModelForm):
    tenant = forms.ModelChoiceField(
        Tenant.objects.all(), widget=AutocompleteSelect(TokenAccount.tenant.field, admin.site)
    )
    amount = forms.IntegerField(min_value=1, max_value=MAX_TOP_UP, help_text="Tokens to add; an operation costs 10.")
    reference = forms.CharField(
        max_length=200, help_text="What it is for, such as an invoice number. One reference adds tokens once."
    )


class LedgerFilter(TenantFilter):
    column = "account"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(BigTable):
    form = TopUpForm
    list_display = ["created_at", "tenant", "kind", "amount", "balance_after", "reference", "api_key_prefix"]
    list_filter = [LedgerFilter, "kind"]
    list_select_related = ["account__tenant"]
    search_fields = ["operation", "reference"]
    search_help_text = "The whole id of an operation, or a whole reference."
    fields = (
        *("tenant", "kind", "amount", "balance_after", "reference"),
        *("operation", "sequence", "api_key_prefix", "created_at"),
    )

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.is_superuser

    def get_fields(self, request: HttpRequest, obj: LedgerEntry | None = None) -> tuple[Any, ...]:
        return tuple(super().get_fields(request, obj)) if obj else ("tenant", "amount", "reference")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().add_view(request, form_url, extra_context)
        except balances.TopUpRefused as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            typed = urlencode({name: request.POST[name] for name in ("tenant", "amount", "reference")})
            return HttpResponseRedirect(f"{request.path}?{typed}")

    def save_model(self, request: HttpRequest, obj: LedgerEntry, form: TopUpForm, change: Any) -> None:
        entry, is_new = balances.top_up(form.cleaned_data["tenant"], amount=obj.amount, reference=obj.reference)
        if not is_new:
            raise balances.TopUpRefused(f"The {entry.amount} tokens of '{entry.reference}' were added before.")
        obj.pk = entry.pk

    @admin.display(description="tenant")
    def tenant(self, entry: LedgerEntry) -> Tenant:
        return entry.account.tenant


def _account(tenant: Tenant) -> TokenAccount | None:
    return getattr(tenant, "account", None)


def _add_tokens(tenant_id: int) -> SafeString:
    return format_html('<a href="{}?tenant={}">Add tokens</a>', reverse("admin:tenants_ledgerentry_add"), tenant_id)
