"""What tests of replays share: two tenants that write, and what has been sent."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from blockforger.backend.models import Method, Origin
from blockforger.backend.operations import Operation, execute
from eventing import replays
from eventing.models import OutboxEvent, OutboxStatus, Replay
from tests.cast import a_key, a_rule, a_schema, a_tenant
from tests.eventing.event_bridge import EventBridge, each

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventing.replays import Selection
    from tenants.models import Tenant

OTHER_BUS = "arn:aws:events:eu-west-1:210987654321:event-bus/audit"
FAST = 10_000


@pytest.fixture
def delays_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventing.backoff.random.random", lambda: 0.9)


@pytest.fixture
def tenant() -> Tenant:
    return with_schema_and_rule("mytenant")


@pytest.fixture
def other() -> Tenant:
    return with_schema_and_rule("other")


def with_schema_and_rule(name: str) -> Tenant:
    tenant = a_tenant(name, tokens=100_000)
    a_schema(tenant)
    a_rule(tenant)
    return tenant


def write(tenant: Tenant, item_key: str, *names: str) -> None:
    """Write the item, once for each name."""
    key = a_key(tenant)
    for name in names:
        exists = OutboxEvent.objects.filter(tenant=tenant, item_key=item_key).exists()
        outcome = execute(
            Operation(
                origin=Origin.API,
                method=Method.PUT if exists else Method.POST,
                tenant=tenant.name,
                schema="petstore",
                api_key=key,
                key=item_key if exists else None,
                payload={"id": item_key, "name": name},
            )
        )
        assert outcome.problem is None


def named(name: str) -> OutboxEvent:
    return OutboxEvent.objects.get(detail__contains=f'"{name}"')


def sent_names(bridge: EventBridge) -> list[str]:
    return [json.loads(entry["Detail"])["payload"]["name"] for entry in bridge.entries]


def replay(selection: Selection, *, per_second: int = FAST) -> Replay:
    return replays.replay(selection, who="ops", why="they asked", per_second=per_second)


def failing(*names: str) -> Callable[[list[dict[str, Any]]], tuple[int, dict[str, Any]]]:
    """EventBridge throttles the events of these names, and takes all others."""
    return lambda entries: each(
        entries,
        lambda entry: "ThrottlingException" if json.loads(entry["Detail"])["payload"]["name"] in names else None,
    )


def bury(event: OutboxEvent) -> None:
    OutboxEvent.objects.filter(pk=event.pk).update(
        status=OutboxStatus.DEAD,
        attempts=7,
        failing_since=timezone.now() - timedelta(days=2),
        error_code="MalformedDetail",
        error_message="no",
    )
