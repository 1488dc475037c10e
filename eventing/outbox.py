"""The outbox: which events wait, which of them may go now, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
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
_DELIVER = """
WITH held AS ({held}){and_trusted}
UPDATE eventing_outboxevent
SET status = 'delivered', attempts = attempts + 1, failing_since = NULL, error_code = '', error_message = '',
    delivered_at = %(now)s, eventbridge_id = answer.given
FROM {answers}
WHERE eventing_outboxevent.id = answer.id AND eventing_outboxevent.lane IN (SELECT id FROM held)
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
    now = timezone.now()
    if connection.vendor == "postgresql" and all(answer.verdict is Verdict.ACCEPTED for _, answer in results):
        trusted = buses.trusted({event.bus_arn for event, _ in results})
        return Tally(delivered=_deliver(lease, results, now, and_trusted=trusted))
    with transaction.atomic():
        held = lanes.lock_held(lease)
        settled = [(event, answer) for event, answer in results if event.lane in held]
        accepted = [(event, answer) for event, answer in settled if answer.verdict is Verdict.ACCEPTED]
        failures = {event.pk: answer for event, answer in settled if answer.verdict is not Verdict.ACCEPTED}
        _deliver(lease, accepted, now)
        failed = _fail(failures, now)
        buses.note_answers([(event.bus_arn, answer) for event, answer in settled], now, is_probe=is_probe)
    held_back = sum(answer.verdict is Verdict.BUS_REFUSED for _, answer in failed)
    dead = sum(event.status == OutboxStatus.DEAD for event, _ in failed)
    return Tally(delivered=len(accepted), retried=len(failed) - held_back - dead, dead=dead, held=held_back)


def _deliver(
    lease: Lease,
    accepted: Sequence[tuple[Ready, Answer]],
    now: datetime,
    *,
    and_trusted: tuple[str, dict[str, str]] | None = None,
) -> int:
    """Mark those of lanes that are still held, and do what `and_trusted` says. Returns how many there were.

    One statement, because a CASE for each row and column would take longer than sending them; and on PostgreSQL
    nearly always the only one, since each way there and back is a wait for threads that are sending.
    """
    if not accepted:
        return 0
    given = [(event.pk, answer.event_id) for event, answer in accepted]
    answers, ids = value_rows.table("answer", ("id", "given"), given, ids={"id"})
    held, fences = lanes.held(lease)
    trusted, arns = and_trusted or ("", {})
    statement = _DELIVER.format(answers=answers, held=held, and_trusted=trusted and f", trusted AS ({trusted})")
    with connection.cursor() as cursor:
        moment = connection.ops.adapt_datetimefield_value(now)
        cursor.execute(statement, {**fences, **arns, **ids, "now": moment})
        return int(cursor.rowcount)


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
