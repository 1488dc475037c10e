"""Bodies of requests: read, and inflated, no further than an event could carry them."""

from __future__ import annotations

import zlib
from typing import IO, TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser

from blockforger.backend import json_values
from blockforger.backend.errors import BodyTooLarge, Malformed, PayloadTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blockforger.backend.json_values import JsonValue

# Of a body, to see whether it is an array.
_HEAD = 4096
_GZIP_ONLY = 16 + zlib.MAX_WBITS


class EncodingUnsupported(UnsupportedMediaType):
    """A `Content-Encoding` other than gzip (RFC 9110, section 15.5.16)."""

    headers: ClassVar = {"Accept-Encoding": "gzip"}


class PayloadParser(BaseParser):
    """Reads a body as JSON that every part of the way can carry, and no more of it than an event can hold."""

    media_type = "application/json"
    methods: ClassVar = frozenset({"POST", "PUT", "PATCH", "DELETE"})

    def parse(  # type: ignore[override] # the stubs know no body but an object
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        parser_context: Mapping[str, Any] | None = None,
    ) -> JsonValue:
        context = parser_context or {}
        headers = context["request"].META if context else {}
        try:
            return json_values.parse(_body(stream, headers, may_be_array="key" not in context.get("kwargs", {})))
        except json_values.NotPortable as error:
            raise Malformed(error.message, pointer=error.pointer) from error


class MergePatchParser(PayloadParser):
    """JSON Merge Patch (RFC 7396)."""

    media_type = "application/merge-patch+json"
    methods = frozenset({"PATCH"})


class TextParser(PayloadParser):
    """Reads JSON as the text that it is, for what must come out as it went in. It is not looked at yet."""

    def parse(  # type: ignore[override]
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        parser_context: Mapping[str, Any] | None = None,
    ) -> str:
        headers = parser_context["request"].META if parser_context else {}
        try:
            return _body(stream, headers, may_be_array=False).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Malformed("The body is not UTF-8.") from error


class SchemaTextParser(TextParser):
    """The media type that is usual for JSON Schemas."""

    media_type = "application/schema+json"


def _body(stream: IO[Any], headers: Mapping[str, str], *, may_be_array: bool) -> bytes:
    encoding = headers.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise EncodingUnsupported("", f"The Content-Encoding {encoding[:40]!r} is unknown. Use gzip, or none.")
    is_gzip = encoding.endswith("gzip")
    length = int(headers.get("CONTENT_LENGTH") or 0)
    _check_length(length, is_array=may_be_array)
    head: bytes = stream.read(_HEAD)
    is_array = may_be_array and _is_array(_inflation_of(head, _HEAD)[0] if is_gzip else head)
    limit = _check_length(length, is_array=is_array)
    body: bytes = head + stream.read(max(limit + 1 - len(head), 0))
    _check_length(len(body), is_array=is_array)
    return _inflated(body, is_array=is_array) if is_gzip else body


def _check_length(length: int, *, is_array: bool) -> int:
    """Gives the limit. Raises BodyTooLarge of an array, and PayloadTooLarge of a single payload."""
    limit: int = settings.BLOCKFORGER_MAX_BULK_BYTES if is_array else settings.BLOCKFORGER_MAX_EVENT_BYTES
    if length > limit:
        raise BodyTooLarge(limit=limit) if is_array else PayloadTooLarge(limit=limit)
    return limit


def _is_array(head: bytes) -> bool:
    return head.lstrip(b" \t\r\n").startswith(b"[")


def _inflated(body: bytes, *, is_array: bool) -> bytes:
    limit = _check_length(0, is_array=is_array)
    inflated, is_whole = _inflation_of(body, limit + 1)
    _check_length(len(inflated), is_array=is_array)
    if not is_whole:
        raise Malformed("The body is not one whole gzip member.")
    return inflated


def _inflation_of(body: bytes, at_most: int) -> tuple[bytes, bool]:
    """The first of the inflated bytes, and whether the body is one whole gzip member. Raises Malformed."""
    inflation = zlib.decompressobj(_GZIP_ONLY)
    try:
        inflated = inflation.decompress(body, at_most)
    except zlib.error as error:
        raise Malformed("The body is not gzip, though Content-Encoding says so.") from error
    return inflated, inflation.eof and not inflation.unused_data
