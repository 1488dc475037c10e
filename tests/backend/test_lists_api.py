"""Lists over REST: what can be asked, what it costs, and what is said to those who ask amiss."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from django.db import connection
from django.db.models import BooleanField, Func, Q
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from blockforger.backend import list_filters, lists
from blockforger.backend.models import Item, Schema
from tenants.models import TokenAccount
from tests.cast import a_key, a_schema, a_tenant

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

THINGS = "/api/mytenant/things"
DOCUMENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "price": {"type": "number"},
        "stock": {"type": ["integer", "null"]},
        "sold": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "lines": {"type": "array", "items": {"type": "object"}},
        "owner": {"type": "object", "properties": {"name": {"type": "string"}, "city": {"type": "string"}}},
    },
}
CHAIR: dict[str, Any] = {
    "id": "chair",
    "name": "Chair",
    "price": 9,
    "stock": None,
    "tags": ["wood"],
    "owner": {"name": "Ann"},
}
TABLE: dict[str, Any] = {
    "id": "table",
    "name": "Table",
    "price": 10.5,
    "stock": 3,
    "sold": True,
    "tags": ["wood", "oak"],
}
LAMP: dict[str, Any] = {
    "id": "lamp",
    "name": "lamp",
    "price": 100,
    "stock": 0,
    "sold": False,
    "owner": {"name": "Bob", "city": "Ulm"},
}


@pytest.fixture
def schema() -> Schema:
    schema = a_schema(a_tenant(), "things", DOCUMENT)
    Item.objects.bulk_create(
        Item(schema=schema, key=payload["id"], payload=payload) for payload in (CHAIR, TABLE, LAMP)
    )
    return schema


@pytest.fixture
def client(schema: Schema) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(schema.tenant)})


def ids(answer: Any) -> str:
    assert answer.status_code == 200, answer.json()
    return " ".join(item["id"] for item in answer.json()["items"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "chair table lamp"),
        ("filter[name]=Chair", "chair"),
        ("filter[name][eq]=chair", ""),
        ("filter[price]=9", "chair"),
        ("filter[price]=9.0", "chair"),
        ("filter[price]=1.05e1", "table"),
        # As numbers: as texts, 100 would come before 9.
        ("filter[price][gt]=9", "table lamp"),
        ("filter[price][gte]=9&filter[price][lt]=100", "chair table"),
        ("filter[price][lte]=10.5", "chair table"),
        ("filter[name][lt]=a", "chair table"),
        ("filter[name][ne]=Chair", "table lamp"),
        # What is not there is not 3 either.
        ("filter[stock][ne]=3", "chair lamp"),
        ("filter[stock]=null", "chair"),
        ("filter[stock][exists]=true", "chair table lamp"),
        ("filter[sold]=true", "table"),
        ("filter[sold][ne]=true", "chair lamp"),
        ("filter[sold][exists]=false", "chair"),
        ("filter[id][in]=lamp,chair,nothing", "chair lamp"),
        (r"filter[name][in]=a\,b,lamp", "lamp"),
        ("filter[name][contains]=a", "chair table lamp"),
        ("filter[name][contains]=hai", "chair"),
        ("filter[tags][contains]=oak", "table"),
        ("filter[tags][contains]=o", ""),
        ("filter[owner.name]=Ann", "chair"),
        ("filter[owner.city][exists]=true", "lamp"),
        ("filter[owner][exists]=false", "table"),
        ("filter[tags][exists]=true", "chair table"),
        ("sort=price", "chair table lamp"),
        ("sort=-price", "lamp table chair"),
        # By code point: capitals first.
        ("sort=name", "chair table lamp"),
        ("sort=-name", "lamp table chair"),
        # What has no value comes last, and first where it is turned round.
        ("sort=stock", "lamp table chair"),
        ("sort=-stock", "chair table lamp"),
        ("sort=sold,-price", "lamp table chair"),
        ("sort=owner.name", "chair lamp table"),
        ("filter[tags][contains]=wood&sort=-id", "table chair"),
        # A parameter without a value is as good as none.
        ("limit=&cursor=&sort=&fields=", "chair table lamp"),
    ],
)
def test_a_list_can_be_filtered_and_sorted(client: APIClient, query: str, expected: str) -> None:
    assert ids(client.get(f"{THINGS}?{query}")) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("name", {"id": "lamp", "name": "lamp"}),
        ("owner.city,price", {"id": "lamp", "price": 100, "owner": {"city": "Ulm"}}),
        ("owner,owner.city", {"id": "lamp", "owner": {"name": "Bob", "city": "Ulm"}}),
        ("id", {"id": "lamp"}),
        ("tags", {"id": "lamp"}),
    ],
)
def test_fields_choose_what_of_an_item_is_shown_and_the_key_always_is(
    client: APIClient, fields: str, expected: dict[str, Any]
) -> None:
    answer = client.get(f"{THINGS}?filter[id]=lamp&fields={fields}")
    assert answer.json()["items"] == [expected]


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ("colour=red", "colour", "Known are: limit, cursor, sort, fields, filter[path], filter[path][operator]."),
        ("filter=red", "filter", "Known are: limit, cursor"),
        ("filter[colour]=red", "filter[colour]", "no path of the schema. Known are: id, name, price, stock"),
        ("filter[owner.age]=1", "filter[owner.age]", "owner.name, owner.city"),
        ("filter[name.x]=1", "filter[name.x]", "no path of the schema"),
        ("filter[lines.price]=1", "filter[lines.price]", "no path of the schema"),
        ("filter[]=1", "filter[]", "no path of the schema"),
        ("filter[price][like]=1", "filter[price][like]", "Known there are: eq, ne, lt, lte, gt, gte, in, exists."),
        ("filter[price][]=1", "filter[price][]", "Known there are: eq"),
        ("filter[price][contains]=1", "filter[price][contains]", "takes no 'contains'"),
        ("filter[sold][gt]=true", "filter[sold][gt]", "Known there are: eq, ne, in, exists."),
        ("filter[tags]=wood", "filter[tags]", "Known there are: contains, exists."),
        ("filter[lines][contains]=1", "filter[lines][contains]", "Known there are: exists."),
        ("filter[owner]=1", "filter[owner]", "Known there are: exists."),
        ("filter[price]=cheap", "filter[price]", "cannot be 'cheap'. Expected: number."),
        ("filter[price][in]=1,cheap", "filter[price][in]", "cannot be 'cheap'"),
        ("filter[price]=", "filter[price]", "cannot be ''"),
        ("filter[price]=1_0", "filter[price]", "cannot be '1_0'"),
        ("filter[price]=NaN", "filter[price]", "cannot be 'NaN'"),
        ("filter[price]=1e999", "filter[price]", "A number is too large."),
        ("filter[price]=9223372036854775808", "filter[price]", "does not fit into 64 bits"),
        ("filter[stock][gt]=null", "filter[stock][gt]", "Expected: number."),
        ("filter[stock]=none", "filter[stock]", "Expected: null, number."),
        ("filter[sold]=1", "filter[sold]", "Expected: true or false."),
        ("filter[sold][exists]=yes", "filter[sold][exists]", "Expected: true or false."),
        ("sort=colour", "sort", "names 'colour', which is no path"),
        ("sort=tags", "sort", "cannot be sorted by 'tags'"),
        ("sort=name,-name", "sort", "names a path twice"),
        ("sort=name,name", "sort", "twice"),
        ("sort=" + ",".join("abcdef"), "sort", "more than 5"),
        ("fields=colour", "fields", "names 'colour', which is no path"),
        ("fields=name,name", "fields", "twice"),
        ("filter[name]=a&filter[name]=b", "filter[name]", "stands there twice"),
        ("limit=5&limit=6", "limit", "stands there twice"),
        ("filter[id][in]=" + ",".join("x" * 101), "filter[id][in]", "more than 100 values"),
        ("&".join(f"filter[name][{number}]=x" for number in range(21)), "filter", "more than 20 filters"),
        ("format=csv", "format", "unknown"),
    ],
)
def test_what_is_amiss_is_named_with_what_is_known(client: APIClient, query: str, parameter: str, detail: str) -> None:
    answer = client.get(f"{THINGS}?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert (answer.json()["code"], answer.json()["parameter"]) == ("malformed", parameter)
    assert detail in answer.json()["detail"]
    assert TokenAccount.objects.get().balance == 1000


def test_known_paths_and_operators_are_told_as_data_too(client: APIClient) -> None:
    assert client.get(f"{THINGS}?filter[colour]=red").json()["known"][:3] == ["id", "name", "price"]
    assert client.get(f"{THINGS}?filter[tags]=x").json()["known"] == ["contains", "exists"]


@pytest.mark.parametrize(
    "query", ["filter[name]=%00", "filter[na%00me]=x", "filter[name]=%ff", "filter[name]=%ED%A0%80"]
)
def test_a_query_string_that_no_database_could_take_is_a_400(client: APIClient, query: str) -> None:
    answer = client.get(f"{THINGS}?filter{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert "query string" in answer.json()["detail"]


def test_too_many_parameters_are_a_400(client: APIClient) -> None:
    answer = client.get(f"{THINGS}?" + "&".join(f"p{number}=" for number in range(2000)))
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_stranger_learns_neither_paths_nor_defects(client: APIClient) -> None:
    assert APIClient().get(f"{THINGS}?filter[colour]=red").json()["code"] == "api-key-missing"


def test_the_next_page_is_linked(client: APIClient) -> None:
    first = client.get(f"{THINGS}?limit=2&sort=-price&filter[name][contains]=a&fields=name")
    assert ids(first) == "lamp table"
    url, relation = first["Link"].split("; ")
    assert relation == 'rel="next"'
    split = urlsplit(url.strip("<>"))
    assert (split.scheme, split.netloc, split.path) == ("http", "testserver", THINGS)
    assert dict(parse_qsl(split.query))["cursor"] == first.json()["next"]
    second = client.get(url.strip("<>"))
    assert second.json() == {"items": [{"id": "chair", "name": "Chair"}], "next": None}
    assert "Link" not in second


def test_a_full_last_page_has_no_next(client: APIClient) -> None:
    assert client.get(f"{THINGS}?limit=3").json()["next"] is None


def test_a_page_can_be_of_another_size_and_show_other_fields(client: APIClient) -> None:
    cursor = client.get(f"{THINGS}?limit=1&sort=name").json()["next"]
    assert ids(client.get(f"{THINGS}?limit=2&sort=name&fields=name&cursor={cursor}")) == "table lamp"


@pytest.mark.parametrize("query", ["", "sort=-price", "sort=name", "sort=price&filter[name]=x", "sort=price,name"])
def test_a_cursor_of_another_query_is_refused_and_says_so(client: APIClient, query: str) -> None:
    cursor = client.get(f"{THINGS}?limit=1&sort=price").json()["next"]
    answer = client.get(f"{THINGS}?{query}&cursor={cursor}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, "cursor")
    assert "belongs to another query" in answer.json()["detail"]


def test_a_cursor_of_another_schema_is_refused(client: APIClient, schema: Schema) -> None:
    a_schema(schema.tenant, "others", DOCUMENT)
    cursor = client.get(f"{THINGS}?limit=1").json()["next"]
    assert "another query" in client.get(f"/api/mytenant/others?cursor={cursor}").json()["detail"]


def read(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=="))


def forged(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["9"],
        ["9", "~", 2, 1, 1],
        [9, "~", 2, 1],
        ["1e9999999", "~", 2, 1],
        ["9" * 2000, "~", 2, 1],
        [True, "~", 2, 1],
        ["9", "no mark", 2, 1],
        ["9", '"' + "x" * 257, 2, 1],
        ["9", '"\0', 2, 1],
        ["9", 5, 2, 1],
        ["9", "~", 3, 1],
        ["9", "~", True, 1],
        ["9", "~", "1", 1],
        ["9", "~", 2, 2**63],
        ["9", "~", 2, -1],
        ["9", "~", 2, 1.5],
        ["9", "~", 2, "1 OR 1=1"],
        ["9", "~", 2, None],
    ],
)
def test_a_forged_cursor_is_refused(client: APIClient, values: list[Any]) -> None:
    path = f"{THINGS}?limit=1&sort=price,name,sold"
    digest = read(client.get(path).json()["next"])[0]
    answer = client.get(f"{path}&cursor={forged([digest, *values])}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, "cursor")


@pytest.mark.parametrize("cursor", ["x", "5", "!", "e30", "bnVsbA", "W1tb" * 500, "__8", "a" * 4000, "é"])
def test_what_is_no_cursor_is_refused(client: APIClient, cursor: str) -> None:
    answer = client.get(f"{THINGS}?cursor={quote(cursor)}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, "cursor")


def test_a_cursor_whose_values_were_changed_leads_to_the_callers_own_items_only(
    client: APIClient, schema: Schema
) -> None:
    other = a_schema(a_tenant("other"), "things", DOCUMENT)
    Item.objects.create(schema=other, key="secret", payload={"id": "secret", "price": 50})
    digest, *_ = read(client.get(f"{THINGS}?limit=1&sort=price").json()["next"])
    for values in ([str(-(10**400)), 0], ["0", 0], ["0", 2**63 - 1], ["50", 0], [None, 0]):
        answer = client.get(f"{THINGS}?sort=price&cursor={forged([digest, *values])}")
        assert set(ids(answer).split()) <= {"chair", "table", "lamp"}


def test_a_page_ends_where_its_size_does(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_PAGE_CHARACTERS", 150)
    first = client.get(f"{THINGS}?sort=price")
    assert ids(first) == "chair"
    assert ids(client.get(first["Link"].split(">")[0][1:])) == "table"
    # What is not shown does not count.
    assert ids(client.get(f"{THINGS}?sort=price&fields=id")) == "chair table lamp"


def test_an_item_larger_than_a_page_is_a_page(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_PAGE_CHARACTERS", 1)
    assert ids(client.get(THINGS)) == "chair"


def test_a_list_costs_ten_tokens_whatever_is_asked(client: APIClient) -> None:
    client.get(f"{THINGS}?filter[price][gt]=1&filter[name][contains]=a&sort=-price,name&limit=1")
    assert TokenAccount.objects.get().balance == 990


@pytest.mark.parametrize(
    "query", ["", "filter[price][gt]=1&filter[name][contains]=a&filter[id][in]=chair,lamp&sort=-price,name&fields=name"]
)
def test_a_list_reads_its_items_in_one_statement_however_many(client: APIClient, schema: Schema, query: str) -> None:
    client.get(THINGS)  # the schema is compiled
    with CaptureQueriesContext(connection) as few:
        client.get(f"{THINGS}?{query}")
    Item.objects.bulk_create(
        Item(schema=schema, key=f"x{n}", payload={"id": f"x{n}", "name": "a", "price": 5}) for n in range(200)
    )
    with CaptureQueriesContext(connection) as many:
        client.get(f"{THINGS}?{query}")
    assert len(many) == len(few)
    assert sum("backend_item" in query["sql"] for query in many.captured_queries) == 1


def test_names_are_never_sql(client: APIClient, schema: Schema) -> None:
    names = ["a'b", 'a"b', "a.b", "a,b", "a]b", "a\\b", "a%sb", "a%%b", "a--", "é", "0", "", "-x", "a b"]
    weird = a_schema(schema.tenant, "weird", {"properties": {name: {"type": "number"} for name in names}})
    payload = {"id": "x", **{name: number for number, name in enumerate(names)}}
    Item.objects.create(schema=weird, key="x", payload=payload)
    for number, name in enumerate(names):
        path = name
        for character in "\\.,[]":
            path = path.replace(character, f"\\{character}")
        url = f"/api/mytenant/weird?filter[{quote(path)}]="
        assert ids(client.get(f"{url}{number}")) == "x", name
        assert ids(client.get(f"{url}{number + 1}")) == "", name


class _Slow(Func):
    template = "(SELECT pg_sleep(30)) IS NULL"
    output_field = BooleanField()


@pytest.mark.django_db(transaction=True)
def test_a_list_that_takes_too_long_is_told_so_and_costs_nothing(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("Only PostgreSQL ends a statement.")
    monkeypatch.setattr(list_filters, "condition", lambda paths, wanted: Q(_Slow()))
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '2s'")
    answer = client.get(f"{THINGS}?filter[name]=x")
    assert (answer.status_code, answer.json()["code"]) == (503, "took-too-long")
    assert TokenAccount.objects.get().balance == 1000
