"""The admin's pages that explain rules, try others on the last writes, and send a sample."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from blockforger.backend.models import Item
from eventing import backtests, rule_lists, rules
from eventing.models import OutboxEvent, OutputRule
from tenants import rate_limits
from tenants.models import LedgerEntry, Tenant
from tests.admin_pages import Page, text_of, url_of
from tests.cast import BUS, FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import write
from tests.eventing.event_bridge import EventBridge, event_bridge, failed
from tests.tenants.test_members import a_member

__all__ = ["event_bridge"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

PAGES = ("explain", "backtest", "test-rule")
ROLES = ("viewer", "admin", "owner")


@pytest.fixture
def tenant() -> Tenant:
    rate_limits.forget()
    tenant = a_tenant()
    a_schema(tenant)
    return tenant


def page_of(tenant: Tenant, name: str) -> str:
    return f"{url_of(Tenant, 'changelist')}{tenant.pk}/{name}/"


def ask(client: Client, tenant: Tenant, name: str, **values: Any) -> Any:
    """Fill in a page's form and send it. What is no text is sent as JSON."""
    sent = {key: value if isinstance(value, str | int) else json.dumps(value) for key, value in values.items()}
    response = client.post(page_of(tenant, name), sent)
    assert response.status_code == 200
    return response


def explain(client: Client, tenant: Tenant, **values: Any) -> Any:
    return ask(client, tenant, "explain", **{"schema": "petstore", "operation": "POST", **values})


def backtest(client: Client, tenant: Tenant, *listed: dict[str, Any], **values: Any) -> Any:
    document = {"rules": [{"eventbridge_arn": BUS, **rule} for rule in listed], "schemas": {}}
    return ask(client, tenant, "backtest", **{"rules": document, "last": 100, **values})


class TestWhoMayOpenWhat:
    @pytest.mark.parametrize("role", ROLES)
    def test_members_find_the_pages_from_the_tenants_page(self, tenant: Tenant, role: str) -> None:
        client = a_member(tenant, role)
        assert f'href="{page_of(tenant, "explain")}"' in Page(client, url_of(Tenant, "change", tenant.pk)).text
        text = Page(client, page_of(tenant, "explain")).text
        offered = {page for page in PAGES if f'href="{page_of(tenant, page)}"' in text}
        assert offered == set(PAGES) - ({"test-rule"} if role == "viewer" else set())
        for page in PAGES:
            status = 200 if page in offered else 403
            assert client.get(page_of(tenant, page)).status_code == status
            assert client.post(page_of(tenant, page)).status_code == status

    def test_a_viewer_is_not_offered_to_send_a_test(self, tenant: Tenant) -> None:
        a_rule(tenant)
        assert "test-rule" not in text_of(explain(a_member(tenant, "viewer"), tenant))

    def test_a_viewer_sends_nothing(self, tenant: Tenant, event_bridge: EventBridge) -> None:
        rule = a_rule(tenant)
        answer = a_member(tenant, "viewer").post(page_of(tenant, "test-rule"), {"rule": rule.pk})
        assert answer.status_code == 403
        assert (event_bridge.calls, event_bridge.described) == ([], [])

    @pytest.mark.parametrize("page", PAGES)
    def test_strangers_are_turned_away(self, tenant: Tenant, page: str, event_bridge: EventBridge) -> None:
        rule = a_rule(tenant)
        owner_elsewhere = a_member(a_tenant("theirs"), "owner")
        for answer in (owner_elsewhere.get, owner_elsewhere.post):
            assert answer(page_of(tenant, page), {"rule": rule.pk}).status_code == 403
        assert Client().get(page_of(tenant, page)).status_code == 302
        assert event_bridge.calls == []

    @pytest.mark.parametrize("page", PAGES)
    def test_a_tenant_that_is_not_there_is_refused_as_anothers_is(self, tenant: Tenant, page: str) -> None:
        client = a_member(tenant, "owner")
        for number in (str(tenant.pk + 1), "nothing"):
            assert client.get(f"{url_of(Tenant, 'changelist')}{number}/{page}/").status_code == 403

    def test_what_is_another_tenants_can_be_neither_chosen_nor_named(
        self, tenant: Tenant, event_bridge: EventBridge
    ) -> None:
        theirs = a_tenant("theirs")
        schema = a_schema(theirs, "secrets")
        Item.objects.create(schema=schema, key="1", payload={"id": "1", "name": "wombat"})
        rule = a_rule(theirs, source="wombat")
        client = a_member(tenant, "owner")
        answer = explain(client, tenant, schema="secrets", key="1")
        assert answer.context["form"].errors.keys() == {"schema"}
        assert "wombat" not in text_of(answer)
        assert explain(client, tenant, key="1").context["form"].errors.keys() == {"key"}
        answer = ask(client, tenant, "test-rule", rule=rule.pk)
        assert "wombat" not in text_of(answer)
        assert event_bridge.calls == []


class TestExplain:
    def test_each_rule_in_order_says_whether_it_matches_and_why_not(self, tenant: Tenant, admin_client: Client) -> None:
        a_rule(tenant, position=1, operations=["DELETE"])
        first = a_rule(tenant, position=0, source="shop", fields={"mask": ["status"]})
        a_rule(tenant, position=2, filter={"status": ["sold"]})
        own = a_rule(tenant, schema=tenant.schemas.get(), enabled=False)
        answer = explain(admin_client, tenant, payload=FLUFFY)
        told = answer.context["explanations"]
        assert [shown["rule"].number for shown in told] == [1, 2, 3, 4]
        assert [told[0]["rule"].pk, told[3]["rule"].pk] == [first.pk, own.pk]
        entry = json.loads(told[0]["entry"])
        assert (entry["Source"], entry["DetailType"], entry["EventBusName"]) == ("shop", "petstore.POST", BUS)
        assert entry["Detail"]["payload"] == {**FLUFFY, "status": "***"}
        text = text_of(answer)
        for shown in (
            "POST of petstore: 1 of 4 rules match",
            '"DetailType": "petstore.POST"',
            "it is for DELETE only",
            "its filter is not met",
            "it is disabled",
            "of the schema petstore",
        ):
            assert shown in text
        assert not OutboxEvent.objects.exists()

    def test_a_stored_item_is_what_is_sent_and_what_was_there(self, tenant: Tenant, admin_client: Client) -> None:
        a_rule(tenant, on_change=["status"])
        Item.objects.create(schema=tenant.schemas.get(), key="123", payload=FLUFFY)

        def matches(**values: Any) -> Any:
            return explain(admin_client, tenant, key="123", **values).context["matching"]

        assert matches(operation="POST") == 1
        assert matches(operation="PUT") == 0
        assert matches(operation="PATCH", payload={"status": "sold"}) == 1
        assert matches(operation="PATCH", payload={"name": "Rex"}) == 0
        answer = explain(admin_client, tenant, key="123", operation="DELETE")
        assert json.loads(answer.context["explanations"][0]["entry"])["Detail"]["payload"] == {"id": "123"}

    def test_an_item_can_be_made_up_as_it_was(self, tenant: Tenant, admin_client: Client) -> None:
        a_rule(tenant, on_change=["status"])
        answer = explain(admin_client, tenant, operation="PUT", payload=FLUFFY, before={**FLUFFY, "status": "sold"})
        assert answer.context["matching"] == 1

    @pytest.mark.parametrize(
        ("values", "field", "message"),
        [
            ({"payload": "{"}, "payload", "The text is not JSON"),
            ({"payload": "[]"}, "payload", "Write an object, or leave it out."),
            ({"payload": '{"a": 1, "a": 2}'}, "payload", "a"),
            ({"before": "1", "operation": "PUT"}, "before", "Write an object, or leave it out."),
            ({"key": "1", "before": "{}", "operation": "PATCH"}, "key", "leave 'before' out"),
            ({"key": "nobody"}, "key", "There is no item with the key 'nobody'"),
            ({"operation": "GET"}, "operation", "GET"),
            ({"schema": ""}, "schema", "required"),
        ],
    )
    def test_what_cannot_be_asked_is_told_at_its_field(
        self, tenant: Tenant, admin_client: Client, values: dict[str, Any], field: str, message: str
    ) -> None:
        answer = explain(admin_client, tenant, **values)
        errors = answer.context["form"].errors
        assert list(errors) == [field]
        assert message in errors[field][0]
        assert "explanations" not in answer.context

    def test_a_tenant_without_rules_is_told_what_to_do(self, tenant: Tenant, admin_client: Client) -> None:
        assert "Add its first one" in text_of(explain(admin_client, tenant))

    def test_what_rules_may_not_mean_is_told(self, tenant: Tenant, admin_client: Client) -> None:
        a_rule(tenant, filter={"colour": ["red"]})
        assert "no schema that it is for knows the path 'colour'" in text_of(explain(admin_client, tenant))

    def test_the_page_of_an_item_leads_to_a_form_that_is_filled_in(self, tenant: Tenant, admin_client: Client) -> None:
        item = Item.objects.create(schema=tenant.schemas.get(), key="a b&c", payload=FLUFFY)
        link = f"{page_of(tenant, 'explain')}?schema=petstore&operation=PUT&key=a+b%26c"
        assert f'href="{link}"' in Page(admin_client, url_of(Item, "change", item.pk)).text
        page = Page(admin_client, link)
        assert (page.values["operation"], page.values["key"]) == (["PUT"], ["a b&c"])

    def test_many_rules_cost_no_more_queries_than_one(self, tenant: Tenant, admin_client: Client) -> None:
        counts = []
        for _ in range(2):
            a_rule(tenant, schema=tenant.schemas.get())
            rules.of_tenant(Tenant.objects.get())  # as a process knows them that has been asked before
            with CaptureQueriesContext(connection) as explaining:
                explain(admin_client, tenant)
            with CaptureQueriesContext(connection) as sampling:
                admin_client.get(page_of(tenant, "test-rule"))
            counts.append((len(explaining), len(sampling)))
        # Seven are for who asks, and about which tenant.
        assert counts == [(13, 8), (13, 8)]


class TestBacktest:
    def test_the_form_has_todays_rules_which_gain_and_lose_nothing(self, tenant: Tenant, admin_client: Client) -> None:
        a_rule(tenant, source="shop")
        write(tenant, a_key(tenant), "POST", "1", name="Rex")
        page = Page(admin_client, page_of(tenant, "backtest"))
        assert json.loads(page.values["rules"][0]) == rule_lists.document_of(tenant)
        text = text_of(page.submit())
        assert "1 write, from 1 to 1" in text
        assert "The same events are sent as today." in text

    def test_what_is_left_out_is_told(
        self, tenant: Tenant, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a_rule(tenant)
        write(tenant, a_key(tenant), "POST", "1", name="Rex")
        monkeypatch.setattr(backtests, "MAX_BYTES", 0)
        text = text_of(backtest(admin_client, tenant))
        assert "Too much for even one write" in text
        assert "The oldest 1 of these writes are left out" in text

    def test_gains_and_losses_are_listed(self, tenant: Tenant, admin_client: Client) -> None:
        a_rule(tenant)
        key = a_key(tenant)
        write(tenant, key, "POST", "1", name="Rex")
        write(tenant, key, "POST", "2", name="Fluffy")
        before = list(OutputRule.objects.values())
        answer = backtest(admin_client, tenant, {"source": "new", "filter": {"name": ["Rex"]}})
        found = answer.context["found"]
        assert (found.writes, found.today, found.then, found.gains, found.losses) == (2, 2, 1, 1, 2)
        text = text_of(answer)
        for shown in ("Gained: 1 event", "Lost: 2 events", "Write 1: petstore.POST", '"Source": "new"'):
            assert shown in text
        assert list(OutputRule.objects.values()) == before

    def test_what_cannot_be_known_is_told(self, tenant: Tenant, admin_client: Client) -> None:
        text = text_of(backtest(admin_client, tenant))
        assert "No write is known yet" in text
        assert "Writes that no rule matched when they were made are not known" in text

    @pytest.mark.parametrize(
        ("values", "field", "message"),
        [
            ({"rules": "{"}, "rules", "The text is not JSON"),
            ({"rules": ""}, "rules", "required"),
            ({"rules": "[]"}, "rules", 'Write {"rules": […]'),
            ({"rules": {"rules": [{"source": 1}], "schemas": {}}}, "rules", "/rules/0/eventbridge_arn: "),
            (
                {"rules": {"rules": [], "schemas": {"nothing": []}}},
                "rules",
                "/schemas/nothing: The tenant has no schema",
            ),
            ({"last": 0}, "last", "greater than or equal to 1"),
            ({"last": 1001}, "last", "less than or equal to 1000"),
        ],
    )
    def test_what_cannot_be_tried_is_told_at_its_field(
        self, tenant: Tenant, admin_client: Client, values: dict[str, Any], field: str, message: str
    ) -> None:
        errors = backtest(admin_client, tenant, **values).context["form"].errors
        assert list(errors) == [field]
        assert message in errors[field][0]


class TestSample:
    def test_a_sample_is_sent_and_noted(self, tenant: Tenant, event_bridge: EventBridge) -> None:
        rule = a_rule(tenant, source="shop")
        client = a_member(tenant, "admin")
        page = Page(client, f"{page_of(tenant, 'test-rule')}?rule={rule.pk}")
        assert page.values["rule"] == [str(rule.pk)]
        text = text_of(page.submit(payload='{"name": "Rex"}'))
        [entry] = event_bridge.entries
        assert entry["Source"] == "shop"
        assert json.loads(entry["Detail"])["payload"] == {"id": "sample", "name": "Rex"}
        assert entry["Resources"][1].startswith("urn:blockforger:test:")
        assert entry["Resources"][1] in text
        assert "The bus accepted the sample" in text
        [noted] = LogEntry.objects.values_list("change_message", flat=True)
        assert noted.startswith(f"Sent a test of the rule {rule.pk}: accepted as ")
        assert not OutboxEvent.objects.exists()
        assert not LedgerEntry.objects.filter(kind="debit").exists()

    def test_another_accounts_bus_comes_with_the_policy_to_paste(
        self, tenant: Tenant, event_bridge: EventBridge, admin_client: Client
    ) -> None:
        event_bridge.account = "111122223333"
        event_bridge.answering = lambda _: failed(400, "AccessDeniedException")
        text = text_of(ask(admin_client, tenant, "test-rule", rule=a_rule(tenant).pk))
        for shown in (
            "The sample was refused",
            "AccessDeniedException",
            "The bus is another account's",
            '"AWS": "arn:aws:iam::111122223333:root"',
            'data-copy="policy"',
        ):
            assert shown in text
        assert "refused, AccessDeniedException" in LogEntry.objects.get().change_message

    def test_a_bus_that_is_missing_gets_nothing_and_says_how_to_make_it(
        self, tenant: Tenant, event_bridge: EventBridge, admin_client: Client
    ) -> None:
        event_bridge.account = "720291373173"
        event_bridge.describing = lambda _: failed(400, "ResourceNotFoundException")
        text = text_of(ask(admin_client, tenant, "test-rule", rule=a_rule(tenant).pk))
        assert "ResourceNotFoundException" in text
        assert "aws events create-event-bus --name default" in text
        assert event_bridge.calls == []

    def test_an_acceptance_that_proves_nothing_says_so(
        self, tenant: Tenant, event_bridge: EventBridge, admin_client: Client
    ) -> None:
        event_bridge.describing = lambda _: failed(400, "AccessDeniedException")
        text = text_of(ask(admin_client, tenant, "test-rule", rule=a_rule(tenant).pk))
        assert "The bus accepted the sample" in text
        assert "see whether the sample has arrived" in text

    @pytest.mark.parametrize(
        ("payload", "message"), [("[]", "Write an object, or leave it out."), ("{", "The text is not JSON")]
    )
    def test_a_payload_that_is_none_is_told(
        self, tenant: Tenant, event_bridge: EventBridge, admin_client: Client, payload: str, message: str
    ) -> None:
        answer = ask(admin_client, tenant, "test-rule", rule=a_rule(tenant).pk, payload=payload)
        assert message in answer.context["form"].errors["payload"][0]
        assert event_bridge.calls == []

    def test_more_than_ten_in_a_minute_are_not_sent(
        self, tenant: Tenant, event_bridge: EventBridge, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tenants.rate_limits.time.time", lambda: 1_000_000_020.0)
        rule = a_rule(tenant)
        for _ in range(11):
            answer = ask(admin_client, tenant, "test-rule", rule=rule.pk)
        assert "At most 10 tests are sent in 60 seconds. Try again in 60 seconds." in text_of(answer)
        assert len(event_bridge.calls) == 10

    def test_a_tenant_without_rules_has_nothing_to_send(self, tenant: Tenant, admin_client: Client) -> None:
        assert "The tenant has no rules yet" in text_of(admin_client.get(page_of(tenant, "test-rule")))
