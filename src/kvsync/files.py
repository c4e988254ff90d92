"""
Files that somebody names, by flag or setting: opened without waiting, and read up to a size.

A regular file is what is meant. A FIFO would make us wait for a writer who may never come, and a device such as
/dev/zero has no end, so both are refused when they are opened. A pipe that a shell has already opened for us, by
/dev/stdin or <(...), has a writer: it is read like a file where that is asked for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from kvsync.errors import ConfigError

StrPath: TypeAlias = str | os.PathLike[str]

SECRET_BYTES_MAX: Final = 64 * 1024
"""Of a token or a key: a thousand times what one has."""

_HANDED_OVER: Final = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def open_handle(path: StrPath, name: str, remedy: str, *, pipe: bool) -> int:
    """
    Open a regular file or, with `pipe`, a pipe that was handed over open; gives the descriptor, for reading.

    `ConfigError` for anything else; it names the file by `name`, which has flag and path, and ends in `remedy`.
    """
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}; {remedy}") from error
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISFIFO(mode) and pipe and os.fspath(path).startswith(_HANDED_OVER):
            os.set_blocking(handle, True)
        elif not stat.S_ISREG(mode):
            what = "is a directory" if stat.S_ISDIR(mode) else "is no regular file"
            raise ConfigError(f"{name} {what}; {remedy}")
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_file(path: StrPath, name: str, remedy: str, *, pipe: bool = True) -> BinaryIO:
    """Open what `open_handle` opens, as a file with a buffer."""
    return os.fdopen(open_handle(path, name, remedy, pipe=pipe), "rb")


def read_open(file: BinaryIO, name: str, bytes_max: int, remedy: str) -> bytes:
    """All that an open file holds; `ConfigError` for more than `bytes_max`."""
    try:
        data = file.read(bytes_max + 1)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}; {remedy}") from error
    if len(data) > bytes_max:
        raise ConfigError(f"{name} has more than {bytes_max:,} bytes; {remedy}")
    return data


def read_file(path: StrPath, name: str, bytes_max: int, remedy: str, *, pipe: bool = True) -> bytes:
    """All that a file holds: what `open_file` opens, as `read_open` reads it."""
    with open_file(path, name, remedy, pipe=pipe) as file:
        return read_open(file, name, bytes_max, remedy)


def read_secret(path: Path, flag: str, remedy: str) -> bytes:
    """What a file with a token holds, without the white space around it; no message shows it."""
    return read_file(path, f"{flag} {path}", SECRET_BYTES_MAX, remedy).strip()
