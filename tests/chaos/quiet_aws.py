"""The suite's own AWS for tests in this process."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eventing import aws
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
    for name, value in {
        "AWS_ENDPOINT_URL": fake.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "publisher-1",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    aws.reset()
    yield fake
    fake.stop()
    aws.reset()
