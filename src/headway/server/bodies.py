"""Request bodies before any codec: compression undone within bounds, content types told apart."""

from __future__ import annotations

import zlib
from typing import Final

from headway.domain.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_WINDOW: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""zlib's ``wbits``: gzip framing, and the zlib framing that HTTP calls deflate (RFC 9110 section 8.4.1)."""

_JSON_TYPES: Final = frozenset(
    {
        b"application/json",
        b"text/json",
        b"text/plain",
        b"application/x-www-form-urlencoded",  # what `curl -d` says of any body
    }
)


def inflate(body: bytes, coding: bytes, limit: int) -> bytes:
    """``body`` without its content ``coding``; at most ``limit`` bytes are ever made of it.

    Raises ``PayloadTooLarge``, ``InvalidRequest``, or ``UnsupportedMediaType`` for another coding.
    """
    name = coding.strip().lower()
    if name == b"identity":
        return body
    window = _WINDOW.get(name)
    if window is None:
        shown = coding[:40].decode("latin-1")
        raise UnsupportedMediaType(f"content encoding {shown!r} is not accepted", hint="gzip, deflate or identity")
    pieces: list[bytes] = []
    size = 0
    rest = body
    while rest or not pieces:
        decoder = zlib.decompressobj(window)
        try:
            piece = decoder.decompress(rest, limit - size + 1)
        except zlib.error:
            raise InvalidRequest(f"the body is not valid {name.decode()}") from None
        size += len(piece)
        if size > limit:
            raise PayloadTooLarge(f"decompressed body above {limit} bytes", hint="send fewer rows per request")
        if not decoder.eof:
            raise InvalidRequest(f"the {name.decode()} body ends too early")
        pieces.append(piece)
        rest = decoder.unused_data
        if rest and window == 15:
            raise InvalidRequest("bytes after the end of the deflate body")
    return b"".join(pieces)


def media_type(content_type: bytes) -> bytes:
    """``text/csv`` of ``Text/CSV; charset=utf-8``. Raises ``UnsupportedMediaType`` for a charset other than UTF-8."""
    kind, _, parameters = content_type.lower().partition(b";")
    if b"charset=" in parameters:
        charset = parameters.partition(b"charset=")[2].partition(b";")[0].strip(b" \"'")
        if charset not in (b"utf-8", b"utf8", b"us-ascii"):
            raise UnsupportedMediaType("bodies are UTF-8 only", hint="leave the charset out")
    return kind.strip()


def check_json_type(content_type: bytes) -> None:
    """Raise ``UnsupportedMediaType`` unless a body of that type may be JSON."""
    kind = media_type(content_type)
    if kind and kind not in _JSON_TYPES and not kind.endswith(b"+json"):
        shown = kind[:60].decode("latin-1")
        raise UnsupportedMediaType(f"content type {shown!r} is not accepted here", hint="send application/json")
