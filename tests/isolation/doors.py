"""Every door of the product, found in what Django, DRF and the backend have registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.management import get_commands
from django.urls import URLPattern, get_resolver

from blockforger.backend.models import WRITES

if TYPE_CHECKING:
    from collections.abc import Iterator

_THEIRS = (
    *("django.", "rest_framework", "whitenoise.", "corsheaders", "drf_spectacular_sidecar"),
    *("django_otp", "unfold"),
)
OURS = {config.name for config in apps.get_app_configs() if not config.name.startswith(_THEIRS)}


def urls() -> set[str]:
    """A door for each method of a REST view, `GET items`; for any other URL its whole pattern, `page admin/`."""
    return {door for route, pattern in _patterns(get_resolver()) for door in _doors_of(route, pattern)}


def commands() -> set[str]:
    return {f"command {name}" for name, app in get_commands().items() if app in OURS}


def events() -> set[str]:
    return {f"event {method}" for method in WRITES}


def _patterns(resolver: Any, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield route, pattern
        else:
            yield from _patterns(pattern, route)


def _doors_of(route: str, pattern: URLPattern) -> Iterator[str]:
    actions: dict[str, str] | None = getattr(pattern.callback, "actions", None)
    if actions is None:
        yield f"page {route}"
    else:
        # HEAD is there only once DRF has answered a first request, as its GET.
        yield from (f"{method.upper()} {pattern.name}" for method in actions if method != "head")
