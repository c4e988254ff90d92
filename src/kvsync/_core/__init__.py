"""
The only room that knows cffi: `ffi`, `lib`, and `check`, which turns a status into an exception.

Every call into `lib` runs with the GIL released, so what a call borrows must be kept alive by its caller, and the
thread rule at the top of `csrc/include/kvsync.h` is the only protection there is.
"""

from __future__ import annotations

from kvsync._core._kvsync import ffi, lib
from kvsync.errors import CapacityError, FrameError, KvsyncError

__all__ = ["check", "ffi", "lib", "text", "version"]


def text(pointer: object) -> str:
    """A NUL-terminated text of the core's as a string; what is not UTF-8 is escaped, so that no two read alike."""
    value: bytes = ffi.string(pointer)
    return value.decode("utf-8", "backslashreplace")


def version() -> str:
    """The version of the compiled core."""
    return text(lib.kvs_version())


_OK = lib.KVS_OK


def check(status: int) -> None:
    """Return if `status` is KVS_OK, else raise what it stands for."""
    if status == _OK:
        return
    message = text(lib.kvs_status_text(status))
    if status == lib.KVS_ERR_MEMORY:
        raise MemoryError(message)
    if status == lib.KVS_ERR_CAPACITY:
        raise CapacityError(message)
    if status == lib.KVS_ERR_SNAPSHOT:
        raise FrameError(message)
    if status == lib.KVS_ERR_ARGUMENT:
        raise ValueError(message)
    raise KvsyncError(f"{message} ({text(lib.kvs_status_name(status))})")
