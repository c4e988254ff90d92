"""
A snapshot file: who the engines are, the core's bytes, and a checksum over both.

    mark, 8 bytes | header length, 8 bytes | header, JSON | core bytes | BLAKE2b-256 of all before, 32 bytes

It is written beside its place and moved there when it is whole and on disk, so that a reader, or a crash at any
instant, meets the old one or the new one. It holds the seed and engine hashes: mode 0600.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kvsync.errors import ConfigError, FrameError
from kvsync.types import Engine

MARK = b"kvsync\x00S"
VERSION = 1
DIGEST_BYTES = 32
LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a file holds: engines by number with their models, and the core's bytes."""

    engines: Mapping[int, tuple[Engine, str]]
    core: bytes


def write_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """
    Write a file atomically.

    Raises OSError if it cannot be written; an older one at the same place is then still whole.
    """
    rows = [[number, engine.pod, engine.rank, model] for number, (engine, model) in snapshot.engines.items()]
    header = json.dumps({"version": VERSION, "engines": rows}).encode()
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            digest = blake2b(digest_size=DIGEST_BYTES)
            for part in (MARK, len(header).to_bytes(LENGTH_BYTES, "big"), header, snapshot.core):
                file.write(part)
                digest.update(part)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """
    Read and check a file.

    Raises ConfigError if it cannot be opened, FrameError if it is no snapshot, cut, damaged, or of another version.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"snapshot {os.fspath(path)}: {error.strerror}; name a file that can be read") from error
    name = f"snapshot {os.fspath(path)}"
    if not data.startswith(MARK):
        raise FrameError(f"{name} is not a snapshot of kvsync's: start without it")
    if blake2b(data[:-DIGEST_BYTES], digest_size=DIGEST_BYTES).digest() != data[-DIGEST_BYTES:]:
        raise FrameError(f"{name} is cut or damaged, its checksum does not fit: start without it")
    begin = len(MARK) + LENGTH_BYTES
    length = int.from_bytes(data[len(MARK) : begin], "big")
    try:
        header = json.loads(data[begin : begin + length])
        version = header["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise FrameError(f"{name} has a header that cannot be read: start without it") from error
    if version != VERSION:
        raise FrameError(f"{name} has version {version!r}, this kvsync reads {VERSION}: start without it")
    return Snapshot(_engines(name, header), data[begin + length : -DIGEST_BYTES])


def _engines(name: str, header: Any) -> dict[int, tuple[Engine, str]]:
    try:
        return {int(number): (Engine(pod, rank), model) for number, pod, rank, model in header["engines"]}
    except (ValueError, TypeError, KeyError) as error:
        raise FrameError(f"{name} names engines that cannot be read: start without it") from error
