"""Threads that have something to commit at the same time: who goes together, and what each of them is told."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from blockforger.backend import group_commit
from blockforger.backend.group_commit import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

BAD = "bad"


class Committer:
    """Carries out anything but what is bad, and remembers in which groups; waits where it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.commits = GroupCommit(self.carry_out)

    def carry_out(self, tasks: Sequence[str]) -> Sequence[str] | None:
        self.groups.append(list(tasks))
        assert self.gate.wait(30)
        if self.fault and len(tasks) > 1:
            raise self.fault
        return None if BAD in tasks else [f"{task} is done" for task in tasks]

    @contextmanager
    def busy(self, threads: ThreadPoolExecutor) -> Iterator[Future[str | None]]:
        """Somebody came first, and is being waited for until the block ends."""
        self.gate.clear()
        first = threads.submit(self.commits.do, "first")
        until(lambda: self.groups == [["first"]])
        yield first
        self.gate.set()

    def after_others(self, threads: ThreadPoolExecutor, *tasks: str, **options: str) -> list[Future[str | None]]:
        """These come one after the other, while somebody else is at it."""
        coming = []
        for task in tasks:
            waiting = len(self.commits._waiting)
            names = {options[task]} if task in options else set()
            coming.append(threads.submit(self.commits.do, task, names=names))
            until(lambda waiting=waiting: len(self.commits._waiting) > waiting)
        return coming


def until(happens: object) -> None:
    end = time.monotonic() + 30
    while not happens():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def committer(monkeypatch: pytest.MonkeyPatch) -> Committer:
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 30)
    return Committer()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(50) as threads:
        yield threads


def results(futures: Sequence[Future[str | None]]) -> list[str | None]:
    return [future.result(30) for future in futures]


def test_one_alone_waits_for_nobody(committer: Committer) -> None:
    assert committer.commits.do("a") == "a is done"
    assert committer.commits.do("b") == "b is done"
    assert committer.groups == [["a"], ["b"]]


def test_those_who_come_meanwhile_go_together_in_their_order(committer: Committer, threads: ThreadPoolExecutor) -> None:
    with committer.busy(threads) as first:
        others = committer.after_others(threads, "a", "b", "c")
    assert results([first, *others]) == ["first is done", "a is done", "b is done", "c is done"]
    assert committer.groups == [["first"], ["a", "b", "c"]]
    assert committer.commits.do("later") == "later is done"


def test_those_who_share_a_name_follow_one_another(committer: Committer, threads: ThreadPoolExecutor) -> None:
    with committer.busy(threads):
        others = committer.after_others(threads, "a", "b", "c", "d", a="x", c="x", d="x")
    assert results(others) == ["a is done", "b is done", "c is done", "d is done"]
    assert committer.groups == [["first"], ["a", "b"], ["c"], ["d"]]


def test_a_group_is_no_larger_than_it_may_be(
    committer: Committer, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LARGEST", 2)
    with committer.busy(threads):
        others = committer.after_others(threads, *"abcde")
    results(others)
    assert committer.groups == [["first"], ["a", "b"], ["c", "d"], ["e"]]


def test_of_a_group_that_cannot_go_together_each_goes_alone(committer: Committer, threads: ThreadPoolExecutor) -> None:
    with committer.busy(threads):
        others = committer.after_others(threads, "a", BAD, "c")
    assert results(others) == ["a is done", None, "c is done"]
    assert sorted(committer.groups) == sorted([["first"], ["a", BAD, "c"], ["a"], [BAD], ["c"]])


def test_what_cannot_be_done_alone_is_not_tried_twice(committer: Committer) -> None:
    assert committer.commits.do(BAD) is None
    assert committer.groups == [[BAD]]


def test_a_fault_is_told_to_each_of_its_group_and_to_nobody_else(
    committer: Committer, threads: ThreadPoolExecutor
) -> None:
    committer.fault = OSError("the database is away")
    with committer.busy(threads) as first:
        others = committer.after_others(threads, "a", "b")
    assert first.result(30) == "first is done"
    faults = [future.exception(30) for future in others]
    assert [str(fault) for fault in faults] == ["the database is away"] * 2
    assert {type(fault) for fault in faults} == {OSError}
    assert faults[0] is not faults[1]  # each thread adds its own trace
    assert committer.commits.do("later") == "later is done"


def test_a_fault_that_cannot_be_copied_is_told_to_all_the_same(
    committer: Committer, threads: ThreadPoolExecutor
) -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    committer.fault = Odd(1, 2)
    with committer.busy(threads):
        others = committer.after_others(threads, "a", "b", "c")
    faults = [future.exception(30) for future in others]
    assert all("1 and 2" in str(fault) for fault in faults)


def test_one_who_gives_too_few_results_leaves_nobody_waiting(
    committer: Committer, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with committer.busy(threads):
        others = committer.after_others(threads, "a", "b")
        monkeypatch.setattr(committer.commits, "_carry_out", lambda tasks: list(tasks)[:1])
    assert {type(future.exception(30)) for future in others} == {ValueError}
    assert committer.commits.do("later") == "later"


def test_who_has_waited_long_enough_goes_alone(
    committer: Committer, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with committer.busy(threads) as first:
        monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 0.001)
        carried_out = committer.carry_out
        monkeypatch.setattr(committer.commits, "_carry_out", lambda tasks: [f"{task} went alone" for task in tasks])
        assert committer.commits.do("a") == "a went alone"
        monkeypatch.setattr(committer.commits, "_carry_out", carried_out)
        assert not first.done()
    assert first.result(30) == "first is done"
    assert committer.commits.do("later") == "later is done"


def test_many_threads_are_each_told_their_own(threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 0.0005)  # some of them lose it
    committer = Committer()
    tasks = [f"{number}" if number % 7 else BAD for number in range(2000)]
    told = list(threads.map(lambda task: committer.commits.do(task, names={task}), tasks))
    assert told == [None if task == BAD else f"{task} is done" for task in tasks]
    assert not committer.commits._waiting
    assert committer.commits.do("later") == "later is done"
