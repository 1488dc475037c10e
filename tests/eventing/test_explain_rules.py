"""explain_rules: what each rule makes of a write."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from django.core.management import CommandError, call_command

from eventing import event_format, explanations
from eventing.models import OutboxEvent
from tests.cast import BUS, FLUFFY, a_rule, a_schema, a_tenant
from tests.eventing import spec_examples

if TYPE_CHECKING:
    from pathlib import Path

    from eventing.models import OutputRule


POST = explanations.Write("POST", FLUFFY, None, FLUFFY)


def explain(*arguments: str) -> str:
    """What the command prints."""
    output = StringIO()
    call_command("explain_rules", *arguments, stdout=output)
    return output.getvalue()


def test_the_detail_of_an_event_has_the_four_members_of_the_specification_in_order() -> None:
    detail = event_format.detail_of("mytenant", "petstore", "POST", FLUFFY)
    assert json.dumps(detail) == json.dumps(spec_examples.OUTPUT_EVENT["detail"])


@pytest.mark.django_db
class TestTheFunction:
    def test_every_rule_is_explained_in_the_order_of_the_events(self) -> None:
        tenant = a_tenant()
        petstore, orders = a_schema(tenant, "petstore"), a_schema(tenant, "orders")
        of_petstore = a_rule(tenant, schema=petstore, source="own")
        of_orders = a_rule(tenant, schema=orders)
        late = a_rule(tenant, position=3, detail_type="{operation} in {schema_id}")
        for_others = a_rule(tenant, position=2, schema_names=["orders", "events"])
        for_deletes = a_rule(tenant, position=1, operations=["DELETE", "PUT"])
        tenant.refresh_from_db()

        found = explanations.explain(tenant, petstore, POST)

        def of(rule: OutputRule) -> explanations.Explanation:
            return next(explanation for explanation in found if explanation.rule.pk == rule.pk)

        assert [explanation.rule.pk for explanation in found] == [
            rule.pk for rule in (for_deletes, for_others, late, of_petstore, of_orders)
        ]
        assert of(for_deletes).mismatch == "it is for DELETE, PUT only"
        assert of(for_others).mismatch == "it is for orders, events only"
        assert of(of_orders).mismatch == "it is of another schema"
        assert of(late).mismatch is None
        detail = event_format.detail_of("mytenant", "petstore", "POST", FLUFFY)
        resources = ["urn:blockforger:item:mytenant:petstore:123", "urn:blockforger:event:{id}:{sequence}"]
        assert of(late).event == explanations.Event(BUS, "blockforger-output", "POST in petstore", resources, detail)
        assert of(of_petstore).event == explanations.Event(BUS, "own", "petstore.POST", resources, detail)
        assert of(for_deletes).event is None

    def test_explaining_sends_nothing(self) -> None:
        tenant = a_tenant()
        a_rule(tenant)
        tenant.refresh_from_db()
        [explanation] = explanations.explain(tenant, a_schema(tenant), POST)
        assert explanation.event
        assert not OutboxEvent.objects.exists()


@pytest.mark.django_db
class TestTheCommand:
    def test_it_prints_the_event_of_the_specification(self) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        rule = a_rule(tenant)
        other = a_rule(tenant, operations=["DELETE"], position=1)
        output = explain("mytenant", "petstore.json", "POST", "--payload", json.dumps(FLUFFY))
        first, _, rest = output.partition("\n\n")
        assert first == "POST of petstore of mytenant: 1 of 2 rules match."
        title, _, rest = rest.partition("\n")
        assert title == f"1. The tenant's rule with the id {rule.pk} matches, and sends to {BUS}:"
        event, _, rest = rest.partition("\n\n")
        shown = json.loads(event)
        assert (shown["Source"], shown["DetailType"]) == ("blockforger-output", "petstore.POST")
        assert (shown["EventBusName"], shown["Resources"][0]) == (BUS, "urn:blockforger:item:mytenant:petstore:123")
        assert json.dumps(shown["Detail"]) == json.dumps(spec_examples.OUTPUT_EVENT["detail"])
        assert rest == f"2. The tenant's rule with the id {other.pk} does not match: it is for DELETE only.\n"

    def test_a_payload_can_come_from_a_file(self, tmp_path: Path) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant, schema=a_schema(tenant))
        path = tmp_path / "payload.json"
        path.write_text('{"name": "Fluffy 🐾"}', encoding="utf-8")
        output = explain("mytenant", "petstore", "PUT", "--payload", f"file://{path}")
        assert f"The schema's rule with the id {rule.pk} matches" in output
        assert '"name": "Fluffy 🐾"' in output

    def test_it_tells_what_a_filter_and_a_change_make_of_it(self) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        a_rule(tenant, on_change=["status"])
        a_rule(tenant, position=1, filter={"status": ["sold"]})
        a_rule(tenant, position=2, filter={"status": ["available"]}, fields={"mask": ["name"]})
        a_rule(tenant, position=3, enabled=False)
        output = explain(
            "mytenant", "petstore", "PATCH", "--payload", '{"name": "Rex"}', "--before", json.dumps(FLUFFY)
        )
        told = [line.partition("does not match: ")[2] for line in output.splitlines()]
        assert [reason for reason in told if reason] == [
            "nothing has changed in status.",
            'its filter is not met: /status is "available", and ["sold"] is asked for.',
            "it is disabled.",
        ]
        assert '"id": "123",\n      "name": "***"' in output

    def test_no_rules_are_no_error(self) -> None:
        a_schema(a_tenant())
        assert explain("mytenant", "petstore", "PUT") == "PUT of petstore of mytenant: 0 of 0 rules match.\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nobody", "petstore", "POST"], "There is no tenant 'nobody'."),
            (["mytenant", "pets", "POST"], "The tenant has no schema 'pets'. Its schemas: orders, petstore."),
            (["empty", "pets", "POST"], "The tenant has no schema 'pets'. Its schemas: none."),
            (["mytenant", "petstore", "GET"], "The operation 'GET' is unknown. Use POST, PUT, PATCH or DELETE."),
            (
                ["mytenant", "petstore", "POST", "--payload", "{"],
                (
                    "The payload cannot be used. The text is not JSON: Expecting property name enclosed in double "
                    "quotes at line 1, column 2."
                ),
            ),
            (["mytenant", "petstore", "POST", "--payload", "[]"], "The payload must be a JSON object."),
            (
                ["mytenant", "petstore", "POST", "--payload", "file:///nowhere/payload.json"],
                "/nowhere/payload.json cannot be read: No such file or directory.",
            ),
        ],
    )
    def test_what_cannot_be_explained_is_an_error(self, arguments: list[str], message: str) -> None:
        tenant = a_tenant()
        a_schema(tenant, "petstore")
        a_schema(tenant, "orders")
        a_tenant("empty")
        with pytest.raises(CommandError) as error:
            explain(*arguments)
        assert str(error.value) == message


@pytest.mark.parametrize("command", ["explain_rules", "import_tenant_properties", "export_tenant_properties"])
def test_help_is_given(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(command, "--help")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
