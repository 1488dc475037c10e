"""The one path that every request and every event takes: checked, stored, billed, announced, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, cast

import uuid_utils.compat as uuid
from django.db import transaction
from django.utils import timezone

from blockforger.backend import deadlocks, items, lists, records
from blockforger.backend.admission import Rejected, admit
from blockforger.backend.models import Method, Origin
from blockforger.backend.outcomes import Outcome
from blockforger.backend.signals import EventSettled, ItemWritten, event_settled, item_written
from tenants import balances
from tenants.errors import Refusal

if TYPE_CHECKING:
    from django.db.models import Model

    from blockforger.backend.admission import Admitted
    from blockforger.backend.json_values import JsonValue
    from blockforger.backend.models import OperationRecord
    from tenants.models import Tenant

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
    payload: JsonValue = None
    # What the door itself found wrong; told once the caller is known.
    defect: Refusal | None = None
    # Set for what must not be carried out twice: an event's id, a request's Idempotency-Key.
    idempotency_key: str = ""
    request_hash: str = ""
    page: lists.Page | None = None
    id: uuid.UUID = field(default_factory=uuid.uuid7)


def execute(operation: Operation) -> Outcome:
    """Carry the operation out in a transaction of its own, at most once per idempotency key.

    Returns its outcome, refusals included. Raises only for faults, and then nothing was changed.
    """
    return deadlocks.retried(lambda: _execute(operation))


def _execute(operation: Operation) -> Outcome:
    # Reads only, and before the transaction, which then holds its locks no longer than it must.
    admission = admit(operation)
    if operation.idempotency_key:
        return _execute_once(operation, admission)
    if isinstance(admission, Rejected):
        return Outcome.refused(admission.refusal, operation.origin)
    try:
        with transaction.atomic(durable=True):
            return _carry_out(operation, admission)
    except Refusal as refusal:
        return Outcome.refused(refusal, operation.origin)


def _execute_once(operation: Operation, admission: Admitted | Rejected) -> Outcome:
    with transaction.atomic(durable=True):
        record, is_new = records.enter(operation, admission, cost=COST)
        if not is_new:
            return records.outcome_of(record, repeated=True)
        if isinstance(admission, Rejected):
            outcome = records.outcome_of(record)
        else:
            try:
                with transaction.atomic():
                    outcome = _carry_out(operation, admission)
            except Refusal as refusal:
                records.refuse(record, refusal)
                outcome = records.outcome_of(record)
        if operation.origin == Origin.EVENT and admission.tenant is not None:
            _insert(_announce_settled(record, admission.tenant, outcome))
        return outcome


def _carry_out(operation: Operation, admission: Admitted) -> Outcome:
    """Locks in the order items, accounts; the account last, because all of a tenant's writers queue for it."""
    tenant, schema = admission.tenant, admission.schema
    done = items.perform(admission.request, page=operation.page)
    is_write = operation.method != Method.GET
    taken = balances.debit(tenant.pk, cost=COST, sequence_numbers=1 if is_write else 0)
    rows: list[Model] = [
        balances.debit_entry(
            tenant.pk,
            taken,
            operation=operation.id,
            sequence=taken.sequence if is_write else None,
            api_key_prefix=admission.api_key.prefix,
            reference=f"{operation.method} {schema.name}",
        )
    ]
    if is_write:
        rows += _announce(
            ItemWritten(
                tenant=tenant,
                schema=schema,
                method=Method(operation.method),
                item_key=done.item_key,
                payload=done.event_payload,
                sequence=taken.sequence,
                operation=operation.id,
                at=timezone.now(),
            )
        )
    _insert(rows)
    return Outcome(status=done.status, body=done.body, item_key=done.item_key, tokens=COST)


def _announce(written: ItemWritten) -> list[Model]:
    return [row for _, rows in item_written.send(sender=ItemWritten, written=written) for row in _rows(rows)]


def _announce_settled(record: OperationRecord, tenant: Tenant, outcome: Outcome) -> list[Model]:
    settled = EventSettled(
        tenant=tenant,
        event_id=record.idempotency_key,
        method=record.method,
        schema_name=record.schema_name,
        outcome=outcome,
        at=timezone.now(),
    )
    return [row for _, rows in event_settled.send(sender=EventSettled, settled=settled) for row in _rows(rows)]


def _rows(answer: object) -> list[Model]:
    """A receiver's answer, which Django's types take for a text."""
    return cast("list[Model]", answer)


def _insert(rows: list[Model]) -> None:
    model: type[Model]
    for model, group in groupby(rows, key=type):
        model._default_manager.bulk_create(list(group))  # noqa: SLF001 - Django's way to the manager of any model
