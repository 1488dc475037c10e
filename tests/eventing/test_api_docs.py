"""What docs/api.md shows of management is what a client gets: the same members, of the same types."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from tenants.models import Permission, Tenant
from tests.cast import a_key, a_schema, a_tenant
from tests.eventing.doors import Ask, over_rest

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCKS = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in re.findall(r"(?:^    .*\n)+", TEXT, re.MULTILINE)]
SESSIONS = [block for block in BLOCKS if block.startswith("curl")]


def parts_of(session: str) -> tuple[str, str, dict[str, str], str | None, Any]:
    """Method, URL, headers and body of a command, and the answer that is shown below it, if one is."""
    command, brace, shown = session.partition("\n{")
    words = iter(shlex.split(command.replace("\\\n", ""))[1:])
    method, url, headers, body = "", "", {}, None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        elif not word.startswith("-"):
            url = word
    return (
        method or ("GET" if body is None else "POST"),
        url,
        headers,
        body,
        json.loads(f"{{{shown}") if brace else None,
    )


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.partition("-H")[0])
def test_a_session_of_the_documentation_is_what_a_client_gets(session: str) -> None:
    tenant = a_tenant("acme")
    key = a_key(tenant, permissions=list(Permission))
    if "/things/" not in session:
        a_schema(tenant, "things")
        over_rest(Ask("POST", {"id": "chair", "name": "Chair"}, "acme", "things", key))
    Tenant.objects.update(configuration_version=7)
    method, url, headers, body, shown = parts_of(session)
    headers = {name: value.replace("$KEY", key) for name, value in headers.items()}
    path = url.replace("$API", "/api/acme").replace("\\$", "$")  # as a shell reads it
    media_type = headers.pop("Content-Type", "application/json")
    answer: Any = APIClient().generic(method, path, body or "", content_type=media_type, headers=headers)
    assert answer.status_code < 300, answer.content
    if shown is not None:
        assert form(answer.json()) == form(shown)


def form(value: Any) -> Any:
    """The members and types of a value, and of an array's first element."""
    if isinstance(value, dict):
        return {name: form(member) for name, member in value.items()}
    if isinstance(value, list):
        return [form(element) for element in value[:1]]
    return type(value).__name__


def test_every_resource_has_a_session() -> None:
    urls = " ".join(parts_of(session)[1] for session in SESSIONS).replace("\\", "")
    assert all(name in urls for name in ("$schema", "$rules", "$events/out", "replay", "$usage"))
