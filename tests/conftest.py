from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings

from eventing import nudges, rules
from tenants.redaction import redacted

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


# They quote messages, values and URLs, mostly below the levels that we set. Our formatter keeps keys out of the lines.
QUOTING_LOGGERS = ("botocore.", "django.db.backends", "django.request")


@pytest.fixture(autouse=True)
def _no_record_of_a_log_holds_a_key(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    formatter = logging.Formatter()
    texts = [formatter.format(record) for record in caplog.get_records("call") if not is_quoting(record)]
    assert [text for text in texts if redacted(text) != text] == []


def is_quoting(record: logging.LogRecord) -> bool:
    return record.name.startswith(QUOTING_LOGGERS)


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Counts nudges instead of sending them."""
    calls: list[None] = []
    monkeypatch.setattr(nudges, "nudge", lambda: calls.append(None))
    return calls
