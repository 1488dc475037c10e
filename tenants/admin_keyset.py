"""Lists of millions of rows in the admin: the newest first, and links to older and newer ones in place of numbers."""

# Django's admin classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from unfold.views import ChangeList

from tenants import keyset
from tenants.admin_scope import BigTable, access_of, tenant_named
from tenants.keyset import Page, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet
    from django.http import HttpRequest

BEFORE, AFTER = "before", "after"
# Near the ends of time, a day more or less is none that Python has.
_YEARS = range(1970, 9999)


class NoPaginator(Paginator):
    """Counts nothing. Says which template shows the links."""

    template_name = "admin/keyset_pagination.html"
    count = 0


class KeysetChangeList(ChangeList):
    """A page of a list, by the place that `before` or `after` names."""

    page: Page[Any]
    # What the template above the list shows, if there is one: a form of filters, and links by what they do.
    filters: Any = None
    may_replay = False
    replay_link = dead_letters_link = ""

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        own = {BEFORE, AFTER, *self.model_admin.own_parameters}
        return {name: value for name, value in super().get_filters_params(params).items() if name not in own}

    def get_results(self, request: HttpRequest) -> None:
        before, after = (self._place(name) for name in (BEFORE, AFTER))
        for name in (BEFORE, AFTER):  # what is asked for next begins with its first page
            self.filter_params.pop(name, None)
        self.page = self.model_admin.page_of(request, self, before=before, after=after)
        self.result_list = self.page.rows
        self.result_count = len(self.page.rows)
        self.full_result_count = None
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = NoPaginator([], self.list_per_page)

    def get_filters(self, request: HttpRequest) -> Any:
        *found, has_active = super().get_filters(request)
        return (*found, has_active or any(self.params.get(name) for name in self.model_admin.own_parameters))

    @property
    def sizes(self) -> str:
        """What is there to say of how many rows are shown."""
        what = self.opts.verbose_name if self.result_count == 1 else self.opts.verbose_name_plural
        if self.result_count or self.page.older is None:
            return f"{self.result_count} {what} on this page"
        return f"Nothing among the {keyset.LOOK:,} {self.opts.verbose_name_plural} looked at: go on to older ones"

    @property
    def older_link(self) -> str:
        return "" if self.page.older is None else self._link(BEFORE, self.page.older)

    @property
    def newer_link(self) -> str:
        return "" if self.page.newer is None else self._link(AFTER, self.page.newer)

    @property
    def newest_link(self) -> str:
        if BEFORE not in self.params and AFTER not in self.params:
            return ""
        return self.get_query_string()

    def _link(self, name: str, place: Any) -> str:
        return self.get_query_string({name: place})

    def _place(self, name: str) -> Any:
        text = self.params.get(name)
        try:
            return None if text is None else self.opts.pk.to_python(text)
        except ValidationError as error:  # shown as the first page, as Django does
            raise IncorrectLookupParameters(error) from error


class KeysetTable(BigTable):
    """A list of millions of rows, in the order of their keys, which grow with their time."""

    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-pk",)
    # Of the query string: those that the list reads itself, besides its filters.
    own_parameters: tuple[str, ...] = ()

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[ChangeList]:  # noqa: ARG002 - Django's
        return KeysetChangeList

    def page_of(self, request: HttpRequest, changelist: ChangeList, *, before: Any, after: Any) -> Page[Any]:
        """The page to show. `changelist.queryset` is what its filters and the search leave."""
        sources = self.sources(request, changelist.queryset, is_sought=bool(changelist.query))
        return keyset.page(sources, limit=self.list_per_page, before=before, after=after)

    def sources(self, request: HttpRequest, found: QuerySet[Any], *, is_sought: bool) -> Sequence[Source[Any]]:
        """The rows of each tenant that is looked at: an index has those of one tenant in their order."""
        if is_sought:  # an index knows the term
            return [Source(found, found)]
        rows: QuerySet[Any] = self.model._default_manager.all()  # noqa: SLF001 - Django's way
        tenants = tenants_looked_at(request)
        if tenants is None:
            return [Source(rows, found)]
        column = (self.tenant_path or "").split("__")[0]
        return [
            Source(rows.filter(**keyset.one_of(column, pk)), found.filter(**{column: pk}), by=f"{column}_id")
            for pk in tenants
        ]


def moment(text: str) -> datetime | None:
    """A time of a query string: ISO 8601, in UTC where it names no zone. None if it is no time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.year not in _YEARS:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def tenants_looked_at(request: HttpRequest) -> list[int] | None:
    """The tenants whose rows a list shows, by the filter and by what its user may see; None: everybody's."""
    access = access_of(request)
    chosen = request.GET.get("tenant")
    if chosen:
        named = tenant_named(chosen)
        return [named.pk] if named is not None and (access.is_operator or named.pk in access.roles) else []
    return None if access.is_operator else list(access.roles)
