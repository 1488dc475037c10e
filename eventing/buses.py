"""Buses: which may be sent to, which are left alone and why, and whether they exist at all.

PutEvents to a bus that does not exist answers *success* and drops the events. So a bus is described before its first
event, and again from time to time. A bus that refuses us, or whose calls keep failing, is paused and then probed with
one event at a time. What is known of a bus is in its row; decisions are functions of the row (docs/decisions/0007).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from django.db import connection
from django.utils import timezone

from eventing import backoff, value_rows
from eventing.answers import Verdict
from eventing.models import EventBus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from django.db.models import QuerySet

    from eventing.answers import Answer

CHECK_EVERY = timedelta(minutes=10)
CHECK_AGAIN_AFTER_FAULT = timedelta(seconds=30)

OPEN_AFTER = 5
"""Calls to a bus that fail one after the other until its circuit breaker opens."""

# How long a probe or a check may take before somebody else may try: longer than the time-outs of its call.
_TURN = timedelta(seconds=30)
# A bus that refuses us waits for a person, one that fails for AWS: the latter is worth asking more often.
_REFUSED_BASE, _REFUSED_CAP = timedelta(seconds=15), timedelta(minutes=15)
_OPEN_BASE, _OPEN_CAP = timedelta(seconds=5), timedelta(minutes=2)
_MISSING_BASE = timedelta(seconds=15)

# A bus that takes an event is trusted. Of each round: Django would compose it anew each time.
TRUST = """
UPDATE eventing_eventbus SET refusals = 0, failures = 0, paused_until = NULL, pause_reason = ''
WHERE missing_since IS NULL AND (refusals > 0 OR failures > 0) AND arn IN (SELECT arn FROM {taking})
"""

_DENIED_CODES = {"AccessDenied", "AccessDeniedException", "NotAuthorized"}

_Changes = dict[str, Any]


class Standing(Enum):
    """What may be sent to a bus."""

    TRUSTED = auto()
    # One event; more when it was accepted.
    PROBE = auto()
    # Nothing before DescribeEventBus has answered.
    CHECK_FIRST = auto()
    # Nothing: it is paused.
    HELD = auto()


class Existence(Enum):
    """What DescribeEventBus said of a bus."""

    FOUND = auto()
    MISSING = auto()
    # We may not ask.
    DENIED = auto()
    # It is not seen, but it is another account's, of which we would see none without that bus's own permission.
    ELSEWHERE = auto()
    # It gave no answer, which says nothing of the bus.
    UNANSWERED = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of DescribeEventBus, and its text where it is an error."""

    existence: Existence
    error: str = ""


@dataclass(slots=True)
class Turns:
    """What one publisher may do next. Events for buses that are in none of these wait."""

    # To these events are sent as they come.
    sends: set[str] = field(default_factory=set)
    # These it alone probes with one event.
    probes: set[str] = field(default_factory=set)
    # These it alone describes.
    checks: set[str] = field(default_factory=set)


# --- Decisions ------------------------------------------------------------------------------------------------------


def standing(bus: EventBus, now: datetime, *, is_checked: bool = True) -> Standing:
    """What may be sent to the bus; `is_checked` tells whether DescribeEventBus is to be asked about it."""
    if _is_paused(bus, now):
        return Standing.HELD
    if is_checked and (bus.missing_since is not None or not _was_checked(bus)):
        return Standing.CHECK_FIRST
    return Standing.PROBE if _is_distrusted(bus) else Standing.TRUSTED


def is_check_due(bus: EventBus, now: datetime) -> bool:
    """Whether it is time to describe a bus that is sent to meanwhile."""
    return bus.next_check_at is None or bus.next_check_at <= now


def after_check(bus: EventBus, finding: Finding, now: datetime) -> _Changes:
    """What changes on the bus by a finding.

    A fault of the check itself holds up nothing, but a bus that was missing stays so until it has been found.
    """
    if finding.existence is Existence.MISSING:
        return _missing(bus.missing_since or now, now, how_to_make(bus.arn))
    if finding.existence is Existence.UNANSWERED:
        if bus.missing_since is not None:
            return _missing(bus.missing_since, now, bus.pause_reason)
        note = f"DescribeEventBus gave no answer ({finding.error}): events are sent without proof that the bus exists."
        return {
            "verification_note": note,
            "next_check_at": now + CHECK_AGAIN_AFTER_FAULT,
            **({} if _was_checked(bus) else _unpaused()),
        }
    note = ""
    if finding.existence is Existence.DENIED:
        note = (
            "The permission events:DescribeEventBus for this bus is lacking, so nobody notices if the bus does not"
            f" exist: EventBridge would then accept its events and drop them. ({finding.error})"
        )
    if finding.existence is Existence.ELSEWHERE:
        note = (
            "DescribeEventBus does not show it to us, as with any bus of another account whose own policy does not"
            f" allow us events:DescribeEventBus: nobody notices if it does not exist. ({finding.error})"
        )
    first_or_found_again = bus.missing_since is not None or not _was_checked(bus)
    return {
        "verified_at": now,
        "verification_note": note,
        "missing_since": None,
        "next_check_at": now + CHECK_EVERY,
        **(_unpaused() if first_or_found_again else {}),
    }


def after_refusal(bus: EventBus, answer: Answer, now: datetime, *, is_probe: bool) -> _Changes:
    """What changes on a bus that refused us. Calls that were under way when it did so count once."""
    changes: _Changes = {"pause_reason": f"{answer.code}: {answer.message}"}
    if is_probe or not _is_paused(bus, now):
        refusals = bus.refusals + 1
        pause = backoff.doubled(refusals, base=_REFUSED_BASE, cap=_REFUSED_CAP)
        changes |= {"refusals": refusals, "paused_until": now + pause}
    return changes


def after_failures(bus: EventBus, calls: int, answer: Answer, now: datetime, *, is_probe: bool) -> _Changes:
    """What changes on a bus by that many calls that failed as a whole, `answer` being the last one's.

    However many fail at once, they only open the breaker; from there on each failed probe makes the pause longer.
    """
    if is_probe:
        failures = max(bus.failures, OPEN_AFTER - 1) + 1
    elif _is_paused(bus, now):
        return {}
    else:
        failures = max(bus.failures, min(bus.failures + calls, OPEN_AFTER))
    if failures < OPEN_AFTER:
        return {"failures": failures}
    pause = backoff.doubled(failures - OPEN_AFTER + 1, base=_OPEN_BASE, cap=_OPEN_CAP)
    return {
        "failures": failures,
        "paused_until": now + pause,
        "pause_reason": f"Its calls keep failing, {failures} in a row; one event is tried from time to time."
        f" The last failure was {answer.code}: {answer.message}",
    }


def finding_of(error: Exception) -> Finding:
    """What a failed DescribeEventBus says of the bus."""
    code, text = type(error).__name__, str(error)
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        text = f"{code}: {error.response.get('Error', {}).get('Message', '')}"
    if code == "ResourceNotFoundException":
        return Finding(Existence.MISSING, text)
    return Finding(Existence.DENIED if code in _DENIED_CODES else Existence.UNANSWERED, text)


# --- Rows -----------------------------------------------------------------------------------------------------------


def paused(now: datetime) -> QuerySet[EventBus]:
    """The buses to which nothing is sent now."""
    return EventBus.objects.filter(paused_until__gt=now)


def take_turns(arns: Collection[str], *, checked: Collection[str]) -> Turns:
    """Find out what may be sent to these buses, and reserve the probes and checks that are due.

    Only those in `checked` are described. One query, and nothing is written, if all buses are in order.
    """
    now = timezone.now()
    known = {bus.arn: bus for bus in EventBus.objects.filter(arn__in=arns)}
    if unseen := set(checked) - known.keys():
        EventBus.objects.bulk_create([EventBus(arn=arn) for arn in sorted(unseen)], ignore_conflicts=True)
    turns = Turns()
    for arn in arns:
        _take_turn(turns, known.get(arn) or EventBus(arn=arn), now, is_checked=arn in checked)
    return turns


def _take_turn(turns: Turns, bus: EventBus, now: datetime, *, is_checked: bool) -> None:
    turn, ahead = standing(bus, now, is_checked=is_checked), now + _TURN
    if turn is Standing.CHECK_FIRST:
        reason = bus.pause_reason or "DescribeEventBus is asked whether the bus exists."
        if _reserve(bus, paused_until=ahead, next_check_at=ahead, pause_reason=reason):
            turns.checks.add(bus.arn)
    elif turn is not Standing.HELD and is_checked and is_check_due(bus, now) and _reserve(bus, next_check_at=ahead):
        turns.checks.add(bus.arn)
    if turn is Standing.TRUSTED:
        turns.sends.add(bus.arn)
    elif turn is Standing.PROBE and _reserve(bus, paused_until=ahead):
        turns.probes.add(bus.arn)


def _reserve(bus: EventBus, **changes: Any) -> bool:
    """Change columns of the bus if nobody has changed them since it was read."""
    unchanged = {name: getattr(bus, name) for name in changes}
    return EventBus.objects.filter(arn=bus.arn, **unchanged).update(**changes) == 1


def note_finding(arn: str, finding: Finding) -> None:
    """Write down what DescribeEventBus said."""
    bus = EventBus.objects.get(arn=arn)
    EventBus.objects.filter(pk=bus.pk).update(**after_check(bus, finding, timezone.now()))


def note_answers(answers: Iterable[tuple[str, Answer]], now: datetime, *, is_probe: bool) -> None:
    """Write down what the answers to events, each with its bus, say of the buses. Runs in the caller's transaction.

    For buses that are well, it writes nothing.
    """
    accepted: set[str] = set()
    answered: set[str] = set()
    refusals: dict[str, Answer] = {}
    failures: dict[str, dict[int, Answer]] = {}
    for arn, answer in answers:
        if answer.verdict is Verdict.ACCEPTED:
            accepted.add(arn)
        elif answer.verdict is Verdict.BUS_REFUSED:
            refusals[arn] = answer
        elif answer.verdict is Verdict.RETRY and answer.is_of_call:
            failures.setdefault(arn, {})[id(answer)] = answer  # a call's entries share their answer
        else:
            answered.add(arn)  # the event failed, not the call
    for arn in sorted(refusals.keys() | (failures.keys() - accepted - answered)):
        bus, _ = EventBus.objects.select_for_update().get_or_create(arn=arn)
        if bus.missing_since is not None:
            continue  # what comes of calls that were under way says nothing
        if arn in refusals:
            changes = after_refusal(bus, refusals[arn], now, is_probe=is_probe)
        else:
            *_, last = failures[arn].values()
            changes = after_failures(bus, len(failures[arn]), last, now, is_probe=is_probe)
        EventBus.objects.filter(pk=bus.pk).update(**changes)
    _note_good_signs(accepted - refusals.keys(), answered - accepted - refusals.keys(), is_probe=is_probe)


def _note_good_signs(accepted: Collection[str], answered: Collection[str], *, is_probe: bool) -> None:
    """A bus that takes an event is trusted; one that answers closes its breaker, even if it did not like the event."""
    there = EventBus.objects.filter(missing_since=None)
    if accepted:
        taking, arns = value_rows.table("taking", ("arn",), [(arn,) for arn in accepted])
        with connection.cursor() as cursor:
            cursor.execute(TRUST.format(taking=taking), arns)
    if answered:
        there.filter(arn__in=answered, failures__gt=0, refusals=0).update(failures=0, **_unpaused())
    if answered and is_probe:
        there.filter(arn__in=answered, refusals__gt=0).update(paused_until=None)  # let the next event be the probe


def _was_checked(bus: EventBus) -> bool:
    return bus.verified_at is not None or bool(bus.verification_note)


def _is_distrusted(bus: EventBus) -> bool:
    return bus.refusals > 0 or bus.failures >= OPEN_AFTER


def _is_paused(bus: EventBus, now: datetime) -> bool:
    return bus.paused_until is not None and bus.paused_until > now


def _unpaused() -> _Changes:
    return {"paused_until": None, "pause_reason": ""}


def _missing(since: datetime, now: datetime, reason: str) -> _Changes:
    """Look again after as long as it has been missing, so at intervals that double."""
    again_at = now + min(max(now - since, _MISSING_BASE), CHECK_EVERY)
    return {
        "missing_since": since,
        "verification_note": "",
        "paused_until": again_at,
        "next_check_at": again_at,
        "pause_reason": reason,
    }


def how_to_make(arn: str) -> str:
    """What to do about a bus that does not exist."""
    _, _, _, region, account, resource = arn.split(":", 5)
    name = resource.partition("/")[2]
    return (
        f"The bus does not exist, and EventBridge would drop its events, so they wait here. In account {account}, make"
        f" it with `aws events create-event-bus --name {name} --region {region}`; it is noticed by itself."
    )
