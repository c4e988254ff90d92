"""Texts on their way to the core: UTF-8 of a bounded length, or a clear refusal."""

from __future__ import annotations

from kvsync._core import lib

SHOWN = 40


def utf8(what: str, text: str) -> bytes:
    """
    The bytes of a text.

    Raises TypeError if it is no text, ValueError if it has no UTF-8 form or is longer than the core takes.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} is {type(text).__name__}: give a str")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} is {text[:SHOWN]!r}, which has no UTF-8 form ({error.reason})") from None
    if len(data) > lib.KVS_TEXT_BYTES_MAX:
        raise ValueError(
            f"{what} has {len(data)} bytes, more than {lib.KVS_TEXT_BYTES_MAX}; it begins {text[:SHOWN]!r}: shorten it"
        )
    return data
