"""Tenants' folders for tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.cast import BUS

if TYPE_CHECKING:
    from pathlib import Path

ONE_RULE = f'eventbridge-output=[{{"eventbridge_arn":"{BUS}"}}]\n'


def a_folder(parent: Path, name: str = "mytenant", *, properties: str | bytes = "", **schemas: object) -> Path:
    """A tenant's folder. A schema is the text of its file, or what the file holds as JSON."""
    folder = parent / name
    folder.mkdir(parents=True, exist_ok=True)
    data = properties if isinstance(properties, bytes) else properties.encode()
    (folder / "tenant.properties").write_bytes(data)
    for schema, content in schemas.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        (folder / f"{schema}.json").write_text(text, encoding="utf-8", newline="")
    return folder


def rules_property(*rules: dict[str, Any]) -> str:
    """An eventbridge-output with these rules; the bus need not be named."""
    return f"eventbridge-output={json.dumps([{'eventbridge_arn': BUS, **rule} for rule in rules])}\n"
