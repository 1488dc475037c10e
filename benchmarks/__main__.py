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
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks import consume, growth, latency, publish, rest
from benchmarks.figures import Figure, Group, Missing, Results, commit
from benchmarks.services import services

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.services import Services

GROUPS = (publish.GROUP, consume.GROUP, rest.GROUP, latency.LATENCY, latency.FAIRNESS, growth.GROUP)


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


def _measure(running: Services, group: Group, figures: list[Figure], results: Results, *, runs: int) -> None:
    wanted = list(dict.fromkeys(side for figure in figures for side in figure.needs))
    values: dict[str, list[float]] = {side: [] for side in wanted}
    missing: dict[str, str] = {}
    with group.sides(running, wanted) as sides:
        for number in range(runs):
            for name in wanted:
                if name not in missing:
                    _measure_once(name, sides, values, missing, f"run {number + 1}: ", group.unit)
    for figure in figures:
        if lacking := [missing[side] for side in figure.needs if side in missing]:
            results.note_missing(figure.name, lacking[0])
            print(f"{figure.name:32} missing: {lacking[0]}", flush=True)
            continue
        made = results.note(figure, values, unit=group.unit, runs=runs)
        print(f"{figure.name:32} {made:8.2f}   {_medians(results, figure)}", flush=True)


def _measure_once(
    name: str,
    sides: Mapping[str, Callable[[], float]],
    values: dict[str, list[float]],
    missing: dict[str, str],
    prefix: str,
    unit: str,
) -> None:
    started = time.monotonic()
    try:
        values[name].append(sides[name]())
    except Missing as error:
        missing[name] = str(error)
        print(f"  {prefix}{name}: missing: {error}", flush=True)
    else:
        print(f"  {prefix}{name}: {values[name][-1]:,.1f} {unit} ({time.monotonic() - started:.0f} s)", flush=True)


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
