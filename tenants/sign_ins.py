"""Sign-ins: how often a password may be tried.

Attempts are counted by whoever counts the requests of keys (rate_limits.py), before a password is looked at, so that
many at once are as many. Whoever knows a name can have its owner wait only from his own address; from all addresses
together, a password may be tried a hundred times in an hour (NIST SP 800-63B).
"""

from __future__ import annotations

import hashlib

from tenants import rate_limits
from tenants.rate_limits import Policy

OF_A_NAME_AT_AN_ADDRESS = Policy(quota=10, seconds=900)
OF_A_NAME = Policy(quota=100, seconds=3600)
OF_AN_ADDRESS = Policy(quota=100, seconds=900)


def may_try(username: str, address: str) -> bool:
    """Count an attempt to sign in. Gives whether it may go on."""
    name = username.casefold()
    counted = [
        rate_limits.count(_hidden(f"{address} {name}"), OF_A_NAME_AT_AN_ADDRESS),
        rate_limits.count(_hidden(f"of {name}"), OF_A_NAME),
        rate_limits.count(_hidden(f"at {address}"), OF_AN_ADDRESS),
    ]
    return all(allowance is None or allowance.left >= 0 for allowance in counted)


def _hidden(text: str) -> str:
    """A name to count under: what people type as theirs may be long, or their password."""
    return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=16, person=b"sign-ins").hexdigest()
