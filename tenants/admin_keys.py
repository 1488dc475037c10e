"""The admin of API keys: made and shown once, rotated with an overlap, revoked."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminIntegerFieldWidget

from tenants import api_keys
from tenants.admin_scope import Editable, TenantFilter
from tenants.fresh_forms import FreshForm
from tenants.members import NOBODY
from tenants.models import ApiKey, Permission

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

DEFAULT_OVERLAP_HOURS = 24
MAX_OVERLAP_HOURS = 30 * 24


class ApiKeyForm(FreshForm):
    permissions = forms.TypedMultipleChoiceField(
        choices=Permission.choices,
        coerce=Permission,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        required=False,
        help_text="Without any, the key may do nothing.",
    )


class RotationForm(forms.Form):
    hours = forms.IntegerField(
        label="Overlap in hours",
        min_value=0,
        max_value=MAX_OVERLAP_HOURS,
        initial=DEFAULT_OVERLAP_HOURS,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="For so long both keys work, so that whoever calls can change over.",
    )


@admin.register(ApiKey)
class ApiKeyAdmin(Editable):
    form = ApiKeyForm
    may_delete = NOBODY  # it is revoked instead, and still explains the ledger
    add_fields = ("tenant", "name", "permissions", "expires_at")
    readonly_fields = ("tenant", "prefix", "state", "last_used_at", "replaced_by", "created_at")
    fields = (
        *("tenant", "name", "permissions", "expires_at"),
        *("state", "prefix", "last_used_at", "replaced_by", "created_at"),
    )
    list_display = ["name", "tenant", "prefix", "may", "state", "expires_at", "last_used_at"]
    list_filter = [TenantFilter, "is_active"]
    list_select_related = ["tenant", "replaced_by"]
    search_fields = ["name", "prefix", "tenant__name"]
    autocomplete_fields = ["tenant"]
    actions_detail = ["rotate", "revoke"]
    empty_text = "A key lets a program call the backend API in a tenant's name. Make one for each program."

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: Any) -> None:
        if change:
            self.check_row(request, obj, self.may_change)
            # The changed columns alone: the key's use and its rotation are written by others meanwhile.
            obj.save(update_fields=form.changed_data)
            return
        self.check_row(request, obj, self.may_add)
        made, key = api_keys.create(
            obj.tenant, name=obj.name, permissions=form.cleaned_data["permissions"], expires_at=obj.expires_at
        )
        obj.pk, obj.prefix = made.pk, made.prefix
        self._show(request, key)

    @action(description="Rotate", icon="autorenew", permissions=["change"])
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        old = self._key(request, object_id)
        form = RotationForm(request.POST or None)
        if not form.is_valid():
            return self._ask(request, old, "Rotate", form)
        try:
            new, key = api_keys.rotate(old, overlap=timedelta(hours=form.cleaned_data["hours"]))
        except api_keys.NotRotatable as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return self._back_to(old)
        self.log_change(request, old, f"Rotated: replaced by {new.prefix}.")
        self._show(request, key)
        return self._back_to(new)

    @action(description="Revoke", icon="block", permissions=["change"], variant=ActionVariant.DANGER)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self._key(request, object_id)
        if request.method != "POST":
            return self._ask(request, key, "Revoke", None)
        if api_keys.revoke(key):
            self.log_change(request, key, "Revoked.")
        self.message_user(request, f"The key {key.prefix} is revoked.", messages.SUCCESS)
        return self._back_to(key)

    @admin.display(description="permissions")
    def may(self, api_key: ApiKey) -> str:
        return ", ".join(api_key.permissions)

    @admin.display(description="state")
    def state(self, api_key: ApiKey) -> str:
        if not api_key.is_active:
            return "revoked"
        if not api_key.is_valid(at=timezone.now()):
            return "expired"
        return f"ends, replaced by {api_key.replaced_by.prefix}" if api_key.replaced_by else "active"

    def _key(self, request: HttpRequest, object_id: str) -> ApiKey:
        key: ApiKey | None = self.get_object(request, object_id)
        if key is None:
            raise Http404
        return key

    def _ask(self, request: HttpRequest, key: ApiKey, verb: str, form: RotationForm | None) -> HttpResponse:
        used = f"{timesince(key.last_used_at)} ago" if key.last_used_at else ""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{verb} a key",
            "verb": verb,
            "key": key,
            "form": form,
            "used": used,
        }
        return TemplateResponse(request, "admin/confirm_key.html", context)

    def _back_to(self, key: ApiKey) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:tenants_apikey_change", args=[key.pk]))

    def _show(self, request: HttpRequest, key: str) -> None:
        # Messages travel in a cookie, but those that do not fit into it are kept in the session, which is in the
        # database. So what has waited until now is dropped.
        list(messages.get_messages(request))
        text = (
            "Copy the new API key now: it is not kept, and cannot be shown again."
            ' <code id="new-key">{}</code> <button type="button" class="copy" data-copy="new-key">Copy</button>'
        )
        messages.success(request, format_html(text, key))
