"""Both doors, behind one call: what a client sees over REST, and what is recorded of an event."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rest_framework.test import APIClient

from blockforger.backend.models import Item, Method, OperationRecord, Origin
from blockforger.backend.operations import Operation, execute
from eventing import consuming
from eventing.models import OutboxEvent
from tenants.models import LedgerEntry, Tenant, TokenAccount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventing.consuming import Disposition


@dataclass(frozen=True)
class Answer:
    status: int
    problem: dict[str, Any] | None


@dataclass(frozen=True)
class State:
    """Everything that an operation can change."""

    items: list[tuple[str, Any, int]]
    accounts: list[tuple[int, int]]
    ledger_entries: int
    outbox: list[tuple[str, str, str]]


def state() -> State:
    return State(
        items=list(Item.objects.order_by("pk").values_list("key", "payload", "version")),
        accounts=list(TokenAccount.objects.order_by("pk").values_list("balance", "sequence")),
        ledger_entries=LedgerEntry.objects.count(),
        outbox=list(OutboxEvent.objects.order_by("sequence", "place").values_list("detail_type", "detail", "bus_arn")),
    )


@dataclass(frozen=True)
class Ask:
    """A request in the terms of both doors. `payload` holds the key, as an event's must."""

    method: str
    payload: Any
    tenant: str = "mytenant"
    schema: str = "petstore"
    api_key: str | None = None
    # Of a request only.
    headers: Mapping[str, str] = field(default_factory=dict)


def write(tenant: Tenant, api_key: str, method: str, item_key: str, **members: Any) -> None:
    """A write that goes through, past both doors."""
    outcome = execute(
        Operation(
            origin=Origin.API,
            method=method,
            tenant=tenant.name,
            schema="petstore",
            api_key=api_key,
            key=None if method == Method.POST else item_key,
            payload={"id": item_key, "name": "x", **members},
        )
    )
    assert outcome.problem is None


def over_rest(ask: Ask) -> Answer:
    client = APIClient()
    path = f"/api/{ask.tenant}/{ask.schema}"
    if ask.method != "POST":
        path += f"/{ask.payload['id']}"
    response = client.generic(
        ask.method,
        path,
        json.dumps(ask.payload),
        content_type="application/json",
        headers={**ask.headers, **({"X-API-Key": ask.api_key} if ask.api_key is not None else {})},
    )
    if response.status_code < 400:
        return Answer(response.status_code, None)
    assert response["Content-Type"] == "application/problem+json"
    return Answer(response.status_code, response.json())


def envelope(ask: Ask, *, event_id: str | None = None, **changes: Any) -> dict[str, Any]:
    detail = {
        "tenant": ask.tenant,
        "rootSchema": ask.schema,
        "operation": ask.method,
        "payload": ask.payload,
    }
    if ask.api_key is not None:
        detail["api_key"] = ask.api_key
    return {
        "version": "0",
        "id": event_id or str(uuid.uuid4()),
        "detail-type": f"{ask.schema}.{ask.method}",
        "source": "blockforger-input",
        "account": "123456789012",
        "time": "2026-11-23T12:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
        **changes,
    }


def handle(body: str) -> Disposition:
    """What became of a message that came alone."""
    (disposition,) = consuming.handle_all([body])
    return disposition


def an_event(key: str, method: str, payload: Any, *, event_id: str, tenant: str = "mytenant") -> Operation:
    """An event as `execute` gets it."""
    return Operation(
        origin=Origin.EVENT,
        method=method,
        tenant=tenant,
        schema="petstore",
        api_key=key,
        payload=payload,
        idempotency_key=event_id,
    )


def as_event(ask: Ask) -> Answer:
    event = envelope(ask)
    handle(json.dumps(event))
    record = OperationRecord.objects.get(origin="event", idempotency_key=event["id"])
    return Answer(record.status, record.problem)


DOORS = {"rest": over_rest, "event": as_event}
