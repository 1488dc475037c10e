from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings

from eventing import nudges, rules

if TYPE_CHECKING:
    from collections.abc import Iterator


# How long an example takes says more about the machine than about the code.
hypothesis_settings.register_profile("no deadline", deadline=None)
hypothesis_settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _no_state_is_left_from_another_test() -> Iterator[None]:
    """Row ids come back after a rollback, and with them the keys of what a process keeps."""
    rules.clear_cache()
    yield
    rules.clear_cache()


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Counts nudges instead of sending them."""
    calls: list[None] = []
    monkeypatch.setattr(nudges, "nudge", lambda: calls.append(None))
    return calls
