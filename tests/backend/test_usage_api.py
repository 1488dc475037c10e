"""Usage over REST."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from blockforger.backend import usage
from tenants import balances, by_time
from tenants.models import LedgerEntry, Permission, Tenant, TokenAccount
from tests.cast import a_key, a_schema, a_tenant

if TYPE_CHECKING:
    from datetime import datetime

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

USAGE = "/api/mytenant/$usage"
ENTRIES = f"{USAGE}/entries"


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    a_schema(tenant, "orders")
    return tenant


@pytest.fixture
def client(tenant: Tenant) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(tenant)})


def burn(tenant: Tenant, at: datetime, reference: str, cost: int = 10) -> None:
    """A debit of another time: a ledger's entry cannot be changed afterwards."""
    balances.debit({tenant.pk: balances.Claim(cost, 0)})
    left = TokenAccount.objects.get(tenant=tenant).balance
    entry = balances.debit_entry(
        tenant.pk,
        cost=cost,
        balance_after=left,
        operation=uuid.uuid4(),
        sequence=None,
        api_key_prefix="",
        reference=reference,
        at=at,
    )
    entry.save()


def test_the_burn_is_told_by_day_and_by_schema(client: APIClient, tenant: Tenant) -> None:
    now = timezone.now()
    burn(tenant, now - timedelta(days=3), "GET petstore")
    burn(tenant, now - timedelta(days=1), "POST orders, 5 items", cost=50)
    burn(tenant, now - timedelta(days=1), "POST petstore")
    burn(a_tenant("other"), now, "POST theirs")
    client.get("/api/mytenant/petstore")
    answer = client.get(f"{USAGE}?days=3").json()
    days = [str((now - timedelta(days=ago)).date()) for ago in (2, 1, 0)]
    assert answer == {
        "balance": 1000 - 80,
        "cost": 10,
        "days": [
            {"day": days[0], "tokens": 0, "operations": 0},
            {"day": days[1], "tokens": 60, "operations": 6},
            {"day": days[2], "tokens": 10, "operations": 1},
        ],
        "schemas": [
            {"schema": "orders", "tokens": 50, "operations": 5},
            {"schema": "petstore", "tokens": 20, "operations": 2},
        ],
    }


def test_a_tenant_that_did_nothing_has_used_nothing(client: APIClient) -> None:
    answer = client.get(USAGE).json()
    assert (answer["balance"], len(answer["days"]), answer["schemas"]) == (1000, 7, [])
    assert {day["tokens"] for day in answer["days"]} == {0}


def test_older_entries_are_not_read_however_many() -> None:
    now = timezone.now()
    tenant = a_tenant("older", tokens=0)
    TokenAccount.objects.filter(tenant=tenant).update(balance=1000)
    client = APIClient(headers={"X-API-Key": a_key(tenant)})
    for ago in range(60, -1, -1):
        burn(tenant, now - timedelta(days=ago), "GET petstore")
    rows = LedgerEntry.objects.filter(account=tenant.pk)
    first = by_time.first_pk_since(rows, "created_at", now - timedelta(days=5, minutes=1))
    assert rows.filter(pk__gte=first or 0).count() == 6
    with CaptureQueriesContext(connection) as queries:
        client.get("/api/older/$usage?days=5")
    assert len(queries) < 45
    (read,) = [query["sql"] for query in queries if "SUM(" in query["sql"]]
    assert '"id" >= ' in read


@pytest.mark.parametrize("count", [0, 1, 2, 7, 50])
def test_a_moment_is_found_wherever_it_is(tenant: Tenant, count: int) -> None:
    begin = timezone.now() + timedelta(days=1)
    for number in range(count):
        burn(tenant, begin + timedelta(minutes=number), "GET petstore")
    rows = LedgerEntry.objects.filter(account=tenant.pk, kind="debit")
    for minute in range(count + 1):
        moment = begin + timedelta(minutes=minute)
        first = by_time.first_pk_since(rows, "created_at", moment)
        later = rows.filter(created_at__gte=moment).count()
        assert (rows.filter(pk__gte=first).count() if first is not None else 0) == later


def test_entries_are_listed_newest_first_page_by_page(client: APIClient) -> None:
    client.get("/api/mytenant/petstore")
    client.get("/api/mytenant/orders")
    first = client.get(f"{ENTRIES}?limit=2").json()
    assert [entry["reference"] for entry in first["entries"]] == ["GET orders", "GET petstore"]
    second = client.get(f"{ENTRIES}?limit=2&cursor={first['next']}").json()
    (opening,) = second["entries"]
    assert (opening["kind"], opening["amount"], opening["balance_after"], second["next"]) == (
        *("top_up", 1000, 1000, None),
    )
    debit: Any = first["entries"][0]
    assert (debit["amount"], debit["balance_after"], debit["sequence"]) == (-10, 980, None)
    assert client.defaults["HTTP_X_API_KEY"].startswith(f"bf_{debit['api_key']}_")


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        (f"{USAGE}?days=0", "days"),
        (f"{USAGE}?days=32", "days"),
        (f"{USAGE}?days=x", "days"),
        (f"{USAGE}?day=1", "day"),
        (f"{ENTRIES}?limit=0", "limit"),
        (f"{ENTRIES}?cursor=x", "cursor"),
    ],
)
def test_a_bad_parameter_is_named(client: APIClient, path: str, parameter: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


def test_only_the_permission_opens_it_and_a_stranger_learns_nothing(tenant: Tenant) -> None:
    others = [permission for permission in Permission if permission != Permission.BACKEND_CALLS]
    without = APIClient(headers={"X-API-Key": a_key(tenant, permissions=others)})
    stranger = APIClient(headers={"X-API-Key": a_key(a_tenant("other"), permissions=list(Permission))})
    for path in (USAGE, ENTRIES):
        assert [client.get(path).status_code for client in (without, stranger, APIClient())] == [403, 401, 401]


def test_it_costs_no_tokens_and_few_statements(client: APIClient) -> None:
    client.get(ENTRIES)
    with CaptureQueriesContext(connection) as queries:
        client.get(ENTRIES)
    assert len(queries) == 2
    assert client.get(USAGE).json()["balance"] == 1000


def test_usage_that_takes_too_long_says_what_helps(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any, **__: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '10ms'")
            cursor.execute("SELECT pg_sleep(10)")

    if connection.vendor != "postgresql":
        pytest.skip("Only PostgreSQL ends a statement.")
    monkeypatch.setattr(usage, "of", slow)
    answer = client.get(f"{USAGE}?days=31")
    assert (answer.status_code, answer.json()["code"]) == (503, "took-too-long")
    assert "ask for fewer, by the parameter 'days'" in answer.json()["detail"]
