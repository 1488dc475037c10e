"""API keys: made, checked, rotated, revoked.

A key reads `bf_{prefix}_{secret}`. The prefix finds the row and may be shown; the secret is 256 random bits in
URL-safe Base64, and only the SHA-256 of the whole key is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants.errors import KeyInvalid, KeyMissing
from tenants.models import ApiKey

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from tenants.models import Permission, Tenant

_KEY = re.compile(r"bf_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
_USE_IS_NOTED_EVERY = timedelta(minutes=1)


class NotRotatable(ValueError):
    """The key has been rotated or revoked, or has expired."""


def create(
    tenant: Tenant, *, name: str, permissions: Collection[Permission], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key. Returns its row and the key itself, which is not kept and cannot be shown again."""
    prefix = secrets.token_hex(6)
    key = f"bf_{prefix}_{secrets.token_urlsafe(32)}"
    row = ApiKey.objects.create(
        tenant=tenant,
        name=name,
        prefix=prefix,
        digest=_digest(key),
        permissions=sorted(permissions),
        expires_at=expires_at,
    )
    return row, key


def prefix_of(key: str) -> str:
    """The prefix by which the row of a key is found; empty for what has not the form of a key."""
    form = _KEY.fullmatch(key)
    return form[1] if form else ""


def authenticate(key: str, row: ApiKey | None, *, tenant_name: str) -> ApiKey:
    """The row with the key's prefix (None: there is none), if the key is that row's, valid, and of that tenant.

    Raises KeyMissing for an empty key and KeyInvalid for one that is unknown, revoked, expired or another tenant's.
    """
    if not key:
        raise KeyMissing
    now = timezone.now()
    if (
        row is None
        or not hmac.compare_digest(row.digest, _digest(key))
        or not row.is_valid(at=now)
        or row.tenant.name != tenant_name
    ):
        raise KeyInvalid
    _note_use(row, now)
    return row


def rotate(old: ApiKey, *, overlap: timedelta) -> tuple[ApiKey, str]:
    """Make a key with the old one's name, permissions and expiry; the old one ends after the overlap.

    Raises NotRotatable.
    """
    with transaction.atomic():
        old = ApiKey.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=old.pk)
        now = timezone.now()
        if old.replaced_by_id is not None or not old.is_valid(at=now):
            raise NotRotatable(f"The key {old.prefix} has been rotated or revoked, or has expired: make a new one.")
        new, key = create(old.tenant, name=old.name, permissions=list(old.permissions), expires_at=old.expires_at)
        old.replaced_by = new
        end = now + overlap
        old.expires_at = min(old.expires_at, end) if old.expires_at else end
        old.save(update_fields=["replaced_by", "expires_at"])
    return new, key


def revoke(row: ApiKey) -> bool:
    """End a key at once. Gives whether it was active."""
    return bool(ApiKey.objects.filter(pk=row.pk, is_active=True).update(is_active=False))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _note_use(row: ApiKey, now: datetime) -> None:
    if row.last_used_at is not None and now - row.last_used_at < _USE_IS_NOTED_EVERY:
        return
    row.last_used_at = now
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - _USE_IS_NOTED_EVERY)
    ApiKey.objects.filter(stale, pk=row.pk).update(last_used_at=now)
