"""`Idempotency-Key`, by which a client may send a request again and have it carried out, and billed, once.

The header is that of draft-ietf-httpapi-idempotency-key-header-07: a string in quotes (RFC 9651). Without quotes, as
most clients send it, it is taken as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from blockforger.backend.errors import Malformed
from tenants import api_keys

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonValue

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
MAX_LENGTH = 255

_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')
_BARE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")  # no quotes, commas, semicolons, backslashes


def read(header: str) -> str:
    """The key that a header holds. Raises Malformed."""
    value = header.strip()
    if quoted := _QUOTED.fullmatch(value):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    else:
        key = value if _BARE.fullmatch(value) else ""
    if not 1 <= len(key) <= MAX_LENGTH:
        raise Malformed(
            f"The header {HEADER} must be one text in quotes, of 1 to {MAX_LENGTH} ASCII characters, such as a UUID.",
            header=HEADER,
        )
    return key


def scoped(key: str, *, api_key: str, method: str, path: tuple[str, ...]) -> str:
    """The name of the request's record: what one caller sends to one place is no other's, and nobody can guess it."""
    return _digest([api_keys.prefix_of(api_key), method, *path, key])


def fingerprint(payload: JsonValue) -> str:
    """What tells one body from another. The order of an object's members does not."""
    return _digest(payload)


def _digest(value: JsonValue) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
