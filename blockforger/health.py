"""Health for load balancers and supervisors: is the process alive, and can it do its work?"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import JsonResponse

from blockforger.celery import app as celery_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

logger = logging.getLogger(__name__)


def livez(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - Django's signature
    """200 as long as the process answers."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - Django's signature
    """200 when the database takes writes and has all migrations, else 503; the body tells what is, the broker included.

    A site without its broker goes on: events wait for the sweep, and taking the site down would help nobody.
    """
    passed = {
        name: _passes(name, check)
        for name, check in (("database", _database), ("migrations", _migrations), ("broker", _broker))
    }
    ready = passed["database"] and passed["migrations"]
    status = "ok" if all(passed.values()) else "degraded" if ready else "failed"
    states = {name: "ok" if ok else "failed" for name, ok in passed.items()}
    return JsonResponse({"status": status, **states}, status=200 if ready else 503)


def _passes(name: str, check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception:  # whatever a check meets, the answer is "not ready", and the log says why
        logger.exception("The readiness check '%s' failed.", name)
        return False


def _database() -> bool:
    with connection.cursor() as cursor:
        # From a server that only reads, another has taken over: not even a GET, which is billed, can be answered.
        cursor.execute("SHOW transaction_read_only" if connection.vendor == "postgresql" else "SELECT 'off'")
        takes_writes = bool(cursor.fetchone() == ("off",))
    if not takes_writes:
        connection.errors_occurred = True  # so that it is not used again: a new one may be to the server that took over
    return takes_writes


@cache
def _are_migrations_applied() -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def _migrations() -> bool:
    if not _are_migrations_applied():
        # Only a yes is for good.
        _are_migrations_applied.cache_clear()
        return False
    return True


def _broker() -> bool:
    if not settings.CELERY_BROKER_URL:
        return True
    with celery_app.connection_for_write(connect_timeout=1) as broker:
        broker.ensure_connection(max_retries=1, timeout=1)
    return True
