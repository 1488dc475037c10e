"""The sample tenants in schemas/ are those that the specification speaks of."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import jsonschema_rs
import pytest
from django.conf import settings
from django.core.management import call_command

from blockforger.backend.models import Schema
from eventing import rules
from eventing.models import OutputRule
from tenants.models import Tenant
from tests.cast import BUS, FLUFFY
from tests.eventing import spec_examples

pytestmark = pytest.mark.django_db

SAMPLES = Path(settings.BASE_DIR) / "schemas"


@pytest.fixture(autouse=True)
def _the_samples_are_imported() -> None:
    output = StringIO()
    call_command("import_tenant_properties", str(SAMPLES), stdout=output)
    assert "!" not in output.getvalue()


def schema(tenant: str, name: str) -> Schema:
    return Schema.objects.select_related("tenant").get(tenant__name=tenant, name=name)


def is_valid(row: Schema, payload: object) -> bool:
    return jsonschema_rs.Draft202012Validator(row.parsed_document(), validate_formats=True).is_valid(payload)


def test_evented_takes_events_and_sends_one_for_every_write() -> None:
    evented = schema("evented", "evented")
    assert evented.tenant.accepts_events
    for operation in ("POST", "PUT", "PATCH", "DELETE"):
        [rule] = rules.matching(evented.tenant, evented, operation)
        assert rule.eventbridge_arn == BUS
        assert rules.detail_type_of(rule, "evented", operation) == f"evented.{operation}"


def test_evented_takes_the_payload_of_the_specification() -> None:
    evented = schema("evented", "evented")
    assert is_valid(evented, spec_examples.EVENTED_PAYLOAD)
    assert is_valid(evented, {**spec_examples.EVENTED_PAYLOAD, "id": "1"})
    assert not is_valid(evented, {"numeric": "21", "string": "ergyigyuhwer"})
    assert not is_valid(evented, {"numeric": 21})


def test_petstore_demo_has_the_three_rules_of_the_specification() -> None:
    assert Tenant.objects.get(name="petstore_demo").accepts_events
    rows = OutputRule.objects.filter(tenant__name="petstore_demo").order_by("position")
    assert [(row.operations, row.schema_names, row.source, row.eventbridge_arn) for row in rows] == [
        (["POST", "PUT", "PATCH", "DELETE"], ["petstore", "orders"], "blockforger-output", BUS),
        (["POST", "DELETE"], ["analytics", "events"], "blockforger-output", BUS),
        (["DELETE"], [], "blockforger-output", BUS),
    ]


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("petstore", FLUFFY),
        ("petstore", {"id": "123", "name": "Fluffy Updated", "status": "sold"}),
        (
            "orders",
            {
                "number": 1,
                "customer": {"name": "Ada", "email": "ada@example.com"},
                "lines": [{"pet_id": "123", "quantity": 1, "unit_price": 12.5}],
                "status": "placed",
            },
        ),
        ("analytics", {"metric": "visits", "day": "2026-11-23", "value": 5}),
        ("events", {"kind": "adoption", "title": "Open day", "starts_at": "2026-11-23T10:00:00Z"}),
    ],
)
def test_petstore_demo_takes_what_a_pet_shop_would_send(name: str, payload: dict[str, object]) -> None:
    row = schema("petstore_demo", name)
    assert is_valid(row, payload)
    assert not is_valid(row, {**payload, "unknown": 1})


def test_orders_have_a_key_field_of_their_own() -> None:
    assert schema("petstore_demo", "orders").key_field == "number"
    assert schema("petstore_demo", "petstore").key_field == "id"
