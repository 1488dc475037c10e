"""Rows of values reach the database as they are."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connection
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventing import value_rows

pytestmark = pytest.mark.django_db

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBERS = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@given(st.lists(st.tuples(NUMBERS, TEXTS), min_size=1, max_size=5))
@example([(0, ""), (1, "NULL"), (2, '"'), (3, "\\"), (4, "{a,b}"), (5, " \n\t"), (6, "ä\U0001f600"), (7, "%s %(x)s")])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_texts_and_numbers_are_what_they_were(rows: list[tuple[int, str]]) -> None:
    table, values = value_rows.table("given", ("number", "words"), rows)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT number, words FROM {table}", values)
        assert cursor.fetchall() == rows


def test_ids_are_as_the_database_has_them() -> None:
    ids = [str(uuid4()) for _ in range(3)]
    table, values = value_rows.table("given", ("id", "rank"), [(one, rank) for rank, one in enumerate(ids)], ids={"id"})
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {table} ORDER BY rank", values)
        found = [str(one) for (one,) in cursor.fetchall()]
    assert found == [one.replace("-", "") if connection.vendor == "sqlite" else one for one in ids]
