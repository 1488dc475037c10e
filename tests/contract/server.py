"""The web server as `make run` starts it, with a tenant to describe."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

from tests.e2e.conftest import ROOT, free_port, new_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TENANT = "contract"
# Run in a process of its own, with the server's settings and database.
SEED = f"""
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from tests.contract import tenant
print(tenant.make({TENANT!r}))
"""


@dataclass(frozen=True)
class Server:
    """Where the server is, and a key of the tenant that may do everything."""

    url: str
    key: str
    log: Path


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """The server, on a free port, with a database of its own."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "web.txt"
    with new_environment(folder) as environment, log.open("wb") as output:
        environment |= {"DJANGO_SETTINGS_MODULE": "blockforger.settings", "BLOCKFORGER_SITE_URL": url}
        done = subprocess.run(
            [sys.executable, "-c", SEED], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        command = ["-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
        web = subprocess.Popen(
            [sys.executable, *command, "--blocking-threads", "4", "blockforger.wsgi:application"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(f"{url}/readyz", web)
            yield Server(url, done.stdout.strip(), log)
        finally:
            web.terminate()
            web.wait(30)


def _wait(url: str, web: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + 60
    while True:
        assert web.poll() is None
        assert time.monotonic() < ends_at
        try:
            with urlopen(url, timeout=5) as response:
                assert json.load(response)["status"] == "ok"
                return
        except URLError:
            time.sleep(0.1)
