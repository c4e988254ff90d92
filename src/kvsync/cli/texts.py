"""
Names and the like as a command line gives them: arguments may be any bytes, and may be too long for the index.
"""

from __future__ import annotations

from kvsync.errors import ConfigError

TEXT_BYTES_MAX = 4096
"""As the core has it, which is not loaded for this."""

SHOWN = 40


def check_text(flag: str, text: str | None) -> None:
    """Raise `ConfigError` for a text that has no UTF-8 form or is longer than the index takes."""
    if text is None:
        return
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{flag} is {text[:SHOWN]!r}, which is not UTF-8; write it in UTF-8") from None
    if size > TEXT_BYTES_MAX:
        raise ConfigError(f"{flag} has {size:,} bytes and begins {text[:SHOWN]!r}; give {TEXT_BYTES_MAX:,} at most")
