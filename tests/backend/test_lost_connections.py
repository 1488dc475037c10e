"""A connection that the server has ended, or that is not as it should be, is made anew before a request uses it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from django.db import close_old_connections, connection
from django.test import Client

from blockforger.backend.models import Item
from tests.cast import FLUFFY, a_key, a_schema, a_tenant
from tests.eventing.doors import Ask, over_rest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


@pytest.fixture
def key() -> Iterator[str]:
    """Of a tenant that has made a request, on a connection that is kept for the next one."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no server.")
    tenant = a_tenant()
    a_schema(tenant)
    key = a_key(tenant)
    assert over_rest(Ask("POST", FLUFFY, api_key=key)).status == 201
    connection.close_at = None  # the settings of the tests keep none
    yield key
    connection.close()  # whatever became of it


def test_a_request_after_the_end_of_its_connection_succeeds(key: str) -> None:
    number = connection.connection.info.backend_pid
    settings = connection.get_connection_params()
    wanted = {name: settings[name] for name in ("host", "port", "user", "password", "dbname") if name in settings}
    with psycopg.connect(**wanted, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [number])
        while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [number]).fetchone():
            time.sleep(0.01)
    close_old_connections()  # what Django does when a request begins
    assert over_rest(Ask("GET", {"id": FLUFFY["id"]}, api_key=key)).status == 200
    assert connection.connection.info.backend_pid != number


@pytest.fixture
def only_reads(key: str) -> int:
    """The connection's number: it is to a server from which another has taken over."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    return int(connection.connection.info.backend_pid)


# In one statement that is a transaction of its own, and in a transaction of several.
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}], ids=["at once", "in a transaction"])
def test_a_server_that_only_reads_is_a_503_and_is_left(key: str, only_reads: int, headers: dict[str, str]) -> None:
    ask = Ask("POST", {**FLUFFY, "id": "other"}, api_key=key, headers=headers)
    answer = over_rest(ask)
    assert (answer.status, (answer.problem or {}).get("code")) == (503, "database-unavailable")
    close_old_connections()
    assert over_rest(ask).status == 201
    assert connection.connection.info.backend_pid != only_reads


def test_a_stream_says_so_of_its_lines_and_leaves_it_too(key: str, only_reads: int) -> None:
    def statuses() -> list[int]:
        answer = Client().post(
            "/api/mytenant/petstore",
            json.dumps({**FLUFFY, "id": "other"}) + "\n",
            content_type="application/x-ndjson",
            headers={"X-API-Key": key},
        )
        lines: Iterator[bytes] = iter(answer)
        return [json.loads(line)["status"] for line in b"".join(lines).splitlines()]

    assert statuses() == [503]
    close_old_connections()
    assert statuses() == [201]
    assert connection.connection.info.backend_pid != only_reads


def test_it_is_not_ready_at_a_server_that_only_reads_and_leaves_it(only_reads: int) -> None:
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (503, "failed")
    close_old_connections()
    assert Client().get("/readyz").status_code == 200
    assert connection.connection.info.backend_pid != only_reads


def test_a_connection_that_is_well_is_used_again(key: str) -> None:
    number = connection.connection.info.backend_pid
    close_old_connections()
    assert over_rest(Ask("GET", {"id": FLUFFY["id"]}, api_key=key)).status == 200
    assert connection.connection.info.backend_pid == number


def test_a_write_is_not_left_in_a_transaction_that_somebody_was_torn_out_of(key: str) -> None:
    connection.connection.pgconn.exec_(b"BEGIN")  # past Django, which knows nothing of it
    close_old_connections()
    assert over_rest(Ask("POST", {**FLUFFY, "id": "second"}, api_key=key)).status == 201
    connection.close()
    assert set(Item.objects.values_list("key", flat=True)) == {FLUFFY["id"], "second"}
