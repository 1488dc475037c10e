"""How many requests a key may make in a time: fixed windows, counted in Redis, or in the process where there is none.

No statement of the database is spent on it, and who is counted is not known to be anybody: the key is taken as it was
sent. Nobody can use up another's quota, for that takes the other's whole key.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from django.conf import settings
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants import api_keys
from tenants.errors import RateLimitExceeded

logger = logging.getLogger(__name__)

REDIS_SECONDS = 0.1
"""What a request waits for Redis at the most. When that was in vain, nobody asks again for some seconds."""
_QUIET_AFTER_FAILURE_SECONDS = 5.0
_MAX_LOCAL_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class Policy:
    """So many requests in so many seconds."""

    quota: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key has left, this request counted, and the seconds until it is given a whole quota again."""

    policy: Policy
    # Less than 0: the request is one too many.
    left: int
    seconds: int

    def check(self) -> None:
        """Raise RateLimitExceeded for a request that is one too many."""
        if self.left < 0:
            raise RateLimitExceeded(quota=self.policy.quota, seconds=self.policy.seconds)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an answer (draft-ietf-httpapi-ratelimit-headers-10)."""
        headers = {
            "RateLimit-Policy": f'"key";q={self.policy.quota};w={self.policy.seconds}',
            "RateLimit": f'"key";r={max(0, self.left)};t={self.seconds}',
        }
        return headers if self.left >= 0 else {**headers, "Retry-After": str(self.seconds)}


class Counter(Protocol):
    """Counts requests."""

    def count(self, name: str, window: int, seconds: int) -> int | None:
        """One more of that name in that window. Gives how many there are; None if that cannot be told now."""


@lru_cache(maxsize=8)
def policy_of(text: str) -> Policy | None:
    """The policy that `600/60` stands for, and none that an empty text does. Raises ValueError."""
    if not text:
        return None
    form = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,5})", text)
    if form is None:
        raise ValueError("Write a number of requests and one of seconds, such as 600/60.")
    return Policy(quota=int(form[1]), seconds=int(form[2]))


def take(api_key: str) -> Allowance | None:
    """Count a request with that key. None if there is no limit, none for what is no key, or nobody to count."""
    policy = policy_of(settings.BLOCKFORGER_RATE_LIMIT)
    if policy is None or not api_keys.prefix_of(api_key):
        return None
    # Not the digest that is kept of the key: of that, nothing is to be in Redis.
    name = hashlib.blake2b(api_key.encode(), digest_size=16, person=b"rate limits").hexdigest()
    return count(name, policy)


def count(name: str, policy: Policy) -> Allowance | None:
    """Count one more of what has that name. None if there is nobody to count."""
    window, passed = divmod(time.time(), policy.seconds)
    counted = _counter(settings.BLOCKFORGER_RATE_LIMIT_REDIS_URL, policy.seconds).count(
        name, int(window), policy.seconds
    )
    if counted is None:
        return None
    return Allowance(policy, left=policy.quota - counted, seconds=max(1, round(policy.seconds - passed)))


def forget() -> None:
    """Begin anew: for tests."""
    _counter.cache_clear()


class _InProcess:
    """Counts the requests of this process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window = 0
        self._counts: dict[str, int] = {}

    def count(self, name: str, window: int, seconds: int) -> int:  # noqa: ARG002 - a Counter
        with self._lock:
            # Strangers can make up keys without end: better to begin anew than to take the memory for all of them.
            if window != self._window or len(self._counts) >= _MAX_LOCAL_KEYS:
                self._window, self._counts = window, {}
            self._counts[name] = self._counts.get(name, 0) + 1
            return self._counts[name]


class _InRedis:
    """Counts the requests of all processes; while Redis is away, none."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._quiet_until = 0.0

    def count(self, name: str, window: int, seconds: int) -> int | None:
        if time.monotonic() < self._quiet_until:
            return None
        key = f"blockforger:rate:{name}:{window}"
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.incr(key)
                # Longer than the window, because the clocks of hosts differ.
                pipeline.expire(key, 2 * seconds)
                counted, _ = pipeline.execute()
        except RedisError as error:
            self._quiet_until = time.monotonic() + _QUIET_AFTER_FAILURE_SECONDS
            logger.warning("Redis does not count requests, so nobody is limited for now: %s", error)
            return None
        return int(counted)


@lru_cache(maxsize=32)
def _counter(url: str, seconds: int) -> Counter:  # noqa: ARG001 - in a process, windows of one length are counted by one
    return _InRedis(url) if url else _InProcess()
