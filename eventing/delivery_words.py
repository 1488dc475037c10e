"""What became of an event, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone

from eventing.models import EventBus, OutboxStatus
from eventing.outbox import RETRY_FOR

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from eventing.models import OutboxEvent

_POLICY = "Have the bus's policy allow it, then send the event once more."
_RULE = "EventBridge will never take it as it is. Mend the rule for the events to come."
_PASSING = "That may be over: send the event once more."
_REMEDIES = {
    **dict.fromkeys(("MalformedDetail", "InvalidArgument", "ValidationException", "RedactionFailure"), _RULE),
    **dict.fromkeys(("NotAuthorizedForSourceException", "NotAuthorizedForDetailTypeException"), _POLICY),
    **dict.fromkeys(("AccessDenied", "AccessDeniedException", "NotAuthorized"), _POLICY),
}


def latency(event: OutboxEvent) -> str:
    """From the write to the bus."""
    return duration(event.delivered_at - event.time) if event.delivered_at else ""


def duration(time: timedelta) -> str:
    seconds = max(0.0, time.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days"


def error(event: OutboxEvent) -> str:
    """What was said at the last attempt that failed, in full."""
    return ": ".join(filter(None, (event.error_code, event.error_message)))


def story(event: OutboxEvent) -> list[str]:
    """Sentences: what became of the event, what will, and what to do."""
    match event.status:
        case OutboxStatus.DELIVERED:
            told = _of_delivered(event)
        case OutboxStatus.DEAD:
            told = [
                f"Given up after {_attempts(event)}.",
                *([f"The last answer: {error(event)}"] if error(event) else []),
                _REMEDIES.get(event.error_code, _PASSING),
            ]
        case _:
            told = _of_pending(event)
    if event.replay_id:
        told.append(f"It was sent once more by replay {event.replay_id}: attempts and errors are those since then.")
    return told


def _of_delivered(event: OutboxEvent) -> list[str]:
    if event.delivered_at is None:
        return ["Delivered."]
    which = "the first attempt" if event.attempts == 1 else f"attempt {event.attempts}"
    return [f"Accepted by EventBridge at {_time(event.delivered_at)}, {latency(event)} after the write, at {which}."]


def _of_pending(event: OutboxEvent) -> list[str]:
    told = []
    if event.attempts:
        told.append(f"Tried in vain: {_attempts(event)}. The last answer: {error(event) or 'none'}")
    bus = EventBus.objects.filter(arn=event.bus_arn).first()
    if bus and bus.paused_until and bus.paused_until > timezone.now():
        told.append(f"Its bus is paused until {_time(bus.paused_until)}, then tried again. {bus.pause_reason}".strip())
    elif event.next_attempt_at:
        told.append(f"Next attempt at about {_time(event.next_attempt_at)}.")
    else:
        told.append("Its turn is next in its queue.")
    if event.failing_since:
        told.append(f"If nothing changes, it is given up at {_time(event.failing_since + RETRY_FOR)}.")
    return told


def _attempts(event: OutboxEvent) -> str:
    return "1 attempt" if event.attempts == 1 else f"{event.attempts} attempts"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
