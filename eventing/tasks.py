"""Celery's doors: each task calls one function."""

from __future__ import annotations

import time

from celery import shared_task

from blockforger.backend.retention import Pace
from eventing import consuming, publishing, replay_requests, retention


@shared_task(name="eventing.tasks.publish_pending", ignore_result=True)
def publish_pending() -> None:
    """Publish what waits in the outbox; ends within Celery's time limits, the next sweep goes on."""
    publishing.drain(seconds=20)


@shared_task(name="eventing.tasks.consume_waiting", ignore_result=True)
def consume_waiting() -> None:
    """Carry out the events that wait in the input queue."""
    consuming.drain(seconds=20)


@shared_task(name="eventing.tasks.carry_on_replays", ignore_result=True)
def carry_on_replays() -> None:
    """Go on with the replays that were asked for over REST, for a while."""
    replay_requests.carry_on(seconds=15)


@shared_task(name="eventing.tasks.prune", ignore_result=True)
def prune() -> None:
    """Delete what has had its time; what is left then, the next run deletes."""
    retention.prune(Pace(ends_at=time.monotonic() + 20))
