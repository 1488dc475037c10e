"""Runs the benchmarks: what `make bench` does.

Usage: python -m benchmarks [--only PREFIX] [--runs N] [--resume]
"""

from __future__ import annotations

import argparse
import platform
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks import bulk, consume, growth, latency, publish, rest
from benchmarks.figures import Figure, Group, Missing, Results, commit, taken_counts
from benchmarks.services import services

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.services import Services

GROUPS = (publish.GROUP, consume.GROUP, rest.GROUP, bulk.GROUP, latency.LATENCY, latency.FAIRNESS, growth.GROUP)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="figures whose name begins so (default: all)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side (default: 5)")
    parser.add_argument("--resume", action="store_true", help="leave out what was measured of this commit already")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that every process of ours is ended
    results = Results.load()
    wanted = [
        (group, figures)
        for group in GROUPS
        if (
            figures := [
                figure
                for figure in group.figures
                if figure.name.startswith(options.only)
                and not (options.resume and results.has(figure.name, runs=options.runs))
            ]
        )
    ]
    if not wanted:
        print("Nothing to measure.", file=sys.stderr)
        return 1
    failures = 0
    with services() as running:
        results.versions |= _versions(running)
        for group, figures in wanted:
            try:
                _measure(running, group, figures, results, runs=options.runs)
            except Exception:  # the other groups' figures are still to be had
                failures += 1
                traceback.print_exc()
            results.save()
    return 1 if failures else 0


@dataclass
class _Measured:
    """What the sides of a group gave, run by run."""

    unit: str
    values: dict[str, list[float]]
    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str, side: Callable[[], float], *, run: int) -> None:
        started = time.monotonic()
        try:
            self.values[name].append(side())
        except Missing as error:
            self.missing[name] = str(error)
            print(f"  run {run}: {name}: missing: {error}", flush=True)
            return
        self.counts[name] = taken_counts()
        counts = "".join(f", {what} {number:g}" for what, number in self.counts[name].items())
        rate, seconds = self.values[name][-1], time.monotonic() - started
        print(f"  run {run}: {name}: {rate:,.1f} {self.unit} ({seconds:.0f} s{counts})", flush=True)


def _measure(running: Services, group: Group, figures: list[Figure], results: Results, *, runs: int) -> None:
    wanted = list(dict.fromkeys(side for figure in figures for side in figure.needs))
    measured = _Measured(group.unit, {side: [] for side in wanted})
    with group.sides(running, wanted) as sides:
        for number in range(runs):
            for name in wanted:
                if name not in measured.missing:
                    measured.measure(name, sides[name], run=number + 1)
    for figure in figures:
        if lacking := [measured.missing[side] for side in figure.needs if side in measured.missing]:
            results.note_missing(figure.name, lacking[0])
            print(f"{figure.name:32} missing: {lacking[0]}", flush=True)
            continue
        made = results.note(figure, measured.values, measured.counts, unit=group.unit)
        print(f"{figure.name:32} {made:8.2f}   {_medians(results, figure)}", flush=True)


def _medians(results: Results, figure: Figure) -> str:
    spreads = results.spreads[figure.name].items()
    return ", ".join(
        f"{side} {spread['median']:,.0f} ({spread['min']:,.0f} to {spread['max']:,.0f}) {spread['unit']}"
        for side, spread in spreads
    )


def _versions(running: Services) -> dict[str, str]:
    ((postgres,),) = running.postgres.rows("postgres", "SHOW server_version")
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    packages = ("django", "djangorestframework", "granian", "psycopg", "boto3", "celery", "jsonschema-rs")
    return {
        "blockforger": commit(),
        "python": platform.python_version(),
        "postgresql": str(postgres),
        "redis": redis.split()[2].removeprefix("v="),
        **{package: version(package) for package in packages},
    }


if __name__ == "__main__":
    sys.exit(main())
