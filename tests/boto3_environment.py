"""Whom the clients of boto3 in this process ask."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from eventing import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextmanager
def asking(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let them ask the AWS at that URL."""
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    aws.reset()
    yield
    aws.reset()
