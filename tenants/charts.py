"""Charts as SVG: drawn here, without a script, and told in words to those who do not see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.template.loader import render_to_string

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.utils.safestring import SafeString

_BAR, _GAP, _HEIGHT, _BOTTOM = 16, 4, 100, 120


def bars(values: Sequence[tuple[str, int]], *, label: str) -> SafeString:
    """A bar for each named value, none of them negative."""
    highest = max((value for _, value in values), default=0)
    drawn = []
    for index, (name, value) in enumerate(values):
        height = round(_HEIGHT * value / highest, 1) if highest else 0
        bar = {"x": index * (_BAR + _GAP), "y": _BOTTOM - height, "width": _BAR, "height": height}
        drawn.append({**bar, "name": name, "value": value})
    context = {
        "bars": drawn,
        "width": len(values) * (_BAR + _GAP),
        "label": label,
        "highest": f"{highest:,}",
        "first": values[0][0] if values else "",
        "last": values[-1][0] if values else "",
    }
    return render_to_string("admin/bars.html", context)
