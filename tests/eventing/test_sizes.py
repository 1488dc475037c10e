from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from blockforger.backend.models import OperationRecord, Origin
from eventing import sizes


@pytest.mark.django_db
def test_rows_bytes_and_the_oldest_row_of_each_growing_table_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    older = timezone.now() - timedelta(days=2)
    for received_at in (older, timezone.now()):
        OperationRecord.objects.create(
            origin=Origin.API, idempotency_key=str(uuid4()), operation=uuid4(), status=201, received_at=received_at
        )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE backend_operationrecord")
    by_name = {size.name: size for size in sizes.of_tables()}
    assert by_name.keys() == {"outbox events", "operation records", "items", "ledger entries"}
    assert (by_name["operation records"].rows, by_name["operation records"].oldest) == (2, older)
    assert by_name["outbox events"].oldest is None
    assert (by_name["operation records"].bytes is None) == (connection.vendor == "sqlite")
    assert sizes.of_database() > 10_000
    call_command("sizes")
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["table", "rows", "bytes", "oldest", "row"]
    assert [line[:20].strip() for line in lines] == [*by_name, "whole database"]
