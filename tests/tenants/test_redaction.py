from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from django.conf import settings

from tenants import api_keys
from tenants.models import Tenant
from tenants.redaction import RedactingFormatter, redacted

KEY = "bf_0123456789ab_" + "Ab-_" * 10 + "xyz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KEY, "bf_0123456789ab_…"),
        (f'{{"api_key": "{KEY}", "n": 1}}', '{"api_key": "bf_0123456789ab_…", "n": 1}'),
        (f"x{KEY} and b'{KEY}'\n{KEY}", "xbf_0123456789ab_… and b'bf_0123456789ab_…'\nbf_0123456789ab_…"),
        # what is left of one that was cut
        (KEY[:40], "bf_0123456789ab_…"),
        # no keys: a prefix, a name that begins like one, another alphabet
        ("bf_0123456789ab", "bf_0123456789ab"),
        ("bf_0123456789ab_orders", "bf_0123456789ab_orders"),
        ("bf_0123456789AB_" + "x" * 43, "bf_0123456789AB_" + "x" * 43),
        ("", ""),
    ],
)
def test_a_key_in_a_text_is_cut_down_to_its_prefix(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.django_db
def test_every_key_that_is_made_has_the_form_that_is_redacted() -> None:
    tenant = Tenant.objects.create(name="mytenant")
    for _ in range(20):
        row, key = api_keys.create(tenant, name="test", permissions=[])
        assert redacted(key) == f"bf_{row.prefix}_…"


def test_no_part_of_a_log_line_holds_a_key() -> None:
    try:
        int(KEY)
    except ValueError:
        record = logging.getLogger().makeRecord(
            "name", logging.ERROR, "file", 1, f"{KEY}: %s", (KEY,), sys.exc_info(), sinfo=KEY
        )
    line = RedactingFormatter("%(message)s").format(record)
    assert line.count("bf_0123456789ab_…") == 4
    assert KEY not in line


def test_what_we_log_is_written_so_and_botocore_is_quiet() -> None:
    configured: Any = settings.LOGGING
    for handler in configured["handlers"].values():
        assert configured["formatters"][handler["formatter"]]["class"] == "tenants.redaction.RedactingFormatter"
    assert configured["loggers"]["botocore"] == {"level": "WARNING"}
