"""The one path that every request and every event takes: checked, stored, billed, announced, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import uuid_utils.compat as uuid
from django.db import transaction

from blockforger.backend import at_once, bulk, deadlocks, items, keys, records, settlements
from blockforger.backend.admission import Admitted, Rejected, admit, admit_as_kept
from blockforger.backend.at_once import Ready
from blockforger.backend.deeds import (
    COST,
    Crowded,
    Deed,
    Undone,
    balances_after,
    feedback_on,
    settlement_of,
    tell_of_commit,
    told_of,
)
from blockforger.backend.items import Done, Look
from blockforger.backend.models import Method, Origin
from blockforger.backend.outcomes import Outcome
from blockforger.backend.preconditions import UNCONDITIONAL, Preconditions
from tenants import balances
from tenants.errors import NotEnoughTokens, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from blockforger.backend.items import Request
    from blockforger.backend.json_values import JsonValue
    from blockforger.backend.list_queries import Query


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
    # Whether the payload is an array, of which all is to be done or nothing.
    is_bulk: bool = False
    id: uuid.UUID = field(default_factory=uuid.uuid7)


class Case(NamedTuple):
    """An operation, and whether it may be carried out."""

    operation: Operation
    admission: Admitted | Rejected


def execute(operation: Operation) -> Outcome:
    """Carry the operation out in a transaction of its own, at most once per idempotency key.

    Returns its outcome, refusals included. Raises only for faults, and then nothing was changed.
    """
    if (outcome := _at_once(operation)) is not None:
        return outcome
    (outcome,) = execute_batch([operation])
    return outcome


def _at_once(operation: Operation) -> Outcome | None:
    """Carry the operation out in one statement, if it succeeds at the first try. None: nothing was done.

    What is read for it is read without a lock; the statement looks whether it is still so.
    """
    if not _can_be_at_once(operation):
        return None
    admission = admit_as_kept(operation)
    if isinstance(admission, Rejected):
        return None
    ready = _ready(operation, admission)
    settled = at_once.settle(ready) if ready else None
    if ready is None or settled is None:
        return None
    answer = ready.deed.done
    if settled.read is not None:
        (request,) = admission.requests
        answer = [items.shown(request, settled.read)]
    return _outcome(operation, answer, settled.balance)


def _can_be_at_once(operation: Operation) -> bool:
    # A list is read by a cursor, which needs a transaction.
    is_more = operation.idempotency_key or operation.is_bulk or operation.page
    return settlements.can_be_at_once() and not is_more


def _ready(operation: Operation, admission: Admitted) -> Ready | None:
    if admission.method == Method.GET and operation.preconditions == UNCONDITIONAL and keys.is_possible(operation.key):
        (request,) = admission.requests
        return Ready(Deed(operation, admission, [items.UNSEEN]), items.Plan([], [], []), request.place)
    plan, answers = _planned([Case(operation, admission)], look=Look.AT_OLD_UNLOCKED)
    answer = answers[operation.id]
    return None if isinstance(answer, Refusal) else Ready(Deed(operation, admission, answer), plan)


def execute_batch(operations: Sequence[Operation]) -> list[Outcome]:
    """Carry operations out together, each once per idempotency key. Returns their outcomes, in their order.

    One transaction takes all of them, but for what names the same item or has the same idempotency key: that follows
    in the next. A refusal is one operation's own. Raises only for faults: then the transaction at hand changed
    nothing, and those before it are known by their keys, without which no two operations may come together.
    """
    if len(operations) > 1 and not all(operation.idempotency_key for operation in operations):
        raise ValueError("Operations that come together need idempotency keys.")
    outcomes: dict[uuid.UUID, Outcome] = {}
    for committed in in_turn(operations):
        outcomes |= committed
    return [outcomes[operation.id] for operation in operations]


def in_turn(operations: Sequence[Operation]) -> Iterator[dict[uuid.UUID, Outcome]]:
    """The same, for those who can tell what was done before a fault: gives the outcomes of each transaction."""
    cases, at_most = _admitted(operations), len(operations)
    while cases:
        now, others = _apart(cases)
        now, others = now[:at_most], [*now[at_most:], *others]
        try:
            committed = _execute(now)
        except Crowded:
            at_most = len(now) // 2
        else:
            cases = others
            yield committed


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
        if isinstance(admission, Admitted):
            names |= {request.place for request in admission.requests if request.key is not None}
        (first if taken.isdisjoint(names) else others).append(case)
        taken |= names
    return first, others


def _execute(cases: list[Case]) -> dict[uuid.UUID, Outcome]:
    """In one transaction, which is begun anew, from what is known by then, if the database undoes it.

    One operation alone, of which this is the first try, does not look whether its new items are there. If one is, it
    has written the others for nothing, as one that cannot be paid has.
    """
    known = [cases]
    operations = [case.operation for case in cases]
    hopes = len(cases) == 1 and settlements.can_be_at_once() and not _can_be_at_once(operations[0])

    def attempt() -> dict[uuid.UUID, Outcome]:
        if known:
            return _transact(known.pop(), look=Look.AT_OLD if hopes else Look.AT_ALL)
        return _transact(_admitted(operations), look=Look.AT_ALL)

    return deadlocks.retried(attempt)


def _transact(cases: Sequence[Case], *, look: Look) -> dict[uuid.UUID, Outcome]:
    while True:
        if not any(records.is_recorded(*case) or isinstance(case.admission, Admitted) for case in cases):
            _, answers = _planned(cases, look=Look.AT_OLD_UNLOCKED)  # refusals that nobody records
            return {operation.id: _outcome(operation, answers[operation.id]) for operation, _ in cases}
        try:
            with transaction.atomic(durable=True):
                return _carry_out(cases, look=look)
        except Undone as undone:
            cases = [Case(case.operation, undone.rejected.get(case.operation.id, case.admission)) for case in cases]


def _carry_out(cases: Sequence[Case], *, look: Look) -> dict[uuid.UUID, Outcome]:
    """Locks in the order records, items, accounts; accounts last, because all of a tenant's writers queue for them."""
    entered = records.enter(cases, cost=COST)
    fresh = [case for case in cases if case.operation.id not in entered.settled]
    plan, answers = _planned(fresh, look=look)
    deeds = list(_deeds(fresh, answers))
    told = [*told_of(deeds), *feedback_on(fresh, answers, entered.new)]
    try:
        accounts = settlements.settle(settlement_of(plan, deeds, told))
    except balances.NotCovered as error:
        raise Undone(_rejected(deeds, error.balances)) from error
    tell_of_commit(deeds, told)
    held = balances_after(deeds, accounts)
    outcomes = {
        operation.id: _outcome(operation, answers[operation.id], held.get(operation.id)) for operation, _ in fresh
    }
    records.settle((record, outcomes[pk]) for pk, record in entered.new.items())
    return entered.settled | outcomes


def _planned(cases: Iterable[Case], *, look: Look) -> tuple[items.Plan, dict[uuid.UUID, list[Done] | Refusal]]:
    """Read what is to be read, plan what is to be written, and give the answer to each operation."""
    answers: dict[uuid.UUID, list[Done] | Refusal] = {}
    writes: list[tuple[Operation, Admitted]] = []
    for operation, admission in cases:
        if isinstance(admission, Rejected):
            answers[operation.id] = admission.refusal
        elif admission.method == Method.GET:
            answers[operation.id] = _read(*admission.requests)
        else:
            writes.append((operation, admission))
    plan, planned = _plan(writes, look=look)
    return plan, answers | planned


def _read(request: Request) -> list[Done] | Refusal:
    try:
        return [items.read(request)]
    except Refusal as refusal:
        return refusal.without_trace()


def _plan(
    writes: Sequence[tuple[Operation, Admitted]], *, look: Look
) -> tuple[items.Plan, dict[uuid.UUID, list[Done] | Refusal]]:
    _check_sizes(writes)
    requests = [request for _, admission in writes for request in admission.requests]
    plan, planned = items.plan(requests, look=look)
    each = iter(planned)
    answers: dict[uuid.UUID, list[Done] | Refusal] = {}
    spoilt: dict[uuid.UUID, Rejected] = {}
    for operation, admission in writes:
        parts = list(islice(each, len(admission.requests)))
        refused = {index: part for index, part in enumerate(parts) if isinstance(part, Refusal)}
        if not operation.is_bulk and refused:
            answers[operation.id] = refused[0]
        elif refused:
            spoilt[operation.id] = Rejected(bulk.refusal_of(refused), admission.tenant)
        else:
            answers[operation.id] = [part for part in parts if isinstance(part, Done)]
    if spoilt:
        raise Undone(spoilt)  # others of its items are in the plan
    return plan, answers


def _check_sizes(writes: Iterable[tuple[Operation, Admitted]]) -> None:
    """Refuse bulk requests for items that are too much to be read, before they are."""
    for operation, admission in writes:
        if operation.is_bulk and admission.method != Method.POST:
            try:
                items.check_size_together(admission.requests)
            except Refusal as refusal:
                raise Undone({operation.id: Rejected(refusal, admission.tenant)}) from refusal


def _deeds(cases: Iterable[Case], answers: Mapping[uuid.UUID, list[Done] | Refusal]) -> Iterator[Deed]:
    for operation, admission in cases:
        answer = answers[operation.id]
        if not isinstance(answer, Refusal) and isinstance(admission, Admitted):
            yield Deed(operation, admission, answer)


def _rejected(deeds: Iterable[Deed], held: Mapping[int, int]) -> dict[uuid.UUID, Rejected]:
    """The first deeds of each tenant are paid for, as far as the balance goes; the others are not."""
    left = dict(held)
    rejected = {}
    for deed in deeds:
        tenant = deed.tenant
        if tenant.pk not in left:
            continue
        if left[tenant.pk] >= deed.cost:
            left[tenant.pk] -= deed.cost
        else:
            refusal = NotEnoughTokens(balance=left[tenant.pk], cost=deed.cost)
            rejected[deed.operation.id] = Rejected(refusal, tenant)
    return rejected


def _outcome(operation: Operation, answer: list[Done] | Refusal, balance: int | None = None) -> Outcome:
    if isinstance(answer, Refusal):
        return Outcome.refused(answer, operation.origin)
    first = answer[0]
    if operation.is_bulk:
        body: JsonValue = {"items": [done.body for done in answer]} if first.body is not None else None
        return Outcome(status=first.status, body=body, tokens=COST * len(answer), balance=balance)
    return Outcome(
        status=first.status,
        body=first.body,
        text=first.event_text if first.body is first.event_payload else "",
        item_key=first.item_key,
        etag=first.etag,
        tokens=COST,
        balance=balance,
    )
