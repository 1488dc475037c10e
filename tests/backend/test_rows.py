"""Rows go in and come out the same, whether one is written or many."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import DataError, connection, transaction

from blockforger.backend import rows
from blockforger.backend.models import OperationRecord, Origin
from tests.cast import a_tenant

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
