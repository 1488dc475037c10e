from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from blockforger.backend.models import Item, OperationRecord
from eventing.consuming import Disposition
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, state

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]


@pytest.fixture
def key() -> str:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return a_key(tenant)


def changed(key: str, **changes: Any) -> dict[str, Any]:
    event = envelope(Ask("POST", FLUFFY, api_key=key))
    for name, value in changes.items():
        if value is ...:
            del event["detail"][name]
        else:
            event["detail"][name] = value
    return event


MALFORMED = [
    # the payload is required
    ({"payload": ...}, 400, "malformed", "detail.payload"),
    ({"payload": None}, 400, "payload-not-object", "JSON object"),
    ({"rootSchema": ...}, 400, "malformed", "detail.rootSchema"),
    ({"rootSchema": 7}, 400, "malformed", "detail.rootSchema"),
    # an event may not read, and has no list
    ({"operation": "GET"}, 400, "operation-unknown", "'GET'"),
    ({"operation": "post"}, 400, "operation-unknown", "'post'"),
    ({"operation": None}, 400, "operation-unknown", "'null'"),
    ({"operation": "\0\ud800"}, 400, "malformed", "U+0000"),
    # an event of a bulk request is none
    ({"payload": [FLUFFY]}, 400, "payload-not-object", "JSON object"),
    ({"payload": {"id": "1", "name": float("nan")}}, 400, "malformed", "NaN"),
    ({"payload": {"id": "1", "name": "\ud800"}}, 400, "malformed", "surrogate"),
    ({"operation": "PUT", "payload": {"name": "x"}}, 400, "key-field-invalid", "'id'"),
    ({"operation": "PATCH", "payload": {"name": "x"}}, 400, "key-field-invalid", "'id'"),
    ({"operation": "DELETE", "payload": {}}, 400, "key-field-invalid", "'id'"),
    ({"tenant": ...}, 401, "api-key-invalid", "not valid"),
    ({"tenant": 7}, 401, "api-key-invalid", "not valid"),
    ({"api_key": ...}, 401, "api-key-missing", "detail.api_key"),
    ({"api_key": 7}, 401, "api-key-missing", "detail.api_key"),
    ({"api_key": "\0"}, 401, "api-key-invalid", "not valid"),
]


@pytest.mark.parametrize(("changes", "status", "code", "detail"), MALFORMED)
def test_a_malformed_event_is_an_outcome_that_says_what_is_wrong(
    key: str, changes: dict[str, Any], status: int, code: str, detail: str
) -> None:
    before = state()
    event = changed(key, **changes)
    assert handle(json.dumps(event)) is Disposition.REFUSED
    record = OperationRecord.objects.get()
    assert record.problem is not None
    assert (record.status, record.problem["code"]) == (status, code)
    assert detail in record.problem["detail"]
    assert state() == before


def test_a_detail_that_is_a_text_of_json_is_read_all_the_same(key: str) -> None:
    event = envelope(Ask("POST", FLUFFY, api_key=key))
    event["detail"] = json.dumps(event["detail"])
    assert handle(json.dumps(event)) is Disposition.CARRIED_OUT


@pytest.mark.parametrize("detail", ["{", "7", '"x"', 7, None, [], True])
def test_a_detail_that_is_no_object_is_refused(detail: object) -> None:
    event = {"id": "1", "detail-type": "petstore.POST", "detail": detail}
    assert handle(json.dumps(event)) is Disposition.REFUSED
    assert OperationRecord.objects.get().status == 401


def test_without_an_operation_an_event_is_a_post(key: str) -> None:
    assert handle(json.dumps(changed(key, operation=...))) is Disposition.CARRIED_OUT
    assert OperationRecord.objects.get().method == "POST"


@pytest.mark.parametrize("operation", ["PUT", "PATCH", "DELETE"])
def test_without_an_operation_a_detail_type_of_another_one_is_refused_not_guessed(key: str, operation: str) -> None:
    event = changed(key, operation=...)
    event["detail-type"] = f"petstore.{operation}"
    assert handle(json.dumps(event)) is Disposition.REFUSED
    record = OperationRecord.objects.get()
    assert record.problem is not None
    assert record.status == 400
    assert f"ends in .{operation}" in record.problem["detail"]


def test_the_operation_counts_where_the_detail_type_says_otherwise(key: str) -> None:
    event = envelope(Ask("POST", FLUFFY, api_key=key), **{"detail-type": "petstore.DELETE"})
    assert handle(json.dumps(event)) is Disposition.CARRIED_OUT
    assert Item.objects.count() == 1


def test_no_row_holds_an_api_key(key: str) -> None:
    secret = key.split("_", 2)[2]
    bodies = [
        envelope(Ask("POST", FLUFFY, api_key=key)),
        envelope(Ask("PUT", {"id": "x"}, api_key=key)),
        changed(key, payload=...),
        changed(key, operation="\0"),
    ]
    for body in bodies:
        handle(json.dumps(body))
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            assert secret not in str(cursor.fetchall())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(st.characters()), children, max_size=3),
    max_leaves=10,
)


class AnyEvent(TestCase):
    """Whatever comes is carried out or refused; nothing is a fault that would come back for ever."""

    def setUp(self) -> None:
        tenant = a_tenant()
        a_schema(tenant, document={})
        self.key = a_key(tenant)

    @settings(max_examples=150)
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "tenant": st.just("mytenant") | JSON,
                "rootSchema": st.just("petstore") | JSON,
                "operation": st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]) | JSON,
                "api_key": JSON,
                "payload": st.dictionaries(st.just("id") | st.text(st.characters()), JSON, max_size=4) | JSON,
            },
        )
        | JSON,
        st.booleans(),
    )
    def test_has_an_outcome(self, detail: Any, with_key: bool) -> None:
        if with_key and isinstance(detail, dict):
            detail["api_key"] = self.key
        event_id = str(uuid.uuid4())
        disposition = handle(json.dumps({"id": event_id, "detail-type": "petstore.POST", "detail": detail}))
        assert disposition in {Disposition.CARRIED_OUT, Disposition.REFUSED}
        record = OperationRecord.objects.get(idempotency_key=event_id)
        assert (record.problem is None) == (disposition is Disposition.CARRIED_OUT)
