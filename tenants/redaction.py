"""Texts without API keys: what is logged, recorded or told to others may quote what somebody sent by mistake.

Knows no models, so that logging can be set up before they are.
"""

from __future__ import annotations

import logging
import re

# A key of which a part was cut off is one too, while what is left of its secret is worth hiding.
_KEY = re.compile(r"(bf_[0-9a-f]{12})_[A-Za-z0-9_-]{16,}", re.ASCII)


def redacted(text: str) -> str:
    """The text, with every API key in it cut down to its prefix."""
    return _KEY.sub(r"\1_…", text)


class RedactingFormatter(logging.Formatter):
    """Lets no API key into a log line, wherever in message, arguments, traceback or stack it stands."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))
