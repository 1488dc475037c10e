"""The peers' own environments, made once under var/bench/ from what benchmarks/peers/ pins."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Missing
from benchmarks.processes import ROOT, Failed, base_environment, run

if TYPE_CHECKING:
    from benchmarks.services import Services

PEERS = ROOT / "benchmarks" / "peers"
_CACHE = ROOT / "var" / "bench" / "peers"
_INSTALL_SECONDS = 1800


def python_of(peer: str) -> str:
    """The interpreter of the peer's environment. Raises Missing."""
    home = _CACHE / peer
    wanted = f"# {sys.version}\n{(PEERS / peer / 'requirements.txt').read_text()}"  # the peer runs on what we run on
    python = home / "bin" / "python"
    if _installed(home) != wanted:
        print(f"  making the environment of {peer}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        _run(peer, [sys.executable, "-m", "venv", str(home)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run(peer, [*pip, "-r", str(PEERS / peer / "requirements.txt")])
        (home / "installed").write_text(wanted)
    return str(python)


def node_folder_of(peer: str) -> Path:
    """The folder that holds the peer's node_modules and a copy of its sources. Raises Missing."""
    home = _CACHE / peer
    if not shutil.which("npm"):
        raise Missing(f"{peer}: npm is not here")
    wanted = (PEERS / peer / "package.json").read_text()
    if _installed(home) != wanted:
        print(f"  making the environment of {peer}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text(wanted)
        _run(peer, ["npm", "install", "--no-audit", "--no-fund"], cwd=home)
        (home / "installed").write_text(wanted)
    for source in (PEERS / peer).glob("*.mjs"):
        shutil.copy(source, home)
    return home


def environment_of(services: Services, database: str) -> dict[str, str]:
    """Where the peers in Python find their services."""
    return {
        **base_environment(),
        **services.aws.environment(),
        "PEER_DATABASE_PORT": str(services.postgres.port),
        "PEER_DATABASE": database,
        "PEER_DATABASE_URL": services.postgres.url(database),
        "PEER_BROKER": services.redis.url,
    }


def _installed(home: Path) -> str:
    marker = home / "installed"
    return marker.read_text() if marker.exists() else ""


def _run(peer: str, command: list[str], cwd: Path = ROOT) -> None:
    # Packages for Node that compile want its headers, and cannot fetch them everywhere.
    environment = {
        **base_environment(),
        **({"npm_config_nodedir": "/usr"} if Path("/usr/include/node").exists() else {}),
    }
    try:
        run(command, environment=environment, seconds=_INSTALL_SECONDS, cwd=cwd)
    except Failed as error:
        raise Missing(f"{peer} could not be installed: {str(error)[-500:]}") from error
