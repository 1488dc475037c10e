"""The pages of the second factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from tenants import two_factor
from tenants.sign_in_forms import CodeForm

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.http import HttpRequest, HttpResponse

WRONG_CODE = "That code is not right, or was used before. After some wrong ones, wait a while for the next try."


def challenge(request: HttpRequest) -> HttpResponse:
    """Asks for the code; sends to the set-up whoever has no app yet; else shows what there is."""
    if not two_factor.has_one(request.user):
        return HttpResponseRedirect(reverse("admin:two_factor_set_up"))
    if two_factor.is_verified(request):
        return _page(request, "two_factor", title="Two-factor sign-in", may_turn_off=not _is_demanded())
    form = CodeForm(request.POST or None)
    if form.is_valid():
        if two_factor.verify(request, form.cleaned_data["code"]):
            return HttpResponseRedirect(_next(request))
        form.add_error("code", WRONG_CODE)
    return _page(request, "two_factor_challenge", title="Enter your code", form=form)


def set_up(request: HttpRequest) -> HttpResponse:
    """Shows the QR code, and takes the app into use when it proves to know the secret."""
    if two_factor.has_one(request.user):
        return HttpResponseRedirect(reverse("admin:two_factor"))
    form = CodeForm(request.POST or None)
    if form.is_valid():
        codes = two_factor.finish(request, form.cleaned_data["code"])
        if codes is not None:
            return _page(request, "two_factor_codes", title="Your recovery codes", codes=codes)
        form.add_error("code", WRONG_CODE)
    device = two_factor.begin(_user(request))
    return _page(
        request,
        "two_factor_set_up",
        title="Set up two-factor sign-in",
        form=form,
        is_demanded=_is_demanded(),
        qr_code=two_factor.qr_code(device),
        secret=two_factor.secret(device),
    )


@require_POST
def recovery_codes(request: HttpRequest) -> HttpResponse:
    if not two_factor.is_verified(request):
        return HttpResponseRedirect(reverse("admin:two_factor"))
    codes = two_factor.renew_recovery_codes(_user(request))
    return _page(request, "two_factor_codes", title="Your recovery codes", codes=codes)


@require_POST
def turn_off(request: HttpRequest) -> HttpResponse:
    if _is_demanded() or not two_factor.is_verified(request):
        return HttpResponseRedirect(reverse("admin:two_factor"))
    two_factor.turn_off(_user(request))
    messages.success(request, "Two-factor sign-in is off. Your password alone lets you in.")
    return HttpResponseRedirect(reverse("admin:index"))


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)


def _is_demanded() -> bool:
    return bool(settings.BLOCKFORGER_REQUIRE_TWO_FACTOR)


def _next(request: HttpRequest) -> str:
    wanted = request.GET.get("next", "")
    allowed = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if wanted and allowed else reverse("admin:index")


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    shown = {**admin.site.each_context(request), **context}
    return TemplateResponse(request, f"admin/{template}.html", shown)
