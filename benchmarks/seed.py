"""Tenants for a benchmark, made by the product's own commands in one process.

Usage: python -m benchmarks.seed TENANTS BUSES   (DATABASE_URL says where; prints the keys as JSON)
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from pathlib import Path

import django

TOKENS = 1_000_000_000_000
SCHEMA = "pets"
DOCUMENT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["name", "status"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 64},
        "name": {"type": "string", "minLength": 1, "maxLength": 200},
        "status": {"enum": ["available", "pending", "sold"]},
        "price": {"type": "number", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
    },
    "additionalProperties": False,
}


def tenant_name(number: int) -> str:
    return f"tenant-{number:03}"


def bus_arn(number: int) -> str:
    return f"arn:aws:events:us-east-1:720291373173:event-bus/bench-{number}"


def payload(key: str) -> dict[str, object]:
    """What a client sends: about 100 bytes, of every type that the schema knows."""
    return {"id": key, "name": "Fluffy", "status": "available", "price": 129.5, "tags": ["small", "white"]}


def main() -> None:
    tenants, buses = map(int, sys.argv[1:])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blockforger.settings")
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    names = [tenant_name(number) for number in range(tenants)]
    with tempfile.TemporaryDirectory() as directory:
        folders = [_write_folder(Path(directory) / name, buses) for name in names]
        call_command("import_tenant_properties", *map(str, folders), stdout=io.StringIO())
    keys = {}
    for name in names:
        call_command("add_tokens", name, str(TOKENS), "--reference", "benchmark", stdout=io.StringIO())
        printed = io.StringIO()
        options = ("--name", "benchmark", "--permission", "backend_calls")
        call_command("create_api_key", name, *options, stdout=printed, stderr=io.StringIO())
        keys[name] = printed.getvalue().strip()
    print(json.dumps(keys))


def _write_folder(folder: Path, buses: int) -> Path:
    folder.mkdir()
    rules = [{"eventbridge_arn": bus_arn(number)} for number in range(buses)]
    (folder / "tenant.properties").write_text(f"eventbridge-input=true\neventbridge-output={json.dumps(rules)}\n")
    (folder / f"{SCHEMA}.json").write_text(json.dumps(DOCUMENT))
    return folder


if __name__ == "__main__":
    main()
