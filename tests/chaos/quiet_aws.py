"""The suite's own AWS for tests in this process."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.boto3_environment import asking
from tests.chaos.aws import FakeAws
from tests.chaos.buses import Buses
from tests.chaos.faults import Faults
from tests.chaos.queues import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextmanager
def without_faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    """An AWS that does nothing wrong by itself, which the product's clients in this process ask meanwhile."""
    fake = FakeAws(Faults(random.Random(1)), Buses(), Queue(random.Random(1)))
    fake.faults.is_on = fake.queue.misbehaves = False
    with asking(fake.url, monkeypatch):
        yield fake
    fake.stop()
