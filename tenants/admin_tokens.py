"""The admin of tokens: balances, the ledger, and top-ups, which are the operators'."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"
# ruff: noqa: ARG002

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from tenants import balances, by_time
from tenants.admin_keyset import KeysetTable, moment
from tenants.admin_scope import ReadOnly, TenantFilter, access_of
from tenants.members import OPERATORS
from tenants.models import EntryKind, LedgerEntry, Tenant, TokenAccount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from tenants.keyset import Source

MAX_TOP_UP = 10**12


@admin.register(TokenAccount)
class TokenAccountAdmin(ReadOnly):
    list_display = ["tenant", "balance", "sequence"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name"]
    ordering = ["tenant__name"]
    readonly_fields: tuple[Any, ...] = ()
    # What other apps know of an account, they add here.
    fields: tuple[Any, ...] = ("tenant", "balance", "sequence", "see_also")
    empty_text = "A tenant has an account from its first top-up on."

    def get_fields(self, request: HttpRequest, obj: TokenAccount | None = None) -> tuple[Any, ...]:
        fields = tuple(super().get_fields(request, obj))
        return (*fields, "add_tokens") if access_of(request).is_operator else fields

    @admin.display(description="see also")
    def see_also(self, account: TokenAccount) -> SafeString:
        ledger = reverse("admin:tenants_ledgerentry_changelist")
        return format_html('<a href="{}?tenant={}">Ledger</a>', ledger, account.tenant.name)

    @admin.display(description="top up")
    def add_tokens(self, account: TokenAccount) -> SafeString:
        return link_to_top_up(account.pk)


class TopUpForm(forms.ModelForm):
    tenant = forms.ModelChoiceField(
        Tenant.objects.all(), widget=AutocompleteSelect(TokenAccount.tenant.field, admin.site)
    )
    amount = forms.IntegerField(
        min_value=1,
        max_value=MAX_TOP_UP,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Tokens to add; an operation costs 10.",
    )
    reference = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="What it is for, such as an invoice number. One reference adds tokens once.",
    )


class LedgerFilter(TenantFilter):
    column = "account"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(KeysetTable):
    tenant_path = "account"
    may_add = OPERATORS
    form = TopUpForm
    list_display = [
        *("created_at", "tenant", "kind", "amount", "balance_after", "reference", "sequence", "api_key_prefix"),
    ]
    list_filter = [LedgerFilter, "kind"]
    list_select_related = ["account__tenant"]
    search_fields = ["operation", "reference"]
    search_help_text = "The whole id of an operation, or the whole reference of a top-up."
    own_parameters = ("until",)
    fields = (
        *("tenant", "kind", "amount", "balance_after", "reference"),
        *("operation", "sequence", "api_key_prefix", "created_at"),
    )
    empty_text = "Each operation and each top-up adds an entry; the entries add up to the balance."

    def get_fields(self, request: HttpRequest, obj: LedgerEntry | None = None) -> tuple[Any, ...]:
        return tuple(super().get_fields(request, obj)) if obj else ("tenant", "amount", "reference")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(operation=UUID(search_term)), False
        except ValueError:  # an index has the references of top-ups, and no others
            return queryset.filter(kind=EntryKind.TOP_UP, reference=search_term), False

    def sources(self, request: HttpRequest, found: QuerySet[Any], *, is_sought: bool) -> Sequence[Source[Any]]:
        sources = super().sources(request, found, is_sought=is_sought)
        until = moment(request.GET.get("until", ""))
        if until is None or is_sought:
            return sources
        return [replace(source, looked_at=_until(source.looked_at, until)) for source in sources]

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
        obj.account_id = form.cleaned_data["tenant"].pk
        self.check_row(request, obj, self.may_add)
        entry, is_new = balances.top_up(form.cleaned_data["tenant"], amount=obj.amount, reference=obj.reference)
        if not is_new:
            raise balances.TopUpRefused(f"The {entry.amount} tokens of '{entry.reference}' were added before.")
        obj.pk = entry.pk

    @admin.display(description="tenant")
    def tenant(self, entry: LedgerEntry) -> Tenant:
        return entry.account.tenant


def _until(entries: QuerySet[LedgerEntry], moment: datetime) -> QuerySet[LedgerEntry]:
    """Those before that time. All ids grow with it, so the ledger of everybody tells where that is."""
    end = by_time.first_pk_since(LedgerEntry.objects.all(), "created_at", moment)
    return entries if end is None else entries.filter(pk__lt=end)


def link_to_top_up(tenant_id: int) -> SafeString:
    return format_html('<a href="{}?tenant={}">Add tokens</a>', reverse("admin:tenants_ledgerentry_add"), tenant_id)
