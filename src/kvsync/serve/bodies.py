"""
A request's body as the client meant it: read whole, unpacked, and never longer than the setting `body_bytes_max`.

The HTTP library is told to leave bodies packed (`auto_decompress=False` in app.py): one it cannot unpack would be an
error of ours, and one whose encoding it does not know would be read as if it were plain.
"""

from __future__ import annotations

import zlib

from aiohttp import web

from kvsync.serve.problems import Problem

ACCEPTED = "gzip, deflate"

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
"""What zlib is to expect: its own header is that of `deflate`, but some clients leave it out."""

_ZLIB_METHOD = 8
"""The low half of the first byte of every zlib header."""


async def read_body(request: web.Request, *, bytes_max: int) -> bytes:
    """
    The whole body without its content encoding; a `Problem` where it is none, too long, or cut short.

    The application reads at most `bytes_max` packed bytes; no more than that is unpacked, either.
    """
    encoding = _encoding(request)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large(bytes_max) from error
    except web.RequestPayloadError as error:
        raise Problem(
            400, "the body cannot be read: its chunks or its length are wrong; send it again", code="invalid_body"
        ) from error
    return body if encoding is None else _unpack(body, encoding, bytes_max)


def _encoding(request: web.Request) -> str | None:
    """The one encoding to undo; `x-gzip` is the old name of gzip, and `identity` that of none."""
    header = ", ".join(request.headers.getall("Content-Encoding", []))
    names = [name.strip().lower() for name in header.split(",")]
    encodings = ["gzip" if name == "x-gzip" else name for name in names if name not in ("", "identity")]
    if not encodings:
        return None
    if encodings not in (["gzip"], ["deflate"]):
        raise Problem(
            415,
            f"Content-Encoding is {header[:80]!r}; send one of {ACCEPTED}, or the body as it is",
            code="content_encoding",
            headers={"Accept-Encoding": ACCEPTED},
        )
    return encodings[0]


def _unpack(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """
    Undo an encoding.

    One gzip member only: a body may hold hundreds of thousands of empty ones, each of which would cost anew.
    """
    unpacker = zlib.decompressobj(_GZIP if encoding == "gzip" else _deflate(body))
    try:
        plain = unpacker.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise _not_encoded(encoding, "the body is not") from error
    if len(plain) > bytes_max:
        raise _too_large(bytes_max, packed=len(body))
    if not unpacker.eof:
        raise _not_encoded(encoding, "the body is cut short" if body else "the body is empty")
    if unpacker.unused_data:
        raise _not_encoded(encoding, f"{len(unpacker.unused_data)} bytes follow its end")
    return plain


def _deflate(body: bytes) -> int:
    return _ZLIB if body[:1] and body[0] & 0xF == _ZLIB_METHOD else _RAW


def _not_encoded(encoding: str, why: str) -> Problem:
    return Problem(
        400,
        f"Content-Encoding is {encoding}, but {why}; encode the whole body, or leave the header out",
        code="content_encoding",
    )


def _too_large(bytes_max: int, *, packed: int | None = None) -> Problem:
    what = "the body" if packed is None else f"the body of {packed} bytes, unpacked,"
    return Problem(
        413, f"{what} is larger than the {bytes_max} bytes of the setting body_bytes_max", code="body_too_large"
    )
