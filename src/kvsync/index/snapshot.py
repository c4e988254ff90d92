"""
A snapshot file: each engine's record as the core saved it, who they are, and a checksum over all.

    mark, 8 bytes | version, 4 | nothing, 4 | seed, 8
    one section of the core's an engine, one behind the other
    table: JSON, one row a section | its length, 8 bytes
    BLAKE2b-256 of all before, 32 bytes

It is made in pieces from its beginning to its end, so that nobody needs room for the whole: a file on disk or an
answer to a request, one engine's record at a time. Numbers are big-endian; sections are in the byte order of the
host. Version 1 was never released and is refused like any other. docs/design/snapshot.md says why it is as it is.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kvsync.errors import FrameError
from kvsync.files import StrPath, open_handle
from kvsync.types import Bookmark, Engine, Trust

MARK = b"kvsync\x00S"
VERSION = 2
HEAD_BYTES = 24
DIGEST_BYTES = 32
LENGTH_BYTES = 8
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """
    One engine's record in a snapshot: what it was when it was saved.

    `bookmark` is the batch with the record's own `sequence`, by which its stream can be told from another; None where
    there was nothing to tell it by. `at` and `size` say where its section lies.
    """

    engine: Engine
    model: str
    sequence: int | None
    lives: int
    trust: Trust
    entries: int
    bookmark: Bookmark | None
    at: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Contents:
    """What a snapshot says of itself: who wrote it, when (seconds since 1970), its size, and whose records it holds."""

    version: int
    kvsync: str
    taken: float
    size: int
    rows: tuple[Row, ...]


# ---------------------------------------------------------------------- writing


def make_pieces(seed: int, sections: Iterable[tuple[Row, memoryview]]) -> Generator[bytes | memoryview, None, Contents]:
    """
    A snapshot from beginning to end, in pieces to be written in this order; returns what it holds.
    """
    digest = blake2b(digest_size=DIGEST_BYTES)
    taken, rows = time.time(), []
    head = MARK + VERSION.to_bytes(4, "big") + bytes(4) + seed.to_bytes(8, "big")
    digest.update(head)
    yield head
    at = HEAD_BYTES
    for row, section in sections:
        digest.update(section)
        yield section
        rows.append(_placed(row, at, len(section)))
        at += len(section)
    author = _author()
    table = json.dumps({"kvsync": author, "taken": taken, "engines": [_told(row) for row in rows]}).encode()
    end = table + len(table).to_bytes(LENGTH_BYTES, "big")
    digest.update(end)
    yield end + digest.digest()
    return Contents(VERSION, author, taken, at + len(end) + DIGEST_BYTES, tuple(rows))


@cache
def _author() -> str:
    return metadata.version("kvsync")


def _placed(row: Row, at: int, size: int) -> Row:
    return Row(row.engine, row.model, row.sequence, row.lives, row.trust, row.entries, row.bookmark, at, size)


def _told(row: Row) -> dict[str, Any]:
    mark = row.bookmark
    return {
        "pod": row.engine.pod,
        "rank": row.engine.rank,
        "model": row.model,
        "sequence": row.sequence,
        "lives": row.lives,
        "trust": row.trust.value,
        "entries": row.entries,
        "bookmark": None if mark is None else [mark.number, mark.digest.hex()],
        "size": row.size,
    }


def write_snapshot(path: StrPath, pieces: Generator[bytes | memoryview, None, Contents]) -> Contents:
    """
    Write a file atomically, mode 0600: it is written beside its place, and moved there when it is whole and on disk.

    A reader, or a crash at any instant, meets the old one or the new one. Raises OSError if it cannot be written; an
    older one at the same place is then still whole.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=unfinished(target))
    try:
        with os.fdopen(handle, "wb") as file:
            contents = _pour(pieces, file.write)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)
    return contents


def unfinished(target: Path) -> str:
    """How the names begin of files that are not whole yet: what is left of one that was killed."""
    return f".{target.name}."


def _pour(
    pieces: Generator[bytes | memoryview, None, Contents], write: Callable[[bytes | memoryview], object]
) -> Contents:
    while True:
        try:
            write(next(pieces))
        except StopIteration as end:
            contents: Contents = end.value
            return contents


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# ---------------------------------------------------------------------- reading


class SnapshotFile:
    """
    A snapshot to read from, with its table: nothing else of it is believed before `verify`.

    Raises ConfigError if it cannot be opened, FrameError if it is no snapshot, cut, damaged or of another version.
    """

    def __init__(self, path: StrPath) -> None:
        self.name = f"snapshot {os.fspath(path)}"
        self._handle = open_handle(path, self.name, "name one that `kvsync serve --snapshot-dir` wrote", pipe=False)
        try:
            self._size = os.fstat(self._handle).st_size
            self.seed = self._read_head()
            self.contents = self._read_table()
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def verify(self, visit: Callable[[bytes], None] = lambda section: None) -> None:
        """Read all of it once, and compare the checksum; `visit` is shown every section on the way."""
        digest = blake2b(digest_size=DIGEST_BYTES)
        digest.update(self._read(0, HEAD_BYTES))
        at = HEAD_BYTES
        for row in self.contents.rows:
            section = self.section(row)
            digest.update(section)
            visit(section)
            at += row.size
        digest.update(self._read(at, self._size - DIGEST_BYTES - at))
        if digest.digest() != self._read(self._size - DIGEST_BYTES, DIGEST_BYTES):
            raise self._damaged("its checksum does not fit")

    def section(self, row: Row) -> bytes:
        """What the core saved of an engine."""
        return self._read(row.at, row.size)

    def _read_head(self) -> int:
        head = os.pread(self._handle, HEAD_BYTES, 0)
        if not head.startswith(MARK):
            raise FrameError(
                f"{self.name} is no snapshot of kvsync's: give a file that Index.save() or `kvsync serve` wrote, or"
                " start without it"
            )
        version = int.from_bytes(head[8:12], "big")
        if len(head) == HEAD_BYTES and version != VERSION:
            age = "a newer" if version > VERSION else "an older"
            raise FrameError(
                f"{self.name} has version {version}, of {age} kvsync; this one reads {VERSION}: start without it"
            )
        if self._size < HEAD_BYTES + LENGTH_BYTES + DIGEST_BYTES:
            raise self._damaged("it is too short")
        return int.from_bytes(head[16:], "big")

    def _read_table(self) -> Contents:
        end = self._size - DIGEST_BYTES - LENGTH_BYTES
        length = int.from_bytes(self._read(end, LENGTH_BYTES), "big")
        if length > end - HEAD_BYTES:
            raise self._damaged("its table has no place in it")
        try:
            table = json.loads(self._read(end - length, length))
            rows, at = [], HEAD_BYTES
            for told in table["engines"]:
                rows.append(_row(told, at))
                at += rows[-1].size
            contents = Contents(VERSION, str(table["kvsync"]), float(table["taken"]), self._size, tuple(rows))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._damaged("its table cannot be read") from error
        if at != end - length or len({row.engine for row in rows}) != len(rows):
            raise self._damaged("its table does not fit")
        return contents

    def _read(self, at: int, size: int) -> bytes:
        data = os.pread(self._handle, size, at)
        if len(data) == size:
            return data
        parts = [data]  # one call gives 2 GiB at most
        while data and (missing := size - sum(map(len, parts))):
            data = os.pread(self._handle, missing, at + size - missing)
            parts.append(data)
        if not data and size:
            raise self._damaged("it ends too soon")
        return b"".join(parts)

    def _damaged(self, how: str) -> FrameError:
        return FrameError(f"{self.name} is cut or damaged, {how}: start without it")


def _row(told: Any, at: int) -> Row:
    mark, size, sequence = told["bookmark"], told["size"], told["sequence"]
    whole = [told["rank"], told["lives"], told["entries"], size, *([] if sequence is None else [sequence])]
    if not all(type(number) is int and number >= 0 for number in whole):
        raise ValueError("a number is none")
    if not isinstance(told["pod"], str) or not isinstance(told["model"], str):
        raise TypeError("a name is none")
    return Row(
        Engine(told["pod"], told["rank"]),
        told["model"],
        sequence,
        told["lives"],
        Trust(told["trust"]),
        told["entries"],
        None if mark is None else Bookmark(int(mark[0]), bytes.fromhex(mark[1])),
        at,
        size,
    )
