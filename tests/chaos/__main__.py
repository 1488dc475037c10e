"""`python -m tests.chaos --seed 1 --duration 60`: a run, what it did, and the verdict as the last line."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos import storm
from tests.chaos.killer import KINDS
from tests.chaos.servers import MissingError
from tests.chaos.storm import ROLES, Plan, Storm
from tests.chaos.verdict import delays_of_duplicates, unexplained_duplicates, violations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.observations import Observations

_SHOWN_OF_A_KIND = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration", type=float, default=60, help="seconds of storm; what drains comes on top")
    parser.add_argument("--drain", type=float, default=120, help="seconds within which everything must drain")
    parser.add_argument("--roles", default=",".join(ROLES), help="processes to run, with commas between")
    parser.add_argument("--blows", default=",".join(KINDS), help="kinds of blows, with commas between")
    parser.add_argument("--blow-pause", type=float, default=2.5, help="seconds between two blows, on the average")
    parser.add_argument("--stop-at-first", action="store_true", help="end as soon as something is wrong for certain")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder: logs and databases")
    options = parser.parse_args()
    plan = Plan(
        seed=options.seed,
        duration=options.duration,
        drain=options.drain,
        roles=tuple(options.roles.split(",")),
        blows=tuple(options.blows.split(",")),
        blow_pause=options.blow_pause,
        stops_at_first=options.stop_at_first,
    )
    # So that servers and processes are ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A thread of the suite that breaks must not pass for a quiet one.
    broken: list[str] = []
    threading.excepthook = lambda broke: broken.append(f"suite: {broke.thread} broke: {broke.exc_value!r}")
    home = storm.new_home()
    began = time.monotonic()
    try:
        run = Storm(plan, say=print, home=home)
        seen = run.run()
    except Exception as error:  # the outermost: whatever broke, the last line says so
        if not isinstance(error, MissingError):
            traceback.print_exc()
        print(f"chaos: FAILED, it broke itself: {error}")
        return 1
    finally:
        if options.keep:
            print(f"kept: {home}")
        else:
            storm.clear(home)
    found = broken + violations(seen)
    _print_report(run, seen)
    if found:
        _print_violations(found)
    verdict = f"FAILED, {len(found)} violations" if found else "ok"
    print(
        f"chaos: {verdict}; seed {plan.seed}, {plan.duration:g} s of storm, {time.monotonic() - began:.0f} s in all;"
        f" {len(seen.acceptances)} events accepted of {len(seen.writes)} REST writes and {len(seen.sent)} input events,"
        f" {run.buses.duplicates()} of them duplicates"
    )
    return 1 if found else 0


def _print_report(run: Storm, seen: Observations) -> None:
    rest = sum((writer.answers for writer in run.rest), Counter[str]())
    records = Counter(str(record.status) for record in seen.records)
    _print("REST answers", rest.items())
    _print("input events", [("sent", len(seen.sent)), ("unreadable", len(seen.unreadable)), *records.items()])
    _print("kills and blows", run.killer.count.items())
    _print("starts", [(name, process.starts) for name, process in run.supervisor.processes.items()])
    _print("faults of AWS", run.faults.count.items())
    _print("SQS", [("redelivered", run.queue.redelivered), ("of these on purpose", run.queue.twice)])
    _print("bus", [("accepted", len(seen.acceptances)), ("duplicates", run.buses.duplicates())])
    _print_duplicates(seen)
    if run.drained_after is not None:
        print(f"drained after: {run.drained_after:.1f} s")
    if run.supervisor.ended_by_themselves:
        print(f"ended by themselves: {', '.join(run.supervisor.ended_by_themselves)}")
    if run.late:
        print(f"did not heed SIGTERM: {', '.join(run.late)}")


def _print_duplicates(seen: Observations) -> None:
    if delays := sorted(delays_of_duplicates(seen.acceptances)):
        middle, last = delays[len(delays) // 2], delays[-1]
        print(f"duplicates came {middle:.1f} s after the acceptance before (median), and {last:.1f} s at the latest")
    print(f"duplicates that no fault and no kill explains: {len(unexplained_duplicates(seen))}")


def _print_violations(found: list[str]) -> None:
    shown = Counter[str]()
    for violation in found:
        kind = violation.partition(":")[0]
        shown[kind] += 1
        if shown[kind] <= _SHOWN_OF_A_KIND:
            print(f"VIOLATION {violation}")
    _print("violations", shown.items())


def _print(title: str, counts: Iterable[tuple[str, int]]) -> None:
    print(f"{title}: {', '.join(f'{name} {count}' for name, count in sorted(counts))}")


if __name__ == "__main__":
    sys.exit(main())
