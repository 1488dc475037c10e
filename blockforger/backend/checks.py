"""System checks of `check --deploy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import checks
from django.core.checks import Tags, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.checks import CheckMessage


@register(Tags.security, deploy=True)
def secret_key_comes_from_the_environment(**_: Any) -> Sequence[CheckMessage]:
    """backend.W001: each machine would make a key of its own, and sessions would end with it."""
    if settings.SECRET_KEY_IS_CONFIGURED:
        return []
    return [
        checks.Warning(
            "SECRET_KEY is not set; this machine made one for itself.",
            hint="Set SECRET_KEY to the same long random text on every machine.",
            id="backend.W001",
        )
    ]
