"""Signature Version 4 of a POST to one URL without a query: what AWS asks of each call.

Source: IAM user guide, "Create a signed AWS API request". botocore's own signer gives the same signatures, and takes
seven times as long (docs/decisions/0020-calls-to-aws.md).
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

from botocore.utils import normalize_url_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.credentials import ReadOnlyCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"


class Signer:
    """Signs the calls to one endpoint. `headers` are those that all of them have, the host's included."""

    def __init__(self, *, path: str, region: str, service: str, headers: Mapping[str, str]) -> None:
        self._path = quote(normalize_url_path(path), safe="/~")
        self._region, self._service = region, service
        self._headers = dict(headers)

    def signed(self, headers: Mapping[str, str], body: bytes, credentials: ReadOnlyCredentials) -> dict[str, str]:
        """All headers of a call that has these of its own, with its signature."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {**self._headers, **headers, "X-Amz-Date": moment}
        if credentials.token:
            signed["X-Amz-Security-Token"] = credentials.token
        ordered = sorted((name.lower(), " ".join(value.split())) for name, value in signed.items())
        names = ";".join(name for name, _ in ordered)
        lines = [f"{name}:{value}" for name, value in ordered]
        request = "\n".join(["POST", self._path, "", *lines, "", names, sha256(body).hexdigest()])
        scope = f"{moment[:8]}/{self._region}/{self._service}/aws4_request"
        text = "\n".join([_ALGORITHM, moment, scope, sha256(request.encode()).hexdigest()])
        signature = _hmac(_key(credentials.secret_key, scope), text).hex()
        signed["Authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return signed


@lru_cache(maxsize=32)
def _key(secret: str, scope: str) -> bytes:
    """The key of one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
