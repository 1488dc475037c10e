"""Publishing: from the outbox to EventBridge, at least once, each stream in order."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.db import close_old_connections, connection
from django.utils import timezone

from eventing import answers, aws, buses, lanes, outbox, rule_checks
from eventing.answers import Answer, Verdict
from eventing.buses import Existence, Finding
from eventing.entries import calls_of, entry_of
from eventing.outbox import Tally

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from eventing.lanes import Lease
    from eventing.models import OutboxEvent

logger = logging.getLogger(__name__)

LANES_PER_LEASE = 16
EVENTS_PER_LEASE = 500
SENDING_THREADS = 16
# For calls to buses that may not answer; so they leave the others their threads.
ASIDE_THREADS = 8

# No call begins with less than this left of the lease: its time-outs (3 s to connect, 10 s to read) end it before.
_LONGEST_CALL_SECONDS = 20

_AFTER_FAULT_SECONDS = 1.0
# How often an empty outbox is looked at while calls aside are under way.
_GLANCE_SECONDS = 0.2
_NOT_ALLOWED = Answer(
    Verdict.REFUSED, code="BusNotAllowed", message="The tenant's allowed buses no longer include this one."
)

_Results = list[tuple["OutboxEvent", Answer]]
_Streams = dict[int, deque["OutboxEvent"]]


class _Asides:
    """Calls that no other event waits for: probes of buses, and questions whether they exist."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._calls: dict[Future[Any], Callable[[Any], Tally]] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def begin(self, call: Callable[[], Any], finish: Callable[[Any], Tally]) -> None:
        """Make the call in a thread; `finish` gets its result in the thread that settles."""
        self._calls[self._threads.submit(call)] = finish

    def settle(self, *, wait_seconds: float | None = 0.0) -> Tally:
        """Finish what has been answered, after waiting that long for one more answer; None: all, however long."""
        if wait_seconds is None:
            wait(self._calls)
        elif wait_seconds > 0:
            wait(self._calls, timeout=wait_seconds, return_when=FIRST_COMPLETED)
        total = Tally()
        for call in [call for call in self._calls if call.done()]:
            total += self._calls.pop(call)(call.result())
        return total


def drain(*, seconds: float = float("inf"), as_of: datetime | None = None) -> Tally:
    """Publish until nothing can be sent, or that many seconds have passed. Returns what became of the events.

    With `as_of`, only what could be sent at that time: then nothing is tried twice, and the end is certain.
    """
    ends_at = time.monotonic() + seconds
    total = Tally()
    with (
        ThreadPoolExecutor(ASIDE_THREADS, thread_name_prefix="aside") as aside_threads,
        ThreadPoolExecutor(SENDING_THREADS, thread_name_prefix="put-events") as threads,
    ):
        asides = _Asides(aside_threads)
        while time.monotonic() < ends_at:
            tally = publish_some(threads, asides, at=as_of or timezone.now())
            if tally is None and not asides:
                break
            total += tally or Tally()
            total += asides.settle(wait_seconds=_GLANCE_SECONDS if tally is None else 0.0)
        return total + asides.settle(wait_seconds=None)


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


def publish_some(threads: ThreadPoolExecutor, asides: _Asides, *, at: datetime) -> Tally | None:
    """Lease some lanes, send what is next in them, and give them back. None if there was nothing to do.

    A probe goes aside, and keeps its event's lane until it is answered.
    """
    lease = lanes.lease(outbox.lanes_with_work(at=at), at_most=LANES_PER_LEASE, holder=_holder())
    if lease is None:
        return None
    probes: dict[str, OutboxEvent] = {}
    try:
        events = outbox.batch(lease.fences, at_most=EVENTS_PER_LEASE, at=at)
        total = Tally()
        if disallowed := outbox.disallowed(events):
            total += outbox.record(lease, [(event, _NOT_ALLOWED) for event in disallowed])
            events = [event for event in events if event not in disallowed]
        arns = {event.bus_arn for event in events}
        turns = buses.take_turns(arns, checked={arn for arn in arns if _is_allowed(arn)})
        for arn in turns.checks:
            asides.begin(partial(_describe, arn), partial(_finish_check, arn))
        probes |= {event.bus_arn: event for event in reversed(events) if event.bus_arn in turns.probes}
        _begin_probes(lease, list(probes.values()), asides)
        for results in _send(lease, [event for event in events if event.bus_arn in turns.sends], threads):
            total += outbox.record(lease, results)
    finally:
        lanes.release(lease.without({event.lane for event in probes.values()}))
    return total


def _begin_probes(lease: Lease, events: Sequence[OutboxEvent], asides: _Asides) -> None:
    """Send these events, each alone to its bus, and keep each one's lane until it is answered."""
    under_way = Counter(event.lane for event in events)

    def finish(lane: int, results: _Results) -> Tally:
        tally = outbox.record(lease, results, is_probe=True)
        under_way[lane] -= 1
        if not under_way[lane]:
            lanes.release(lease.without(lease.fences.keys() - {lane}))
        return tally

    for event in events:
        asides.begin(partial(_call, lease, [event], Counter()), partial(finish, event.lane))


def _describe(arn: str) -> Finding:
    """Ask whether the bus exists. An ARN names buses of other accounts too (API reference of DescribeEventBus)."""
    region, account = arn.split(":")[3:5]
    try:
        aws.bus_checks_client(region).describe_event_bus(Name=arn)
    except aws.ERRORS as error:
        finding = buses.finding_of(error)
        if finding.existence is Existence.MISSING and _is_of_another_account(account):
            finding = Finding(Existence.ELSEWHERE, finding.error)
        logger.warning("DescribeEventBus of %s: %s", arn, finding.error)
        return finding
    return Finding(Existence.FOUND)


def _is_of_another_account(account: str) -> bool:
    """False also if we cannot find out: events that wait can be seen, swallowed ones cannot."""
    try:
        return aws.own_account() != account
    except aws.ERRORS as error:
        logger.warning("GetCallerIdentity: %s", error)
        return False


def _finish_check(arn: str, finding: Finding) -> Tally:
    buses.note_finding(arn, finding)
    return Tally()


def _send(lease: Lease, events: Iterable[OutboxEvent], threads: ThreadPoolExecutor) -> Iterator[_Results]:
    """Send the events in waves: each takes the first of every stream of a bus, and the next follows on its answer.

    Buses do not wait for each other.
    """
    streams_of: dict[str, _Streams] = {}
    for event in events:
        streams_of.setdefault(event.bus_arn, {}).setdefault(event.stream, deque()).append(event)
    failures: Counter[str] = Counter()
    waves = {arn: _begin_wave(lease, streams, failures, threads) for arn, streams in streams_of.items()}
    while waves:
        under_way = {call for calls in waves.values() for call in calls if not call.done()}
        answered = [arn for arn, calls in waves.items() if under_way.isdisjoint(calls)]
        if not answered:
            wait(under_way, return_when=FIRST_COMPLETED)
            continue
        results = {arn: [result for call in waves.pop(arn) for result in call.result()] for arn in answered}
        if any(results.values()):
            yield [result for of_bus in results.values() for result in of_bus]
        for arn, of_bus in results.items():
            _advance(streams_of[arn], {event.stream: answer for event, answer in of_bus})
            if streams_of[arn]:
                waves[arn] = _begin_wave(lease, streams_of[arn], failures, threads)


def _begin_wave(
    lease: Lease, streams: _Streams, failures: Counter[str], threads: ThreadPoolExecutor
) -> list[Future[_Results]]:
    calls = calls_of([stream[0] for stream in streams.values()], max_bytes=settings.BLOCKFORGER_MAX_EVENT_BYTES)
    return [threads.submit(_call, lease, call, failures) for call in calls]


def _advance(streams: _Streams, answered: dict[int, Answer]) -> None:
    """Drop what is settled; a stream whose first event must wait, or got no answer, waits as a whole."""
    for key, stream in list(streams.items()):
        answer = answered.get(key)
        stream.popleft()
        if not stream or answer is None or answer.verdict in {Verdict.RETRY, Verdict.BUS_REFUSED}:
            del streams[key]


def _call(lease: Lease, events: Sequence[OutboxEvent], failures: Counter[str]) -> _Results:
    """Send one call. Events get no answer, and stay as they are, if the lease leaves no time or the bus keeps failing.

    `failures` are those of the round, by bus: so the rest of a wave does not wait for one time-out after another.
    """
    arn = events[0].bus_arn
    if lease.seconds_left() < _LONGEST_CALL_SECONDS or failures[arn] >= buses.OPEN_AFTER:
        return []
    if not _is_allowed(arn):
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
        answer = Answer(Verdict.RETRY, code=type(error).__name__, message=str(error)[:500], is_of_call=True)
        logger.exception("PutEvents to %s gave an answer that cannot be read.", arn)
    if answer.verdict is Verdict.REFUSED and len(events) > 1:
        half = len(events) // 2
        return _call(lease, events[:half], failures) + _call(lease, events[half:], failures)
    failures[arn] += answer.verdict is Verdict.RETRY
    return [(event, answer) for event in events]


def _is_allowed(arn: str) -> bool:
    return rule_checks.is_allowed(arn, settings.BLOCKFORGER_ALLOWED_BUS_ARNS)


def _holder() -> str:
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"
