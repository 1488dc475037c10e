"""A connection that the server has ended is made anew before a request uses it."""

from __future__ import annotations

import time

import psycopg
import pytest
from django.db import close_old_connections, connection

from tests.cast import FLUFFY, a_key, a_schema, a_tenant
from tests.eventing.doors import Ask, over_rest

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


def test_a_request_after_the_end_of_its_connection_succeeds() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no server.")
    tenant = a_tenant()
    a_schema(tenant)
    key = a_key(tenant)
    assert over_rest(Ask("POST", FLUFFY, api_key=key)).status == 201
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
