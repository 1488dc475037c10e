"""What every admin page is made of: whose rows it shows, and to whom it lets do what.

A page of the admin inherits from `ModelAdmin` (or an inline from `Scoped` and unfold's inline) and says how a row
leads to its tenant, and which roles may view, add, change and delete. Lists, pages, histories, autocompletes, the
choices of foreign keys and deletions all ask it.
"""

# Django's admin classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"
# ruff: noqa: ARG002

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, Q
from django.utils.functional import cached_property
from django.utils.html import format_html
from unfold import admin as unfold_admin

from tenants import members
from tenants.members import EVERYBODY, MANAGERS, NOBODY, OPERATORS
from tenants.models import Tenant

if TYPE_CHECKING:
    from django.db.models import ForeignKey, QuerySet
    from django.forms import ModelChoiceField
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

    from tenants.members import Access


def access_of(request: HttpRequest) -> Access:
    """What the user of a request may do; looked up once for it."""
    known = request.__dict__.get("tenants_access")
    if known is None:
        known = request.__dict__["tenants_access"] = members.access_of(request.user)
    return cast("Access", known)


def tenant_named(name: str) -> Tenant | None:
    """The tenant of that name. What comes of a URL may hold NUL, which PostgreSQL does not take."""
    return None if "\0" in name else Tenant.objects.filter(name=name).first()


# While a class is checked, a mixin has the methods of what it is mixed into.
_Admin: Any = admin.ModelAdmin if TYPE_CHECKING else object


class Scoped(_Admin):
    """Shows the rows of the tenants in which the user may view them, and lets the roles named do the rest."""

    # From a row to its tenant. None: rows of the platform, which are for operators alone.
    tenant_path: ClassVar[str | None] = "tenant"
    may_view = EVERYBODY
    may_add = MANAGERS
    may_change = MANAGERS
    may_delete = MANAGERS
    # Lookups that links to the list use, besides those of `list_filter`. Others are refused: with them, the values of
    # columns that are not shown, and of rows that these lead to, could be guessed.
    linked_lookups: ClassVar[tuple[str, ...]] = ()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._is_allowed(request, self.may_view)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_allowed(request, self.may_view, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_allowed(request, self.may_add, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_allowed(request, self.may_change, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._is_allowed(request, self.may_delete, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        access = access_of(request)
        if access.is_operator:
            return rows
        if self.tenant_path is None:
            return rows.none()
        return rows.filter((f"{self.tenant_path}__in", access.tenants(self.may_view)))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Also for autocompletes, whose terms nobody has looked at."""
        return super().get_search_results(request, queryset, search_term.replace("\0", ""))

    def formfield_for_foreignkey(
        self, db_field: ForeignKey, request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField | None:
        """Chooses among the rows that the user sees; of tenants, those in which the user may add what is added."""
        related = self.admin_site._registry.get(db_field.remote_field.model)  # noqa: SLF001 - no public way in 5.2
        if isinstance(related, Scoped):
            choices = related.get_queryset(request)
            access = access_of(request)
            if choices.model is Tenant and not access.is_operator:
                choices = choices.filter(pk__in=access.tenants(self.may_add))
            kwargs.setdefault("queryset", choices)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_autocomplete_fields(self, request: HttpRequest) -> Any:
        """Operators search among thousands of tenants. Members choose among their own few."""
        return super().get_autocomplete_fields(request) if access_of(request).is_operator else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        self.check_row(request, obj, self.may_change if change else self.may_add)
        super().save_model(request, obj, form, change)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        offered = set(self.linked_lookups)
        for one in self.get_list_filter(request):
            if isinstance(one, str):
                offered |= {one, f"{one}__exact", f"{one}__isnull"}
            else:
                offered.add(getattr(one, "parameter_name", ""))
        return lookup in offered and "\0" not in value  # which no column holds, and PostgreSQL does not take

    def check_row(self, request: HttpRequest, obj: Any, who: frozenset[str]) -> None:
        """Refuse what the user may not do with that row."""
        if not self._is_allowed(request, who, obj):
            raise PermissionDenied

    def _is_allowed(self, request: HttpRequest, who: frozenset[str], obj: Any = None) -> bool:
        access = access_of(request)
        if obj is None:
            return access.allows_somewhere(who)
        if not isinstance(obj, Model):  # the id of a row, by which unfold asks
            obj = self.get_object(request, str(obj))
        return obj is not None and access.allows(who, self._tenant_of(obj))

    def _tenant_of(self, obj: Model) -> int | None:
        """The tenant of a row; of an inline's page, which is that of its parent, it is the parent."""
        if isinstance(obj, Tenant):
            return obj.pk
        if self.tenant_path is None:
            return None
        *steps, last = self.tenant_path.split("__")
        row: Any = obj
        for step in steps:
            row = getattr(row, step)
        return cast("int | None", getattr(row, f"{last}_id"))


class ModelAdmin(Scoped, unfold_admin.ModelAdmin):
    """A page of the admin."""

    # What a list says that has no rows yet: what belongs there, and what to do next.
    empty_text = ""
    list_fullwidth = True


class ReadOnly(ModelAdmin):
    """Shows rows that only the product itself may write."""

    may_add = may_change = may_delete = NOBODY


class OperatorsOnly(Scoped):
    """Hides a model of the platform from everyone but superusers."""

    tenant_path = None
    may_view = may_add = may_change = may_delete = OPERATORS


class Editable(ModelAdmin):
    """Asks for `add_fields` when a row is made. Shows `fields` afterwards, and then fixes `readonly_fields`."""

    add_fields: tuple[str, ...]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        return tuple(super().get_fields(request, obj)) if obj else self.add_fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return tuple(super().get_readonly_fields(request, obj)) if obj else ()


class BoundedPaginator(Paginator):
    """Stops counting where nobody turns pages any more: to count millions of rows takes seconds."""

    max_count = 10_000
    template_name = "admin/bounded_pagination.html"

    @cached_property
    def count(self) -> int:
        rows = cast("QuerySet[Any]", self.object_list)
        return rows.order_by()[: self.max_count].count()


class BigTable(ReadOnly):
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
    """The rows of one tenant. Offers members their own few; of all, only that of whose page the list was opened."""

    title = "tenant"
    parameter_name = "tenant"
    column = "tenant"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        access = access_of(request)
        if access.is_operator:
            names = [self.value()] if self.value() else []
        else:
            names = list(Tenant.objects.filter(pk__in=access.roles).values_list("name", flat=True))
        return [(name, name) for name in names if name]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = self.value()
        if name is None:
            return queryset
        # Looked up first, and not joined, so that the index on the tenant's number serves the list's order too.
        tenant = tenant_named(name)
        return queryset.filter((self.column, tenant.pk)) if tenant else queryset.none()


def pretty_json(text: str) -> SafeString:
    """A JSON text with its structure made visible; any other text as it is."""
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    # Half a surrogate pair, which a refused payload may hold, cannot be sent to a browser.
    return format_html("<pre>{}</pre>", text.encode(errors="backslashreplace").decode())
