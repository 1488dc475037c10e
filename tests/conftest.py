from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest
from django.test import TransactionTestCase
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from eventing import aws as aws_clients
from eventing import nudges, rules
from eventing import stack as stacks
from tenants import rate_limits
from tenants.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings


# How long an example takes says more about the machine than about the code.
hypothesis_settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-database", action="store_true", help="leave out what needs no database: it is the same on any"
    )
    parser.addoption("--walks", type=float, default=1.0, help="the share of tests/isolation to run, drawn by the seed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--only-database"):
        config.hook.pytest_deselected(items=[item for item in items if not _uses_the_database(item)])
        items[:] = filter(_uses_the_database, items)
    if (share := config.getoption("--walks")) < 1:
        # In one order, so that every process draws the same.
        walks = sorted((item for item in items if "isolation" in item.path.parts), key=lambda item: item.nodeid)
        left_out = {*random.Random(config.getoption("randomly_seed")).sample(walks, int(len(walks) * (1 - share)))}
        config.hook.pytest_deselected(items=[*left_out])
        items[:] = [item for item in items if item not in left_out]


def _uses_the_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db", "live_server"}.intersection(getattr(item, "fixturenames", ()))
    is_of_django = issubclass(getattr(item, "cls", None) or object, TransactionTestCase)
    return bool(fixtures) or is_of_django or item.get_closest_marker("django_db") is not None


@pytest.fixture(autouse=True)
def _no_state_is_left_from_another_test() -> Iterator[None]:
    """Row ids come back after a rollback, and with them the keys of what a process keeps."""
    rules.clear_cache()
    rate_limits.forget()
    yield
    rules.clear_cache()


# They quote messages, values and URLs, mostly below the levels that we set. Our formatter keeps keys out of the lines.
QUOTING_LOGGERS = ("botocore.", "django.db.backends", "django.request", "django.template")


@pytest.fixture(autouse=True)
def _no_record_of_a_log_holds_a_key(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    formatter = logging.Formatter()
    texts = [formatter.format(record) for record in caplog.get_records("call") if not is_quoting(record)]
    assert [text for text in texts if redacted(text) != text] == []


def is_quoting(record: logging.LogRecord) -> bool:
    return record.name.startswith(QUOTING_LOGGERS)


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Counts nudges instead of sending them."""
    calls: list[None] = []
    monkeypatch.setattr(nudges, "nudge", lambda: calls.append(None))
    return calls


# --- AWS: a moto server, and in it the stack of deploy/cloudformation.yaml -----------------------------------------

# In a process of its own, where moto's warnings are no errors and its threads in nobody's way. It ends when its
# standard input does, however the tests end. Of deletions at the same moment moto would forget some: they take turns.
_MOTO_SERVER = """
import sys, threading
from moto.server import ThreadedMotoServer
from moto.sqs.models import Queue
delete, turn = Queue.delete_message, threading.Lock()
def delete_in_turn(queue, receipt_handle):
    with turn:
        delete(queue, receipt_handle)
Queue.delete_message = delete_in_turn
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a moto server, which all clients of boto3 then use. It keeps its state: see `aws`."""
    log = tmp_path_factory.mktemp("moto") / "stderr.txt"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _MOTO_SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert server.stdout
        url = server.stdout.readline().strip()
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        aws_clients.reset()
        yield url
    aws_clients.reset()


@pytest.fixture
def aws(aws_server: str) -> str:
    """An empty AWS. Gives the URL of its server."""
    with urlopen(Request(f"{aws_server}/moto-api/reset", method="POST")):
        return aws_server


@pytest.fixture
def stack(aws: str, settings: Settings) -> dict[str, str]:
    """The stack of the environment 'local', in an AWS that was empty before. Gives its outputs by name."""
    settings.BLOCKFORGER_ENVIRONMENT = "local"
    settings.BLOCKFORGER_INPUT_QUEUE_NAME = "blockforger-input-local"
    settings.BLOCKFORGER_INPUT_QUEUE_URL = ""
    return stacks.deploy("blockforger-local", {"Environment": "local"})
