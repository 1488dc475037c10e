"""A tenant's output events as an AsyncAPI 3 document: a channel for each bus that its rules name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from blockforger.backend.openapi import VERSION
from eventing import output_events

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject
    from eventing.output_events import OutputMessage
    from tenants.models import Tenant

DESCRIPTION = (
    "Events that Blockforger sends for each write of the tenant's items, by its output rules: in order for each item "
    "and bus, at least once. The second of the resources names the event, and stays the same when it is sent again."
)


def of_tenant(tenant: Tenant) -> JsonObject:
    """The document of a tenant, as its rules and schemas are now."""
    events = output_events.of_tenant(tenant)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for message in events.messages:
        bus, name = _name(message.bus_arn.partition(":events:")[2]), _name_of(message)
        channel = channels.setdefault(bus, {"address": message.bus_arn, "messages": {}})
        channel["messages"][name] = {"$ref": f"#/components/messages/{name}"}
        send = operations.setdefault(
            f"send.{bus}", {"action": "send", "channel": {"$ref": f"#/channels/{bus}"}, "messages": []}
        )
        send["messages"].append({"$ref": f"#/channels/{bus}/messages/{name}"})
        messages[name] = {
            "name": message.detail_type,
            "title": f"{message.operation} of {message.schema_name}",
            "contentType": "application/json",
            "payload": events.event_of(message),
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"Output events of {tenant.name}",
            "version": VERSION,
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": events.types},
    }


def _name_of(message: OutputMessage) -> str:
    """The name of a message; those of several buses share it, and nothing else does."""
    parts = [message.schema_name, message.operation, message.source, message.detail_type]
    return ".".join(map(_name, [*parts, *(["part"] if message.is_partial else [])]))


def _name(text: str) -> str:
    """The text as a name of a component. Other characters are written as their codes, so that names stay different."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda match: "-" if match[0] in ":/" else f"_{ord(match[0]):x}_", text)
