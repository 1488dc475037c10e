"""AWS on this machine: a moto server in memory, with the stack of deploy/cloudformation.yaml in it.

Usage: python -m deploy.local_aws --port 4566
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import threading
import time

import django
from moto.server import ThreadedMotoServer

_TRIES = 5


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="AWS on this machine, in memory.")
    parser.add_argument("--host", default="127.0.0.1", help="The address to listen on: it asks nobody who they are.")
    parser.add_argument("--port", type=int, default=4566)
    return parser


def main() -> None:
    options = parser().parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address=options.host, port=options.port, verbose=False)
    server.start()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blockforger.settings")
    django.setup()
    from django.core.management import CommandError, call_command

    # It speaks of every resource that moto does not know, such as queue policies, which nothing here enforces.
    logging.getLogger("moto").setLevel(logging.ERROR)
    for attempt in range(_TRIES):
        try:
            call_command("deploy_stack", stdout=io.StringIO(), stderr=io.StringIO())
            break
        except CommandError:
            # moto answers 500 when the first requests of two processes meet while it loads its services.
            if attempt == _TRIES - 1:
                raise
            time.sleep(1)
    print(f"local AWS: ready at http://{options.host}:{options.port}", flush=True)
    stopping.wait()
    server.stop()


if __name__ == "__main__":
    main()
