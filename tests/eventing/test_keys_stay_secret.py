"""API keys are shown once, to whoever makes them, and then nowhere: everything is driven, and then everything read."""

from __future__ import annotations

import io
import json
import logging
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch
from rest_framework.test import APIClient

from eventing import aws, consuming, event_log
from tenants import api_keys
from tenants.models import ApiKey, LedgerEntry, Tenant
from tenants.redaction import RedactingFormatter, redacted
from tests.admin_pages import Page, ask, url_of
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.conftest import is_quoting
from tests.eventing.doors import Ask, envelope, handle
from tests.eventing.tenant_folders import a_folder
from tests.eventing.test_feedback import wants_feedback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)

BUS = "arn:aws:events:us-east-1:123456789012:event-bus/default"
MADE_UP = "bf_0123456789ab_" + "M" * 43


class Fault(Exception):
    """What a test makes happen."""


class Everything:
    """What was shown, to whom it may concern: texts by the place where they stood."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        # By what they are for. Only what makes a key may show it.
        self.keys: dict[str, str] = {}
        self.rest = APIClient(raise_request_exception=False)

    def show(self, place: str, text: str) -> None:
        self.texts.append((place, text))

    def request(self, method: str, path: str, body: str = "", *, note: str = "", **headers: str) -> int:
        response = self.rest.generic(method, path, body, content_type="application/json", headers=headers)
        self.show(f"{note or method} answer", f"{response.serialize_headers().decode()}\n{response.content.decode()}")
        return int(response.status_code)

    def command(self, *arguments: str, **options: Any) -> str:
        """What the command prints; stderr and the error that it ends with are shown as well."""
        out, err = io.StringIO(), io.StringIO()
        try:
            call_command(*arguments, stdout=out, stderr=err, **options)
        except CommandError as error:
            self.show(f"{arguments[0]} error", str(error))
        self.show(f"{arguments[0]} stderr", err.getvalue())
        return out.getvalue()

    def page(self, place: str, response: Any) -> str:
        content = b"".join(response.streaming_content) if response.streaming else response.content
        text = f"{response.serialize_headers().decode()}\n{content.decode()}"
        self.show(place, text)
        return text

    def places_of(self, key: str) -> set[str]:
        return {place for place, text in self.texts if key[16:] in text}


@pytest.fixture
def logs() -> Iterator[Callable[[], list[tuple[str, str]]]]:
    """Everything logged from DEBUG on, botocore and SQL too: as our own handler writes it, and as others might."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    (ours,) = [formatter for formatter in formatters if isinstance(formatter, RedactingFormatter)]
    lines: list[tuple[str, str]] = []

    class Capture(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((f"line of {record.name}", ours.format(record)))
            if not is_quoting(record):
                lines.append((f"record of {record.name}", logging.Formatter().format(record)))

    names = [None, "botocore", "django", "django.request", "celery", "urllib3"]
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    capture = Capture()
    logging.getLogger().addHandler(capture)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield lambda: list(lines)
    logging.getLogger().removeHandler(capture)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@contextmanager
def failing(statement: int, error: Exception) -> Iterator[None]:
    numbers = iter(range(1_000_000))

    def execute(execute: Any, *arguments: Any) -> Any:
        if next(numbers) == statement:
            raise error
        return execute(*arguments)

    with connection.execute_wrapper(execute):
        yield


def drive_rest(seen: Everything, key: str) -> None:
    path, body = "/api/mytenant/petstore", json.dumps(FLUFFY)
    requests = [("POST", "", body), ("PUT", "/123", body), ("GET", "/123", ""), ("DELETE", "/123", "")]
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        for method, item, sent in requests:
            assert seen.request(method, path + item, sent, **headers) < 300
    own = {"X-API-Key": key}
    for bad in seen.keys["revoked"], seen.keys["expired"], seen.keys["stranger's"], MADE_UP:
        assert seen.request("POST", path, body, **{"X-API-Key": bad}) == 401
    assert seen.request("POST", path, f'{{"api_key": "{key}", broken', **own) == 400
    assert seen.request("POST", path, f'["{key}"]', **own) == 400
    assert seen.request("PUT", f"{path}/{key}", json.dumps({"id": "other", "name": "x"}), **own) == 400
    assert seen.request("POST", f"/api/mytenant/{key}", body, **own) == 404
    assert seen.request("POST", f"/api/{key}/petstore", body, **own) == 401
    assert seen.request("GET", f"{path}/{key}", **own) == 404
    assert seen.request("GET", f"{path}?api_key={key}&cursor={key}&limit={key}", **own) == 400
    assert seen.request("GET", f"/{key}?{key}", **own) == 404
    assert seen.request("POST", path, body, **own, **{"Idempotency-Key": key, "Content-Type": key}) < 500
    assert seen.request("EAT", path, body, **own) == 405
    assert seen.request("POST", path, body, **own) == 201
    statement = 0
    while True:
        with failing(statement, Fault(f"statement {statement}")):
            if (status := seen.request("PUT", f"{path}/123", body, **own)) == 200:
                break
        assert status == 500
        statement += 1
    assert statement >= 2  # the item, and what is written
    with failing(1, OperationalError("the server closed the connection")):
        assert seen.request("PUT", f"{path}/123", body, **own) == 503


def bodies_of_events(seen: Everything, key: str) -> list[str]:
    def event(method: str = "POST", payload: Any = None, **changes: Any) -> dict[str, Any]:
        made = envelope(Ask(method, payload or FLUFFY, api_key=changes.pop("api_key", key)), **changes.pop("outer", {}))
        made["detail"].update(changes)
        return made

    good = event("PUT")
    events: list[Any] = [
        good,
        good,
        *(event(api_key=bad) for bad in [seen.keys["revoked"], seen.keys["stranger's"], MADE_UP]),
        event("PUT", {"id": "nothing", "name": "x"}),
        event("POST", {"id": "1", "name": 7}),
        event(rootSchema=key),
        event(rootSchema=f"x{key}"),
        event(operation=key),
        event(tenant=key),
        event(outer={"detail-type": f"{key}.POST"}),
        event(outer={"source": key, "resources": [key]}),
        event(outer={"id": key}),
        event(outer={"id": {"api_key": key}}),
        event(n=2**63),
        {**event(), "detail": [key]},
        {**event(), "detail": json.dumps(event()["detail"])},
        {**event(), "detail": f'{{"api_key": "{key}", broken'},
        [key],
        {"api_key": key},
    ]
    return [*map(json.dumps, events), f'{{"api_key": "{key}", broken', key]


def drive_events(seen: Everything, key: str, stack: dict[str, str], tmp_path: Path) -> None:
    sqs = aws.sqs_client()
    entry = {
        "Source": "blockforger-input",
        "DetailType": "petstore.POST",
        "Detail": envelope(Ask("POST", FLUFFY, api_key=key))["detail"],
    }
    for number, text in enumerate([json.dumps([entry]), json.dumps([{**entry, "Source": 7}]), f'[{{"{key}" broken']):
        file = tmp_path / f"events{number}.json"
        file.write_text(text)
        seen.show("put_events", seen.command("put_events", "--entries", f"file://{file}"))
    bodies = bodies_of_events(seen, key)
    for body in bodies:
        sqs.send_message(QueueUrl=stack["InputQueueUrl"], MessageBody=body)
        sqs.send_message(QueueUrl=stack["InputDeadLetterQueueUrl"], MessageBody=body)
    seen.show("consume_events", seen.command("consume_events", "--once"))
    seen.show("redrive_input", seen.command("redrive_input", "--per-second", "50"))
    seen.show("consume_events", seen.command("consume_events", "--once"))
    for error in (Fault("in the middle"), OperationalError("away")):
        for statement in (1, 3, 5):
            body = json.dumps(envelope(Ask("PUT", FLUFFY, api_key=key)))
            with suppress(consuming.DatabaseAway), failing(statement, error):
                handle(body)


def drive_commands(seen: Everything, tmp_path: Path) -> None:
    def shown(*arguments: str, **options: Any) -> None:
        seen.show(arguments[0], seen.command(*arguments, **options))

    made = seen.command("create_api_key", "mytenant", "--name", "made", "--permission", "backend_calls").strip()
    rotated = seen.command("rotate_api_key", made[3:15]).strip()
    seen.keys |= {"made by a command": made, "rotated by a command": rotated}
    assert all(key.startswith("bf_") and len(key) == 59 for key in (made, rotated))
    shown("rotate_api_key", made[3:15])
    shown("publish_events", "--once")
    shown("replay_events", "--tenant", "mytenant", "--all", "--why", "a test", "--yes")
    shown("publish_events", "--once")
    shown("tail_events")
    shown("explain_rules", "mytenant", "petstore", "POST")
    shown("export_tenant_properties", "mytenant")
    shown("import_tenant_properties", str(a_folder(tmp_path, "imported", properties="eventbridge-input=true")))
    shown("add_tokens", "mytenant", "10", "--reference", "a test")
    shown("audit_ledger")
    shown("sizes")
    shown("prune")


def drive_admin(seen: Everything) -> None:
    User.objects.create_superuser("admin", password="admin")
    browser = Client()
    browser.post("/admin/login/", {"username": "admin", "password": "admin", "next": "/admin/"})
    tenant = Tenant.objects.get(name="mytenant")
    page = Page(browser, url_of(ApiKey, "add"))
    answers = [page.submit(tenant=tenant.pk, name="made in the admin", permissions=["backend_calls"])]
    answers += [ask(browser, ApiKey.objects.get(name="made in the admin"), "rotate", hours=24)]
    for name, response in zip(["made in the admin", "rotated in the admin"], answers, strict=True):
        shown = response.content.decode()
        seen.keys[name] = shown.partition('<code id="new-key">')[2].partition("</code>")[0]
    with misses_of_templates_unlogged():
        walk_admin(seen, browser)


@contextmanager
def misses_of_templates_unlogged() -> Iterator[None]:
    """For pages that were given no new key: Django logs each miss with all that its template was given."""
    logger = logging.getLogger("django.template")
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(logging.NOTSET)


def walk_admin(seen: Everything, browser: Client) -> None:
    for model in apps.get_models():
        with suppress(NoReverseMatch):
            seen.page(f"list of {model.__name__}", browser.get(url_of(model, "changelist")))
            for row in model._default_manager.order_by("pk")[:200]:
                for kind in ("change", "history"):
                    seen.page(f"{kind} page of {model.__name__}", browser.get(url_of(model, kind, row.pk)))
    seen.page("index", browser.get("/admin/"))


def read_tables(seen: Everything) -> None:
    for model in apps.get_models():
        for row in model._default_manager.values():
            for column, value in row.items():
                seen.show(f"{model.__name__}.{column}", str(value))
    for session in Session.objects.all():
        seen.show("session", str(session.get_decoded()))


@pytest.fixture
def seen() -> Everything:
    everything = Everything()
    tenant, other = a_tenant(tokens=100_000), a_tenant("other")
    a_schema(tenant)
    a_rule(tenant, eventbridge_arn=BUS)
    wants_feedback(tenant, BUS)
    everything.keys = {"good": a_key(tenant), "revoked": a_key(tenant), "stranger's": a_key(other)}
    revoked = ApiKey.objects.filter(prefix=everything.keys["revoked"][3:15])
    revoked.update(is_active=False)
    row, everything.keys["expired"] = api_keys.create(tenant, name="expired", permissions=["backend_calls"])  # type: ignore[list-item]
    ApiKey.objects.filter(pk=row.pk).update(expires_at=row.created_at)
    return everything


def test_no_line_row_answer_page_or_event_holds_a_key(
    seen: Everything,
    stack: dict[str, str],
    logs: Callable[[], list[tuple[str, str]]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    key = seen.keys["good"]
    # With it, Django logs each statement and its values.
    with CaptureQueriesContext(connection):
        drive_rest(seen, key)
        drive_events(seen, key, stack, tmp_path)
    drive_commands(seen, tmp_path)
    # A key in a payload is the tenant's own data. It is stored and published as it was sent, and nothing but that.
    payload = {"id": "secret", "name": seen.keys.setdefault("in a payload", a_key(Tenant.objects.get(name="mytenant")))}
    for note, body in [("POST with a key in it", payload), ("refused POST with a key in it", {**payload, "status": 7})]:
        seen.request("POST", "/api/mytenant/petstore", json.dumps(body), note=note, **{"X-API-Key": key})
        handle(json.dumps(envelope(Ask("PUT", body, api_key=key))))
    seen.show("publish_events", seen.command("publish_events", "--once"))
    drive_admin(seen)
    read_tables(seen)
    for event in event_log.tail(stack["EventLogGroup"], since=row_time() - timedelta(days=1), newest=10_000):
        seen.show("bus", json.dumps(event))
    seen.texts += logs()
    output = capfd.readouterr()
    seen.show("stdout", output.out)
    # Where pytest lets our handler write.
    seen.show("stderr", output.err)

    expected = {
        "in a payload": {
            *("POST with a key in it answer", "bus"),
            *("Item.payload", "OperationRecord.payload", "OutboxEvent.detail"),
            *("change page of Item", "change page of OperationRecord", "change page of OutboxEvent"),
        }
    }
    assert len(seen.keys) == 9
    for name, made in seen.keys.items():
        assert seen.places_of(made) == expected.get(name, set()), name
    # All that a test of absence needs: that there was something to be seen.
    places = {place for place, _ in seen.texts}
    assert {"bus", "line of botocore.parsers", "line of django.db.backends", "line of eventing.consuming"} <= places
    assert {"OperationRecord.problem", "OutboxEvent.detail", "change page of OutboxEvent", "session"} <= places
    assert any(
        redacted(made) in text for made in seen.keys.values() for place, text in seen.texts if "botocore" in place
    )


def row_time() -> Any:
    return LedgerEntry.objects.earliest("created_at").created_at
