"""
Between the core and a snapshot: one record after the other, out of an index or into a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

from kvsync._core import check, ffi, lib
from kvsync.errors import FrameError
from kvsync.index.matches import TRUST_BY_NUMBER
from kvsync.index.snapshot import Row, SnapshotFile
from kvsync.index.texts import utf8
from kvsync.types import Bookmark, Engine

Hold: TypeAlias = Callable[[Engine], AbstractContextManager[Bookmark | None]]
"""Keeps an engine's record as it is while the context lasts, and says which batch was the last of it."""


def unheld(_engine: Engine) -> AbstractContextManager[Bookmark | None]:
    """Where there is no stream, there is nothing to hold, and no bookmark."""
    return nullcontext(None)


def save_record(core: Any, number: int, engine: Engine, model: str, hold: Hold) -> tuple[Row, memoryview] | None:
    """
    One engine's record and what is to be said of it, of one moment; None if it is gone by now.
    """
    status, data, count = ffi.new("kvs_engine_status *"), ffi.new("uint8_t **"), ffi.new("size_t *")
    with hold(engine) as bookmark:
        result = lib.kvs_index_engine_save(core, number, status, data, count)
    if result == lib.KVS_ERR_ENGINE:
        return None
    check(result)
    owner = ffi.gc(data[0], lib.kvs_bytes_free, count[0])
    row = Row(
        engine=engine,
        model=model,
        sequence=None if status.sequence < 0 else status.sequence,
        lives=status.lives,
        trust=TRUST_BY_NUMBER[status.trust],
        entries=status.entries,
        # Of another batch than the record ends with, it would prove nothing.
        bookmark=bookmark if bookmark is not None and bookmark.number == status.sequence else None,
    )
    return row, memoryview(ffi.buffer(owner, count[0]))


def load_records(core: Any, file: SnapshotFile) -> list[int]:
    """
    Fill an empty core of the file's seed, after the checksum was compared; gives the rows' numbers.

    Raises FrameError for what is no snapshot, MemoryError beyond the ceiling: the core is then good for nothing.
    """
    made = ffi.new("kvs_loading **")
    check(lib.kvs_loading_begin(core, made))
    loading = ffi.gc(made[0], lib.kvs_loading_end)
    try:
        file.verify(lambda data: check(lib.kvs_loading_starts(loading, ffi.from_buffer("uint8_t[]", data), len(data))))
        return [_load_record(loading, row, file.section(row)) for row in file.contents.rows]
    except FrameError as error:
        if str(error).startswith(file.name):
            raise
        raise FrameError(f"{file.name} is of another byte order or contradicts itself: start without it") from error
    finally:
        ffi.release(loading)


def _load_record(loading: Any, row: Row, data: bytes) -> int:
    name, number, status = utf8("model", row.model), ffi.new("uint32_t *"), lib.KVS_OK
    status = lib.kvs_loading_engine(
        loading,
        ffi.from_buffer("char[]", name),
        len(name),
        ffi.from_buffer("uint8_t[]", data),
        len(data),
        number,
    )
    check(status)
    return int(number[0])
