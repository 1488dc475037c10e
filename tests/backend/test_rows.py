"""Rows go in and come out the same, whether one is written or many."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.db import DataError, connection, transaction

from blockforger.backend import rows
from blockforger.backend.models import Item, OperationRecord, Origin
from eventing.models import OutboxEvent
from tests.cast import a_tenant

if TYPE_CHECKING:
    from django.db.models import Model

pytestmark = pytest.mark.django_db

AT = datetime(2026, 11, 25, 3, 4, 5, 678901, tzinfo=UTC)


def a_record(key: str, **fields: Any) -> OperationRecord:
    return OperationRecord(
        **{
            "origin": Origin.EVENT,
            "idempotency_key": key,
            "operation": UUID(int=2**127),
            "payload": '{"a": "\\u0000 \\ud800 \\\\ \' \\""}',
            "request_hash": "0" * 64,
            "status": 400,
            "problem": {"detail": "ä \\ \" ' \n %s {} \U0001f600", "n": [1, 1.0, 1.5e10, 2**63 - 1, None, True]},
            "received_at": AT,
            **fields,
        }
    )


def stored() -> list[Any]:
    return list(OperationRecord.objects.order_by("pk").values())


def test_many_rows_are_written_as_each_alone_would_be() -> None:
    tenant = a_tenant()
    rows.insert([a_record("alone", tenant=tenant)])
    rows.insert([a_record("first", tenant=tenant), a_record("second", problem=None, payload="")])
    alone, first, second = stored()
    same = {name: value for name, value in alone.items() if name not in {"id", "idempotency_key"}}
    assert same.items() <= first.items()
    assert (alone["problem"], alone["received_at"], alone["tenant_id"]) == (a_record("").problem, AT, tenant.pk)
    assert (second["problem"], second["payload"], second["tenant_id"]) == (None, "", None)


@pytest.mark.parametrize("model", [Item, OperationRecord, OutboxEvent], ids=lambda model: model.__name__)
def test_a_row_is_made_as_the_model_makes_it(model: type[Model]) -> None:
    given = {"payload": {"n": 1}} if model is Item else {"schema_name": "petstore", "tenant_id": 7}
    made, made_too, own = [*(rows.New(model)(**given) for _ in range(2)), model(**given)]
    for field in model._meta.concrete_fields:
        values = [getattr(row, field.attname) for row in (made, made_too, own)]
        if field.has_default() and callable(field.default):
            assert values[0] is not values[1]
            assert type(values[0]) is type(values[2])
        else:
            assert values[0] == values[1] == values[2]
    assert (made._state.adding, made._state.db) == (True, None)
    with pytest.raises(KeyError, match="nonsense"):
        rows.New(model)(nonsense=1)


def test_many_rows_are_changed_as_each_alone_would_be() -> None:
    made = [a_record(str(number), problem=None) for number in range(3)]
    rows.insert_unless_taken(made, unique=("origin", "idempotency_key"))
    for number, record in enumerate(made):
        record.status, record.problem = 500 + number, {"of": number, "text": "ä\\"}
    rows.update(made[:1], ("status", "problem"))
    rows.update(made[1:], ("status", "problem"))
    changed = [(500 + number, {"of": number, "text": "ä\\"}) for number in range(3)]
    assert [(row["status"], row["problem"]) for row in stored()] == changed


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite does not look at lengths.")
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_too_long_is_an_error_and_not_shortened(count: int) -> None:
    with pytest.raises(DataError), transaction.atomic():
        rows.insert([a_record(str(number), method="x" * 17) for number in range(count)])
    made = [a_record(str(number)) for number in range(count)]
    rows.insert_unless_taken(made, unique=("origin", "idempotency_key"))
    for record in made:
        record.method = "x" * 17
    with pytest.raises(DataError), transaction.atomic():
        rows.update(made, ("method",))
    assert [row["method"] for row in stored()] == [""] * count
