"""What a write tells those who listen: the item as it was, and as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from blockforger.backend.signals import item_written
from tests.cast import a_key, a_schema, a_tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockforger.backend.signals import ItemWritten

pytestmark = pytest.mark.django_db(transaction=True)

Told = list[tuple[str, Any, Any]]
PETS = "/api/mytenant/petstore"


@pytest.fixture
def told() -> Iterator[Told]:
    heard: Told = []

    def listen(written: ItemWritten, **_: object) -> list[Any]:
        heard.append((written.method, written.before, written.after))
        return []

    item_written.connect(listen)
    yield heard
    item_written.disconnect(listen)


@pytest.fixture
def client() -> APIClient:
    tenant = a_tenant()
    a_schema(tenant)
    return APIClient(headers={"X-API-Key": a_key(tenant)})


def test_listeners_are_told_the_item_before_and_after_each_write(told: Told, client: APIClient) -> None:
    first = {"id": "1", "name": "Rex", "tags": ["a"]}
    client.post(PETS, first, format="json")
    client.put(f"{PETS}/1", {"name": "Max", "owner": {"city": "Bonn"}}, format="json")
    client.patch(f"{PETS}/1", {"owner": {"zip": "5"}, "name": "Moritz"}, format="json")
    client.delete(f"{PETS}/1")
    second = {"name": "Max", "owner": {"city": "Bonn"}, "id": "1"}
    third = {"name": "Moritz", "owner": {"city": "Bonn", "zip": "5"}, "id": "1"}
    assert told == [
        ("POST", None, first),
        ("PUT", first, second),
        ("PATCH", second, third),
        ("DELETE", third, None),
    ]


def test_of_an_array_they_are_told_each_item(told: Told, client: APIClient) -> None:
    pets = [{"id": "1", "name": "Rex"}, {"id": "2", "name": "Max"}]
    client.post(PETS, pets, format="json")
    client.patch(PETS, [{"id": "2", "name": "Moritz"}], format="json")
    client.delete(PETS, ["1"], format="json")
    assert told == [
        ("POST", None, pets[0]),
        ("POST", None, pets[1]),
        ("PATCH", pets[1], {"id": "2", "name": "Moritz"}),
        ("DELETE", pets[0], None),
    ]
