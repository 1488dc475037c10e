"""The broker in files: a worker never finds half a message, for it would end."""

from __future__ import annotations

from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

from blockforger import file_broker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def channels(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """Of two processes, one that sends and one that works."""
    folders = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path), "control_folder": str(tmp_path / "c")}
    with (
        Connection("filesystem://", transport_options=folders) as one,
        Connection("filesystem://", transport_options=folders) as other,
    ):
        yield one.channel(), other.channel()


def test_it_is_what_the_url_of_the_default_stands_for(channels: tuple[Any, Any]) -> None:
    assert isinstance(channels[0], file_broker.Channel)


def test_a_message_is_found_when_it_is_whole(channels: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sender, worker = channels
    really_replace: Any = Path.replace

    def replace(*paths: Any) -> Any:
        with pytest.raises(Empty):
            worker._get("celery")
        return really_replace(*paths)

    monkeypatch.setattr(Path, "replace", replace)
    sender._put("celery", {"body": "ä"})
    assert worker._get("celery") == {"body": "ä"}
    with pytest.raises(Empty):
        worker._get("celery")


def test_messages_come_in_the_order_in_which_they_were_put(channels: tuple[Any, Any]) -> None:
    sender, worker = channels
    ticks = iter(range(100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", lambda: float(next(ticks)))
        for number in range(3):
            sender._put("celery", {"number": number})
    assert [worker._get("celery")["number"] for _ in range(3)] == [0, 1, 2]
