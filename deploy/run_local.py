"""Everything on one machine, under one supervisor: what `make run` starts.

The processes are those of production: AWS (here a moto server in memory, made anew each time), web, a Celery worker
with its beat, and the consumer of input events. Ctrl-C stops them all.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path

import django
from honcho.manager import Manager
from honcho.printer import Message, Printer

_ROOT = Path(__file__).resolve().parent.parent
_PYTHON = shlex.quote(sys.executable)
_READY_LINES = {
    "aws": "local AWS: ready",
    "worker": " ready.",
    "consumer": "consume_events: waiting for messages",
}
_SAMPLE_TENANTS = ("evented", "petstore_demo")
_FIRST_TOKENS = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--web-port", type=int, default=8000)
    parser.add_argument("--aws-port", type=int, default=4566)
    options = parser.parse_args()
    for purpose, port in (("web", options.web_port), ("local AWS", options.aws_port)):
        if not _is_free(port):
            print(
                f"Port {port}, for {purpose}, is taken. Stop what uses it, or choose another: "
                f"make run WEB_PORT={options.web_port + 1} AWS_PORT={options.aws_port + 1}",
                file=sys.stderr,
            )
            return 1
    os.environ |= _environment(options.web_port, options.aws_port)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blockforger.settings")
    django.setup()
    guide = _prepare(f"http://127.0.0.1:{options.web_port}")
    return _supervise(options.web_port, options.aws_port, guide)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _environment(web_port: int, aws_port: int) -> dict[str, str]:
    """What every process of this machine, and the user's other terminals, must know."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws_port}",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "BLOCKFORGER_ENVIRONMENT": "local",
        "BLOCKFORGER_SITE_URL": f"http://127.0.0.1:{web_port}",
    }


def _prepare(site: str) -> str:
    """Bring the database up to date and the sample tenants in. Returns what to tell the user."""
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    keys = {name: _sample_tenant(name) for name in _SAMPLE_TENANTS}
    env_file = Path(settings.STATE_DIR) / "local.env"
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION",
             "BLOCKFORGER_ENVIRONMENT")  # fmt: skip
    env_file.write_text("".join(f"export {name}={os.environ[name]}\n" for name in names))
    return _guide(site, keys, env_file)


def _sample_tenant(name: str) -> str | None:
    """Import the tenant unless it is there, with tokens and a key. Returns the key if it is new."""
    from django.core.management import call_command

    from tenants import api_keys, balances
    from tenants.models import Permission, Tenant

    if not Tenant.objects.filter(name=name).exists():
        call_command("import_tenant_properties", str(_ROOT / "schemas" / name))
    tenant = Tenant.objects.get(name=name)
    balances.top_up(tenant, amount=_FIRST_TOKENS, reference="make run")
    if tenant.api_keys.filter(name="make run").exists():
        return None
    return api_keys.create(tenant, name="make run", permissions=[Permission.BACKEND_CALLS])[1]


def _guide(site: str, keys: dict[str, str | None], env_file: Path) -> str:
    manage = ".venv/bin/python manage.py"
    lines = [
        "",
        "The sample tenants are evented and petstore_demo. Paste into another terminal, in this folder:",
        "",
        f"  . {os.path.relpath(env_file)}    # where the local AWS is",
    ]
    petstore_key, evented_key = keys["petstore_demo"], keys["evented"]
    if petstore_key and evented_key:
        entry = {
            "Source": "blockforger-input",
            "DetailType": "evented.POST",
            "EventBusName": "default",
            "Detail": {
                "tenant": "evented",
                "rootSchema": "evented",
                "operation": "POST",
                "api_key": evented_key,
                "payload": {"numeric": 21, "string": "ergyigyuhwer"},
            },
        }
        as_text = [{**entry, "Detail": json.dumps(entry["Detail"])}]
        lines += [
            "",
            "  # a write comes out as an event",
            f"  curl -i {site}/api/petstore_demo/petstore -H 'X-API-Key: {petstore_key}' \\",
            '    -H "Content-Type: application/json" -d \'{"id": "123", "name": "Fluffy", "status": "available"}\'',
            f"  {manage} tail_events",
            "",
            "  # an event becomes an item",
            f"  {manage} put_events --entries '{json.dumps([entry])}'",
            f"  curl -i {site}/api/evented/evented -H 'X-API-Key: {evented_key}'",
            "",
            "  # the same with the AWS CLI, if you have it",
            f"  aws events put-events --entries '{json.dumps(as_text)}'",
            "",
            "These keys are shown this once. This makes another:",
        ]
    else:
        lines += [
            "",
            f"  {manage} tail_events",
            "",
            "The database is that of the last run; the local AWS is new, and what was in it is gone.",
            "The keys were shown at the first run. This makes another:",
        ]
    lines += ["", f"  {manage} create_api_key petstore_demo --name me --permission backend_calls", ""]
    return "\n".join([*lines, f"  {manage} createsuperuser    # then sign in at {site}/admin/", ""])


class _WatchingPrinter(Printer):  # type: ignore[misc] # honcho is untyped
    """Prints what the processes print, and notes which of them have said that they are ready."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.ready = {name: threading.Event() for name in _READY_LINES}

    def write(self, message: Message) -> None:
        super().write(message)
        text = message.data.decode(errors="replace") if isinstance(message.data, bytes) else message.data
        if message.name in self.ready and _READY_LINES[message.name] in text:
            self.ready[message.name].set()


def _supervise(web_port: int, aws_port: int, guide: str) -> int:
    printer = _WatchingPrinter()
    manager = Manager(printer)
    manage = f"exec {_PYTHON} manage.py"
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    for name, command in {
        "aws": f"exec {_PYTHON} -W ignore -m deploy.local_aws --port {aws_port}",
        "web": f"exec {_PYTHON} -m granian --interface wsgi --host 127.0.0.1 --port {web_port} "
        "--blocking-threads 4 blockforger.wsgi:application",
        # Threads: publishing waits for the network, and the supervisor signals whole process groups, which a pool of
        # processes does not survive in good order.
        "worker": f"exec {_PYTHON} -m celery --quiet -A blockforger worker --beat --pool threads --concurrency 2 "
        "--loglevel INFO --without-gossip --without-mingle --without-heartbeat",
        "consumer": f"{manage} consume_events",
    }.items():
        manager.add_process(name, command, cwd=str(_ROOT), env=environment)
    threading.Thread(target=_announce, args=(printer, web_port, guide), daemon=True).start()
    manager.loop()
    # Ctrl-C is how it is meant to end.
    return 0 if manager.returncode == 130 else int(manager.returncode or 0)


def _announce(printer: _WatchingPrinter, web_port: int, guide: str) -> None:
    """Once every process is up, print the guide and the one line that says so."""
    for ready in printer.ready.values():
        ready.wait()
    site = f"http://127.0.0.1:{web_port}"
    while not _answers(f"{site}/readyz"):
        time.sleep(0.1)
    print(f"{guide}\nBlockforger is ready at {site} (Ctrl-C stops it)", flush=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own address
            return bool(json.load(response)["status"] == "ok")
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
