"""The one path that every request and every event takes: checked, stored, billed, announced, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, cast

import uuid_utils.compat as uuid
from django.db import transaction
from django.utils import timezone

from blockforger.backend import deadlocks, items, records, rows
from blockforger.backend.admission import Admitted, Rejected, admit
from blockforger.backend.items import Done
from blockforger.backend.models import Method, Origin
from blockforger.backend.outcomes import Outcome
from blockforger.backend.preconditions import UNCONDITIONAL, Preconditions
from blockforger.backend.signals import EventSettled, ItemWritten, event_settled, item_written
from tenants import balances
from tenants.errors import NotEnoughTokens, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from django.db.models import Model

    from blockforger.backend.items import Request
    from blockforger.backend.json_values import JsonValue
    from blockforger.backend.list_queries import Query
    from blockforger.backend.models import OperationRecord
    from tenants.models import LedgerEntry, Tenant

COST = 10
"""What an operation costs, in tokens."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A request or an event, translated but not checked."""

    origin: Origin
    method: str
    tenant: str
    schema: str
    api_key: str = field(repr=False)
    # The item's key where it stands in the URL; an event has it in the payload.
    key: str | None = None
    payload: JsonValue = field(default=None, repr=False)
    # What the door itself found wrong; told once the caller is known.
    defect: Refusal | None = None
    # Set for what must not be carried out twice: an event's id, a request's Idempotency-Key.
    idempotency_key: str = ""
    request_hash: str = ""
    preconditions: Preconditions = UNCONDITIONAL
    page: Query | None = None
    id: uuid.UUID = field(default_factory=uuid.uuid7)


class Case(NamedTuple):
    """An operation, and whether it may be carried out."""

    operation: Operation
    admission: Admitted | Rejected


class Deed(NamedTuple):
    """An operation that was carried out, but for its bill."""

    operation: Operation
    admission: Admitted
    done: Done

    @property
    def tenant(self) -> Tenant:
        return self.admission.tenant

    @property
    def is_write(self) -> bool:
        return self.admission.request.method != Method.GET


class _Unpaid(Exception):
    """Balances do not pay for all. What they do not pay for, by operation; without it, the rest can begin anew."""

    def __init__(self, rejected: dict[uuid.UUID, Rejected]) -> None:
        super().__init__()
        self.rejected = rejected


def execute(operation: Operation) -> Outcome:
    """Carry the operation out in a transaction of its own, at most once per idempotency key.

    Returns its outcome, refusals included. Raises only for faults, and then nothing was changed.
    """
    (outcome,) = execute_batch([operation])
    return outcome


def execute_batch(operations: Sequence[Operation]) -> list[Outcome]:
    """Carry operations out together, each once per idempotency key. Returns their outcomes, in their order.

    One transaction takes all of them, but for what names the same item or has the same idempotency key: that follows
    in the next. A refusal is one operation's own. Raises only for faults: then the transaction at hand changed
    nothing, and those before it are known by their keys, without which no two operations may come together.
    """
    if len(operations) > 1 and not all(operation.idempotency_key for operation in operations):
        raise ValueError("Operations that come together need idempotency keys.")
    outcomes: dict[uuid.UUID, Outcome] = {}
    cases = _admitted(operations)
    while cases:
        now, cases = _apart(cases)
        outcomes |= _execute(now)
    return [outcomes[operation.id] for operation in operations]


def _admitted(operations: Sequence[Operation]) -> list[Case]:
    # Reads only, and before the transaction, which then holds its locks no longer than it must.
    return list(map(Case, operations, admit(operations)))


def _apart(cases: Iterable[Case]) -> tuple[list[Case], list[Case]]:
    """Of cases that name the same item, or have the same idempotency key, the first; and the others."""
    taken: set[object] = set()
    first: list[Case] = []
    others: list[Case] = []
    for case in cases:
        operation, admission = case
        names: set[object] = set()
        if operation.idempotency_key:
            names.add((operation.origin, operation.idempotency_key))
        if isinstance(admission, Admitted) and admission.request.key is not None:
            names.add(admission.request.place)
        (first if taken.isdisjoint(names) else others).append(case)
        taken |= names
    return first, others


def _execute(cases: list[Case]) -> dict[uuid.UUID, Outcome]:
    """In one transaction, which is begun anew, from what is known by then, if the database undoes it."""
    known = [cases]
    operations = [case.operation for case in cases]
    return deadlocks.retried(lambda: _transact(known.pop() if known else _admitted(operations)))


def _transact(cases: Sequence[Case]) -> dict[uuid.UUID, Outcome]:
    while True:
        if not any(records.is_recorded(*case) or isinstance(case.admission, Admitted) for case in cases):
            answers = _answers(cases)  # refusals that nobody records
            return {operation.id: _outcome(operation, answers[operation.id]) for operation, _ in cases}
        try:
            with transaction.atomic(durable=True):
                return _carry_out(cases)
        except _Unpaid as unpaid:
            cases = [Case(case.operation, unpaid.rejected.get(case.operation.id, case.admission)) for case in cases]


def _carry_out(cases: Sequence[Case]) -> dict[uuid.UUID, Outcome]:
    """Locks in the order records, items, accounts; accounts last, because all of a tenant's writers queue for them."""
    entered = records.enter(cases, cost=COST)
    fresh = [case for case in cases if case.operation.id not in entered.settled]
    answers = _answers(fresh)
    new = _bill_and_events(list(_deeds(fresh, answers)))
    outcomes = {operation.id: _outcome(operation, answers[operation.id]) for operation, _ in fresh}
    records.settle((record, outcomes[pk]) for pk, record in entered.new.items())
    for operation, admission in fresh:
        if operation.origin == Origin.EVENT and admission.tenant is not None:
            new += _feedback(entered.new[operation.id], admission.tenant)
    rows.insert(new)
    return entered.settled | outcomes


def _answers(cases: Iterable[Case]) -> dict[uuid.UUID, Done | Refusal]:
    """Carry out what was admitted, and give the answer to each operation."""
    answers: dict[uuid.UUID, Done | Refusal] = {}
    writes: dict[uuid.UUID, Request] = {}
    for operation, admission in cases:
        if isinstance(admission, Rejected):
            answers[operation.id] = admission.refusal
        elif admission.request.method == Method.GET:
            answers[operation.id] = _read(admission.request)
        else:
            writes[operation.id] = admission.request
    return answers | dict(zip(writes, items.write(list(writes.values())), strict=True))


def _read(request: Request) -> Done | Refusal:
    try:
        return items.read(request)
    except Refusal as refusal:
        return refusal


def _deeds(cases: Iterable[Case], answers: Mapping[uuid.UUID, Done | Refusal]) -> Iterator[Deed]:
    for operation, admission in cases:
        answer = answers[operation.id]
        if isinstance(answer, Done) and isinstance(admission, Admitted):
            yield Deed(operation, admission, answer)


def _bill_and_events(deeds: Sequence[Deed]) -> list[Model]:
    """Debit the accounts. Gives the ledger entries and what the listeners have to say, to be inserted."""
    if not deeds:
        return []
    before = _debit(deeds)
    balances_after = {tenant: count(account.balance - COST, -COST) for tenant, account in before.items()}
    numbers = {tenant: count(account.sequence + 1) for tenant, account in before.items()}
    now = timezone.now()
    new: list[Model] = []
    for deed in deeds:
        sequence = next(numbers[deed.tenant.pk]) if deed.is_write else None
        new.append(_ledger_entry(deed, next(balances_after[deed.tenant.pk]), sequence))
        if sequence is not None:
            new += _announce(deed, sequence, now)
    return new


def _debit(deeds: Sequence[Deed]) -> dict[int, balances.Debit]:
    claims: dict[int, balances.Claim] = {}
    for deed in deeds:
        claim = balances.Claim(tokens=COST, numbers=int(deed.is_write))
        claims[deed.tenant.pk] = claims.get(deed.tenant.pk, balances.NOTHING) + claim
    try:
        return balances.debit(claims)
    except balances.NotCovered as error:
        raise _Unpaid(_rejected(deeds, error.balances)) from error


def _rejected(deeds: Iterable[Deed], held: Mapping[int, int]) -> dict[uuid.UUID, Rejected]:
    """The first deeds of each tenant are paid for, as far as the balance goes; the others are not."""
    left = dict(held)
    rejected = {}
    for deed in deeds:
        tenant = deed.tenant
        if tenant.pk not in left:
            continue
        if left[tenant.pk] >= COST:
            left[tenant.pk] -= COST
        else:
            refusal = NotEnoughTokens(balance=left[tenant.pk], cost=COST)
            rejected[deed.operation.id] = Rejected(refusal, tenant)
    return rejected


def _ledger_entry(deed: Deed, balance_after: int, sequence: int | None) -> LedgerEntry:
    schema = deed.admission.schema
    return balances.debit_entry(
        deed.tenant.pk,
        cost=COST,
        balance_after=balance_after,
        operation=deed.operation.id,
        sequence=sequence,
        api_key_prefix=deed.admission.api_key.prefix,
        reference=f"{deed.operation.method} {schema.name}",
    )


def _announce(deed: Deed, sequence: int, at: datetime) -> list[Model]:
    written = ItemWritten(
        tenant=deed.tenant,
        schema=deed.admission.schema,
        method=deed.admission.request.method,
        item_key=deed.done.item_key,
        payload=deed.done.event_payload,
        sequence=sequence,
        operation=deed.operation.id,
        at=at,
    )
    return _rows(item_written.send(sender=ItemWritten, written=written))


def _feedback(record: OperationRecord, tenant: Tenant) -> list[Model]:
    settled = EventSettled(
        tenant=tenant,
        event_id=record.idempotency_key,
        method=record.method,
        schema_name=record.schema_name,
        outcome=records.outcome_of(record),
        at=timezone.now(),
    )
    return _rows(event_settled.send(sender=EventSettled, settled=settled))


def _rows(answers: Iterable[tuple[object, object]]) -> list[Model]:
    """What receivers answered; Django's types take it for texts."""
    return [row for _, rows_of_receiver in answers for row in cast("list[Model]", rows_of_receiver)]


def _outcome(operation: Operation, answer: Done | Refusal) -> Outcome:
    if isinstance(answer, Refusal):
        return Outcome.refused(answer, operation.origin)
    return Outcome(status=answer.status, body=answer.body, item_key=answer.item_key, etag=answer.etag, tokens=COST)
