"""Records of operations: how a repeated request or event is known, and what became of it.

A record is written as it will read if all goes well, before anything else in the transaction: whoever comes with
the same key then waits for the transaction's end, and finds either the record or nothing.
"""

from __future__ import annotations

import hashlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, cast

from django.db import connection

from blockforger.backend import json_values, rows
from blockforger.backend.admission import Rejected
from blockforger.backend.deadlocks import Overtaken
from blockforger.backend.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from blockforger.backend.models import Method, OperationRecord, Origin
from blockforger.backend.outcomes import Outcome
from blockforger.backend.problems import problem_of, status_of
from tenants.new_rows import NewRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from blockforger.backend.admission import Admitted
    from blockforger.backend.operations import Operation
    from blockforger.backend.problems import Problem

# Refusals of requests that the same request may get past: they are not remembered.
_PASSING = {401, 402, 403, 429}
_NEW_RECORD = NewRows(OperationRecord)
_STATUS_OF_SUCCESS = {Method.POST: HTTPStatus.CREATED, Method.DELETE: HTTPStatus.NO_CONTENT}


class Entered(NamedTuple):
    """What the records make of operations, by the operation's id."""

    # Those that are to be carried out: their records.
    new: dict[UUID, OperationRecord]
    # Those that are not: what to answer. Most of them came before, and this is what became of them.
    settled: dict[UUID, Outcome]


def is_recorded(operation: Operation, admission: Admitted | Rejected) -> bool:
    """Whether the operation is looked up, and remembered. A stranger's request is not, nor one that he should retry."""
    if not operation.idempotency_key or operation.origin == Origin.EVENT:
        return bool(operation.idempotency_key)
    if isinstance(admission, Rejected):
        return status_of(type(admission.refusal), Origin.API) not in _PASSING
    return True


def enter(cases: Iterable[tuple[Operation, Admitted | Rejected]], *, cost: int) -> Entered:
    """Make the records of the operations that are to be remembered, and find those that are there.

    Must be the first thing that its transaction does. No two operations may share a key.
    """
    recorded = [case for case in cases if is_recorded(*case)]
    running = _running({operation.idempotency_key for operation, _ in recorded if operation.origin == Origin.API})
    in_use = {
        operation.id: Outcome.refused(IdempotencyKeyInUse(), Origin.API)
        for operation, _ in recorded
        if operation.idempotency_key in running
    }
    wanted = [_written(operation, admission, cost) for operation, admission in recorded if operation.id not in in_use]
    wanted.sort(key=_name)
    rows.insert_unless_taken(wanted, unique=("origin", "idempotency_key"))
    met = [record for record in wanted if record.pk is None]
    earlier = _earlier(met)
    if len(earlier) < len(met):
        raise Overtaken  # by the end of its time
    return Entered(
        new={record.operation: record for record in wanted if record.pk},
        settled=in_use | {record.operation: _repeated(record, earlier[_name(record)]) for record in met},
    )


def settle(outcomes: Iterable[tuple[OperationRecord, Outcome]]) -> None:
    """Rewrite the records that do not tell yet what became of their operations."""
    changed = []
    for record, outcome in outcomes:
        answer = _answer_of(outcome) if record.origin == Origin.API else ""
        if (record.problem, record.answer) != (outcome.problem, answer):
            record.status, record.problem, record.tokens = outcome.status, outcome.problem, outcome.tokens
            record.answer = answer
            changed.append(record)
    rows.update(changed, ("status", "problem", "tokens", "answer"))


def outcome_of(record: OperationRecord, *, repeated: bool = False) -> Outcome:
    """The outcome that a record tells."""
    answer = json.loads(record.answer) if record.answer else {}
    return Outcome(
        status=record.status,
        body=answer.get("body"),
        problem=cast("Problem | None", record.problem),
        item_key=record.item_key,
        etag=answer.get("etag", ""),
        tokens=record.tokens,
        repeated=repeated,
    )


def _running(names: set[str]) -> set[str]:
    """Those of these requests that another transaction has in hand; the others are this one's until it ends."""
    if not names or not rows.is_postgresql():
        return set()  # SQLite has one transaction at a time: whoever comes second waits, and finds the record
    locks = {int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True): name for name in names}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT number FROM unnest(%s::bigint[]) AS number WHERE NOT pg_try_advisory_xact_lock(number)",
            [sorted(locks)],
        )
        return {locks[number] for (number,) in cursor.fetchall()}


def _repeated(record: OperationRecord, earlier: OperationRecord) -> Outcome:
    """The answer to an operation that came before."""
    if record.origin == Origin.API and record.request_hash != earlier.request_hash:
        return Outcome.refused(IdempotencyKeyReused(), Origin.API)
    return outcome_of(earlier, repeated=True)


def _answer_of(outcome: Outcome) -> str:
    if outcome.body is None and not outcome.etag:
        return ""
    return json_values.compact({"etag": outcome.etag, "body": outcome.body})


def _written(operation: Operation, admission: Admitted | Rejected, cost: int) -> OperationRecord:
    record = _NEW_RECORD(
        origin=operation.origin,
        idempotency_key=operation.idempotency_key,
        tenant_id=admission.tenant.pk if admission.tenant else None,
        operation=operation.id,
        method=_storable(operation.method, 16),
        schema_name=_storable(operation.schema, 64),
        payload=_payload_kept(operation) if operation.origin == Origin.EVENT else "",
        request_hash=operation.request_hash,
    )
    if isinstance(admission, Rejected):
        record.problem = problem_of(admission.refusal, operation.origin)
        record.status = record.problem["status"]
    else:
        record.item_key = "" if operation.is_bulk else admission.requests[0].key or ""
        record.status = _STATUS_OF_SUCCESS.get(admission.method, HTTPStatus.OK)
        record.tokens = cost * len(admission.requests)
    return record


def _payload_kept(operation: Operation) -> str:
    return json.dumps(operation.payload) if operation.defect else json_values.compact(operation.payload)


def _name(record: OperationRecord) -> tuple[str, str]:
    return str(record.origin), record.idempotency_key


def _earlier(records: Sequence[OperationRecord]) -> dict[tuple[str, str], OperationRecord]:
    """What is there under the names of these records."""
    if not records:
        return {}
    origins, names = {record.origin for record in records}, [record.idempotency_key for record in records]
    found = OperationRecord.objects.filter(origin__in=origins, idempotency_key__in=names).order_by()
    return {_name(record): record for record in found}


def _storable(text: str, length: int) -> str:
    """What the sender called it, as far as a column can hold it."""
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")[:length]
