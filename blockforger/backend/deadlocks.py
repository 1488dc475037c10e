"""Deadlocks and serialization failures: the database undid a transaction, and it only has to be done again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.db import IntegrityError, OperationalError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Overtaken(Exception):
    """What a statement met was gone when the next one looked for it."""


_DEADLOCK_DETECTED, _SERIALIZATION_FAILURE = "40P01", "40001"
_LOCK_NOT_AVAILABLE = "55P03"
_TRIES = 5


def retried(transaction: Callable[[], T]) -> T:
    """Carry out a whole transaction, again if the database undid it for no fault of its own."""
    for _ in range(_TRIES - 1):
        try:
            return transaction()
        except Overtaken:
            continue
        except (OperationalError, IntegrityError) as error:
            if not is_worth_another_try(error):
                raise
    return transaction()


def is_worth_another_try(error: OperationalError | IntegrityError) -> bool:
    """Whether a transaction that ended so was undone for no fault of its own."""
    # An IntegrityError that comes out of a transaction of ours is the commit's: what a row refers to was deleted
    # meanwhile, and the next try will see it.
    if isinstance(error, IntegrityError):
        return True
    return getattr(error.__cause__, "sqlstate", None) in {_DEADLOCK_DETECTED, _SERIALIZATION_FAILURE}


def gave_up_waiting(error: OperationalError | IntegrityError) -> bool:
    """Whether the database undid it because a lock was not free in the time that it was given (`lock_timeout`)."""
    return getattr(error.__cause__, "sqlstate", None) == _LOCK_NOT_AVAILABLE
