"""Rate limits, and what each answer says of them and of the tokens."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from redis import Redis
from rest_framework.test import APIClient

from blockforger.backend import checks
from tenants import rate_limits
from tenants.models import LedgerEntry, Permission, Tenant, TokenAccount
from tests.cast import FLUFFY, a_key, a_schema, a_tenant
from tests.eventing.doors import Ask, as_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"
BROKER = os.environ.get("CELERY_BROKER_URL", "")
NOBODY_LISTENS = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _counts_begin_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # In the middle of a window, which no test then sees end.
    now = time.time() // 1000 * 1000 + 100
    monkeypatch.setattr("tenants.rate_limits.time.time", lambda: now)
    rate_limits.forget()
    yield
    rate_limits.forget()


@pytest.fixture(params=["in process", "in Redis"])
def limit(request: pytest.FixtureRequest, settings: Settings) -> None:
    settings.BLOCKFORGER_RATE_LIMIT = "3/1000"
    settings.BLOCKFORGER_RATE_LIMIT_REDIS_URL = ""
    if request.param == "in Redis":
        if not BROKER.startswith("redis:"):
            pytest.skip("CELERY_BROKER_URL names no Redis")
        settings.BLOCKFORGER_RATE_LIMIT_REDIS_URL = BROKER


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    return tenant


@pytest.fixture
def client(tenant: Tenant) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(tenant)})


@pytest.mark.usefixtures("limit")
def test_a_key_gets_so_many_answers_and_then_a_429_until_the_time_is_over(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [client.get(PETS) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer["RateLimit"] for answer in answers] == [f'"key";r={left};t=900' for left in (2, 1, 0, 0, 0)]
    assert {answer["RateLimit-Policy"] for answer in answers} == {'"key";q=3;w=1000'}
    refused = answers[-1]
    assert (refused["Retry-After"], refused["Content-Type"]) == ("900", "application/problem+json")
    assert (refused.json()["code"], refused.json()["quota"], refused.json()["seconds"]) == (
        *("rate-limit-exceeded", 3, 1000),
    )
    assert "Retry-After" not in answers[0]
    now = time.time()
    monkeypatch.setattr("tenants.rate_limits.time.time", lambda: now + 900)
    assert client.get(PETS)["RateLimit"] == '"key";r=2;t=1000'


@pytest.mark.usefixtures("limit")
def test_each_key_has_a_quota_of_its_own_for_all_requests_together(client: APIClient, tenant: Tenant) -> None:
    paths = (PETS, "/api/mytenant", "/api/mytenant/$usage", f"{PETS}/$schema")
    assert [client.get(path).status_code for path in paths] == [200, 200, 200, 429]
    assert APIClient(headers={"Authorization": f"Bearer {a_key(tenant)}"}).get(PETS).status_code == 200


@pytest.mark.usefixtures("limit")
def test_a_stream_is_a_request_too(client: APIClient) -> None:
    def stream() -> Any:
        lines = '{"name": "x"}\n{"name": "y"}\n'
        answer: Any = client.generic("POST", PETS, lines, content_type="application/x-ndjson")
        if answer.streaming:  # its file is closed when it has been read
            assert len(b"".join(answer.streaming_content).splitlines()) == 2
        return answer

    answers = [stream() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer["RateLimit"] for answer in answers] == [f'"key";r={left};t=900' for left in (2, 1, 0, 0)]
    assert (answers[-1]["Retry-After"], answers[-1].json()["code"]) == ("900", "rate-limit-exceeded")


@pytest.mark.usefixtures("limit")
def test_nobody_uses_up_the_quota_of_a_key_of_which_only_the_beginning_is_known(client: APIClient) -> None:
    guessed = client.defaults["HTTP_X_API_KEY"][:-4] + "AAAA"
    stranger = APIClient(headers={"X-API-Key": guessed})
    assert [stranger.get(PETS).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert client.get(PETS).status_code == 200


@pytest.mark.usefixtures("limit")
def test_what_is_one_too_many_costs_nothing_and_asks_no_database(client: APIClient) -> None:
    for _ in range(3):
        client.get(PETS)
    with CaptureQueriesContext(connection) as queries:
        assert client.post(PETS, FLUFFY, format="json").status_code == 429
    assert not queries
    assert TokenAccount.objects.get().balance == 1000 - 3 * 10


@pytest.mark.usefixtures("limit")
def test_to_count_takes_no_statement(client: APIClient, settings: Settings) -> None:
    client.get(PETS)
    counts = []
    for limit in ("3/1000", ""):
        settings.BLOCKFORGER_RATE_LIMIT = limit
        with CaptureQueriesContext(connection) as queries:
            assert client.get(PETS).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_an_event_is_never_dropped_for_a_limit(tenant: Tenant, settings: Settings) -> None:
    settings.BLOCKFORGER_RATE_LIMIT = "1/1000"
    key = a_key(tenant)
    asks = [Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key) for number in range(3)]
    assert [as_event(ask).status for ask in asks] == [201, 201, 201]


def test_without_a_limit_there_are_no_such_headers(client: APIClient) -> None:
    answer = client.get(PETS)
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"}.isdisjoint(answer.headers)


def test_while_redis_is_away_nobody_is_limited_and_nobody_waits_twice(
    client: APIClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.BLOCKFORGER_RATE_LIMIT = "1/1000"
    settings.BLOCKFORGER_RATE_LIMIT_REDIS_URL = NOBODY_LISTENS
    with caplog.at_level(logging.WARNING, "tenants.rate_limits"):
        assert [client.get(PETS).status_code for _ in range(3)] == [200, 200, 200]
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "Redis does not count requests, so nobody is limited for now"
    ]
    assert client.defaults["HTTP_X_API_KEY"] not in caplog.text


def test_a_redis_that_does_not_answer_takes_a_tenth_of_a_second(client: APIClient, settings: Settings) -> None:
    settings.BLOCKFORGER_RATE_LIMIT = "1/1000"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.BLOCKFORGER_RATE_LIMIT_REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        begun = time.monotonic()
        key = client.defaults["HTTP_X_API_KEY"]
        assert rate_limits.take(key) is None
        assert rate_limits.take(key) is None
        assert time.monotonic() - begun < 1.0


@pytest.mark.skipif(not BROKER.startswith("redis:"), reason="CELERY_BROKER_URL names no Redis")
def test_nothing_of_a_key_is_in_redis_and_what_is_goes_by_itself(client: APIClient, settings: Settings) -> None:
    settings.BLOCKFORGER_RATE_LIMIT = "3/1000"
    settings.BLOCKFORGER_RATE_LIMIT_REDIS_URL = BROKER
    key = client.defaults["HTTP_X_API_KEY"]
    client.get(PETS)
    with Redis.from_url(BROKER) as redis:
        names = [name.decode() for name in redis.scan_iter("blockforger:rate:*")]
        assert names
        assert not any(part in name for name in names for part in key.split("_", 2)[1:])
        assert all(0 < redis.ttl(name) <= 2000 for name in names)


@pytest.mark.parametrize("text", ["600", "0/60", "600/0", "a/b", "600/60/1", "-1/60"])
def test_a_limit_that_cannot_be_read_is_found_before_the_first_request(text: str, settings: Settings) -> None:
    settings.BLOCKFORGER_RATE_LIMIT = text
    (error,) = checks.the_rate_limit_can_be_read()
    assert error.id == "backend.E002"
    settings.BLOCKFORGER_RATE_LIMIT = "600/60"
    assert checks.the_rate_limit_can_be_read() == []


def test_each_answer_says_what_it_cost_and_what_is_left(client: APIClient) -> None:
    def tokens(answer: Any) -> tuple[str, str | None]:
        return answer["Token-Cost"], answer.headers.get("Token-Balance")

    assert tokens(client.post(PETS, FLUFFY, format="json")) == ("10", "990")
    assert tokens(client.get(f"{PETS}/123")) == ("10", "980")
    assert tokens(client.get(f"{PETS}/none")) == ("0", None)
    assert tokens(client.delete(f"{PETS}/123")) == ("10", "970")
    assert tokens(APIClient().get(PETS)) == ("0", None)
    assert "Token-Cost" not in client.get("/api/mytenant").headers
    assert LedgerEntry.objects.latest("pk").balance_after == 970


def test_every_balance_that_is_told_was_one(client: APIClient) -> None:
    told = [client.get(PETS)["Token-Balance"] for _ in range(3)]
    entries = LedgerEntry.objects.filter(kind="debit").order_by("pk").values_list("balance_after", flat=True)
    assert list(map(int, told)) == list(entries)


@pytest.mark.parametrize("permission", Permission)
def test_the_limit_comes_before_the_permission(tenant: Tenant, settings: Settings, permission: Permission) -> None:
    settings.BLOCKFORGER_RATE_LIMIT = "1/1000"
    client = APIClient(headers={"X-API-Key": a_key(tenant, permissions=[permission])})
    paths = ["/api/mytenant/$rules", "/api/mytenant/$events/out"]
    assert {client.get(path).status_code for path in paths} <= {200, 403, 429}
    assert client.get(PETS).status_code == 429
