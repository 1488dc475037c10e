"""The server answers as its OpenAPI document says, whatever it is sent: Schemathesis, in all its phases and checks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.contract.server import serve
from tests.e2e.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CASES = 2_000
SEED = 1


@pytest.mark.e2e
@pytest.mark.xdist_group("contract")
def test_every_answer_is_one_that_the_document_describes(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with serve(tmp_path) as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", str(ROOT / "tests" / "contract" / "schemathesis.toml")),
                *("run", f"{server.url}/api/contract/openapi.json", "--header", f"X-API-Key: {server.key}"),
                *("--exclude-operation-id", "test_rule"),  # which asks AWS
                *("--checks", "all", "--seed", str(SEED), "--max-examples", "5", "--continue-on-failure"),
                *("--no-color", "--report", "json", "--report-json-path", str(report)),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        log = server.log.read_text()
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in log
    assert json.loads(report.read_text())["test_cases"]["generated"] >= CASES
