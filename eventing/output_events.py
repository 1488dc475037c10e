"""What a tenant's rules send: messages by bus, schema and operation, each with the type of its `detail`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from blockforger.backend.models import WRITES, Method, Schema
from blockforger.backend.openapi_parts import object_of
from blockforger.backend.openapi_types import Types
from eventing import rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.openapi_types import ItemTypes
    from tenants.models import Tenant


class OutputMessage(NamedTuple):
    """Events that are alike. Two rules that send the same have one message."""

    bus_arn: str
    source: str
    detail_type: str
    schema_name: str
    operation: str
    # Whether the rule's `fields` leave out or mask some of the payload.
    is_partial: bool


class OutputEvents(NamedTuple):
    """All messages of a tenant, in the order of its rules; and the types of items, to which their details refer."""

    tenant_name: str
    messages: list[OutputMessage]
    item_types: dict[str, ItemTypes]
    types: dict[str, Any]

    def event_of(self, message: OutputMessage) -> JsonObject:
        """The type of the event as a target of EventBridge gets it."""
        detail = object_of(
            {
                "tenant": {"enum": [self.tenant_name]},
                "rootSchema": {"enum": [message.schema_name]},
                "operation": {"enum": [message.operation]},
                "payload": _payload(self.item_types[message.schema_name], message),
            }
        )
        return envelope(message.source, message.detail_type, detail)


def of_tenant(tenant: Tenant) -> OutputEvents:
    """What the tenant's rules send, as they are now."""
    schemas = list(Schema.objects.filter(tenant=tenant).order_by("name"))
    types = Types({})
    item_types = {schema.name: types.of(schema) for schema in schemas}
    return OutputEvents(tenant.name, list(dict.fromkeys(_messages(tenant, schemas))), item_types, types.named)


def envelope(source: str, detail_type: str, detail: JsonObject) -> JsonObject:
    """The type of an event of EventBridge: ours has the two resources that name the item, and the event itself."""
    text: JsonObject = {"type": "string"}
    return {
        "type": "object",
        "required": ["detail-type", "resources", "id", "source", "time", "detail", "region", "version", "account"],
        "properties": {
            "version": text,
            "id": text,
            "detail-type": {"type": "string", "enum": [detail_type]},
            "source": {"type": "string", "enum": [source]},
            "account": text,
            "time": {"type": "string", "format": "date-time"},
            "region": text,
            "resources": {"type": "array", "items": text},
            "detail": detail,
        },
    }


def _messages(tenant: Tenant, schemas: list[Schema]) -> Iterator[OutputMessage]:
    for rule in rules.of_tenant(tenant):
        for schema in schemas:
            for operation in WRITES:
                if rules.may_match(rule, schema, operation):
                    yield OutputMessage(
                        rule.eventbridge_arn,
                        rule.source,
                        rules.detail_type_of(rule, schema.name, operation),
                        schema.name,
                        str(operation),
                        is_partial=rule.projection is not None,
                    )


def _payload(types: ItemTypes, message: OutputMessage) -> JsonObject:
    """What was sent, with its key. Of a part of it no more is said: what a schema asks of the whole need not hold."""
    with_key: JsonObject = {"type": "object", "required": [types.key_field]}
    if message.is_partial:
        return {**with_key, "description": "A part of what was sent, or masked: the rule has `fields`."}
    match message.operation:
        case Method.DELETE:
            return with_key
        case Method.PATCH:
            return types.change
        case _:
            return {"allOf": [types.item, with_key]}
