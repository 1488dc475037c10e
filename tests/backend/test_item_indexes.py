"""Indexes of the paths that schemas list: which are refused, when they are made and dropped, what they serve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from blockforger.backend import item_indexes, lists, schema_indexes, tasks
from blockforger.backend.list_queries import Query
from blockforger.backend.models import Item, Schema
from tests.cast import a_schema, a_tenant

if TYPE_CHECKING:
    from pytest_django import Settings

ANY_DATABASE = pytest.mark.django_db(transaction=True)

DOCUMENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "price": {"type": "number"},
        "sold": {"type": "boolean"},
        "mixed": {"type": ["string", "integer", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "lines": {"type": "array", "items": {"type": "object"}},
        "owner": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
}


def postgresql_only() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("Only PostgreSQL has indexes of paths.")


def a_listing_schema(*paths: str) -> Schema:
    return a_schema(a_tenant(), "things", DOCUMENT, indexes=list(paths))


def stored() -> dict[str, str]:
    """The definitions of the indexes that there are, by name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE starts_with(indexname, 'item_path_')")
        return dict(cursor.fetchall())


@pytest.fixture
def _no_index_is_left() -> Any:
    """Indexes are no rows: emptying the tables leaves them."""
    yield
    Item.objects.all().delete()
    Schema.objects.all().delete()
    item_indexes.sync()


class TestChecking:
    @pytest.mark.parametrize(
        ("indexes", "pointer", "message"),
        [
            ("price", "/indexes", 'Write a list of paths, such as ["price", "owner.name"].'),
            ([7], "/indexes/0", "Write a path, such as 'owner.name'."),
            (["price", "colour"], "/indexes/1", "'colour' is no path of the schema. Known are: id, name, price, sold"),
            (["owner"], "/indexes/0", "Nothing of 'owner' can be indexed"),
            (["lines"], "/indexes/0", "Nothing of 'lines' can be indexed"),
            (["price", "price"], "/indexes/1", "'price' stands there twice"),
            (["price"] * 11, "/indexes", "The list has 11 paths; 10 are allowed."),
        ],
    )
    def test_what_cannot_be_indexed_is_told(self, indexes: Any, pointer: str, message: str) -> None:
        first = next(schema_indexes.problems(DOCUMENT, {"indexes": indexes}, "id"))
        assert first.pointer == pointer
        assert message in first.message

    @pytest.mark.parametrize("indexes", [[], ["id", "price", "owner.name", "sold", "mixed", "tags"]])
    def test_what_can_be_indexed_is_no_problem(self, indexes: Any) -> None:
        assert list(schema_indexes.problems(DOCUMENT, {"indexes": indexes}, "id")) == []

    def test_a_meta_that_came_past_the_checks_indexes_what_it_can(self) -> None:
        for indexes in ("price", None, ["colour", 7, "owner", "price", "price"]):
            schema = Schema(document=json.dumps(DOCUMENT), meta={"indexes": indexes})
            assert [str(path) for path in schema_indexes.paths_of(schema)] in ([], ["price"])


@ANY_DATABASE
@pytest.mark.usefixtures("_no_index_is_left")
def test_sqlite_takes_the_list_and_makes_no_index() -> None:
    a_listing_schema("price")
    assert len(item_indexes.sync().made) == (1 if connection.vendor == "postgresql" else 0)


@ANY_DATABASE
@pytest.mark.usefixtures("_no_index_is_left")
class TestSyncing:
    def test_indexes_follow_the_list(self) -> None:
        postgresql_only()
        schema = a_listing_schema("price", "tags", "mixed")
        made = item_indexes.sync().made
        assert len(made) == 1 + 1 + 2  # a path of two types has two
        assert stored().keys() == set(made)
        assert item_indexes.sync() == item_indexes.Changes()
        schema.meta["indexes"] = ["price", "owner.name"]
        schema.save()
        changes = item_indexes.sync()
        assert (len(changes.made), len(changes.dropped)) == (1, 3)
        schema.delete()
        assert len(item_indexes.sync().dropped) == 2
        assert stored() == {}

    def test_an_index_follows_the_type_of_its_path(self) -> None:
        postgresql_only()
        schema = a_listing_schema("price")
        [before] = item_indexes.sync().made
        schema.document = json.dumps({**DOCUMENT, "properties": {"price": {"type": "string"}}})
        schema.save()
        changes = item_indexes.sync()
        assert changes.dropped == [before]
        assert "string" in stored()[changes.made[0]]

    def test_strings_are_compared_by_code_point_whatever_the_database_does(self) -> None:
        postgresql_only()
        a_listing_schema("name", "owner.name")
        definitions = item_indexes.wanted().values()
        assert [definition.expression.endswith('COLLATE "C" ') for definition in definitions] == [True, True]

    def test_what_an_interrupted_run_left_is_made_anew(self) -> None:
        postgresql_only()
        a_listing_schema("price")
        [name] = item_indexes.sync().made
        with connection.cursor() as cursor:
            cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name])
        changes = item_indexes.sync()
        assert (changes.dropped, changes.made) == ([name], [name])
        with connection.cursor() as cursor:
            cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [name])
            assert cursor.fetchone() == (True,)

    def test_a_second_run_leaves_the_first_one_alone(self) -> None:
        postgresql_only()
        a_listing_schema("price")
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_lock(%s)", [item_indexes._LOCK])
                assert item_indexes.sync() == item_indexes.Changes(is_busy=True)
                with pytest.raises(CommandError, match="Another process"):
                    call_command("sync_item_indexes")
                cursor.execute("SELECT pg_advisory_unlock(%s)", [item_indexes._LOCK])
        finally:
            other.close()
        assert len(item_indexes.sync().made) == 1

    def test_the_statement_timeout_is_as_before_afterwards(self) -> None:
        postgresql_only()
        item_indexes.sync()
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("30s",)

    def test_the_command_tells_what_it_did(self, capsys: pytest.CaptureFixture[str]) -> None:
        postgresql_only()
        schema = a_listing_schema("price")
        call_command("sync_item_indexes")
        [name] = stored()
        assert capsys.readouterr().out == f"+ {name}\n"
        schema.delete()
        call_command("sync_item_indexes")
        assert capsys.readouterr().out == f"- {name}\n"

    def test_beat_makes_them_too(self) -> None:
        postgresql_only()
        a_listing_schema("price")
        tasks.sync_item_indexes()
        assert len(stored()) == 1

    def test_there_are_no_more_than_the_operator_allows(self, settings: Settings) -> None:
        postgresql_only()
        settings.BLOCKFORGER_MAX_ITEM_INDEXES = 1
        a_listing_schema("price", "name")
        changes = item_indexes.sync()
        assert (len(changes.made), len(changes.left_out)) == (1, 1)
        with pytest.raises(CommandError, match="1 indexes are left out"):
            call_command("sync_item_indexes")

    def test_values_that_no_index_could_hold_are_stored_all_the_same(self) -> None:
        postgresql_only()
        schema = a_listing_schema("name", "price", "tags", "mixed")
        item_indexes.sync()
        values: list[Any] = ["\U0001f600" * 50_000, "", 5e-324, -(2**63), True, None, {"a": 1}, ["x" * 50_000] * 3]
        for number, value in enumerate(values):
            payload = {"id": str(number), **dict.fromkeys(["name", "price", "tags", "mixed"], value)}
            Item.objects.create(schema=schema, key=str(number), payload=payload)
        assert Item.objects.count() == len(values)


SERVED = [
    "filter[price]=77",
    "filter[price][gte]=77&filter[price][lt]=78",
    "filter[price][in]=77,78",
    "filter[name]=name 77",
    "filter[name][gte]=name 99&filter[name][lt]=name 991",
    f"filter[name]={'x' * 300}",
    f"filter[name][gt]={'x' * 300}",
    "filter[owner.name]=owner 77",
    "filter[tags][contains]=tag 77",
    "filter[mixed]=77",
    "sort=price",
    "sort=-price",
    "sort=name",
    "sort=-name",
    "sort=owner.name",
    "sort=-price&filter[price][gt]=1000",
]


@ANY_DATABASE
@pytest.mark.usefixtures("_no_index_is_left")
def test_indexes_serve_the_filters_and_the_sorts() -> None:
    postgresql_only()
    schema = a_listing_schema("price", "name", "owner.name", "tags", "mixed")
    for owner in (schema, a_schema(a_tenant("other"), "things", DOCUMENT)):
        Item.objects.bulk_create(Item(schema=owner, key=str(n), payload=a_thing(n)) for n in range(10_000))
    item_indexes.sync()
    ours = f"Index Scan using item_path_{schema.pk}_"
    for text in SERVED:
        parameters = [*parse_qsl(text), ("limit", "10")]
        plan, page = explained(schema, parameters)
        assert ours in plan.replace("Bitmap Index Scan on", "Index Scan using").replace("Scan Backward", "Scan"), plan
        if text.startswith("sort"):
            assert "Sort" not in plan, plan
            # A later page begins at its place, and passes nothing on the way.
            plan, _ = explained(schema, [*parameters, ("cursor", page["next"])])
            assert any("Index Cond" in line and "ROW(" in line for line in plan.splitlines()), plan
            assert "Sort" not in plan, plan


def a_thing(number: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "price": number,
        "name": f"name {number}",
        "tags": ["all", f"tag {number}"],
        "owner": {"name": f"owner {number}"},
        "mixed": number if number % 2 else str(number),
    }


def explained(schema: Schema, parameters: list[tuple[str, str]]) -> tuple[str, Any]:
    """The plan of the statement that reads the page, and the page."""
    with CaptureQueriesContext(connection) as captured:
        page = lists.read(schema, Query.read(parameters))
    statement = captured.captured_queries[-1]["sql"]
    assert "backend_item" in statement
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}")
        return "\n".join(line for (line,) in cursor.fetchall()), page
