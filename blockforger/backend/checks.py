"""System checks: `manage.py check`, and `check --deploy` for production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from blockforger.backend import retention
from tenants import rate_limits

if TYPE_CHECKING:
    from collections.abc import Sequence


@checks.register(checks.Tags.security, deploy=True)
def secret_key_comes_from_the_environment(**_: Any) -> Sequence[checks.CheckMessage]:
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


@checks.register(checks.Tags.compatibility)
def events_are_known_for_as_long_as_they_can_come_again(**_: Any) -> Sequence[checks.CheckMessage]:
    """backend.E001: an event that comes again after its record is gone is carried out, and billed, twice."""
    try:
        retention.event_records_kept_for()
    except ImproperlyConfigured as error:
        return [
            checks.Error(
                str(error),
                hint=(
                    "EventBridge tries for a day to deliver an event, and SQS keeps it for up to 14: one that comes "
                    "again after its record is gone would be carried out twice. A redrive from the dead-letter queue "
                    "begins the 14 days anew, hence the default of 30."
                ),
                id="backend.E001",
            )
        ]
    return []


@checks.register(checks.Tags.compatibility)
def the_rate_limit_can_be_read(**_: Any) -> Sequence[checks.CheckMessage]:
    """backend.E002: with a limit that cannot be read, no request could be answered."""
    try:
        rate_limits.policy_of(settings.BLOCKFORGER_RATE_LIMIT)
    except ValueError as error:
        return [checks.Error(f"BLOCKFORGER_RATE_LIMIT is no limit. {error}", id="backend.E002")]
    return []
