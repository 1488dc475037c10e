"""The log of output events that arrived on our bus: what the stack's output rule writes to CloudWatch Logs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings

from eventing import aws

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from blockforger.backend.json_values import JsonObject

# Events can show up in the log a little after later ones.
_LATE_MS = 10_000


class LogGroupMissingError(LookupError):
    """There is no log group of that name."""


@dataclass(frozen=True, slots=True)
class _LoggedEvent:
    id: str
    # When it was logged, in milliseconds since 1970.
    timestamp: int
    event: JsonObject


def default_log_group() -> str:
    """The log group that the stack made, unless another is configured."""
    return str(settings.BLOCKFORGER_EVENT_LOG_GROUP)


def tail(
    log_group: str,
    *,
    since: datetime,
    newest: int,
    tenant: str = "",
    poll_seconds: float | None = None,
) -> Iterator[JsonObject]:
    """The newest of the events logged since then, as EventBridge delivered them, oldest first.

    With a tenant, only its events. With `poll_seconds`, never ends: goes on to give each event that arrives,
    asking for more that often. Raises LogGroupMissingError, and one of aws.ERRORS if AWS cannot be asked.
    """
    start = max(0, int(since.timestamp() * 1000))
    found = _read(log_group, start, tenant)
    yield from (logged.event for logged in found[max(0, len(found) - newest) :])
    while poll_seconds is not None:
        time.sleep(poll_seconds)
        known = {logged.id for logged in found}
        # The start only moves on, so what was found last time holds all that can be found again.
        start = max([start, *(logged.timestamp - _LATE_MS for logged in found)])
        found = _read(log_group, start, tenant)
        yield from (logged.event for logged in found if logged.id not in known)


def _read(log_group: str, start: int, tenant: str) -> list[_LoggedEvent]:
    client = aws.logs_client()
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=log_group,
        startTime=start,
        # Spares the transport of other tenants' events. moto ignores it, so they are left out below, too.
        filterPattern=f"{{ $.detail.tenant = {json.dumps(tenant)} }}" if tenant else "",
    )
    try:
        lines = [line for page in pages for line in page["events"]]
    except client.exceptions.ResourceNotFoundException as error:
        raise LogGroupMissingError(
            f"There is no log group '{log_group}' in {aws.own_region()}. Make it with `manage.py deploy_stack`."
        ) from error
    logged = [
        _LoggedEvent(line["eventId"], int(line["timestamp"]), event)
        for line in lines
        if (event := _event_in(line["message"])) and (not tenant or _tenant_of(event) == tenant)
    ]
    return sorted(logged, key=lambda entry: entry.timestamp)


def _event_in(line: str) -> JsonObject | None:
    """The event that a line of the log holds. The lines that Lambda itself logs hold none."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "detail" in value else None


def _tenant_of(event: JsonObject) -> object:
    detail = event["detail"]
    return detail.get("tenant") if isinstance(detail, dict) else None
