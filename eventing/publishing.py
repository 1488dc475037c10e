"""Publishing: from the outbox to EventBridge, at least once, each stream in order.

An event is accepted twice only if AWS accepted it and that was not recorded: because the publisher died in between, or
lost its lease, or because the answer was lost. One that dies leaves at most UNRECORDED_AT_MOST such events; a lost
answer, those of its call. They come again with the same id in `Resources`.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.db import close_old_connections, connection
from django.utils import timezone

from eventing import answers, aws, bus_questions, buses, lanes, outbox, rule_checks
from eventing.answers import Answer, Verdict
from eventing.entries import MAX_ENTRIES, body_of, take_call
from eventing.outbox import Tally

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
    from datetime import datetime

    from eventing.buses import Finding
    from eventing.entries import Ready
    from eventing.lanes import Lease

logger = logging.getLogger(__name__)

# Of the lanes that have something and are free, half are leased, but so many at least: so publishers share them,
# however many they are.
LEAST_LANES = 8
# Twice as many are a few per cent faster, and make another tenant's single event wait twice as long.
EVENTS_PER_LEASE = 1000
SENDING_THREADS = 16
# Answers are written down when there are so many, or no call is under way.
ANSWERS_PER_RECORD = 100
# Events that may be accepted and not recorded, at any instant: no call begins that could make them more.
UNRECORDED_AT_MOST = ANSWERS_PER_RECORD + SENDING_THREADS * MAX_ENTRIES
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

_Results = list[tuple["Ready", Answer]]


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


@contextmanager
def _hands() -> Iterator[tuple[ThreadPoolExecutor, _Asides]]:
    """The threads that send, and the calls aside in threads of their own."""
    with (
        ThreadPoolExecutor(ASIDE_THREADS, thread_name_prefix="aside") as aside_threads,
        ThreadPoolExecutor(SENDING_THREADS, thread_name_prefix="put-events") as threads,
    ):
        yield threads, _Asides(aside_threads)


def drain(*, seconds: float = float("inf"), as_of: datetime | None = None) -> Tally:
    """Publish until nothing can be sent, or that many seconds have passed. Returns what became of the events.

    With `as_of`, only what could be sent at that time: then nothing is tried twice, and the end is certain.
    """
    with _hands() as (threads, asides):
        total = _drain(threads, asides, ends_at=time.monotonic() + seconds, as_of=as_of)
        return total + asides.settle(wait_seconds=None)


def _drain(threads: ThreadPoolExecutor, asides: _Asides, *, ends_at: float, as_of: datetime | None = None) -> Tally:
    """The same, but for what is aside when the time is over."""
    total = Tally()
    while time.monotonic() < ends_at:
        tally = publish_some(threads, asides, at=as_of or timezone.now())
        if tally is None and not asides:
            break
        total += tally or Tally()
        total += asides.settle(wait_seconds=_GLANCE_SECONDS if tally is None else 0.0)
    return total


def run(stopping: threading.Event, *, interval: float) -> None:
    """Publish until stopped, looking at an empty outbox every `interval` seconds; faults are logged and waited out."""
    with _hands() as (threads, asides):
        while not stopping.is_set():
            close_old_connections()
            try:
                # What is aside stays so, however long: no round waits for a bus that does not answer.
                tally = _drain(threads, asides, ends_at=time.monotonic() + 1)
            except Exception:  # the outermost loop: whatever it was, the outbox still has the events
                logger.exception("Publishing failed; trying again.")
                connection.close()
                stopping.wait(_AFTER_FAULT_SECONDS)
                continue
            if tally == Tally() and not asides:
                stopping.wait(interval)
        asides.settle(wait_seconds=None)


def publish_some(threads: ThreadPoolExecutor, asides: _Asides, *, at: datetime) -> Tally | None:
    """Lease some lanes, send what is next in them, and give them back. None if there was nothing to do.

    A probe goes aside, and keeps its event's lane until it is answered.
    """
    found = outbox.lanes_with_work(at=at)
    lease = lanes.lease(found, at_most=max(LEAST_LANES, len(found) // 2), holder=_holder())
    if lease is None:
        return None
    probes: dict[str, Ready] = {}
    try:
        events = outbox.batch(lease.fences, at_most=EVENTS_PER_LEASE, at=at)
        total = Tally()
        if disallowed := outbox.disallowed(events):
            total += outbox.record(lease, [(event, _NOT_ALLOWED) for event in disallowed])
            refused = {event.pk for event in disallowed}
            events = [event for event in events if event.pk not in refused]
        arns = {event.bus_arn for event in events}
        turns = buses.take_turns(arns, checked={arn for arn in arns if _is_allowed(arn)})
        for arn in turns.checks:
            asides.begin(partial(bus_questions.describe, arn), partial(_finish_check, arn))
        probes |= {event.bus_arn: event for event in reversed(events) if event.bus_arn in turns.probes}
        _begin_probes(lease, list(probes.values()), asides)
        with closing(_send(lease, [event for event in events if event.bus_arn in turns.sends], threads)) as sending:
            for results in sending:
                recorded = outbox.record(lease, results)
                total += recorded
                if recorded.events < len(results):
                    break  # somebody else has lanes of ours, and sends on; or events are gone, with their tenant
    finally:
        lanes.release(lease.without({event.lane for event in probes.values()}))
    return total


def _begin_probes(lease: Lease, events: Sequence[Ready], asides: _Asides) -> None:
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


def _finish_check(arn: str, finding: Finding) -> Tally:
    buses.note_finding(arn, finding)
    return Tally()


def _send(lease: Lease, events: Iterable[Ready], threads: ThreadPoolExecutor) -> Generator[_Results, None, None]:
    """Send the first event of every stream, and the next on its answer; give the answers as they come, some at a time.

    Buses do not wait for each other. No more calls are under way than there are threads, and fewer while many answers
    wait to be recorded: a publisher that is killed leaves little to be sent twice.
    """
    under_way: dict[Future[_Results], Sequence[Ready]] = {}
    try:
        yield from _answers(lease, _Backlog(events), under_way, threads)
    finally:
        wait(under_way)  # whatever happened: nobody else is to have these lanes while they are on their way


def _answers(
    lease: Lease,
    backlog: _Backlog,
    under_way: dict[Future[_Results], Sequence[Ready]],
    threads: ThreadPoolExecutor,
) -> Iterator[_Results]:
    done: SimpleQueue[Future[_Results]] = SimpleQueue()
    failures: Counter[str] = Counter()
    answered: _Results = []
    while True:
        busy = {call[0].bus_arn for call in under_way.values()}
        calls = min(SENDING_THREADS, (UNRECORDED_AT_MOST - len(answered)) // MAX_ENTRIES)
        for call in backlog.take(busy, at_most=calls - len(under_way)):
            future = threads.submit(_call, lease, call, failures)
            under_way[future] = call
            future.add_done_callback(done.put)
        if answered and (len(answered) >= ANSWERS_PER_RECORD or not under_way):
            yield answered
            answered = []
            continue
        if not under_way:
            return
        for _ in range(max(1, done.qsize())):
            future = done.get()
            results = future.result()
            backlog.settle(under_way.pop(future), results)
            answered += results


class _Backlog:
    """What is still to be sent: of each stream only the first event may go, the next is decided by its answer."""

    def __init__(self, events: Iterable[Ready]) -> None:
        self._streams: dict[int, deque[Ready]] = {}
        for event in events:
            self._streams.setdefault(event.stream, deque()).append(event)
        # By bus: what may go next.
        self._next: dict[str, deque[Ready]] = {}
        for stream in self._streams.values():
            self._next.setdefault(stream[0].bus_arn, deque()).append(stream[0])

    def take(self, busy: Collection[str], *, at_most: int) -> list[Sequence[Ready]]:
        """Calls that may begin now, the buses taking turns.

        One that would not be full waits for more events, while an answer of its bus is awaited that may bring them.
        """
        calls: list[Sequence[Ready]] = []
        ready = {arn for arn, events in self._next.items() if len(events) >= MAX_ENTRIES or arn not in busy}
        while ready and len(calls) < at_most:
            for arn in sorted(ready)[: at_most - len(calls)]:
                calls.append(take_call(self._next[arn], max_bytes=settings.BLOCKFORGER_MAX_EVENT_BYTES))
                if len(self._next[arn]) < MAX_ENTRIES:
                    ready.remove(arn)
                if not self._next[arn]:
                    del self._next[arn]
        return calls

    def settle(self, call: Sequence[Ready], results: _Results) -> None:
        """Let streams go on whose first event is settled; one whose event must wait, or got no answer, ends here."""
        answers = {event.stream: answer for event, answer in results}
        for event in call:
            stream, answer = self._streams[event.stream], answers.get(event.stream)
            stream.popleft()
            if stream and answer is not None and answer.verdict not in {Verdict.RETRY, Verdict.BUS_REFUSED}:
                self._next.setdefault(event.bus_arn, deque()).append(stream[0])


def _call(lease: Lease, events: Sequence[Ready], failures: Counter[str]) -> _Results:
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
        response = aws.events_calls(arn.split(":")[3])("PutEvents", body_of(events))
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
