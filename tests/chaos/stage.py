"""The tenants of a run: what they are, and (run as a module, in the product's environment) how they are made."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.buses import BUSES
from tests.chaos.observations import Rule

if TYPE_CHECKING:
    from pathlib import Path

SCHEMAS = ("pets", "orders")
_ALL = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_EVERYWHERE = frozenset(SCHEMAS)
_DOCUMENT: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["marker"],
    "properties": {"id": {"type": "string"}, "marker": {"type": "string"}, "amount": {"type": "integer"}},
}


@dataclass(frozen=True)
class Stage:
    """A tenant: what it has to spend, whether it takes events, and its rules."""

    name: str
    tokens: int
    takes_events: bool
    rules: tuple[Rule, ...]


# One catches all, so that each write comes out; one more on the same bus, and one on another region's.
_RULES = (
    Rule(BUSES[0], "{schema_id}.{operation}", _ALL, _EVERYWHERE),
    Rule(BUSES[0], "again.{schema_id}.{operation}", frozenset({"POST", "PATCH"}), frozenset({"pets"})),
    Rule(BUSES[1], "other.{schema_id}.{operation}", _ALL, frozenset({"pets"})),
)
TENANTS = (
    Stage("alpha", 100_000_000, takes_events=True, rules=_RULES),
    Stage("beta", 100_000_000, takes_events=True, rules=_RULES),
    # Runs out of tokens midway, with some left that pay for nothing.
    Stage("poor", 605, takes_events=True, rules=_RULES[:1]),
    Stage("closed", 100_000, takes_events=False, rules=_RULES[:1]),
)


def set_up(home: Path, environment: dict[str, str], root: Path) -> dict[str, str]:
    """Migrate, and make the tenants. Returns each tenant's API key."""
    folders = home / "tenants"
    for tenant in TENANTS:
        folder = folders / tenant.name
        folder.mkdir(parents=True)
        rules = [
            {
                "eventbridge_arn": rule.bus,
                "detail_type": rule.detail_type,
                "operations": sorted(rule.methods),
                "schema_names": sorted(rule.schemas),
            }
            for rule in tenant.rules
        ]
        properties = f"eventbridge-input={str(tenant.takes_events).lower()}\neventbridge-output={json.dumps(rules)}\n"
        (folder / "tenant.properties").write_text(properties)
        for schema in SCHEMAS:
            (folder / f"{schema}.json").write_text(json.dumps(_DOCUMENT))
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.stage", str(folders)],
        cwd=root,
        env=environment | {"DJANGO_SETTINGS_MODULE": "blockforger.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The tenants could not be made:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout))


def _make(folders: str) -> dict[str, str]:
    """By the operator's own commands, in one process because each would take a second to start."""
    import django
    from django.core.management import call_command

    django.setup()
    keys = {}
    with contextlib.redirect_stdout(sys.stderr):
        call_command("migrate", verbosity=0)
        call_command("import_tenant_properties", *(os.path.join(folders, each.name) for each in TENANTS))  # noqa: PTH118
        for tenant in TENANTS:
            call_command("add_tokens", tenant.name, str(tenant.tokens), reference="opening")
            key = io.StringIO()
            call_command("create_api_key", tenant.name, name="chaos", permission=["backend_calls"], stdout=key)
            keys[tenant.name] = key.getvalue().strip()
    return keys


if __name__ == "__main__":
    print(json.dumps(_make(sys.argv[1])))
