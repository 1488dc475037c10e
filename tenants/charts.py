"""Charts as SVG: drawn here, without a script, and told in words to those who do not see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.template.loader import render_to_string

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.utils.safestring import SafeString

_BAR, _GAP, _HEIGHT = 16, 4, 100


def bars(
    values: Sequence[tuple[str, int]], *, label: str, marked: Sequence[int] = (), marked_as: str = "", most: int = 0
) -> SafeString:
    """A bar for each named value, none of them negative.

    Of each bar, the part that is `marked` is drawn in another colour, and called what `marked_as` says. What reaches
    `most` was counted only so far.
    """
    highest = max((value for _, value in values), default=0)
    drawn = []
    for index, (name, value) in enumerate(values):
        part = marked[index] if marked else 0
        height, lower = (round(_HEIGHT * number / highest, 1) if highest else 0 for number in (value, part))
        drawn.append(
            {
                "x": index * (_BAR + _GAP),
                "y": _HEIGHT - height,
                "height": height,
                "marked_y": _HEIGHT - lower,
                "marked_height": lower,
                "text": f"{name}: {_so_far(value, most)}" + (f", {part:,} {marked_as}" if part else ""),
            }
        )
    context = {
        "bars": drawn,
        "bar_width": _BAR,
        "width": max(len(values) * (_BAR + _GAP) - _GAP, 1),
        "height": _HEIGHT,
        "label": label,
        "highest": _so_far(highest, most),
        "first": values[0][0] if values else "",
        "last": values[-1][0] if values else "",
    }
    return render_to_string("admin/bars.html", context)


def _so_far(number: int, most: int) -> str:
    return f"{number:,}+" if most and number >= most else f"{number:,}"
