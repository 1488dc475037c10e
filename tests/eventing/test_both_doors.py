"""One table of operations through both doors: the same item, bill, events and refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from blockforger.backend.models import OperationRecord
from eventing.models import OutboxEvent
from tenants.models import ApiKey, Tenant, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import DOORS, Ask, state

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.eventing.doors import Answer

pytestmark = pytest.mark.django_db

SOLD = {"id": "123", "name": "Fluffy Updated", "status": "sold"}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return tenant


@pytest.fixture
def ask(door: str, tenant: Tenant, nudged: list[None]) -> Callable[..., Answer]:
    key = a_key(tenant)

    def send(method: str, payload: Any, **changes: Any) -> Answer:
        return DOORS[door](Ask(method, payload, **{"api_key": key, **changes}))

    return send


@pytest.mark.parametrize(
    ("method", "payload", "status", "stored", "published"),
    [
        ("PUT", SOLD, 200, SOLD, SOLD),
        ("PATCH", {"id": "123", "status": "sold"}, 200, {**FLUFFY, "status": "sold"}, {"id": "123", "status": "sold"}),
        # a null removes the member (RFC 7396); the event carries the patch as it was sent
        (
            "PATCH",
            {"id": "123", "status": None},
            200,
            {"id": "123", "name": "Fluffy"},
            {"id": "123", "status": None},
        ),
        ("DELETE", {"id": "123"}, 204, None, {"id": "123"}),
    ],
)
def test_a_write_changes_the_item_bills_ten_tokens_and_publishes_one_event(
    ask: Callable[..., Answer], method: str, payload: Any, status: int, stored: Any, published: Any
) -> None:
    assert ask("POST", FLUFFY).status == 201
    assert ask(method, payload).status == status

    after = state()
    assert after.items == ([] if stored is None else [("123", stored, 2)])
    assert after.accounts == [(980, 2)]
    assert [detail_type for detail_type, _, _ in after.outbox] == ["petstore.POST", f"petstore.{method}"]
    event = OutboxEvent.objects.get(sequence=2)
    assert json.loads(event.detail) == {
        "tenant": "mytenant",
        "rootSchema": "petstore",
        "operation": method,
        "payload": published,
    }


def test_a_post_makes_the_events_of_the_specification_byte_for_byte(ask: Callable[..., Answer]) -> None:
    assert ask("POST", FLUFFY).status == 201
    event = OutboxEvent.objects.get()
    assert (event.source, event.detail_type) == ("blockforger-output", "petstore.POST")
    assert event.detail == (
        '{"tenant":"mytenant","rootSchema":"petstore","operation":"POST",'
        '"payload":{"id":"123","name":"Fluffy","status":"available"}}'
    )
    assert event.resources == [
        "urn:blockforger:item:mytenant:petstore:123",
        f"urn:blockforger:event:{event.id}:1",
    ]


def no_tokens(tenant: Tenant) -> None:
    TokenAccount.objects.filter(tenant=tenant).update(balance=9)


def no_input(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(accepts_events=False)


def no_permission(tenant: Tenant) -> None:
    ApiKey.objects.filter(tenant=tenant).update(permissions=[])


def revoked(tenant: Tenant) -> None:
    ApiKey.objects.filter(tenant=tenant).update(is_active=False)


def expired(tenant: Tenant) -> None:
    ApiKey.objects.filter(tenant=tenant).update(expires_at=timezone.now())


def nothing(tenant: Tenant) -> None:
    pass


BIG = {"id": "big", "name": "x" * 1_100_000}

REFUSALS = [
    # name, what is done first, method, payload, changes, status by door, code, part of the detail
    ("no key", nothing, "POST", FLUFFY, {"api_key": None}, {"rest": 401, "event": 401}, "api-key-missing", "X-API-Key"),
    ("unknown key", nothing, "POST", FLUFFY, {"api_key": "bf_1_2"}, {"rest": 401, "event": 401}, "api-key-invalid",
     "not valid"),
    ("revoked key", revoked, "POST", FLUFFY, {}, {"rest": 401, "event": 401}, "api-key-invalid", "not valid"),
    ("expired key", expired, "POST", FLUFFY, {}, {"rest": 401, "event": 401}, "api-key-invalid", "not valid"),
    ("another tenant", nothing, "POST", FLUFFY, {"tenant": "other"}, {"rest": 401, "event": 401}, "api-key-invalid",
     "not valid"),
    ("no permission", no_permission, "POST", FLUFFY, {}, {"rest": 403, "event": 401}, "permission-missing",
     "'backend_calls'"),
    ("no tokens", no_tokens, "POST", FLUFFY, {}, {"rest": 402, "event": 402}, "not-enough-tokens",
     "costs 10 tokens and the balance is 9"),
    ("no input", no_input, "POST", FLUFFY, {}, {"event": 403}, "events-not-accepted", "eventbridge-input=true"),
    ("unknown schema", nothing, "POST", FLUFFY, {"schema": "nope"}, {"rest": 404, "event": 404}, "schema-unknown",
     "'nope'"),
    ("schema no name could have", nothing, "POST", FLUFFY, {"schema": "no pe"}, {"rest": 404, "event": 404},
     "schema-unknown", "'no pe'"),
    ("unknown item, PUT", nothing, "PUT", SOLD, {}, {"rest": 404, "event": 404}, "item-unknown", "'123'"),
    ("unknown item, PATCH", nothing, "PATCH", SOLD, {}, {"rest": 404, "event": 404}, "item-unknown", "'123'"),
    ("unknown item, DELETE", nothing, "DELETE", SOLD, {}, {"rest": 404, "event": 404}, "item-unknown", "'123'"),
    ("payload a list", nothing, "POST", [FLUFFY], {}, {"event": 400}, "payload-not-object",
     "must be a JSON object"),
    ("payload invalid", nothing, "POST", {"id": "1", "name": 7, "status": "eaten"}, {}, {"rest": 400, "event": 400},
     "payload-invalid", "JSON Pointer"),
    ("key a boolean", nothing, "POST", {"id": True, "name": "x"}, {}, {"rest": 400, "event": 400},
     "key-field-invalid", "'id'"),
    ("key of the API's own paths", nothing, "POST", {"id": "$schema", "name": "x"}, {}, {"rest": 400, "event": 400},
     "key-field-invalid", "must not begin with '$'"),
    ("an integer beyond 64 bits", nothing, "POST", {"id": "1", "name": "x", "n": 2**63}, {},
     {"rest": 400, "event": 400}, "malformed", "64 bits"),
    ("a NUL", nothing, "POST", {"id": "1", "name": "x\0"}, {}, {"rest": 400, "event": 400}, "malformed", "U+0000"),
    ("too large", nothing, "POST", BIG, {}, {"rest": 413, "event": 413}, "payload-too-large", "bytes"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("door", "status", "prepare", "method", "payload", "changes", "code", "detail"),
    [
        pytest.param(door, status, *case[1:5], *case[6:], id=f"{case[0]}, {door}")
        for case in REFUSALS
        for door, status in case[5].items()
    ],
    indirect=["door"],
)
def test_a_refusal_names_its_reason_and_changes_nothing(
    tenant: Tenant,
    ask: Callable[..., Answer],
    status: int,
    prepare: Callable[[Tenant], None],
    method: str,
    payload: Any,
    changes: dict[str, Any],
    code: str,
    detail: str,
) -> None:
    prepare(tenant)
    before = state()

    answer = ask(method, payload, **changes)

    assert answer.status == status
    assert answer.problem is not None
    assert answer.problem["status"] == status
    assert answer.problem["code"] == code
    assert answer.problem["type"] == f"urn:blockforger:problem:{code}"
    assert detail in answer.problem["detail"]
    assert state() == before


def test_a_post_of_a_key_that_exists_is_refused_and_changes_nothing(ask: Callable[..., Answer]) -> None:
    ask("POST", FLUFFY)
    before = state()
    answer = ask("POST", {**FLUFFY, "name": "Another"})
    assert answer.status == 409
    assert answer.problem is not None
    assert answer.problem["code"] == "item-exists"
    assert state() == before


def test_a_patch_whose_result_does_not_fit_the_schema_is_refused(ask: Callable[..., Answer]) -> None:
    ask("POST", FLUFFY)
    before = state()
    answer = ask("PATCH", {"id": "123", "name": None})
    assert answer.status == 400
    assert answer.problem is not None
    assert answer.problem["code"] == "payload-invalid"
    assert state() == before


def test_every_violation_is_listed_with_its_pointer(ask: Callable[..., Answer]) -> None:
    answer = ask("POST", {"id": "1", "name": 7, "status": "eaten"})
    assert answer.problem is not None
    assert [error["pointer"] for error in answer.problem["errors"]] == ["/name", "/status"]


@pytest.mark.parametrize("door", ["event"], indirect=True)
def test_a_refusal_of_an_event_belongs_to_the_tenant_only_if_its_key_does(
    tenant: Tenant, ask: Callable[..., Answer]
) -> None:
    ask("PUT", SOLD)
    ask("POST", FLUFFY, api_key="bf_1_2")
    assert list(OperationRecord.objects.order_by("pk").values_list("status", "tenant")) == [
        (404, tenant.pk),
        (401, None),
    ]
