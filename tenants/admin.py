"""The admin of tenants, their members, and users. Keys and tokens are beside it; other apps add theirs."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"
# ruff: noqa: ARG002

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection, transaction
from django.http import Http404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html_join
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold import admin as unfold_admin
from unfold import forms as unfold_forms
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants import admin_keys, admin_tokens, members, two_factor
from tenants.admin_scope import Editable, ModelAdmin, OperatorsOnly, Scoped, TenantFilter, access_of, pretty_json
from tenants.fresh_forms import FreshForm
from tenants.members import OPERATORS, OWNERS
from tenants.models import AllowedOrigin, ApiKey, LedgerEntry, Membership, Role, Tenant, TokenAccount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

__all__ = ["admin_keys", "admin_tokens"]  # they register themselves

# Whoever may change users can become any of them, in any tenant. Groups and permissions count for nothing. Of second
# factors, the secrets would be shown.
admin.site.unregister([User, Group, TOTPDevice, StaticDevice])


@admin.register(User)
class UserAdmin(OperatorsOnly, auth_admin.UserAdmin, unfold_admin.ModelAdmin):
    form = unfold_forms.UserChangeForm
    add_form = unfold_forms.UserCreationForm
    change_password_form = unfold_forms.AdminPasswordChangeForm
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Personal info", {"fields": ("first_name", "last_name", "email")}),
        ("Permissions", {"fields": ("is_active", "is_staff", "is_superuser")}),
        ("Important dates", {"fields": ("last_login", "date_joined")}),
    )
    list_filter = ("is_staff", "is_superuser", "is_active")
    filter_horizontal = ()
    actions = ["forget_second_factor"]
    list_fullwidth = True

    @admin.action(description="Forget the second factor: the password alone lets them in", permissions=["change"])
    def forget_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            two_factor.turn_off(user)
            self.log_change(request, user, "Second factor forgotten.")
        self.message_user(request, f"Second factors forgotten: {len(queryset)}.", messages.SUCCESS)


class UserNameField(forms.CharField):
    """A user, named by whoever knows the name: a list to choose from would show who there is in other tenants."""

    widget = UnfoldAdminTextInputWidget

    def clean(self, value: Any) -> User:
        user = User.objects.filter(username=super().clean(value)).first()
        if user is None:
            raise ValidationError("Nobody has that user name. Ask the platform's operator to make the user first.")
        return user


class MembershipForm(FreshForm):
    user = UserNameField(label="User name")

    class Meta:
        model = Membership
        fields = ("tenant", "user", "role")

    def clean(self) -> None:
        super().clean()
        if self.instance.pk and self.cleaned_data.get("role") != Role.OWNER:
            _check_owner_remains(self.instance.tenant, {self.instance.pk})


class MembershipFormSet(forms.BaseInlineFormSet):
    """The members as a page changes them, all at once."""

    def clean(self) -> None:
        super().clean()
        owners = [form for form in self.forms if form.cleaned_data.get("role") == Role.OWNER]
        leaving = {form.instance.pk for form in self.initial_forms if form not in owners or form in self.deleted_forms}
        if all(form in self.deleted_forms for form in owners):
            _check_owner_remains(self.instance, leaving)


class InlineMembershipForm(FreshForm):
    user = UserNameField(label="User name")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["user"] = self.instance.user.get_username()


class MembershipInline(Scoped, unfold_admin.TabularInline):
    model = Membership
    form = InlineMembershipForm
    formset = MembershipFormSet
    may_add = may_change = may_delete = OWNERS
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user", "tenant")


class AllowedOriginInline(Scoped, unfold_admin.TabularInline):
    model = AllowedOrigin
    form = FreshForm
    extra = 0


@admin.register(Membership)
class MembershipAdmin(ModelAdmin):
    form = MembershipForm
    may_add = may_change = may_delete = OWNERS
    list_display = ["user", "tenant", "role"]
    list_filter = [TenantFilter, "role"]
    list_select_related = ["user", "tenant"]
    search_fields = ["user__username"]
    autocomplete_fields = ["tenant"]
    empty_text = "Add the people who look after a tenant: owners, admins and viewers."

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> tuple[str, ...]:
        return ("tenant", "user") if obj else ()

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Membership | None:
        """The membership; while it is changed or deleted, nobody else changes who the members of its tenant are."""
        membership = super().get_object(request, object_id, from_field)
        if membership is None or request.method != "POST" or not connection.in_atomic_block:
            return membership
        members.lock([membership.tenant_id])
        return super().get_object(request, object_id, from_field)  # as it is by now

    def get_deleted_objects(
        self, objs: Sequence[Membership] | QuerySet[Membership], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Stops at the last owners of a tenant, who may be chosen together in the list."""
        if losing := members.without_an_owner([membership.pk for membership in objs]):
            stay = [f"The last owner of {tenant}: make somebody else the owner first" for tenant in losing]
            return [], {}, set(), stay
        return super().get_deleted_objects(objs, request)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        chosen = list(queryset)
        members.lock({membership.tenant_id for membership in chosen})
        if members.without_an_owner([membership.pk for membership in chosen]):
            raise PermissionDenied
        super().delete_queryset(request, queryset)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and (
            not isinstance(obj, Membership) or members.keeps_an_owner(obj.tenant, without=[obj.pk])
        )


@admin.register(Tenant)
class TenantAdmin(Editable):
    form = FreshForm
    tenant_path = "pk"
    may_add = may_delete = OPERATORS
    add_fields = ("name", "accepts_events")
    # The name is part of URLs, of published events and of their order.
    readonly_fields = ("name", "balance", "clock", "links", "other_properties", "created_at")
    fields = ("name", "accepts_events", "balance", "clock", "links", "other_properties", "created_at")
    list_display = ["name", "accepts_events", "balance", "created_at"]
    list_filter = ["accepts_events"]
    list_select_related = ["account"]
    search_fields = ["name"]
    inlines = [MembershipInline, AllowedOriginInline]
    empty_text = "A tenant owns schemas, keys, rules and tokens. You see those of which you are a member."
    # Models whose lists the page links to; they have a TenantFilter. Other apps add theirs, as they do with `inlines`.
    linked: ClassVar[list[type[Model]]] = [ApiKey, LedgerEntry]
    # Names and labels of pages whose URLs end with the tenant's name, which it links to first.
    linked_pages: ClassVar[list[tuple[str, str]]] = []

    # Those of the further pages that other pages lead to.
    without_button: ClassVar[list[str]] = []

    @classmethod
    def add_page(cls, page: Callable[..., HttpResponse], *, has_button: bool = True) -> None:
        """Give every tenant a further page, with a button at the head of its own: an action of unfold's.

        Other apps add theirs. There is no room for many buttons.
        """
        name = page.__name__
        setattr(cls, name, page)
        cls.actions_detail = [*cls.actions_detail, name]
        if not has_button:
            cls.without_button = [*cls.without_button, name]

    @classmethod
    def add_list_page(cls, page: Callable[..., HttpResponse]) -> None:
        """Add a page about all tenants, with a button at the head of their list."""
        setattr(cls, page.__name__, page)
        cls.actions_list = [*cls.actions_list, page.__name__]

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        actions = super().get_actions_detail(request, object_id)
        return [action for action in actions if action.method.__name__ not in self.without_button]

    def find(self, request: HttpRequest, object_id: str) -> Tenant:
        """The tenant that such a page is about."""
        tenant: Tenant | None = self.get_object(request, object_id)
        if tenant is None:
            raise Http404
        return tenant

    def page(self, request: HttpRequest, tenant: Tenant | None, template: str, **context: Any) -> HttpResponse:
        """Such a page, as that template draws it. None: about all tenants."""
        shown = {**self.admin_site.each_context(request), "opts": self.opts, "original": tenant, "tenant": tenant}
        shown["may_change"] = self.has_change_permission(request, tenant)
        return TemplateResponse(request, f"admin/{template}.html", {**shown, **context})

    def get_fields(self, request: HttpRequest, obj: Tenant | None = None) -> tuple[Any, ...]:
        fields = super().get_fields(request, obj)
        return (*fields, "top_up") if obj and access_of(request).is_operator else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> tuple[str, ...]:
        return (*super().get_readonly_fields(request, obj), "top_up")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Tenant | None:
        """The tenant; locked while its page is saved, so that an import of its files waits, or is waited for."""
        tenant = super().get_object(request, object_id, from_field)
        if tenant is None or request.method != "POST" or not connection.in_atomic_block:
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
        pages = [(reverse(name, args=[tenant.name]), label) for name, label in self.linked_pages]
        lists = [
            (
                f"{reverse(f'admin:{opts.app_label}_{opts.model_name}_changelist')}?tenant={tenant.name}",
                opts.verbose_name_plural,
            )
            for opts in linked
        ]
        return format_html_join(" · ", '<a href="{}">{}</a>', [*pages, *lists])

    @admin.display(description="top up")
    def top_up(self, tenant: Tenant) -> SafeString:
        return admin_tokens.link_to_top_up(tenant.pk)

    @admin.display(description="other properties")
    def other_properties(self, tenant: Tenant) -> SafeString | None:
        return pretty_json(json.dumps(tenant.extra_properties)) if tenant.extra_properties else None


def _account(tenant: Tenant) -> TokenAccount | None:
    return getattr(tenant, "account", None)


def _check_owner_remains(tenant: Tenant, leaving: set[int]) -> None:
    if not members.keeps_an_owner(tenant, without=leaving):
        raise ValidationError("A tenant keeps an owner. Make somebody else the owner first.")
