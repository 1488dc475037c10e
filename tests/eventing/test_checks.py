"""System checks of the settings about buses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.checks import run_checks

from eventing import checks
from tests.cast import BUS

if TYPE_CHECKING:
    from django.core import checks as django_checks
    from pytest_django import Settings


def ours(*, deploy: bool) -> dict[str, django_checks.CheckMessage]:
    found = run_checks(include_deployment_checks=deploy)
    return {str(message.id): message for message in found if str(message.id).startswith("eventing.")}


def test_buses_without_limits_are_a_warning_in_production(settings: Settings) -> None:
    settings.BLOCKFORGER_ALLOWED_BUS_ARNS = []
    assert "eventing.W001" not in ours(deploy=False)
    warning = ours(deploy=True)["eventing.W001"]
    assert warning.msg == (
        "BLOCKFORGER_ALLOWED_BUS_ARNS is not set: tenants may name every bus that Blockforger's AWS credentials can "
        "publish to, other tenants' buses among them."
    )
    assert warning.hint == (
        "Set it to patterns of bus ARNs, with commas between, such as arn:aws:events:*:123456789012:*."
    )


def test_limited_buses_are_fine(settings: Settings) -> None:
    settings.BLOCKFORGER_ALLOWED_BUS_ARNS = [BUS, "arn:aws:events:*:123456789012:*", "*:event-bus/shared"]
    assert not {"eventing.E001", "eventing.E002", "eventing.W001", "eventing.W002"} & ours(deploy=True).keys()


def test_a_malformed_default_bus_is_an_error(settings: Settings) -> None:
    settings.BLOCKFORGER_DEFAULT_BUS_ARN = "default"
    [error] = checks.check_bus_settings()
    assert (error.id, error.msg) == (
        "eventing.E001",
        (
            "BLOCKFORGER_DEFAULT_BUS_ARN: 'default' is not the ARN of an event bus. Write "
            "arn:aws:events:{region}:{account}:event-bus/{name}, with an account of 12 digits and a name of 1 to 256 "
            "letters, digits, '.', '_' or '-'."
        ),
    )


def test_a_default_bus_that_is_not_allowed_is_a_warning(settings: Settings) -> None:
    settings.BLOCKFORGER_ALLOWED_BUS_ARNS = ["arn:aws:events:*:123456789012:*"]
    [warning] = checks.check_bus_settings()
    assert (warning.id, warning.msg) == (
        "eventing.W002",
        f"BLOCKFORGER_DEFAULT_BUS_ARN, '{BUS}', is not among BLOCKFORGER_ALLOWED_BUS_ARNS.",
    )


@pytest.mark.parametrize("pattern", ["", "default", "event-bus/*", "arn:aws:events:us-east-1:1:event-bus/x"])
def test_a_pattern_that_no_bus_fits_is_an_error(settings: Settings, pattern: str) -> None:
    settings.BLOCKFORGER_ALLOWED_BUS_ARNS = [BUS, pattern]
    [error] = checks.check_bus_settings()
    assert (error.id, error.msg) == (
        "eventing.E002",
        f"BLOCKFORGER_ALLOWED_BUS_ARNS: no bus fits the pattern '{pattern}'.",
    )


@pytest.mark.parametrize(("seconds", "is_refused"), [(24, True), (25, False), (60, False)])
def test_a_lease_must_outlast_a_call(settings: Settings, seconds: int, is_refused: bool) -> None:
    settings.BLOCKFORGER_LEASE_SECONDS = seconds
    assert ("eventing.E004" in ours(deploy=False)) is is_refused
