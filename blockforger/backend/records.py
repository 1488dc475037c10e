"""Records of operations: how a repeated request or event is known, and what became of it.

A record is written as it will read if all goes well, before anything else in the transaction: whoever comes with
the same key then waits for the transaction's end, and finds either the record or nothing.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from django.db import IntegrityError, transaction

from blockforger.backend.admission import Rejected
from blockforger.backend.models import Method, OperationRecord, Origin
from blockforger.backend.outcomes import Outcome
from blockforger.backend.problems import problem_of

if TYPE_CHECKING:
    from blockforger.backend.admission import Admitted
    from blockforger.backend.operations import Operation
    from blockforger.backend.problems import Problem
    from tenants.errors import Refusal

_STATUS_OF_SUCCESS = {Method.POST: HTTPStatus.CREATED, Method.DELETE: HTTPStatus.NO_CONTENT}


def enter(operation: Operation, admission: Admitted | Rejected, *, cost: int) -> tuple[OperationRecord, bool]:
    """The record of the operation and whether it is new. Must be the first statement of its transaction."""
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
    try:
        with transaction.atomic():
            record.save(force_insert=True)
    except IntegrityError:
        key = {"origin": operation.origin, "idempotency_key": operation.idempotency_key}
        return OperationRecord.objects.get(**key), False
    return record, True


def refuse(record: OperationRecord, refusal: Refusal) -> None:
    """Rewrite a record whose operation was refused after all."""
    _write_refusal(record, refusal)
    record.save(update_fields=["status", "problem", "tokens"])


def outcome_of(record: OperationRecord, *, repeated: bool = False) -> Outcome:
    """The outcome that a record tells."""
    return Outcome(
        status=record.status,
        problem=cast("Problem | None", record.problem),
        item_key=record.item_key,
        tokens=record.tokens,
        repeated=repeated,
    )


def _write_refusal(record: OperationRecord, refusal: Refusal) -> None:
    problem = problem_of(refusal, Origin(record.origin))
    record.status = problem["status"]
    record.problem = problem
    record.tokens = 0


def _storable(text: str, length: int) -> str:
    """What the sender called it, as far as a column can hold it."""
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")[:length]
