"""Group commit: what several threads have to commit at the same time goes to the database together.

The first to come begins at once, alone. Those who come while it is at it wait, and are the next group: one of them
leads it, and gives the others what became of theirs. Nobody waits for company that is not there yet.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Sequence

T = TypeVar("T")
R = TypeVar("R")

LARGEST = 32
"""Members of a group."""
PATIENCE_SECONDS = 0.05
"""After which a task is carried out alone: the group that is at it may be waiting for who knows what.

As long as one waits for a lock. What takes less is the work itself, and more of it at once makes it no shorter."""


class GroupCommit(Generic[T, R]):
    """Carries out tasks of several threads in groups, one group after the other.

    `carry_out` is given the tasks of a group, or one alone, and gives a result for each in their order, None for one of
    which nothing was done. None for all: they cannot go together, nothing was done, and each is carried out alone.
    """

    def __init__(self, carry_out: Callable[[Sequence[T]], Sequence[R | None] | None]) -> None:
        self._carry_out = carry_out
        self._lock = threading.Lock()
        self._is_busy = False
        self._waiting: list[_Member[T, R]] = []

    def do(self, task: T, *, names: Collection[Hashable] = ()) -> R | None:
        """What became of the task; None if nothing was done. Tasks that share a name are in no group together.

        Raises what `carry_out` raised for the group, or for the task alone.
        """
        member: _Member[T, R] = _Member(task, names)
        with self._lock:
            if self._is_busy:
                self._waiting.append(member)
            else:
                self._is_busy, member.leads = True, [member]
        if not member.leads and not self._is_called(member):
            return self._alone(task)
        if member.leads:
            group, member.leads = member.leads, ()  # or it would hold itself
            self._lead(group)
        if member.fault is not None:
            raise member.fault
        return self._alone(task) if member.is_to_go_alone else member.result

    def _alone(self, task: T) -> R | None:
        results = self._carry_out([task])
        return results[0] if results else None

    def _is_called(self, member: _Member[T, R]) -> bool:
        """Wait until the member is to lead, or its task was carried out. False: that took too long, and it has left."""
        if member.call.acquire(timeout=PATIENCE_SECONDS):
            return True
        with self._lock:
            if member in self._waiting:
                self._waiting.remove(member)
                return False
        return member.call.acquire()  # a group took it along meanwhile

    def _lead(self, group: Sequence[_Member[T, R]]) -> None:
        try:
            results = self._carry_out([member.task for member in group])
            for member, result in zip(group, results or [None] * len(group), strict=True):
                member.result, member.is_to_go_alone = result, results is None and len(group) > 1
        except BaseException as error:  # whoever waits must not wait for ever
            group[0].fault = error
            for follower in group[1:]:
                follower.fault = _as_seen_by_another(error)
        finally:
            with self._lock:
                following = self._next_group()
                self._is_busy = bool(following)
                if following:
                    following[0].leads = following
            for called in (*following[:1], *group[1:]):
                called.call.release()

    def _next_group(self) -> list[_Member[T, R]]:
        names: set[Hashable] = set()
        group: list[_Member[T, R]] = []
        others: list[_Member[T, R]] = []
        for member in self._waiting:
            fits = len(group) < LARGEST and names.isdisjoint(member.names)
            (group if fits else others).append(member)
            names.update(member.names)
        self._waiting = others
        return group


class _Member(Generic[T, R]):
    """A task, and the thread that waits for it."""

    __slots__ = ("call", "fault", "is_to_go_alone", "leads", "names", "result", "task")

    def __init__(self, task: T, names: Collection[Hashable]) -> None:
        self.task, self.names = task, names
        # Released once there is something to do for the thread that waits.
        self.call = threading.Lock()
        self.call.acquire()
        # The group that it is to lead, itself the first.
        self.leads: Sequence[_Member[T, R]] = ()
        self.result: R | None = None
        self.fault: BaseException | None = None
        self.is_to_go_alone = False


def _as_seen_by_another(error: BaseException) -> BaseException:
    """The same fault for another thread, which adds its own trace; what ends a thread ends no other."""
    if not isinstance(error, Exception):
        return RuntimeError("The thread that was to carry this out was ended.")
    try:
        fault = copy.copy(error)
    except TypeError:  # it is not made of what it holds
        return RuntimeError(f"{type(error).__name__}: {error}")
    fault.__cause__ = error.__cause__
    return fault
