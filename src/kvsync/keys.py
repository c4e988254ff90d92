"""
CURVE keys in files: 40 characters of Z85 on a line, as ZeroMQ writes them. A secret one is its owner's alone.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from kvsync.errors import ConfigError

_Z85 = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_public_key(path: Path, flag: str) -> bytes:
    """Read a public key; `ConfigError` for a file that holds none."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{flag} {path} cannot be read ({error.strerror}); check path and rights") from error
    if not _Z85.fullmatch(key):
        raise ConfigError(f"{flag} {path} holds no CURVE key; a key is 40 characters of Z85 on one line")
    return key


def read_secret_key(path: Path, flag: str) -> bytes:
    """Read a secret key; `ConfigError` too for a file that others may read or write. The key is in no message."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{flag} {path} cannot be read ({error.strerror}); check path and rights") from error
    if mode & _OTHERS:
        raise ConfigError(f"{flag} {path} has mode {mode:04o}; others may use it: chmod 600 {path}")
    return read_public_key(path, flag)
