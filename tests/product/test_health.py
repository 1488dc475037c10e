from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError

from blockforger import health

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db


def test_a_process_that_answers_is_alive(client: Client) -> None:
    assert client.get("/livez").json() == {"status": "ok"}


def test_it_is_ready_when_database_migrations_and_broker_are(client: Client) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ok", "database": "ok", "migrations": "ok", "broker": "ok"},
    )


def test_it_is_not_ready_while_the_database_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> bool:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(health, "_database", away)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (503, "failed")
    assert client.get("/livez").status_code == 200


def test_it_is_not_ready_before_the_migrations_have_run(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    health._are_migrations_applied.cache_clear()
    monkeypatch.setattr("django.db.migrations.executor.MigrationExecutor.migration_plan", lambda *_: ["one is missing"])
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["migrations"]) == (503, "failed")


def test_without_its_broker_it_is_degraded_and_goes_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["broker"]) == ("degraded", "failed")
