"""The outbox: which events wait, which of them may go now, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from blockforger.backend import deadlocks, json_values
from eventing import backoff, buses, event_format, lanes, nudges, queues, rule_checks, rules, value_rows
from eventing.answers import Verdict
from eventing.models import AllowedBus, OutboxEvent, OutboxStatus
from tenants.new_rows import NewRows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from blockforger.backend.signals import ItemWritten
    from eventing.answers import Answer
    from eventing.entries import Ready
    from eventing.lanes import Lease

RETRY_FOR = timedelta(hours=24)
MAX_BYTES = 64 * 1024 * 1024
"""Of details that are in memory together."""

_RETRY_BASE, _RETRY_CAP = timedelta(seconds=1), timedelta(minutes=15)
_RESULT_FIELDS = [
    "status",
    "attempts",
    "next_attempt_at",
    "failing_since",
    "error_code",
    "error_message",
]
# Of the lanes `held`, a query beside it.
_DELIVER = """
UPDATE eventing_outboxevent
SET status = 'delivered', attempts = attempts + 1, failing_since = NULL, error_code = '', error_message = '',
    delivered_at = %(now)s, eventbridge_id = answer.given
FROM {answers}
WHERE eventing_outboxevent.id = answer.id AND eventing_outboxevent.lane IN (SELECT id FROM held)
"""
_RECORD = "WITH held AS ({held}) {deliver}"
_RECORD_AT_ONCE = """
WITH held AS ({held}), delivered AS ({deliver} RETURNING bus_arn), trusted AS ({trust})
SELECT count(*) FROM delivered
"""


_NEW_EVENT = NewRows(OutboxEvent)


def events_of(written: ItemWritten, **_: object) -> list[OutboxEvent]:
    """The unsaved events of a write: one for each rule that matches, in the order of the rules.

    The receiver of `item_written`; the backend saves them in the write's own transaction. Raises EventsTooLarge.
    """
    matching = rules.matching(
        written.tenant, written.schema, written.method, before=written.before, after=written.after
    )
    if not matching:
        return []
    whole = _detail(written, written.payload_text or json_values.compact(written.payload))
    item_urn = f"urn:blockforger:item:{written.tenant.name}:{written.schema.name}:{quote(written.item_key, safe='')}"
    events = []
    for place, rule in enumerate(matching):
        stream = lanes.stream_of(written.tenant.name, written.schema.name, written.item_key, rule.eventbridge_arn)
        detail = whole
        if rule.projection:
            payload = rules.payload_of(rule, written.schema, written.payload)
            detail = _detail(written, json_values.compact(payload))
        written.told.add(detail, item_urn, written.item_key, rule.source)
        events.append(
            _NEW_EVENT(
                tenant_id=written.tenant.pk,
                schema_name=written.schema.name,
                item_key=written.item_key,
                operation=written.method,
                sequence=written.sequence,
                place=place,
                rule_id=rule.pk,
                bus_arn=rule.eventbridge_arn,
                source=rule.source,
                detail_type=rules.detail_type_of(rule, written.schema.name, written.method),
                item_urn=item_urn,
                detail=detail,
                time=written.at,
                stream=stream,
                lane=lanes.lane_of(stream),
            )
        )
    return events


def _detail(written: ItemWritten, payload: str) -> str:
    return event_format.text_of_detail(written.tenant.name, written.schema.name, written.method, payload)


def nudge(**_: object) -> None:
    """Have what was committed sent soon: the receiver of `rows_committed`."""
    nudges.nudge()


def lanes_with_work(*, at: datetime) -> list[int]:
    """The lanes that nobody holds and in which something can be sent, or has become due."""
    due = queues.due(at).filter(lane=OuterRef("pk"))
    is_due = dict(lanes.free().annotate(is_due=Exists(due)).values_list("pk", "is_due"))
    with queues.in_index_order():
        ready = queues.ready_lanes((lane for lane in is_due if not is_due[lane]), at=at)
    return [lane for lane in is_due if is_due[lane] or lane in ready]


def batch(lane_ids: Collection[int], *, at_most: int, at: datetime) -> list[Ready]:
    """The next events of these lanes, each stream in order, the tenants taking turns, what is replayed coming last.

    An event whose time has come, or is found to wait for another of its stream, is filed anew on the way.
    """
    with queues.in_index_order():
        queues.make_ready(lane_ids, at_most=at_most, at=at)
        ids = queues.next_events(lane_ids, at_most=at_most, at=at)
    return queues.read(ids, at_most_bytes=MAX_BYTES)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many events were accepted, will be tried again, are dead, or wait for a paused bus."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0
    held: int = 0

    @property
    def events(self) -> int:
        return self.delivered + self.retried + self.dead + self.held

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.delivered + other.delivered,
            self.retried + other.retried,
            self.dead + other.dead,
            self.held + other.held,
        )


def record(lease: Lease, results: Sequence[tuple[Ready, Answer]], *, is_probe: bool = False) -> Tally:
    """Write the answers down, but for lanes that were lost meanwhile: their new holder decides."""
    return deadlocks.retried(lambda: _record(lease, results, is_probe=is_probe))


def _record(lease: Lease, results: Sequence[tuple[Ready, Answer]], *, is_probe: bool) -> Tally:
    if not results or not lease.fences:
        return Tally()
    if connection.vendor == "postgresql" and all(answer.verdict is Verdict.ACCEPTED for _, answer in results):
        return Tally(delivered=_deliver_at_once(lease, results))
    with transaction.atomic():
        held = lanes.lock_held(lease)
        settled = [(event, answer) for event, answer in results if event.lane in held]
        accepted = [(event, answer) for event, answer in settled if answer.verdict is Verdict.ACCEPTED]
        failures = {event.pk: answer for event, answer in settled if answer.verdict is not Verdict.ACCEPTED}
        now = timezone.now()
        if accepted:
            held_query, deliver, parameters = _delivery(lease, accepted, now)
            with connection.cursor() as cursor:
                cursor.execute(_RECORD.format(held=held_query, deliver=deliver), parameters)
        failed = _fail(failures, now)
        buses.note_answers([(event.bus_arn, answer) for event, answer in settled], now, is_probe=is_probe)
    held_back = sum(answer.verdict is Verdict.BUS_REFUSED for _, answer in failed)
    dead = sum(event.status == OutboxStatus.DEAD for event, _ in failed)
    return Tally(delivered=len(accepted), retried=len(failed) - held_back - dead, dead=dead, held=held_back)


def _deliver_at_once(lease: Lease, accepted: Sequence[tuple[Ready, Answer]]) -> int:
    """Record these, and what they say of their buses, but for lanes that were lost. Returns how many are recorded.

    One statement: each way there and back is a wait for the threads that send. It locks lanes as it comes to them,
    between one event and the next, and the buses last. Only PostgreSQL can.
    """
    held, deliver, parameters = _delivery(lease, accepted, timezone.now())
    trust = buses.TRUST.format(taking="(SELECT bus_arn AS arn FROM delivered) AS taking")
    with connection.cursor() as cursor:
        cursor.execute(_RECORD_AT_ONCE.format(held=held, deliver=deliver, trust=trust), parameters)
        return int(cursor.fetchone()[0])


def _delivery(lease: Lease, accepted: Sequence[tuple[Ready, Answer]], now: datetime) -> tuple[str, str, dict[str, Any]]:
    """The query for the lanes that are still held, the statement that names it `held`, and the parameters of both.

    One statement for all events: a CASE for each row and column would take longer than sending them.
    """
    given = [(event.pk, answer.event_id) for event, answer in accepted]
    answers, ids = value_rows.table("answer", ("id", "given"), given, ids={"id"})
    held, fences = lanes.held(lease)
    moment = connection.ops.adapt_datetimefield_value(now)
    return held, _DELIVER.format(answers=answers), {**fences, **ids, "now": moment}


def _fail(failures: Mapping[str, Answer], now: datetime) -> list[tuple[OutboxEvent, Answer]]:
    """The events, as their answers have changed them, and their answers."""
    if not failures:
        return []
    failed = [(event, failures[str(event.pk)]) for event in OutboxEvent.objects.filter(pk__in=failures)]
    for event, answer in failed:
        _apply(event, answer, now)
    OutboxEvent.objects.bulk_update([event for event, _ in failed], _RESULT_FIELDS)
    return failed


def _apply(event: OutboxEvent, answer: Answer, now: datetime) -> None:
    event.attempts += 1
    event.error_code, event.error_message = answer.code[:100], answer.message
    match answer.verdict:
        case Verdict.REFUSED:
            event.status, event.next_attempt_at = OutboxStatus.DEAD, now
        case Verdict.RETRY:
            event.failing_since = event.failing_since or now
            if now - event.failing_since >= RETRY_FOR:
                event.status = OutboxStatus.DEAD
            event.next_attempt_at = now + backoff.full_jitter(event.attempts, base=_RETRY_BASE, cap=_RETRY_CAP)
        case Verdict.BUS_REFUSED:
            # It waits for its bus, however long that takes, and begins anew afterwards.
            event.failing_since = None


def disallowed(events: Collection[Ready]) -> list[Ready]:
    """Those whose tenant may no longer name their bus: rules are checked only when they are saved."""
    patterns: dict[int, list[str]] = {}
    allowances = AllowedBus.objects.filter(tenant__in={event.tenant_id for event in events})
    for tenant_id, pattern in allowances.values_list("tenant_id", "arn_pattern"):
        patterns.setdefault(tenant_id, []).append(pattern)
    named = {(event.tenant_id, event.bus_arn) for event in events if event.tenant_id in patterns}
    refused = {(tenant, arn) for tenant, arn in named if not rule_checks.is_allowed(arn, patterns[tenant])}
    return [event for event in events if (event.tenant_id, event.bus_arn) in refused]
