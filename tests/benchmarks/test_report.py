"""The page about performance, and the figures that it tells."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from benchmarks import figures, growth, report
from benchmarks.__main__ import GROUPS
from benchmarks.figures import Results, ratio
from benchmarks.report import RATIOS, SCALE, TIMES

if TYPE_CHECKING:
    from pathlib import Path

CAPACITY = ratio("post_vs_drf", "POST", "DRF POST")
EVENTS = ratio("publish_vs_outbox_package", "ours", "slower", "faster")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "results.json")
    return Results()


def test_every_figure_is_told_and_every_told_figure_is_measured() -> None:
    measured = [figure.name for group in GROUPS for figure in group.figures]
    assert set(measured) == {goal.figure for goal in (*RATIOS, *TIMES, *SCALE)}
    assert len(measured) == len(set(measured))


def test_a_ratio_is_the_median_of_what_each_run_gave_against_its_best_peer(results: Results) -> None:
    # A machine that was twice as fast in its second run, and half as fast in its last.
    values = {"ours": [100.0, 200.0, 45.0], "slower": [1.0, 2.0, 15.0], "faster": [10.0, 25.0, 5.0]}
    assert results.note(EVENTS, values, {}, unit="events/s") == 8.0
    made = results.runs[EVENTS.name]
    assert (made["runs"], made["least"], made["greatest"], made["of_medians"]) == (3, 3.0, 10.0, 10.0)
    assert results.spreads[EVENTS.name]["ours"] == {
        "median": 100.0,
        "min": 45.0,
        "max": 200.0,
        "values": [100.0, 200.0, 45.0],
        "unit": "events/s",
    }


def test_growth_is_the_median_of_what_was_worst_in_each_run() -> None:
    figure, _ = growth.GROUP.figures
    few = {side: [10.0, 10.0, 10.0] for side in figure.needs if side.endswith("few")}
    many = {"POST at many": [5.0, 10.0, 9.0], "publish at many": [9.0, 7.0, 9.0], "consume at many": [9.0, 9.0, 8.0]}
    assert figure.value(few | many) == 0.7


def test_what_is_measured_later_leaves_other_figures_as_they_are(results: Results) -> None:
    results.note(EVENTS, {"ours": [4.0], "slower": [1.0], "faster": [2.0]}, {}, unit="events/s")
    results.save()
    later = Results.load()
    later.note(ratio("hot_tenant", "a", "b"), {"a": [9.0], "b": [10.0]}, {}, unit="requests/s")
    later.save()
    assert json.loads(figures.RESULTS.read_text())["ratios"] == {"hot_tenant": 0.9, EVENTS.name: 2.0}


def test_a_figure_that_cannot_be_made_is_missing_not_kept(results: Results) -> None:
    results.note(EVENTS, {"ours": [4.0], "slower": [1.0], "faster": [2.0]}, {}, unit="events/s")
    results.note_missing(EVENTS.name, "npm is not here")
    assert EVENTS.name not in results.ratios
    assert results.missing == {EVENTS.name: "npm is not here"}


def test_the_pages_have_room_for_the_tables(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, scaling = (tmp_path / "docs" / name for name in ("performance.md", "scaling.md"))
    page.parent.mkdir()
    shutil.copy(report.PAGE, page)
    shutil.copy(report.SCALING, scaling)
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "SCALING", scaling)
    results.note(CAPACITY, {"POST": [4321.0], "DRF POST": [2.0]}, {}, unit="requests/s")
    report.write_tables(results)
    assert page.read_text().count("not measured yet") == len(RATIOS) + len(TIMES) - 1
    assert "| writes over REST (POST) | 4,321 |" in scaling.read_text()
