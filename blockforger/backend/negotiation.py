"""Content negotiation (RFC 9110, section 12): which bodies are read, and whether JSON may be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.exceptions import NotAcceptable, UnsupportedMediaType
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.utils.mediatypes import media_type_matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rest_framework.renderers import BaseRenderer
    from rest_framework.request import Request


class JsonNegotiation(BaseContentNegotiation):
    """One renderer, whatever the query string says, and parsers that say for which methods they are."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        fitting = [parser for parser in parsers if request.method in parser.methods]
        for parser in fitting:
            if media_type_matches(parser.media_type, request.content_type):
                return parser
        known = " or ".join(parser.media_type for parser in fitting)
        raise UnsupportedMediaType(
            request.content_type, f"The Content-Type {request.content_type[:100]!r} is not read here. Send {known}."
        )

    def select_renderer(  # type: ignore[override] # the stubs want lists
        self,
        request: Request,
        renderers: Sequence[BaseRenderer],
        format_suffix: str | None = None,  # noqa: ARG002 - DRF's signature
    ) -> tuple[BaseRenderer, str]:
        renderer = renderers[0]
        if not accepts(request.META.get("HTTP_ACCEPT", ""), renderer.media_type):
            raise NotAcceptable(f"Only {renderer.media_type} is answered here. Accept that, or leave Accept out.")
        return renderer, renderer.media_type


def accepts(header: str, media_type: str) -> bool:
    """Whether an `Accept` header lets the media type be answered; the most specific range decides."""
    if not header.strip():
        return True
    ranges = {"*/*": 0, f"{media_type.partition('/')[0]}/*": 1, media_type: 2}
    found = []
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name in ranges:
            found.append((ranges[name], not any(map(_is_zero_weight, parameters))))
    return max(found, default=(0, False))[1]


def _is_zero_weight(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and not value.strip(" 0.")
