"""Deeds: operations that were carried out, and what is told of them in the same transaction.

That is the ledger's entries, and the rows of those who listen to the signals: an event for each output rule, feedback.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple, cast

from django.db import transaction
from django.utils import timezone

from blockforger.backend import signals
from blockforger.backend.admission import Rejected
from blockforger.backend.models import Method, Origin
from blockforger.backend.problems import problem_of, status_of
from blockforger.backend.settlements import Settlement
from blockforger.backend.signals import EventSettled, ItemWritten, Told, event_settled, item_written, rows_committed
from tenants import balances
from tenants.errors import Refusal

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from django.db.models import Model

    from blockforger.backend.admission import Admitted
    from blockforger.backend.items import Done, Place, Plan
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import OperationRecord
    from blockforger.backend.operations import Case, Operation
    from tenants.models import LedgerEntry, Tenant

COST = 10
"""What an operation costs, in tokens."""


class Deed(NamedTuple):
    """An operation that was carried out, but for its bill."""

    operation: Operation
    admission: Admitted
    done: list[Done]

    @property
    def tenant(self) -> Tenant:
        return self.admission.tenant

    @property
    def is_write(self) -> bool:
        return self.admission.method != Method.GET

    @property
    def cost(self) -> int:
        return COST * len(self.done)

    @property
    def reference(self) -> str:
        """What the bill says that it is for."""
        items_of_many = f", {len(self.done):,} items" if self.operation.is_bulk else ""
        return f"{self.operation.method} {self.admission.schema.name}{items_of_many}"


class Undone(Exception):
    """Not all can be done. What is refused, by operation; without it, the rest can begin anew."""

    def __init__(self, rejected: dict[uuid.UUID, Rejected]) -> None:
        super().__init__()
        self.rejected = rejected


class Crowded(Exception):
    """What is told of several operations is more than one transaction writes. Fewer of them can be done."""


def told_of(deeds: Sequence[Deed]) -> list[Model]:
    """What the ledger and the listeners have to say, counted from the accounts as they are when it is written.

    Raises Undone for an operation of which they have too much to say, and Crowded if it is too much of all.
    """
    told_bytes = 0
    spent: dict[int, int] = defaultdict(int)
    numbers: dict[int, Iterator[int]] = defaultdict(partial(count, 1))
    now = timezone.now()
    told: list[Model] = []
    for deed in deeds:
        tenant = deed.tenant.pk
        spent[tenant] += deed.cost
        sequences = list(islice(numbers[tenant], len(deed.done))) if deed.is_write else []
        told.append(_ledger_entry(deed, -spent[tenant], sequences[-1] if sequences else None, now))
        of_deed = Told()
        try:
            for done, sequence in zip(deed.done, sequences, strict=False):  # a read has no number
                told += _announce(deed, done, sequence, now, of_deed)
        except Refusal as refusal:
            raise Undone({deed.operation.id: Rejected(refusal, deed.tenant)}) from refusal
        told_bytes += of_deed.bytes
        if told_bytes > signals.MAX_TOLD_BYTES and len(deeds) > 1:
            raise Crowded
    return told


def settlement_of(
    plan: Plan, deeds: Sequence[Deed], told: Sequence[Model], *, reads: Sequence[Place] = ()
) -> Settlement:
    """What deeds leave in the database: what is planned for their items, their bills, and what is told of them."""
    claims: dict[int, balances.Claim] = {}
    for deed in deeds:
        claim = balances.Claim(tokens=deed.cost, numbers=len(deed.done) if deed.is_write else 0)
        claims[deed.tenant.pk] = claims.get(deed.tenant.pk, balances.NOTHING) + claim
    return Settlement(
        plan.created,
        plan.changed,
        plan.gone,
        claims,
        told,
        reads=reads,
        numbers_are_told=any(map(_has_etag, deeds)),
    )


def balances_after(deeds: Iterable[Deed], accounts: Mapping[int, balances.Debit]) -> dict[uuid.UUID, int]:
    """What was left in its tenant's account after each operation; of those whose account is given as it was before."""
    left = {tenant: account.balance for tenant, account in accounts.items()}
    held = {}
    for deed in deeds:
        left[deed.tenant.pk] -= deed.cost
        held[deed.operation.id] = left[deed.tenant.pk]
    return held


def feedback_on(
    cases: Iterable[Case],
    answers: Mapping[uuid.UUID, list[Done] | Refusal],
    entered: Mapping[uuid.UUID, OperationRecord],
) -> Iterator[Model]:
    """What the listeners have to say of events whose caller proved to be of the tenant. `entered` are their records."""
    now = timezone.now()
    for operation, admission in cases:
        if operation.origin == Origin.EVENT and admission.tenant is not None:
            record, answer = entered[operation.id], answers[operation.id]
            problem = problem_of(answer, operation.origin) if isinstance(answer, Refusal) else None
            status = answer[0].status if isinstance(answer, list) else status_of(type(answer), operation.origin)
            settled = EventSettled(
                tenant=admission.tenant,
                event_id=record.idempotency_key,
                method=record.method,
                schema_name=record.schema_name,
                status=status,
                problem=problem,
                item_key=record.item_key,
                at=now,
            )
            yield from _rows(event_settled.send(sender=EventSettled, settled=settled))


def tell_of_commit(deeds: Sequence[Deed], told: Sequence[Model]) -> None:
    """Let it be known, once all that was told is committed, that there is something for others to do."""
    if len(told) > len(deeds):  # more than the ledger's entries
        # Robust: it is committed by then, and no fault of a receiver may be answered as one of the operation.
        transaction.on_commit(partial(rows_committed.send, sender=None), robust=True)


def _has_etag(deed: Deed) -> bool:
    """Whether the caller is told the ETag of the item: not of each of many, nor is an event."""
    return deed.operation.origin == Origin.API and not deed.operation.is_bulk


def _ledger_entry(deed: Deed, balance_after: int, sequence: int | None, at: datetime) -> LedgerEntry:
    return balances.debit_entry(
        deed.tenant.pk,
        cost=deed.cost,
        balance_after=balance_after,
        operation=deed.operation.id,
        sequence=sequence,
        api_key_prefix=deed.admission.api_key.prefix,
        reference=deed.reference,
        at=at,
    )


def _announce(deed: Deed, done: Done, sequence: int, at: datetime, told: Told) -> list[Model]:
    written = ItemWritten(
        tenant=deed.tenant,
        schema=deed.admission.schema,
        method=deed.admission.method,
        item_key=done.item_key,
        payload=done.event_payload,
        payload_text=done.event_text,
        sequence=sequence,
        operation=deed.operation.id,
        at=at,
        before=done.before,
        after=cast("JsonObject | None", done.body),  # a write is answered with the item
        told=told,
    )
    return _rows(item_written.send(sender=ItemWritten, written=written))


def _rows(answers: Iterable[tuple[object, object]]) -> list[Model]:
    """What receivers answered; Django's types take it for texts."""
    return [row for _, rows_of_receiver in answers for row in cast("list[Model]", rows_of_receiver)]
