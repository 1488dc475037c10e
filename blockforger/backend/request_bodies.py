"""Bodies of requests: read, and inflated, no further than an event could carry them."""

from __future__ import annotations

import zlib
from typing import IO, TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser

from blockforger.backend import json_values
from blockforger.backend.errors import Malformed, PayloadTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blockforger.backend.json_values import JsonValue

_GZIP_ONLY = 16 + zlib.MAX_WBITS


class EncodingUnsupported(UnsupportedMediaType):
    """A `Content-Encoding` other than gzip (RFC 9110, section 15.5.16)."""

    headers: ClassVar = {"Accept-Encoding": "gzip"}


class PayloadParser(BaseParser):
    """Reads a body as JSON that every part of the way can carry, and no more of it than an event can hold."""

    media_type = "application/json"
    methods: ClassVar = frozenset({"POST", "PUT", "PATCH"})

    def parse(  # type: ignore[override] # the stubs know no body but an object
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        parser_context: Mapping[str, Any] | None = None,
    ) -> JsonValue:
        headers = parser_context["request"].META if parser_context else {}
        try:
            return json_values.parse(_body(stream, headers))
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
            return _body(stream, headers).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Malformed("The body is not UTF-8.") from error


class SchemaTextParser(TextParser):
    """The media type that is usual for JSON Schemas."""

    media_type = "application/schema+json"


def _body(stream: IO[Any], headers: Mapping[str, str]) -> bytes:
    limit: int = settings.BLOCKFORGER_MAX_EVENT_BYTES
    encoding = headers.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise EncodingUnsupported("", f"The Content-Encoding {encoding[:40]!r} is unknown. Use gzip, or none.")
    if int(headers.get("CONTENT_LENGTH") or 0) > limit:
        raise PayloadTooLarge(limit=limit)
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise PayloadTooLarge(limit=limit)
    return _inflated(body, limit) if encoding.endswith("gzip") else body


def _inflated(body: bytes, limit: int) -> bytes:
    inflation = zlib.decompressobj(_GZIP_ONLY)
    try:
        inflated = inflation.decompress(body, limit + 1)
    except zlib.error as error:
        raise Malformed("The body is not gzip, though Content-Encoding says so.") from error
    if len(inflated) > limit:
        raise PayloadTooLarge(limit=limit)
    if not inflation.eof or inflation.unused_data:
        raise Malformed("The body is not one whole gzip member.")
    return inflated
