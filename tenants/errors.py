"""Refusals: the ways in which a request or an event can be turned down.

A refusal is the caller's to mend; a fault of ours (database away, a bug) is any other exception. The status that
each one gets at each door is decided in one place, `blockforger.backend.problems`.
"""

from __future__ import annotations

from typing import ClassVar, Self


class Refusal(Exception):
    """A request that is turned down: a stable `code`, and a `message` that tells the caller what to do.

    `data` holds further members of the problem document (RFC 9457, section 3.2): JSON values by name.
    """

    code: ClassVar[str]

    def __init__(self, message: str, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def without_trace(self) -> Self:
        """The same, to be kept as an answer: a trace keeps all that was in hand, and what keeps it is part of that."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class KeyMissing(Refusal):
    """No API key was sent."""

    code = "api-key-missing"

    def __init__(self) -> None:
        super().__init__(
            "Send an API key: over REST in the X-API-Key header or as 'Authorization: Bearer', "
            "in an event as detail.api_key."
        )


class KeyInvalid(Refusal):
    """The key is unknown, inactive, expired or another tenant's: which one is not told."""

    code = "api-key-invalid"

    def __init__(self) -> None:
        super().__init__("The API key is not valid for this tenant. Ask an admin of the tenant for one.")


class PermissionMissing(Refusal):
    """The key is valid, and lacks a permission."""

    code = "permission-missing"

    def __init__(self, permission: str) -> None:
        super().__init__(
            f"The API key lacks the permission '{permission}'. Ask an admin of the tenant to add it.",
            permission=permission,
        )


class EventsNotAccepted(Refusal):
    """The tenant takes no events."""

    code = "events-not-accepted"

    def __init__(self) -> None:
        super().__init__("The tenant does not accept events. Set eventbridge-input=true in its tenant.properties.")


class RateLimitExceeded(Refusal):
    """There were more requests of the key, or tests of the tenant's rules, than are taken in a time."""

    code = "rate-limit-exceeded"

    def __init__(self, *, quota: int, seconds: int) -> None:
        super().__init__(
            f"At most {quota} such requests are taken in {seconds} seconds. Wait as long as Retry-After says.",
            quota=quota,
            seconds=seconds,
        )


class NotEnoughTokens(Refusal):
    """The balance does not cover the operation."""

    code = "not-enough-tokens"

    def __init__(self, *, balance: int, cost: int) -> None:
        super().__init__(
            f"The operation costs {cost} tokens and the balance is {balance}. Add tokens to the tenant's account.",
            balance=balance,
            cost=cost,
        )
