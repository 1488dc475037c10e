"""Kombu's broker in files, but for how a message is put: whole, or not at all.

Kombu makes the file under its name and then fills it. A worker that looks in between takes an empty message, and ends.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Messages are found by the end of their file's name, which they get when they are written."""

    def _put(  # type: ignore[override]
        self,
        queue: str,
        payload: dict[str, Any],
        **kwargs: Any,  # noqa: ARG002 - kombu's signature
    ) -> None:
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}"
        written = Path(self.data_folder_out, f"{name}.part")
        try:
            written.write_text(dumps(payload))
            written.replace(written.with_name(f"{name}.{queue}.msg"))
        except OSError as error:
            raise ChannelError(f"No message can be put into {self.data_folder_out}.") from error


class Transport(filesystem.Transport):
    """What `filesystem://` stands for here (blockforger/celery.py)."""

    Channel = Channel
