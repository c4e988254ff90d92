"""
CURVE keys in files: 40 characters of Z85 on a line, as ZeroMQ writes them. A secret one is its owner's alone.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from kvsync.errors import ConfigError
from kvsync.files import SECRET_BYTES_MAX, open_file, read_file, read_open

_Z85 = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_REMEDY: Final = "give a file that holds a CURVE key"


def read_public_key(path: Path, flag: str) -> bytes:
    """Read a public key; `ConfigError` for a file that holds none."""
    name = f"{flag} {path}"
    return _key(read_file(path, name, SECRET_BYTES_MAX, _REMEDY), name)


def read_secret_key(path: Path, flag: str) -> bytes:
    """Read a secret key; `ConfigError` too for a file that others may read or write. The key is in no message."""
    name = f"{flag} {path}"
    with open_file(path, name, _REMEDY) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & _OTHERS:
            raise ConfigError(f"{name} has mode {mode:04o}; others may use it: chmod 600 {path}")
        return _key(read_open(file, name, SECRET_BYTES_MAX, _REMEDY), name)


def _key(content: bytes, name: str) -> bytes:
    key = content.strip()
    if not _Z85.fullmatch(key):
        raise ConfigError(f"{name} holds no CURVE key; a key is 40 characters of Z85 on one line")
    return key
