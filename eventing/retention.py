"""What of the outbox, and of everything else that is kept for a time only, has had its time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import UUID

from django.utils import timezone

from blockforger.backend import retention
from blockforger.backend.retention import Expired
from eventing.models import OutboxEvent, OutboxStatus

if TYPE_CHECKING:
    from datetime import datetime

    from blockforger.backend.retention import Pace, Pruned

logger = logging.getLogger(__name__)


def expired() -> list[Expired]:
    """Everything that may go. Pending events never may, however old, nor ledger entries."""
    return [*_expired_events(), *retention.expired_records()]


def prune(pace: Pace) -> Pruned:
    """Delete what has had its time."""
    pruned = retention.prune(expired(), pace)
    if any(pruned.deleted.values()):
        logger.info("Pruned: %s.", ", ".join(f"{count} {name}" for name, count in pruned.deleted.items()))
    return pruned


def _expired_events() -> list[Expired]:
    now = timezone.now()
    delivered_before = now - retention.kept_for("BLOCKFORGER_KEEP_OUTBOX_DAYS")
    died_before = now - retention.kept_for("BLOCKFORGER_KEEP_DEAD_EVENTS_DAYS")
    # What was settled before a time was written before it: the id only bounds the search, by the primary key.
    delivered = OutboxEvent.objects.filter(
        id__lt=_first_id_of(delivered_before), status=OutboxStatus.DELIVERED, delivered_at__lt=delivered_before
    )
    dead = OutboxEvent.objects.filter(
        id__lt=_first_id_of(died_before), status=OutboxStatus.DEAD, next_attempt_at__lt=died_before
    )
    return [Expired("delivered events", delivered, by="id"), Expired("dead events", dead, by="id")]


def _first_id_of(moment: datetime) -> UUID:
    """The lowest id that an event of that moment can have: a UUIDv7 begins with its milliseconds."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
