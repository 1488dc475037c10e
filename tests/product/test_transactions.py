"""What is relied on in every transaction, whatever the database was told by others."""

from __future__ import annotations

import pytest
from django.db import connection, transaction


def isolation() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        found: str = cursor.fetchone()[0]
    return found


@pytest.mark.django_db(transaction=True)
def test_writers_go_on_from_what_others_left_whatever_the_default_of_the_database_is() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time.")
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    connection.close()  # a new one asks for it
    try:
        alone = isolation()
        with transaction.atomic():
            assert (alone, isolation()) == ("read committed", "read committed")
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")
