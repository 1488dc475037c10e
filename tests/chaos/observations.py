"""What a run saw: the facts from which the verdict is drawn, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Write:
    """A request of one of our writers. Its marker stands in its payload."""

    marker: str
    tenant: str
    schema: str
    method: str
    key: str
    payload: dict[str, Any]
    # The statuses that it may be answered with.
    may_be: frozenset[int]
    # When it was sent and answered, by one clock; the status is None if no answer came, and 5xx says as little.
    started: float = 0.0
    ended: float | None = None
    status: int | None = None

    @property
    def is_unknown(self) -> bool:
        return self.status is None or self.status >= 500


@dataclass(slots=True)
class Sent:
    """An input event that was put into the queue, as often as it was sent; its id is EventBridge's."""

    id: str
    write: Write
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An entry that a bus accepted. The verdict gets them in the order of acceptance."""

    bus: str
    item: str
    # Ours, the same for each repetition.
    event: str
    sequence: int
    detail_type: str
    detail: dict[str, Any]
    # Which process sent it and when, and whether a fault kept the answer from it.
    process: str = ""
    at: float = 0.0
    is_in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger entry."""

    tenant: str
    kind: str
    amount: int
    operation: str
    sequence: int | None
    reference: str


@dataclass(frozen=True, slots=True)
class Record:
    """The record of an input event."""

    event: str
    status: int
    tokens: int
    operation: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What a tenant publishes: which writes, to which bus, under which type. In the order of the tenant's rules."""

    bus: str
    # `{schema_id}` and `{operation}` stand for the write's.
    detail_type: str
    methods: frozenset[str]
    schemas: frozenset[str]

    def type_of(self, method: str, schema: str) -> str | None:
        """The detail-type of the event for such a write, or None if there is none."""
        if method not in self.methods or schema not in self.schemas:
            return None
        return self.detail_type.replace("{schema_id}", schema).replace("{operation}", method)


@dataclass(slots=True)
class Observations:
    """Everything that one run saw."""

    rules: dict[str, list[Rule]] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    reads: list[Write] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    acceptances: list[Acceptance] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    items: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)
    # Events of the outbox by status, but for delivered ones.
    undelivered: dict[str, int] = field(default_factory=dict)
    # Bodies of the messages that are still in the queue, and in its dead-letter queue; the unreadable ones sent.
    left_in_queue: list[str] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    # Where an API key's secret part was found.
    leaks: list[str] = field(default_factory=list)
    # Events that were settled and then written again, as the database saw it.
    rewritten: list[str] = field(default_factory=list)
    # What audit_ledger printed, if it was not content.
    audit: str = ""
    # When each process was killed or frozen; under "" when the database went away and came back.
    strikes: dict[str, list[float]] = field(default_factory=dict)
    # What could be told at once, such as two entries of an item in one call.
    seen_at_once: list[str] = field(default_factory=list)
