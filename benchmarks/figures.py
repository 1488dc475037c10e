"""Figures: what is measured side by side, how a ratio is made of it, and the file that keeps it."""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.processes import ROOT, SCALE, Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.services import Services

    # One measurement of one side: a rate or a time, after it has checked its own result.
    Side = Callable[[], float]

# A trial's figures are no figures.
RESULTS = Path(__file__).parent / "results.json" if SCALE == 1 else ROOT / "var" / "bench" / "trial.json"


# What the side under measurement has counted besides.
_counted: dict[str, float] = {}


def count(**numbers: float) -> None:
    """Note what else a measurement shows, such as how many processors each part kept busy."""
    _counted.update({name: round(number, 2) for name, number in numbers.items()})


def taken_counts() -> dict[str, float]:
    """What was noted since this was last asked."""
    taken = dict(_counted)
    _counted.clear()
    return taken


@dataclass(frozen=True, slots=True)
class Figure:
    """A number in results.json, made of what was measured at the sides that it needs."""

    name: str
    needs: tuple[str, ...]
    value: Callable[[Mapping[str, Sequence[float]]], float]


def ratio(name: str, ours: str, *peers: str) -> Figure:
    """Ours against the best of the peers in the same run: the median of that (docs/decisions/0023)."""

    def value(values: Mapping[str, Sequence[float]]) -> float:
        return median_ratio(values[ours], *(values[peer] for peer in peers))

    return Figure(name, (ours, *peers), value)


def median_ratio(ours: Sequence[float], *peers: Sequence[float]) -> float:
    """The median of each run's ratio of ours to the best of the peers."""
    best: list[float] = [max(of_run) for of_run in zip(*peers, strict=True)]
    return statistics.median(own / peer for own, peer in zip(ours, best, strict=True))


def median(name: str, side: str) -> Figure:
    """The median itself, for what is no ratio."""
    return Figure(name, (side,), lambda values: statistics.median(values[side]))


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that share what they need; its sides take turns within one run."""

    figures: tuple[Figure, ...]
    # Gives the wanted sides, ready to be measured. A side that cannot be had here raises Missing.
    sides: Callable[[Services, Collection[str]], AbstractContextManager[Mapping[str, Side]]]
    unit: str


@dataclass
class Results:
    """What results.json holds. Each benchmark writes its own figures and leaves the others'."""

    ratios: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    # Of each figure: how many runs, the least and the greatest number that one of them gave, the number that the sides'
    # medians would give, when, and of which commit.
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Of each figure and side: median, least and greatest, what each run gave, and the unit.
    spreads: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    # What the last run counted besides, by figure, side and name.
    details: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    # Figures that could not be made here, and why.
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls) -> Results:
        return cls(**json.loads(RESULTS.read_text())) if RESULTS.exists() else cls()

    def save(self) -> None:
        # Sorted by figure; a figure's sides keep their order, ours first.
        kept = {name: dict(sorted(content.items())) for name, content in vars(self).items()}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")

    def has(self, figure: str, *, runs: int) -> bool:
        """Whether the figure was made of this very code, with at least that many runs."""
        made = self.runs.get(figure)
        return made is not None and made["commit"] == commit() and made["runs"] >= runs

    def note(
        self,
        figure: Figure,
        values: Mapping[str, Sequence[float]],
        counts: Mapping[str, dict[str, float]],
        *,
        unit: str,
    ) -> float:
        number = figure.value(values)
        self.ratios[figure.name] = round(number, 3)
        self.spreads[figure.name] = {side: _spread(values[side], unit) for side in figure.needs}
        self.details[figure.name] = {side: counts[side] for side in figure.needs if counts.get(side)}
        runs = zip(*(values[side] for side in figure.needs), strict=True)
        alone = [figure.value({side: [value] for side, value in zip(figure.needs, run, strict=True)}) for run in runs]
        medians = {side: [statistics.median(values[side])] for side in figure.needs}
        self.runs[figure.name] = {
            "runs": len(alone),
            "least": round(min(alone), 3),
            "greatest": round(max(alone), 3),
            "of_medians": round(figure.value(medians), 3),
            "commit": commit(),
            "at": datetime.now(UTC).isoformat("T", "seconds"),
        }
        self.missing.pop(figure.name, None)
        return number

    def note_missing(self, figure: str, why: str) -> None:
        for kept in (self.ratios, self.spreads, self.runs, self.details):
            kept.pop(figure, None)
        self.missing[figure] = why


class Missing(Failed):
    """A peer that cannot be had on this machine; its figure is missing, not invented."""


def commit() -> str:
    """The commit that is measured, with a plus if there are changes."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def _spread(values: Sequence[float], unit: str) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
        "values": [round(value, 3) for value in values],
        "unit": unit,
    }
