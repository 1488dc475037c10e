"""AWS for tests: a moto server, and in it the stack of deploy/cloudformation.yaml."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from eventing import aws as aws_clients
from eventing import stack as stacks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

# In a process of its own, where moto's warnings are no errors and its threads in nobody's way. It ends when its
# standard input does, however the tests end.
_MOTO_SERVER = """
import sys
from moto.server import ThreadedMotoServer
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
