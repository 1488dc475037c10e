"""What is told of a tenant's output events, as AsyncAPI and as registry schemas, against the events themselves."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from django.core.management import CommandError, call_command
from jsonschema import Draft4Validator, Draft202012Validator
from rest_framework.test import APIClient

from eventing import asyncapi, registry_schemas
from eventing.models import OutboxEvent
from tenants.models import Permission, Tenant
from tests.cast import BUS, PET, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, over_rest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

OTHER_BUS = "arn:aws:events:eu-west-1:720291373173:event-bus/other"
STRICT: dict[str, Any] = {
    **PET,
    "additionalProperties": False,
    "properties": {
        **PET["properties"],  # type: ignore[dict-item]
        "price": {"type": "number", "exclusiveMinimum": 0},
        "kind": {"const": "pet"},
        "tail": {"$ref": "#/$defs/tail", "description": "How long it is."},
        "legs": {"prefixItems": [{"type": "string"}], "items": False},
    },
    "$defs": {"tail": {"type": ["number", "null"]}},
}
PETS: dict[str, Any] = {"id": "1", "name": "Rex", "price": 5, "kind": "pet", "tail": None, "legs": ["left"]}


def a_tenant_with_rules() -> Tenant:
    tenant = a_tenant("acme")
    a_schema(tenant, "petstore", STRICT)
    a_schema(tenant, "metrics", {})
    a_rule(tenant, schema_names=["petstore"])
    a_rule(tenant, eventbridge_arn=OTHER_BUS, operations=["DELETE"], detail_type="gone", position=1)
    return Tenant.objects.get(pk=tenant.pk)


def sent(tenant: Tenant) -> list[Any]:
    """The events of every operation, as a target of EventBridge gets them."""
    key = a_key(tenant)
    for method, payload in [
        ("POST", PETS),
        ("PATCH", {"id": "1", "price": 7, "tail": 2}),
        ("PUT", {"id": "1", "name": "Max"}),
        ("DELETE", {"id": "1"}),
    ]:
        assert over_rest(Ask(method, payload, "acme", "petstore", key)).status < 300
    rows = OutboxEvent.objects.order_by("sequence", "place")
    return [(row.bus_arn, as_received(row)) for row in rows]


def as_received(event: OutboxEvent) -> Any:
    return {
        "version": "0",
        "id": "1",
        "detail-type": event.detail_type,
        "source": event.source,
        "account": "720291373173",
        "time": event.time.isoformat(),
        "region": "us-east-1",
        "resources": event.resources,
        "detail": json.loads(event.detail),
    }


class TestAsyncApi:
    def test_there_is_a_channel_for_each_bus_and_a_message_for_each_schema_and_operation(self) -> None:
        document: Any = asyncapi.of_tenant(a_tenant_with_rules())
        assert document["asyncapi"] == "3.0.0"
        messages = document["components"]["messages"]
        told = {
            channel["address"]: [messages[name]["title"] for name in channel["messages"]]
            for channel in document["channels"].values()
        }
        assert told == {
            BUS: [f"{method} of petstore" for method in ("POST", "PUT", "PATCH", "DELETE")],
            OTHER_BUS: ["DELETE of metrics", "DELETE of petstore"],
        }
        for operation in document["operations"].values():
            assert operation["action"] == "send"
            assert len(operation["messages"]) == len(found(document, operation["channel"]["$ref"])["messages"])

    def test_every_reference_leads_somewhere(self) -> None:
        document: Any = asyncapi.of_tenant(a_tenant_with_rules())
        for reference in re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)):
            assert found(document, reference)

    def test_every_event_that_is_sent_fits_its_message(self) -> None:
        tenant = a_tenant_with_rules()
        document: Any = asyncapi.of_tenant(tenant)
        events = sent(tenant)
        assert len(events) == 5
        for bus, event in events:
            (channel,) = (each for each in document["channels"].values() if each["address"] == bus)
            payloads = [document["components"]["messages"][name]["payload"] for name in channel["messages"]]
            fitting = [
                payload
                for payload in payloads
                if Draft202012Validator({**payload, "components": document["components"]}).is_valid(event)
            ]
            assert len(fitting) == 1, event

    def test_a_rule_with_conditions_has_its_messages_and_one_that_rests_has_none(self) -> None:
        tenant = a_tenant("acme")
        a_schema(tenant, "petstore", STRICT)
        a_rule(tenant, filter={"price": [{"numeric": [">", 1]}]}, operations=["POST"])
        a_rule(tenant, on_change=["price"], operations=["PUT"], position=1)
        a_rule(tenant, enabled=False, operations=["DELETE"], position=2)
        messages: Any = asyncapi.of_tenant(Tenant.objects.get(pk=tenant.pk))["components"]
        assert [message["title"] for message in messages["messages"].values()] == [
            "POST of petstore",
            "PUT of petstore",
        ]

    def test_a_part_of_a_payload_fits_a_message_of_its_own_beside_that_of_the_whole(self) -> None:
        tenant = a_tenant("acme")
        a_schema(tenant, "petstore", STRICT)
        a_rule(tenant, operations=["POST"])
        a_rule(tenant, operations=["POST"], fields={"drop": ["name"], "mask": ["price"]}, position=1)
        tenant = Tenant.objects.get(pk=tenant.pk)
        document: Any = asyncapi.of_tenant(tenant)
        whole, part = (message["payload"] for message in document["components"]["messages"].values())
        of_whole, of_part = (
            Draft202012Validator({**payload, "components": document["components"]}) for payload in (whole, part)
        )
        (_, event), (_, event_of_part) = sent(tenant)
        assert event_of_part["detail"]["payload"]["price"] == "***"
        of_whole.validate(event)
        of_part.validate(event_of_part)
        assert not of_whole.is_valid(event_of_part)
        Draft4Validator(registry_schemas.of_tenant(tenant)["blockforger-output@petstore.POST"]).validate(event_of_part)

    @pytest.mark.parametrize("permission", Permission)
    def test_it_takes_a_permission_of_events_or_rules(self, permission: Permission) -> None:
        key = a_key(a_tenant_with_rules(), permissions=[permission])
        response = APIClient().get("/api/acme/asyncapi.json", headers={"X-API-Key": key})
        allowed = permission in {Permission.READ_EVENTS, Permission.MANAGE_RULES}
        assert response.status_code == (200 if allowed else 403)

    def test_it_changes_with_the_rules(self) -> None:
        tenant = a_tenant_with_rules()
        key = a_key(tenant, permissions=[Permission.MANAGE_RULES])
        headers = {"X-API-Key": key}
        etag = APIClient().get("/api/acme/asyncapi.json", headers=headers)["ETag"]
        headers["If-None-Match"] = etag
        assert APIClient().get("/api/acme/asyncapi.json", headers=headers).status_code == 304
        a_rule(tenant, eventbridge_arn=f"{OTHER_BUS}-still")
        response = APIClient().get("/api/acme/asyncapi.json", headers=headers)
        assert f"{OTHER_BUS}-still" in response.content.decode()


class TestRegistrySchemas:
    def test_they_are_draft_4_and_take_every_event_that_is_sent(self) -> None:
        tenant = a_tenant_with_rules()
        schemas: Any = registry_schemas.of_tenant(tenant)
        for schema in schemas.values():
            Draft4Validator.check_schema(schema)
        for _, event in sent(tenant):
            Draft4Validator(schemas[f"{event['source']}@{event['detail-type']}"]).validate(event)

    @pytest.mark.parametrize(
        "change",
        [{"price": 0}, {"kind": "plant"}, {"tail": "long"}, {"legs": ["left", "right"]}, {"wings": 2}, {"name": 1}],
        ids=str,
    )
    def test_they_refuse_what_the_schema_refuses(self, change: dict[str, Any]) -> None:
        tenant = a_tenant_with_rules()
        schema: Any = registry_schemas.of_tenant(tenant)["blockforger-output@petstore.POST"]
        event = next(event for _, event in sent(tenant) if event["detail-type"] == "petstore.POST")
        event["detail"]["payload"].update(change)
        assert not Draft4Validator(schema).is_valid(event)

    def test_they_say_source_and_detail_type_as_the_registry_does(self) -> None:
        schema = registry_schemas.of_tenant(a_tenant_with_rules())["blockforger-output@petstore.PUT"]
        assert schema["x-amazon-events-source"] == "blockforger-output"
        assert schema["x-amazon-events-detail-type"] == "petstore.PUT"

    def test_one_detail_type_of_several_schemas_is_one_schema(self) -> None:
        schemas: Any = registry_schemas.of_tenant(a_tenant_with_rules())
        assert len(schemas["blockforger-output@gone"]["properties"]["detail"]["anyOf"]) == 2

    def test_the_command_writes_a_file_for_each(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tenant = a_tenant_with_rules()
        call_command("export_event_schemas", "acme", "--dir", str(tmp_path / "new"))
        written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "new").iterdir()}
        assert written == registry_schemas.of_tenant(tenant)
        assert len(capsys.readouterr().out.splitlines()) == len(written)
        call_command("export_event_schemas", "acme")
        assert json.loads(capsys.readouterr().out) == written

    def test_the_command_knows_who_is_no_tenant(self) -> None:
        with pytest.raises(CommandError, match="There is no tenant 'nobody'"):
            call_command("export_event_schemas", "nobody")

    def test_aws_takes_them(self) -> None:
        """As far as its own model of CreateSchema says: the client refuses other names, types and contents."""
        model = boto3.Session().client("schemas", region_name="us-east-1").meta.service_model
        shape: Any = model.operation_model("CreateSchema").input_shape
        assert registry_schemas.TYPE in shape.members["Type"].enum
        assert all(len(name) <= 385 for name in registry_schemas.of_tenant(a_tenant_with_rules()))


def found(document: Any, reference: str) -> Any:
    for token in reference.removeprefix("#/").split("/"):
        document = document[token]
    return document
