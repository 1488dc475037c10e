"""Where the time of a write goes: a flame graph of the web's workers under load, in docs/images/write-path.svg.

Usage: python -m benchmarks.profile   (what `make bench-profile` does)
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.load import MANY, SECONDS, Load
from benchmarks.processes import ROOT, Process, all_of, base_environment
from benchmarks.rest import Ours, sown
from benchmarks.services import services

IMAGE = ROOT / "docs" / "images" / "write-path.svg"
_RATE = 200


def main() -> None:
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    with services() as running, ExitStack() as stack:
        ours = Ours(sown(running), stack)
        load = Load(ours.post_targets(), ours.web.port, running.directory, connections=MANY)
        load.send(seconds=2)
        with all_of([_recording(pid, IMAGE) for pid in ours.web.process.children()[:1]]) as recordings:
            outcome = load.send(seconds=2 * SECONDS)
            for recording in recordings:
                recording.wait(seconds=60)
    # py-spy's own title is its command line, with the paths of this machine.
    text = re.sub(r'(<text id="title"[^>]*>)[^<]*', r"\1The write path", IMAGE.read_text(), count=1)
    IMAGE.write_text(text)
    print(f"{IMAGE.relative_to(ROOT)}: {outcome.rate:,.0f} writes/s while it was recorded")


def _recording(pid: int, image: Path) -> Process:
    """py-spy at one of the workers: both do the same."""
    py_spy = str(Path(sys.executable).parent / "py-spy")
    command = [py_spy, "record", "--pid", str(pid), "--output", str(image), "--duration", str(2 * SECONDS)]
    command += ["--rate", str(_RATE), "--gil"]
    return Process(command, environment=base_environment())


if __name__ == "__main__":
    main()
