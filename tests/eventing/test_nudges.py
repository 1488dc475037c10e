from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, current_app
from kombu.exceptions import OperationalError

from blockforger.backend.models import Origin
from blockforger.backend.operations import Operation, execute
from eventing import nudges
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Points an application of the test's own at a Redis on that port."""
    app = Celery("test", set_as_current=False)
    monkeypatch.setattr(nudges, "current_app", app)
    # the variable has precedence over the application's settings
    yield lambda port: monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{port}/0")
    app.close()


def taken_port() -> tuple[socket.socket, int]:
    """A port that takes connections and never says a word."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server, server.getsockname()[1]


def test_a_nudge_is_one_task_in_the_queue() -> None:
    with current_app.connection_for_write() as connection:
        queue = connection.SimpleQueue("celery")
        queue.clear()
        assert nudges.Line().send()
        message = queue.get(timeout=5)
        assert message.headers["task"] == "eventing.tasks.publish_pending"
        message.ack()
        queue.close()


def test_nudges_share_a_connection_and_make_another_when_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    with current_app.connection_for_write() as connection:
        queue = connection.SimpleQueue("celery")
        assert nudges.Line().send()  # Celery's own first use makes a connection, too
        queue.clear()
        made: list[object] = []
        connect = current_app.connection_for_write

        here = threading.get_ident()

        def noting(**options: Any) -> object:
            connection = connect(**options)
            if threading.get_ident() == here:  # and not the thread of nudges of this process
                made.append(connection)
            return connection

        monkeypatch.setattr(current_app, "connection_for_write", noting)
        line = nudges.Line()
        assert [line.send() for _ in range(3)] == [True] * 3
        assert len(made) == 1

        def broken(*args: object, **options: object) -> None:
            raise OperationalError("Connection reset by peer")

        with monkeypatch.context() as patch:
            patch.setattr(line._producer, "publish", broken)
            assert line.send()
        assert len(made) == 2
        for _ in range(4):
            queue.get(timeout=5).ack()
        queue.close()


def test_without_a_broker_a_nudge_is_given_up_and_logged(
    broker: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        broker(nobody.getsockname()[1])
        assert not nudges.Line().send()
    assert "The broker took no nudge, the sweep will publish" in caplog.text


def test_a_broker_that_says_nothing_is_given_up_too(broker: Callable[[int], None]) -> None:
    server, port = taken_port()
    with server:
        broker(port)
        assert not nudges.Line().send()


@pytest.mark.django_db(transaction=True)
def test_a_write_is_answered_though_the_broker_is_away(broker: Callable[[int], None]) -> None:
    server, port = taken_port()
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    with server:
        broker(port)
        outcome = execute(
            Operation(
                origin=Origin.API,
                method="POST",
                tenant="mytenant",
                schema="petstore",
                api_key=a_key(tenant),
                payload=FLUFFY,
            )
        )
    assert outcome.status == 201


@pytest.mark.django_db(transaction=True)
def test_only_a_write_that_makes_events_nudges_and_only_when_it_is_committed(nudged: list[None]) -> None:
    tenant = a_tenant()
    a_schema(tenant)
    key = a_key(tenant)

    def write(method: str, item_key: str) -> int:
        payload = {**FLUFFY, "id": item_key}
        return execute(
            Operation(
                origin=Origin.API, method=method, tenant="mytenant", schema="petstore", api_key=key, payload=payload
            )
        ).status

    assert write("POST", "1") == 201
    assert nudged == []
    a_rule(tenant)
    assert write("PUT", "none") == 404
    assert nudged == []
    assert write("POST", "2") == 201
    assert nudged == [None]


def test_nudges_of_one_moment_share_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def send(line: nudges.Line) -> bool:
        sent.append(1)
        return True

    monkeypatch.setattr(nudges, "_nudger", None)
    monkeypatch.setattr(nudges.Line, "send", send)
    for _ in range(1000):
        nudges.nudge()
    ends_at = time.monotonic() + 5
    while not sent and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert 1 <= len(sent) < 20
