from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from blockforger.backend import admin, json_schemas
from blockforger.backend.json_schemas import SchemaProblem
from blockforger.backend.models import Item, OperationRecord, Origin, Schema
from tenants import balances
from tenants.admin_scope import BoundedPaginator
from tenants.fresh_forms import OUTDATED
from tenants.models import LedgerEntry, TokenAccount
from tests.admin_pages import (
    Page,
    act,
    check_superusers_alone_see,
    errors_of,
    listed,
    saved,
    text_of,
    url_of,
)
from tests.cast import FLUFFY, PET, a_schema, a_tenant
from tests.eventing.test_concurrency import at_once

if TYPE_CHECKING:
    from django.db.models import Model
    from django.test import Client

    from tenants.models import Tenant

pytestmark = pytest.mark.django_db

READ_ONLY = {"add": 403, "delete": 403}
PRETTY = json.dumps(PET, indent=2) + "\n"


def a_record(tenant: Tenant | None, **fields: Any) -> OperationRecord:
    made_up = {"idempotency_key": str(uuid.uuid4()), "operation": uuid.uuid4(), "request_hash": "0" * 64, "status": 201}
    return OperationRecord.objects.create(tenant=tenant, **{"origin": Origin.EVENT, **made_up, **fields})


def an_item(schema: Schema, key: str = "123") -> Item:
    return Item.objects.create(schema=schema, key=key, payload={**FLUFFY, "id": key})


def test_superusers_alone_see_the_pages(admin_client: Client) -> None:
    schema = a_schema(a_tenant())
    rows: dict[Model, dict[str, int]] = {schema: {}, an_item(schema): READ_ONLY, a_record(None): READ_ONLY}
    check_superusers_alone_see(rows, admin_client)


class TestSchemas:
    def add(self, client: Client, *, document: str = PRETTY, meta: str = "{}") -> Any:
        tenant = a_tenant()
        page = Page(client, url_of(Schema, "add"))
        return page.submit(tenant=tenant.pk, name="petstore", document=document, meta=meta)

    def change(self, client: Client, schema: Schema, **values: object) -> Schema:
        assert saved(Page(client, url_of(Schema, "change", schema.pk)).submit(**values))
        return Schema.objects.get(pk=schema.pk)

    def test_a_schema_is_made_with_its_document_as_it_was_typed(self, admin_client: Client) -> None:
        assert saved(self.add(admin_client, document=PRETTY.replace("\n", "\r\n"), meta='{"key": "name"}'))
        schema = Schema.objects.get()
        assert (schema.document, schema.key_field, schema.version) == (PRETTY, "name", 1)

    @pytest.mark.parametrize("meta", ["", "{}"])
    def test_meta_may_be_empty(self, admin_client: Client, meta: str) -> None:
        assert saved(self.add(admin_client, meta=meta))
        assert Schema.objects.get().meta == {}

    @pytest.mark.parametrize(
        ("document", "problem"),
        [
            ("", "This field is required."),
            ("{", "The text is not JSON: Expecting property name"),
            ('{"type": "object", "type": "object"}', 'The member "type" stands twice in one object.'),
            ('{"a": {"const": 1e999}}', "/a/const: A number is too large."),
            ("[]", "Write a JSON Schema that is an object."),
            ('{"meta": {}}', "Move the content of the member 'meta' to the field below, and leave it out here."),
        ],
    )
    def test_a_document_that_is_no_schema_is_refused(self, admin_client: Client, document: str, problem: str) -> None:
        errors = errors_of(self.add(admin_client, document=document))
        assert list(errors) == ["document"]
        assert errors["document"][0].startswith(problem)

    def test_the_problems_of_a_schema_are_told_one_by_one(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def problems(document: object, key_field: str) -> list[SchemaProblem]:
            assert (document, key_field) == (PET, "name")
            return [SchemaProblem("/type", "Use another."), SchemaProblem("", "Use less.")]

        monkeypatch.setattr(json_schemas, "problems", problems)
        response = self.add(admin_client, meta='{"key": "name"}')
        assert errors_of(response) == {"document": ["/type: Use another.", "Use less."]}

    @pytest.mark.parametrize(
        ("meta", "problem"),
        [
            ("[]", 'Write an object, such as {"key": "id"}.'),
            ("0", 'Write an object, such as {"key": "id"}.'),
            ('{"key": 5}', "/key: Write the name of the member that holds an item's key."),
            ('{"key": ""}', "/key: Write the name of the member that holds an item's key."),
            ('{"indexes": ["x"]}', "/indexes/0: 'x' is no path of the schema. Known are: id, name, status."),
            ('{"require_if_match": 1}', "/require_if_match: Write true or false."),
            ('{"a": "\\u0000"}', "/a: A text holds the character U+0000."),
            ("{", "The text is not JSON: Expecting property name enclosed in double quotes at line 1, column 2."),
            ("[" * 100_000, "The value is nested deeper than 100 levels."),
            ('{"a": ' + "9" * 5000 + "}", "A number has too many digits."),
            ('"text"', 'Write an object, such as {"key": "id"}.'),
        ],
    )
    def test_a_meta_that_says_nothing_sensible_is_refused(self, admin_client: Client, meta: str, problem: str) -> None:
        assert errors_of(self.add(admin_client, meta=meta)) == {"meta": [problem]}

    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_saving_an_unchanged_page_changes_nothing(self, admin_client: Client, line_end: str) -> None:
        schema = a_schema(a_tenant(), key="name")
        Schema.objects.update(document="\n" + PRETTY.replace("\n", line_end))
        before = Schema.objects.values().get()
        self.change(admin_client, schema)
        assert Schema.objects.values().get() == before

    @pytest.mark.parametrize("values", [{"document": "{}"}, {"meta": '{"key": "name"}'}])
    def test_a_change_grows_the_version(self, admin_client: Client, values: dict[str, str]) -> None:
        schema = a_schema(a_tenant())
        changed = self.change(admin_client, schema, **values)
        assert changed.version == 2
        assert changed.updated_at > schema.updated_at

    def test_a_page_that_was_opened_before_does_not_undo_what_others_have_done(self, admin_client: Client) -> None:
        schema = a_schema(a_tenant())
        page = Page(admin_client, url_of(Schema, "change", schema.pk))
        changed = self.change(admin_client, schema, document="{}")
        response = page.submit(meta='{"key": "name"}')
        assert errors_of(response) == {"__all__": [OUTDATED]}
        assert OUTDATED in text_of(response)
        stored = Schema.objects.get()
        assert (stored.document, stored.meta, stored.version) == (changed.document, {}, changed.version)

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks the whole database")
    def test_a_schema_is_locked_before_it_is_compared(self, admin_client: Client) -> None:
        page = Page(admin_client, url_of(Schema, "change", a_schema(a_tenant()).pk))
        with CaptureQueriesContext(connection) as queries:
            page.submit(document="{}")
        statements = [query["sql"] for query in queries if 'FROM "backend_schema"' in query["sql"]]
        assert "FOR NO KEY UPDATE" in statements[1]

    def test_tenant_and_name_stay_as_they_were_made(self, admin_client: Client) -> None:
        schema = a_schema(a_tenant("ours"))
        changed = self.change(admin_client, schema, name="renamed", tenant=a_tenant("theirs").pk)
        assert (changed.name, changed.tenant) == ("petstore", schema.tenant)

    def test_a_schema_with_items_stays_and_the_page_says_why(self, admin_client: Client) -> None:
        schema = a_schema(a_tenant())
        an_item(schema, "fluffy")
        url = url_of(Schema, "delete", schema.pk)
        for response in (
            admin_client.get(url),
            admin_client.post(url, {"post": "yes"}),
            act(admin_client, "delete_selected", schema),
        ):
            assert "Item: fluffy" in text_of(response)
            assert "1 in all" in text_of(response)
        assert Schema.objects.exists()

    def test_items_that_keep_a_schema_are_counted_only_so_far(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(BoundedPaginator, "max_count", 2)
        schema = a_schema(a_tenant())
        for number in range(3):
            an_item(schema, f"pet-{number}")
        assert "at least 2 in all" in text_of(admin_client.get(url_of(Schema, "delete", schema.pk)))

    def test_a_schema_without_items_can_go(self, admin_client: Client) -> None:
        schema = a_schema(a_tenant())
        assert admin_client.post(url_of(Schema, "delete", schema.pk), {"post": "yes"}).status_code == 302
        assert not Schema.objects.exists()

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="on SQLite a transaction that writes is alone")
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("way", ["page", "list"])
    def test_a_schema_that_gets_its_first_item_at_the_same_moment_stays(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        schema = a_schema(a_tenant())
        begun, asked = threading.Event(), admin.SchemaAdmin.get_deleted_objects

        def posted() -> None:
            """An item is there, and committed a while after the other is at it."""
            with transaction.atomic():
                an_item(schema)
                with connection.cursor() as cursor:
                    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as at the commit
                begun.set()
                time.sleep(0.3)

        def asked_meanwhile(*args: Any) -> Any:
            begun.wait(10)
            return asked(*args)

        def delete() -> int:
            if way == "page":
                return admin_client.post(url_of(Schema, "delete", schema.pk), {"post": "yes"}).status_code
            data = {"action": "delete_selected", "_selected_action": [schema.pk], "index": "0", "post": "yes"}
            return admin_client.post(url_of(Schema, "changelist"), data).status_code

        monkeypatch.setattr(admin.SchemaAdmin, "get_deleted_objects", asked_meanwhile)
        status, _ = at_once([delete, posted])
        assert status == (200 if way == "page" else 403)
        assert Item.objects.get().schema == schema


class TestItems:
    def test_they_are_listed_by_tenant_and_by_schema_and_found_by_key(self, admin_client: Client) -> None:
        ours, theirs = a_tenant("ours"), a_tenant("theirs")
        pets, orders = a_schema(ours), a_schema(ours, "orders")
        pet, order, other = an_item(pets), an_item(orders), an_item(a_schema(theirs), "456")
        assert listed(admin_client, Item, tenant="ours") == [pet, order]
        assert listed(admin_client, Item, schema__exact=str(orders.pk)) == [order]
        assert listed(admin_client, Item, q="456") == [other]
        assert listed(admin_client, Item, q="45") == []
        assert f"?schema__exact={pets.pk}" in Page(admin_client, url_of(Schema, "change", pets.pk)).text

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL tells what a plan reads")
    def test_a_search_by_key_reads_no_other_items(self, admin_client: Client) -> None:
        tenant = a_tenant()
        first, *_ = [a_schema(tenant, f"schema-{number}").pk for number in range(20)]
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO backend_item (schema_id, key, payload, version, created_at, updated_at)"
                " SELECT %s + n %% 20, (n / 20)::text, '{}', 1, now(), now() FROM generate_series(0, 29999) n",
                [first],
            )
            cursor.execute("ANALYZE backend_item, backend_schema")
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client, Item, q="17")) == 20
        searches = [query["sql"] for query in queries if '"backend_item"."key" = ' in query["sql"]]
        assert searches
        for search in searches:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {search}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Seq Scan on backend_item" not in plan

    def test_the_page_shows_the_payload(self, admin_client: Client) -> None:
        item = an_item(a_schema(a_tenant()))
        assert '"name": "Fluffy"' in text_of(admin_client.get(url_of(Item, "change", item.pk)))


class TestOperationRecords:
    def test_they_are_told_apart_by_tenant_and_outcome(self, admin_client: Client) -> None:
        tenant = a_tenant("mytenant")
        done, refused, stranger = a_record(tenant), a_record(tenant, status=402), a_record(None, status=401)
        assert listed(admin_client, OperationRecord) == [stranger, refused, done]
        assert listed(admin_client, OperationRecord, tenant="mytenant") == [refused, done]
        assert listed(admin_client, OperationRecord, status="refused") == [stranger, refused]
        assert listed(admin_client, OperationRecord, tenant="mytenant", status="done") == [done]

    def test_one_is_found_by_event_operation_or_item(self, admin_client: Client) -> None:
        wanted, _ = a_record(None, item_key="fluffy"), a_record(None)
        for term in (wanted.idempotency_key, str(wanted.operation), "fluffy"):
            assert listed(admin_client, OperationRecord, q=term) == [wanted]

    def test_the_page_shows_the_problem_and_the_payload(self, admin_client: Client) -> None:
        record = a_record(None, problem={"code": "item-exists"}, payload='{"name": "\\u00fc", "bad": "\\ud800\\u0000"}')
        text = text_of(admin_client.get(url_of(OperationRecord, "change", record.pk)))
        assert '"code": "item-exists"' in text
        assert '"name": "ü"' in text
        assert '"bad": "\\ud800\\u0000"' in text

    @pytest.mark.parametrize("payload", ["", "no <json>", "[" * 100_000])
    def test_a_payload_that_is_no_json_is_shown_as_it_is(self, admin_client: Client, payload: str) -> None:
        record = a_record(None, payload=payload)
        assert f"<pre>{payload}</pre>" in text_of(admin_client.get(url_of(OperationRecord, "change", record.pk)))


@pytest.mark.parametrize("model", [Item, OperationRecord])
def test_a_list_does_not_read_the_payloads(admin_client: Client, model: type[Model]) -> None:
    tenant = a_tenant()
    an_item(a_schema(tenant))
    a_record(tenant)
    with CaptureQueriesContext(connection) as queries:
        assert len(listed(admin_client, model)) == 1
    assert not [query["sql"] for query in queries if '"payload"' in query["sql"] or '"document"' in query["sql"]]


def test_an_account_shows_what_is_spent_and_for_how_long_the_rest_will_do(admin_client: Client) -> None:
    tenant = a_tenant(tokens=1000)
    balances.debit({tenant.pk: balances.Claim(tokens=10, numbers=1)})
    LedgerEntry.objects.create(
        account=tenant.account, kind="debit", amount=-10, balance_after=990, sequence=1, reference="POST petstore"
    )
    text = text_of(admin_client.get(url_of(TokenAccount, "change", tenant.pk)))
    assert "10 tokens in 30 days. At that pace, the balance will do for 2,970 days more." in text
    assert text.count('class="whole"') == 30
    assert ": 10</title>" in text


def test_an_account_with_many_operations_shows_the_pace_alone(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MOST_DRAWN", 1)
    tenant = a_tenant(tokens=1000)
    balances.debit({tenant.pk: balances.Claim(tokens=10, numbers=1)})
    LedgerEntry.objects.create(
        account=tenant.account, kind="debit", amount=-10, balance_after=990, sequence=1, reference="POST petstore"
    )
    with CaptureQueriesContext(connection) as queries:
        text = text_of(admin_client.get(url_of(TokenAccount, "change", tenant.pk)))
    assert "10 tokens in 30 days. At that pace, the balance will do for 2,970 days more." in text
    assert 'class="whole"' not in text
    assert not [query["sql"] for query in queries if "GROUP BY" in query["sql"]]
