"""Records of operations: how a repeated request or event is known, and what became of it.

A record is written as it will read if all goes well, before anything else in the transaction: whoever comes with
the same key then waits for the transaction's end, and finds either the record or nothing.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, cast

from blockforger.backend import rows
from blockforger.backend.admission import Rejected
from blockforger.backend.deadlocks import Overtaken
from blockforger.backend.models import Method, OperationRecord, Origin
from blockforger.backend.outcomes import Outcome
from blockforger.backend.problems import problem_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from blockforger.backend.admission import Admitted
    from blockforger.backend.operations import Operation
    from blockforger.backend.problems import Problem
    from tenants.errors import Refusal

_STATUS_OF_SUCCESS = {Method.POST: HTTPStatus.CREATED, Method.DELETE: HTTPStatus.NO_CONTENT}


class Entry(NamedTuple):
    """The record of an operation: its own, or what became of it when it came before."""

    record: OperationRecord
    is_new: bool


def enter(cases: Iterable[tuple[Operation, Admitted | Rejected]], *, cost: int) -> dict[UUID, Entry]:
    """The records of the operations that have an idempotency key, by the operation's id.

    Must be the first statement of its transaction. No two operations may share a key.
    """
    wanted = [_written(operation, admission, cost) for operation, admission in cases if operation.idempotency_key]
    wanted.sort(key=_name)
    rows.insert_unless_taken(wanted, unique=("origin", "idempotency_key"))
    met = [record for record in wanted if record.pk is None]
    earlier = _earlier(met)
    if len(earlier) < len(met):
        raise Overtaken  # by the end of its time
    return {
        record.operation: Entry(record, is_new=True) if record.pk else Entry(earlier[_name(record)], is_new=False)
        for record in wanted
    }


def refuse(refused: Iterable[tuple[OperationRecord, Refusal]]) -> None:
    """Rewrite records whose operations were refused after all."""
    records = []
    for record, refusal in refused:
        _write_refusal(record, refusal)
        records.append(record)
    rows.update(records, ("status", "problem", "tokens"))


def outcome_of(record: OperationRecord, *, repeated: bool = False) -> Outcome:
    """The outcome that a record tells."""
    return Outcome(
        status=record.status,
        problem=cast("Problem | None", record.problem),
        item_key=record.item_key,
        tokens=record.tokens,
        repeated=repeated,
    )


def _written(operation: Operation, admission: Admitted | Rejected, cost: int) -> OperationRecord:
    record = OperationRecord(
        origin=operation.origin,
        idempotency_key=operation.idempotency_key,
        tenant=admission.tenant,
        operation=operation.id,
        method=_storable(operation.method, 16),
        schema_name=_storable(operation.schema, 64),
        payload=json.dumps(operation.payload),
        request_hash=operation.request_hash,
    )
    if isinstance(admission, Rejected):
        _write_refusal(record, admission.refusal)
    else:
        method = admission.request.method
        record.item_key = admission.request.key or ""
        record.status = _STATUS_OF_SUCCESS.get(method, HTTPStatus.OK)
        record.tokens = cost
    return record


def _name(record: OperationRecord) -> tuple[str, str]:
    return str(record.origin), record.idempotency_key


def _earlier(records: Sequence[OperationRecord]) -> dict[tuple[str, str], OperationRecord]:
    """What is there under the names of these records."""
    if not records:
        return {}
    origins, names = {record.origin for record in records}, [record.idempotency_key for record in records]
    found = OperationRecord.objects.filter(origin__in=origins, idempotency_key__in=names).order_by()
    return {_name(record): record for record in found}


def _write_refusal(record: OperationRecord, refusal: Refusal) -> None:
    problem = problem_of(refusal, Origin(record.origin))
    record.status = problem["status"]
    record.problem = problem
    record.tokens = 0


def _storable(text: str, length: int) -> str:
    """What the sender called it, as far as a column can hold it."""
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")[:length]
