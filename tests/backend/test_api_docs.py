"""The sessions that docs/api.md shows are what a client gets."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from blockforger.backend.models import Item
from tenants.models import AllowedOrigin
from tests.cast import a_key, a_schema, a_tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

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
def test_a_session_of_the_documentation_is_what_a_client_gets(session: str, nudged: list[None]) -> None:
    tenant = a_tenant("acme")
    schema = a_schema(tenant, "things", DOCUMENT, indexes=["price", "owner.name", "tags"])
    AllowedOrigin.objects.create(tenant=tenant, origin="https://shop.example")
    Item.objects.bulk_create(Item(schema=schema, key=str(thing["id"]), payload=thing) for thing in THINGS)
    key, etags = a_key(tenant), dict[str, str]()
    for command, expected in steps_of(session):
        for shown, etag in etags.items():
            command = command.replace(shown, etag)
        answer = curl(command.replace("$KEY", key).replace("$API", "/api/acme"))
        if expected.startswith("HTTP/1.1"):
            status, *headers = expected.splitlines()
            assert status.split()[1] == str(answer.status_code)
            for name, shown in (line.split(": ", 1) for line in headers):
                if name == "ETag":
                    etags[shown] = answer[name]
                else:
                    assert answer[name] == shown
        else:
            content = b"".join(answer.streaming_content) if answer.streaming else answer.content
            values, shown_values = list(json_values_in(content.decode())), list(json_values_in(expected))
            assert fits(values, shown_values), values


def steps_of(session: str) -> Iterator[tuple[str, str]]:
    """The commands, each with what it prints."""
    for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, *lines = step.splitlines()
        while command.endswith("\\") or command.count("'") % 2:
            command = f"{command[:-1]} {lines.pop(0)}" if command.endswith("\\") else f"{command}\n{lines.pop(0)}"
        yield command, "\n".join(lines)


def curl(command: str) -> Any:
    """Send what the command would. It knows the options that the documentation uses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    for flag in ("-g", "-I", "-i"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-X", default="")
    parser.add_argument("-H", action="append")
    parser.add_argument("-d", default="")
    asked = parser.parse_args(shlex.split(command)[1:])
    headers = dict(header.split(": ", 1) for header in asked.H)
    method = asked.X or ("HEAD" if asked.I else "POST" if asked.d else "GET")
    return APIClient().generic(
        method, asked.url, asked.d, content_type=headers.pop("Content-Type", ""), headers=headers
    )


def json_values_in(text: str) -> Iterator[Any]:
    """JSON texts that follow each other, as a stream's lines do."""
    while text := text.strip():
        value, end = json.JSONDecoder().raw_decode(text)
        yield value
        text = text[end:]


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
    assert len(SESSIONS) >= 13
