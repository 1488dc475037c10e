"""ETags, and requests that are about one state of an item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from blockforger.backend.models import Item, Schema
from blockforger.backend.operations import execute
from eventing.models import OutboxEvent
from tenants.models import TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import an_event

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"
FLUFFYS_URL = f"{PETS}/123"


@pytest.fixture
def client() -> APIClient:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return APIClient(headers={"X-API-Key": a_key(tenant)})


@pytest.fixture
def etag(client: APIClient) -> str:
    return str(client.post(PETS, FLUFFY, format="json")["ETag"])


def change(client: APIClient, method: str, headers: Mapping[str, str]) -> Any:
    payload = None if method == "delete" else {"name": "Rex"}
    return getattr(client, method)(FLUFFYS_URL, payload, format="json", headers=headers)


def test_answers_that_hold_an_item_carry_its_etag_which_changes_with_it(client: APIClient, etag: str) -> None:
    assert etag.startswith('"')
    assert client.get(FLUFFYS_URL)["ETag"] == client.head(FLUFFYS_URL)["ETag"] == etag
    put = change(client, "put", {})["ETag"]
    patched = change(client, "patch", {})["ETag"]
    assert client.get(FLUFFYS_URL)["ETag"] == patched
    assert len({etag, put, patched}) == 3
    assert "ETag" not in change(client, "delete", {})
    assert "ETag" not in client.get(PETS)


def test_an_item_that_is_deleted_and_made_again_has_another_etag(client: APIClient, etag: str) -> None:
    client.delete(FLUFFYS_URL)
    again = client.post(PETS, FLUFFY, format="json")["ETag"]
    assert again != etag
    assert change(client, "put", {"If-Match": etag}).status_code == 412


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
@pytest.mark.parametrize(
    ("header", "value", "passes"),
    [
        ("If-Match", "{etag}", True),
        ("If-Match", "*", True),
        ("If-Match", '"other", {etag}', True),
        ("If-Match", ',"other" ,, {etag},', True),
        ("If-Match", '"a,b", {etag}', True),
        ("If-Match", '"other"', False),
        ("If-Match", '""', False),
        # weak comparison is not enough for a change
        ("If-Match", "W/{etag}", False),
        ("If-None-Match", '"other"', True),
        ("If-None-Match", "{etag}", False),
        ("If-None-Match", "W/{etag}", False),
        ("If-None-Match", "*", False),
    ],
)
def test_a_change_is_made_only_to_the_state_that_it_is_meant_for(
    client: APIClient, etag: str, method: str, header: str, value: str, passes: bool
) -> None:
    answer = change(client, method, {header: value.format(etag=etag)})
    if passes:
        assert answer.status_code in {200, 204}
        return
    assert (answer.status_code, answer.json()["code"], answer.json()["header"]) == (412, "precondition-failed", header)
    assert Item.objects.get().payload == FLUFFY
    assert (TokenAccount.objects.get().balance, OutboxEvent.objects.count()) == (990, 1)


@pytest.mark.parametrize("value", ["abc", "12-3", '"a" "b"', '"a"b', "", "*, *", '"unclosed', 'w/"a"'])
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_a_header_that_lists_no_entity_tags_is_a_400(client: APIClient, etag: str, header: str, value: str) -> None:
    for answer in (change(client, "put", {header: value}), client.get(FLUFFYS_URL, headers={header: value})):
        assert (answer.status_code, answer.json()["code"], answer.json()["header"]) == (400, "malformed", header)


def test_a_list_of_a_hundred_thousand_commas_is_read_at_once(client: APIClient, etag: str) -> None:
    assert change(client, "put", {"If-Match": "," * 100_000 + etag}).status_code == 200
    assert change(client, "put", {"If-Match": '"a" ' + ", " * 50_000 + "x"}).status_code == 400


@pytest.mark.parametrize("value", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
def test_a_reader_who_has_the_item_is_told_so_and_billed_for_the_reading(
    client: APIClient, etag: str, value: str
) -> None:
    answer = client.get(FLUFFYS_URL, headers={"If-None-Match": value.format(etag=etag)})
    assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", etag)
    assert "Content-Type" not in answer
    assert TokenAccount.objects.get().balance == 1000 - 2 * 10


def test_a_reader_gets_what_is_not_the_state_that_he_has(client: APIClient, etag: str) -> None:
    assert client.get(FLUFFYS_URL, headers={"If-None-Match": '"other"'}).json() == FLUFFY
    assert client.get(FLUFFYS_URL, headers={"If-Match": etag}).json() == FLUFFY
    assert client.get(FLUFFYS_URL, headers={"If-Match": '"other"'}).status_code == 412


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_an_item_that_is_not_there_is_a_404_under_any_condition(client: APIClient, header: str) -> None:
    """PUT never creates: `If-None-Match: *` does not make it."""
    for value in ("*", '"other"'):
        assert change(client, "put", {header: value}).status_code == 404


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_a_condition_on_a_create_is_a_400_and_on_a_list_is_passed_over(client: APIClient, header: str) -> None:
    answer = client.post(PETS, FLUFFY, format="json", headers={header: "*"})
    assert (answer.status_code, answer.json()["header"]) == (400, header)
    assert client.get(PETS, headers={header: '"a"'}).status_code == 200


class TestASchemaThatDemandsIfMatch:
    @pytest.fixture(autouse=True)
    def _demands(self, client: APIClient) -> None:
        Schema.objects.update(meta={"require_if_match": True})

    @pytest.mark.parametrize("method", ["put", "patch", "delete"])
    @pytest.mark.parametrize("headers", [{}, {"If-None-Match": '"other"'}])
    def test_refuses_changes_that_do_not_say_which_state_they_mean(
        self, client: APIClient, etag: str, method: str, headers: dict[str, str]
    ) -> None:
        answer = change(client, method, headers)
        assert (answer.status_code, answer.json()["code"]) == (428, "precondition-missing")
        assert Item.objects.get().payload == FLUFFY
        assert change(client, method, {"If-Match": etag}).status_code in {200, 204}

    def test_lets_items_be_made_and_read_without(self, client: APIClient, etag: str) -> None:
        assert client.get(FLUFFYS_URL).status_code == 200

    def test_does_not_demand_it_of_events_which_cannot_know(self, client: APIClient, etag: str) -> None:
        event = an_event(client.defaults["HTTP_X_API_KEY"], "PUT", {**FLUFFY, "name": "Rex"}, event_id="1")
        assert execute(event).status == 200

    def test_tells_a_stranger_nothing(self, client: APIClient, etag: str) -> None:
        assert change(APIClient(), "put", {}).status_code == 401
