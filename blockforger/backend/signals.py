"""What the backend tells the rest of the product: one signal for each item written, one for each event settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from django.dispatch import Signal

from blockforger.backend.errors import EventsTooLarge

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import Method, Schema
    from blockforger.backend.problems import Problem
    from tenants.models import Tenant

MAX_TOLD_BYTES = 256 * 1024 * 1024
"""Of what is told of an operation, and of those of a transaction. PostgreSQL takes parameters of 1 GiB together, in
which JSON escapes a text: three bytes for one at the worst."""
# What a row has besides its texts, roughly.
_OVERHEAD = 1024


@dataclass(slots=True)
class Told:
    """How large the rows are that tell of an operation."""

    bytes: int = 0

    def add(self, *texts: str) -> None:
        """Count a row that holds the texts. Raises EventsTooLarge."""
        self.bytes += _OVERHEAD + sum([len(text) if text.isascii() else len(text.encode()) for text in texts])
        if self.bytes > MAX_TOLD_BYTES:
            raise EventsTooLarge(limit=MAX_TOLD_BYTES)


class ItemWritten(NamedTuple):
    """A write, as its transaction sees it just before it commits."""

    tenant: Tenant
    schema: Schema
    method: Method
    item_key: str
    # What the request sent, plus the key field; of a DELETE the key field alone.
    payload: JsonObject
    # Which of the transaction's writes for the tenant it is, from 1. When the row that holds it as its `sequence` is
    # inserted, the tenant's clock is added: then the numbers are gapless, and in the order of the commits.
    sequence: int
    operation: uuid.UUID
    at: datetime
    # The item as it was stored before, None of a POST; and as it is stored then, None of a DELETE.
    before: JsonObject | None
    after: JsonObject | None
    # Of all writes of the operation: receivers count there what their rows hold.
    told: Told
    # `payload` as compact JSON, if it was written out before; empty if not.
    payload_text: str = ""


# Sent inside the transaction with `written`, an ItemWritten. A receiver returns a list of unsaved model instances,
# which the backend inserts in the same transaction; what a receiver raises undoes the write, a Refusal is its answer.
item_written = Signal(use_caching=True)


class EventSettled(NamedTuple):
    """What became of an input event whose caller proved to be of the tenant, as its transaction records it."""

    tenant: Tenant
    # EventBridge's id of the event.
    event_id: str
    # As the event named them, as far as a column holds it.
    method: str
    schema_name: str
    status: int
    # None: it was carried out.
    problem: Problem | None
    # Empty if it named none.
    item_key: str
    at: datetime


# Sent inside the transaction with `settled`, an EventSettled, once for each event: not when it comes again. Receivers
# answer as those of `item_written` do.
event_settled = Signal(use_caching=True)

# Sent after the commit of a transaction in which rows of such receivers were inserted, without arguments.
rows_committed = Signal()
