"""The admin's site: who gets in, and what every page is sent with."""

# mypy: disable-error-code="type-arg"

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.core.paginator import InvalidPage
from django.http import Http404, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from unfold.sites import UnfoldAdminSite

from tenants import two_factor
from tenants.sign_in_forms import SignInForm

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse
    from django.template.response import TemplateResponse
    from django.urls import URLPattern

    View = Callable[..., HttpResponse]

# No inline script, no style sheet in a page, and nothing from elsewhere. Alpine.js, for which unfold's templates are
# written, makes functions of their expressions ('unsafe-eval'; its build that does without does not understand them),
# and sets styles of single elements ('unsafe-inline', for these attributes alone).
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


def guarded(view: View) -> View:
    """A view whose answers run no script but ours. No middleware: the API answers without it."""

    @wraps(view)
    def with_policy(*args: Any, **kwargs: Any) -> HttpResponse:
        response = view(*args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return with_policy


class Site(UnfoldAdminSite):
    """Lets in members of the staff, by password and, where they have one or must have one, by a second factor."""

    login_form = SignInForm
    site_url = None  # there are no pages beside it
    index_title = "Overview"
    # Route, view and name of pages that belong to no model. Other apps add theirs.
    more_pages: ClassVar[list[tuple[str, Callable[..., Any], str]]] = []

    def has_permission(self, request: HttpRequest) -> bool:
        return self.has_signed_in(request) and not two_factor.is_wanting(request)

    def has_signed_in(self, request: HttpRequest) -> bool:
        """Whether the first factor, the password, has been given by a member of the staff."""
        return super().has_permission(request)

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # noqa: FBT001, FBT002 - Django's
        return guarded(super().admin_view(view, cacheable))

    @method_decorator(never_cache)
    @method_decorator(guarded)  # type: ignore[arg-type]
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if self.has_signed_in(request) and not self.has_permission(request):
            query = urlencode({"next": request.GET.get("next", "")})
            return HttpResponseRedirect(f"{reverse('admin:two_factor')}?{query}")
        return super().login(request, extra_context)

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        try:
            return super().search(request, extra_context)
        except (InvalidPage, ValueError) as error:  # unfold takes the page's number as it comes
            raise Http404 from error

    def get_urls(self) -> list[URLPattern]:
        from tenants import two_factor_pages as pages

        own = [
            path("logout/", never_cache(guarded(self._log_out)), name="logout"),
            path("two-factor/", self._before_second_factor(pages.challenge), name="two_factor"),
            path("two-factor/set-up/", self._before_second_factor(pages.set_up), name="two_factor_set_up"),
            path("two-factor/recovery-codes/", self.admin_view(pages.recovery_codes), name="two_factor_codes"),
            path("two-factor/turn-off/", self.admin_view(pages.turn_off), name="two_factor_turn_off"),
            *(path(route, self.admin_view(view), name=name) for route, view, name in self.more_pages),
        ]
        # Nothing here has a page elsewhere, and that URL tells which numbers of rows there are.
        return own + [pattern for pattern in super().get_urls() if getattr(pattern, "name", "") != "view_on_site"]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        # Unfold would write them into each page, as a style that the policy forbids; ours are in admin.css.
        context["colors"] = None
        return context

    def _log_out(self, request: HttpRequest) -> HttpResponse:
        """Also those who have not given their second factor. Others have nothing to end."""
        return self.logout(request) if self.has_signed_in(request) else HttpResponseRedirect(reverse("admin:index"))

    def _before_second_factor(self, view: View) -> View:
        """A page for those who have given their password and nothing more yet."""

        @wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not self.has_signed_in(request):
                return HttpResponseRedirect(f"{reverse('admin:login')}?{urlencode({'next': request.path})}")
            return view(request, *args, **kwargs)

        return never_cache(guarded(inner))


def environment(request: HttpRequest) -> tuple[str, str]:  # noqa: ARG001 - unfold's
    """The badge at the head of each page."""
    name = settings.BLOCKFORGER_ENVIRONMENT
    return name, "danger" if name.startswith("prod") else "info"
