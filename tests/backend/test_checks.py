from __future__ import annotations

from typing import Any

from django.core.checks import run_checks


def ids() -> set[str | None]:
    return {message.id for message in run_checks(include_deployment_checks=True)}


def test_a_secret_key_that_the_machine_made_is_a_warning_of_check_deploy(settings: Any) -> None:
    settings.SECRET_KEY_IS_CONFIGURED = False
    assert "backend.W001" in ids()
    settings.SECRET_KEY_IS_CONFIGURED = True
    assert "backend.W001" not in ids()
