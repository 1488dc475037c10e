"""The sessions that docs/api.md shows are what a client gets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from blockforger.backend.models import Item
from tests.cast import a_key, a_schema, a_tenant

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCKS = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in re.findall(r"(?:^    .+\n)+", TEXT, re.MULTILINE)]
SESSIONS = [block for block in BLOCKS if block.startswith("$ curl")]
THINGS: list[dict[str, Any]] = [json.loads(line) for line in BLOCKS[0].splitlines()]
DOCUMENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "price": {"type": "number"},
        "stock": {"type": ["integer", "null"]},
        "sold": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "owner": {"type": "object", "properties": {"name": {"type": "string"}, "city": {"type": "string"}}},
    },
}


@pytest.mark.django_db
@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.split('"')[1])
def test_a_session_of_the_documentation_is_what_a_client_gets(session: str) -> None:
    tenant = a_tenant("acme")
    schema = a_schema(tenant, "things", DOCUMENT, indexes=["price", "owner.name", "tags"])
    Item.objects.bulk_create(Item(schema=schema, key=str(thing["id"]), payload=thing) for thing in THINGS)
    command, _, expected = session.partition("\n")
    _, _, _, url, _, header = shlex.split(command)
    name, _, value = header.replace("$KEY", a_key(tenant)).partition(": ")
    answer: Any = APIClient().get(url.replace("$API", "/api/acme"), headers={name: value})
    assert fits(answer.json(), json.loads(expected)), answer.json()


def fits(value: Any, shown: Any) -> bool:
    """Whether a value is what is shown of it; … stands for any text."""
    if isinstance(shown, dict):
        return isinstance(value, dict) and value.keys() == shown.keys() and all(fits(value[n], shown[n]) for n in shown)
    if isinstance(shown, list):
        return isinstance(value, list) and len(value) == len(shown) and all(map(fits, value, shown))
    if isinstance(shown, str) and "…" in shown:
        before, _, after = shown.partition("…")
        return isinstance(value, str) and value.startswith(before) and value.endswith(after)
    return type(value) is type(shown) and bool(value == shown)


def test_there_are_sessions() -> None:
    assert len(SESSIONS) >= 8
