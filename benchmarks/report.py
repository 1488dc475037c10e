"""Writes the tables of docs/performance.md and docs/scaling.md and the plots in docs/images/ from results.json.

Usage: python -m benchmarks.report   (what `make bench-report` does)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures import Results
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PAGE = ROOT / "docs" / "performance.md"
SCALING = ROOT / "docs" / "scaling.md"
IMAGES = ROOT / "docs" / "images"
_OURS, _PEER, _GOAL = "#2563eb", "#94a3b8", "#dc2626"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to reach; `at_most` for what is better when it is less."""

    figure: str
    what: str
    number: float | None = None
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        if self.number is None:
            return True
        return value <= self.number if self.at_most else value >= self.number

    @property
    def text(self) -> str:
        return "" if self.number is None else f"{'≤' if self.at_most else '≥'} {self.number:g}"


RATIOS = (
    Goal("publish_vs_celery_per_event", "drain the outbox, two processes / Celery task per event, prefork 2", 20),
    Goal("publish_at_15ms", "the same where AWS answers after 15 ms", 30),
    Goal("publish_vs_outbox_package", "one process / the faster of django-outbox-pattern and django-jaiminho", 15),
    Goal("consume_vs_naive", "drain the queue / boto3 loop with the ORM, no dedupe", 8),
    Goal("consume_vs_sqs_consumer", "the same / npm sqs-consumer, four bare statements a message", 2.5),
    Goal("post_vs_drf", "POST / DRF ModelViewSet with API keys, tuned", 2.5),
    Goal("get_vs_drf", "GET, billed / the same", 2),
    Goal("post_vs_kinto", "POST / Kinto on PostgreSQL", 6),
    Goal("get_vs_kinto", "GET, billed / Kinto on PostgreSQL", 4),
    Goal("post_vs_directus", "POST / Directus on PostgreSQL, as its image starts it", 8),
    Goal("post_vs_directus_cluster", "the same / Directus in two processes"),
    Goal("post_vs_pg_floor", "POST / pgbench, the four bare statements", 0.3),
    Goal("hot_tenant", "POST of one tenant alone / of 100 tenants", 0.85),
    Goal("growth", "10 million items and events / 10 thousand: the worst of POST, publish, consume", 0.85),
    Goal(
        "bulk_vs_orm_loop",
        "POST of 1,000 items over HTTP, billed, an event each / an ORM loop that leaves the same",
        20,
    ),
    Goal("bulk_vs_bare_orm_loop", "the same without events / an ORM loop that leaves nothing but the items"),
    Goal("two_publishers", "two publishers / one, where AWS answers after 15 ms", 1.6),
    Goal("two_publishers_at_once", "the same where it answers at once"),
    Goal("two_consumers", "two consumers / one", 1.6),
)
TIMES = (
    Goal("latency_ms", "commit to accepted by the bus at half the maximal load, median, ms", 50, at_most=True),
    Goal("latency_ms_p99", "the same, 99th percentile, ms", 250, at_most=True),
    Goal("latency_in_calls", "the median, in bare PutEvents calls"),
    Goal("latency_in_calls_p99", "the 99th percentile, in bare PutEvents calls"),
    Goal("fairness_ms", "a small tenant's event while another tenant has 100,000 waiting, median, ms"),
    Goal("fairness_ms_alone", "the same with none waiting, ms"),
)

SCALE = (
    Goal("hot_tenant", "POST of one tenant / of a hundred"),
    Goal("scale_ten_tenants", "POST of ten tenants / of a hundred"),
    Goal("scale_growth_to_a_million", "a million items and events / ten thousand: the worst of POST, publish, consume"),
    Goal("growth", "ten million / ten thousand, likewise"),
    Goal("two_publishers", "two publishers / one, where AWS answers after 15 ms"),
    Goal("scale_four_publishers", "four publishers / one"),
    Goal("two_consumers", "two consumers / one"),
    Goal("scale_four_consumers", "four consumers / one"),
)

# What one machine carries: which side of which figure tells it.
CAPACITY = (
    ("writes over REST (POST)", "post_vs_drf", "POST"),
    ("reads over REST, billed (GET)", "get_vs_drf", "GET"),
    ("writes of one tenant alone", "hot_tenant", "POST, one tenant"),
    ("items in bulk requests of 1,000", "bulk_vs_orm_loop", "bulk"),
    ("events published, two processes", "publish_vs_celery_per_event", "ours"),
    ("events published where AWS answers after 15 ms, two processes", "publish_at_15ms", "ours at 15 ms"),
    ("events consumed, one process", "consume_vs_naive", "ours"),
    ("events consumed, two processes", "two_consumers", "ours, two processes"),
)


def main() -> None:
    results = Results.load()
    write_tables(results)
    _draw_plots(results)
    print(f"{PAGE.relative_to(ROOT)}, {SCALING.relative_to(ROOT)} and the plots are written.")


def write_tables(results: Results) -> None:
    """Put the tables of the figures between their markers in docs/performance.md and docs/scaling.md."""
    tables = {
        "ratios": _table(results, RATIOS),
        "times": _table(results, TIMES),
        "busy": _busy(results),
        "versions": _versions(results),
    }
    _write(PAGE, tables)
    _write(SCALING, {"capacity": _capacity(results), "scale": _scale(results)})


def _write(page: Path, tables: Mapping[str, str]) -> None:
    text = page.read_text()
    for name, table in tables.items():
        text = _replaced(text, name, table)
    page.write_text(text)


def _table(results: Results, goals: Sequence[Goal]) -> str:
    lines = [
        "| figure | what | goal | median of runs (least to greatest) | of medians | sides: median (least to most) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for goal in goals:
        value = results.ratios.get(goal.figure)
        if value is None:
            shown, of_medians, sides = results.missing.get(goal.figure, "not measured yet"), "", ""
        else:
            made = results.runs[goal.figure]
            shown = f"**{value:,.2f}** ({made['least']:,.2f} to {made['greatest']:,.2f})"
            shown += "" if goal.is_met(value) else ", missed"
            of_medians = f"{made['of_medians']:,.2f}"
            sides = "; ".join(
                f"{side}: {spread['median']:,g} ({spread['min']:,g} to {spread['max']:,g}) {spread['unit']}"
                for side, spread in results.spreads[goal.figure].items()
            )
        lines.append(f"| `{goal.figure}` | {goal.what} | {goal.text} | {shown} | {of_medians} | {sides} |")
    return "\n".join(lines)


def _busy(results: Results) -> str:
    lines = ["| figure | side | processors, of two |", "| --- | --- | --- |"]
    for figure in ("two_publishers", "two_publishers_at_once", "two_consumers"):
        for side, counts in results.details.get(figure, {}).items():
            shares = ", ".join(f"{part} {number:.2f}" for part, number in counts.items())
            lines.append(f"| `{figure}` | {side} | {shares} |")
    return "\n".join(lines)


def _scale(results: Results) -> str:
    lines = ["| what | of the speed (least to greatest) |", "| --- | --- |"]
    for goal in SCALE:
        if (value := results.ratios.get(goal.figure)) is not None:
            made = results.runs[goal.figure]
            lines.append(f"| {goal.what} | {value:.2f} ({made['least']:.2f} to {made['greatest']:.2f}) |")
    return "\n".join(lines)


def _capacity(results: Results) -> str:
    lines = ["| what | a second |", "| --- | --- |"]
    for what, figure, side in CAPACITY:
        if spread := results.spreads.get(figure, {}).get(side):
            lines.append(f"| {what} | {spread['median']:,.0f} |")
    return "\n".join(lines)


def _versions(results: Results) -> str:
    if not results.versions:
        return "Nothing has been measured yet."
    commits = ", ".join(sorted({str(run["commit"]).removesuffix("+") for run in results.runs.values()}))
    versions = results.versions | {"blockforger": commits}
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Measured with {named}; {_runs(results)} runs of each side."


def _runs(results: Results) -> str:
    counts = sorted({made["runs"] for made in results.runs.values()})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))


def _replaced(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- {name}: written by `make bench-report` -->", f"<!-- end of {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    new, count = pattern.subn(lambda _: f"{begin}\n{text}\n{end}", page)
    if count != 1:
        raise SystemExit(f"The page must hold the markers of '{name}' once.")
    return new


def _draw_plots(results: Results) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    _plot_ratios(results)
    _plot_sides(results)


def _plot_ratios(results: Results) -> None:
    """Every ratio that has a goal against it, on one scale: 1 is the goal."""
    goals = [goal for goal in reversed(RATIOS) if goal.number is not None and goal.figure in results.ratios]
    if not goals:
        return
    figure, axes = _axes(height=0.4 * len(goals) + 1)
    met = [results.ratios[goal.figure] / (goal.number or 1) for goal in goals]
    axes.barh([goal.figure for goal in goals], met, color=_OURS)
    axes.axvline(1, color=_GOAL, linewidth=1)
    axes.set_xlabel("measured / goal")
    for place, (goal, height) in enumerate(zip(goals, met, strict=True)):
        axes.annotate(f" {results.ratios[goal.figure]:,.2f}", (height, place), va="center", fontsize=8)
    figure.savefig(IMAGES / "ratios.svg", metadata={"Date": None})


def _plot_sides(results: Results) -> None:
    """Requests, events and messages a second: ours beside each peer's."""
    shown = [goal.figure for goal in RATIOS if "_vs_" in goal.figure and goal.figure in results.ratios]
    if not shown:
        return
    figure, axes = _axes(height=0.55 * len(shown) + 1)
    for place, name in enumerate(reversed(shown)):
        (_, ours), *peers = results.spreads[name].items()
        side, peer = max(peers, key=lambda pair: float(pair[1]["median"]))
        for offset, spread, colour in ((0.18, ours, _OURS), (-0.18, peer, _PEER)):
            error = [[spread["median"] - spread["min"]], [spread["max"] - spread["median"]]]
            axes.barh(place + offset, spread["median"], height=0.34, color=colour, xerr=error, ecolor="#334155")
        axes.annotate(f" {side}", (peer["max"], place - 0.18), va="center", fontsize=7)
    axes.set_yticks(range(len(shown)), list(reversed(shown)))
    axes.set_xscale("log")
    axes.set_xlim(left=10)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("a second (logarithmic); blue: Blockforger, grey: the peer; lines: least to greatest")
    figure.savefig(IMAGES / "sides.svg", metadata={"Date": None})


def _axes(*, height: float):  # type: ignore[no-untyped-def]
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "blockforger"  # the same figures, the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


if __name__ == "__main__":
    main()
