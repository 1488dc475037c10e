"""Publishing: from the outbox to EventBridge, at least once, each stream in order."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.db import close_old_connections, connection
from django.utils import timezone

from eventing import answers, aws, lanes, outbox, rule_checks
from eventing.answers import Answer, Verdict
from eventing.entries import calls_of, entry_of
from eventing.outbox import Tally

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from eventing.lanes import Lease
    from eventing.models import OutboxEvent

logger = logging.getLogger(__name__)

LANES_PER_LEASE = 16
EVENTS_PER_LEASE = 500
SENDING_THREADS = 16

# No call begins with less than this left of the lease: its time-outs (3 s to connect, 10 s to read) end it before.
_LONGEST_CALL_SECONDS = 20

_AFTER_FAULT_SECONDS = 1.0
_NOT_ALLOWED = Answer(
    Verdict.REFUSED, code="BusNotAllowed", message="The tenant's allowed buses no longer include this one."
)

_Results = list[tuple["OutboxEvent", Answer]]


def drain(*, seconds: float = float("inf"), as_of: datetime | None = None) -> Tally:
    """Publish until nothing can be sent, or that many seconds have passed. Returns what became of the events.

    With `as_of`, only what could be sent at that time: then nothing is tried twice, and the end is certain.
    """
    ends_at = time.monotonic() + seconds
    total = Tally()
    with ThreadPoolExecutor(SENDING_THREADS, thread_name_prefix="put-events") as threads:
        while time.monotonic() < ends_at:
            tally = publish_some(threads, at=as_of or timezone.now())
            if tally is None:
                break
            total += tally
    return total


def run(stopping: threading.Event, *, interval: float) -> None:
    """Publish until stopped, looking at an empty outbox every `interval` seconds; faults are logged and waited out."""
    while not stopping.is_set():
        close_old_connections()
        try:
            tally = drain(seconds=1)
        except Exception:  # the outermost loop: whatever it was, the outbox still has the events
            logger.exception("Publishing failed; trying again.")
            connection.close()
            stopping.wait(_AFTER_FAULT_SECONDS)
            continue
        if tally == Tally():
            stopping.wait(interval)


def publish_some(threads: ThreadPoolExecutor, *, at: datetime) -> Tally | None:
    """Lease some lanes, send what is next in them, and give them back. None if there was nothing to do."""
    lease = lanes.lease(outbox.lanes_with_work(at=at), at_most=LANES_PER_LEASE, holder=_holder())
    if lease is None:
        return None
    try:
        events = outbox.batch(lease.fences, at_most=EVENTS_PER_LEASE, at=at)
        total = Tally()
        if disallowed := outbox.disallowed(events):
            total += outbox.record(lease, [(event, _NOT_ALLOWED) for event in disallowed])
            events = [event for event in events if event not in disallowed]
        for results in _send(lease, events, threads):
            total += outbox.record(lease, results)
    finally:
        lanes.release(lease)
    if events and total == Tally():
        logger.error("A lease of %s lanes passed without a call: choosing its events took too long.", len(lease.fences))
        return None
    return total


def _send(lease: Lease, events: Sequence[OutboxEvent], threads: ThreadPoolExecutor) -> Iterator[_Results]:
    """Send the events in waves: each wave takes the first of every stream, and the next follows only on its answer."""
    distrusted = outbox.distrusted_buses({event.bus_arn for event in events})
    streams: dict[int, deque[OutboxEvent]] = {}
    for event in events:
        streams.setdefault(event.stream, deque()).append(event)
    _keep_one_stream_of_each(distrusted, streams)
    while streams:
        wave = [stream[0] for stream in streams.values()]
        calls = calls_of(wave, max_bytes=settings.BLOCKFORGER_MAX_EVENT_BYTES)
        results = [result for answered in threads.map(lambda call: _call(lease, call), calls) for result in answered]
        if not results:
            return
        yield results
        _advance(streams, {event.stream: answer for event, answer in results})


def _keep_one_stream_of_each(buses: Collection[str], streams: dict[int, deque[OutboxEvent]]) -> None:
    """A bus that refused us lately gets a single event as a probe."""
    probed = set()
    for key, stream in list(streams.items()):
        arn = stream[0].bus_arn
        if arn not in buses:
            continue
        if arn in probed:
            del streams[key]
        else:
            probed.add(arn)
            streams[key] = deque([stream[0]])


def _advance(streams: dict[int, deque[OutboxEvent]], answered: dict[int, Answer]) -> None:
    """Drop what is settled; a stream whose first event must wait, or got no answer, waits as a whole."""
    for key, stream in list(streams.items()):
        answer = answered.get(key)
        stream.popleft()
        if not stream or answer is None or answer.verdict in {Verdict.RETRY, Verdict.BUS_REFUSED}:
            del streams[key]


def _call(lease: Lease, events: Sequence[OutboxEvent]) -> _Results:
    """Send one call. Events for which the lease leaves no time get no answer, and stay as they are."""
    if lease.seconds_left() < _LONGEST_CALL_SECONDS:
        return []
    arn = events[0].bus_arn
    if not rule_checks.is_allowed(arn, settings.BLOCKFORGER_ALLOWED_BUS_ARNS):
        # Rules are checked when they are saved; the operator may have become stricter since.
        answer = Answer(Verdict.BUS_REFUSED, code="BusNotAllowed", message="BLOCKFORGER_ALLOWED_BUS_ARNS lacks it.")
        return [(event, answer) for event in events]
    try:
        response = aws.events_client(arn.split(":")[3]).put_events(Entries=[entry_of(event) for event in events])
        return list(zip(events, map(answers.of_entry, response["Entries"]), strict=True))
    except (ClientError, BotoCoreError) as error:
        answer = answers.of_failed_call(error)
        logger.warning("PutEvents to %s failed: %s: %s", arn, answer.code, answer.message)
    except Exception as error:  # whatever it is, the answers of the other calls must be recorded
        answer = Answer(Verdict.RETRY, code=type(error).__name__, message=str(error)[:500])
        logger.exception("PutEvents to %s gave an answer that cannot be read.", arn)
    if answer.verdict is Verdict.REFUSED and len(events) > 1:
        half = len(events) // 2
        return _call(lease, events[:half]) + _call(lease, events[half:])
    return [(event, answer) for event in events]


def _holder() -> str:
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"
