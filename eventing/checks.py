"""System checks of the settings about buses and the outbox: `manage.py check`, and `check --deploy` for production."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from blockforger.backend import retention
from eventing import lanes, rule_checks

if TYPE_CHECKING:
    from collections.abc import Iterable


def register() -> None:
    """Make the checks known to Django."""
    checks.register(check_bus_settings, checks.Tags.compatibility)
    checks.register(check_retention, checks.Tags.compatibility)
    checks.register(check_lease, checks.Tags.compatibility)
    checks.register(check_buses_are_limited, checks.Tags.security, deploy=True)


def check_bus_settings(**_: object) -> list[checks.CheckMessage]:
    """The default bus and the patterns of allowed buses are well-formed, and agree."""
    messages: list[checks.CheckMessage] = []
    default, patterns = settings.BLOCKFORGER_DEFAULT_BUS_ARN, settings.BLOCKFORGER_ALLOWED_BUS_ARNS
    if problem := rule_checks.problem_of_bus_arn(default):
        messages.append(checks.Error(f"BLOCKFORGER_DEFAULT_BUS_ARN: {problem}", id="eventing.E001"))
    elif not rule_checks.is_allowed(default, patterns):
        messages.append(
            checks.Warning(
                f"BLOCKFORGER_DEFAULT_BUS_ARN, '{default}', is not among BLOCKFORGER_ALLOWED_BUS_ARNS.",
                hint="Set it to a bus that tenants may name: the form of a new rule is filled in with it.",
                id="eventing.W002",
            )
        )
    messages += [
        checks.Error(
            f"BLOCKFORGER_ALLOWED_BUS_ARNS: no bus fits the pattern '{pattern}'.",
            hint="Write a bus ARN in which '*' stands for any text, such as arn:aws:events:*:123456789012:*.",
            id="eventing.E002",
        )
        for pattern in patterns
        if not _can_match(pattern)
    ]
    return messages


def check_retention(**_: object) -> Iterable[checks.CheckMessage]:
    """Events that were settled are kept for a day at least."""
    for setting in ("BLOCKFORGER_KEEP_OUTBOX_DAYS", "BLOCKFORGER_KEEP_DEAD_EVENTS_DAYS"):
        try:
            retention.kept_for(setting)
        except ImproperlyConfigured as error:
            yield checks.Error(str(error), id="eventing.E003")


def check_lease(**_: object) -> list[checks.CheckMessage]:
    """A publisher has its lanes for longer than a call takes: with a shorter lease it could begin none."""
    if settings.BLOCKFORGER_LEASE_SECONDS >= lanes.SHORTEST_LEASE_SECONDS:
        return []
    return [
        checks.Error(
            f"BLOCKFORGER_LEASE_SECONDS is {settings.BLOCKFORGER_LEASE_SECONDS}: it must be at least"
            f" {lanes.SHORTEST_LEASE_SECONDS}, so that a call to EventBridge ends before the lease does.",
            id="eventing.E004",
        )
    ]


def check_buses_are_limited(**_: object) -> Iterable[checks.CheckMessage]:
    """In production, tenants may not name just any bus."""
    if settings.BLOCKFORGER_ALLOWED_BUS_ARNS:
        return []
    return [
        checks.Warning(
            "BLOCKFORGER_ALLOWED_BUS_ARNS is not set: tenants may name every bus that Blockforger's AWS "
            "credentials can publish to, other tenants' buses among them.",
            hint="Set it to patterns of bus ARNs, with commas between, such as arn:aws:events:*:123456789012:*.",
            id="eventing.W001",
        )
    ]


def _can_match(pattern: str) -> bool:
    if not any(wildcard in pattern for wildcard in "*?["):
        return rule_checks.problem_of_bus_arn(pattern) is None
    return pattern.startswith(("arn:", "*", "?", "["))
