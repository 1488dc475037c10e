"""Signatures of calls: those that botocore would give."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from eventing import signatures
from eventing.signatures import Signer

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
MOMENTS = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
CREDENTIALS = st.builds(
    lambda key, secret, token: ReadOnlyCredentials(key, secret, token), WORDS, WORDS, st.none() | WORDS
)
PATHS = st.sampled_from(["/", "/a/b", "//a/./b/../c", "/a b/ä", "/~user/%20"])
VALUES = st.lists(WORDS, min_size=1, max_size=3).map("  ".join)


def signed_by_botocore(path: str, headers: dict[str, str], body: bytes, credentials: Any) -> dict[str, str]:
    request = AWSRequest("POST", f"https://events.eu-west-1.amazonaws.com{path}", headers, body)
    SigV4Auth(credentials, "events", "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(path=PATHS, target=VALUES, body=st.binary(max_size=200), credentials=CREDENTIALS, moment=MOMENTS)
def test_a_signature_is_botocores(path: str, target: str, body: bytes, credentials: Any, moment: datetime) -> None:
    always = {"Host": "events.eu-west-1.amazonaws.com", "Content-Type": "application/x-amz-json-1.1"}
    own = {"X-Amz-Target": target}
    with (
        patch("botocore.auth.get_current_datetime", return_value=moment),
        patch.object(signatures, "datetime") as clock,
    ):
        clock.now.return_value = moment
        signer = Signer(path=path, region="eu-west-1", service="events", headers=always)
        found = {name.lower(): value for name, value in signer.signed(own, body, credentials).items()}
        assert found == signed_by_botocore(path, {**always, **own}, body, credentials)
