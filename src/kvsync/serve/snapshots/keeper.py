"""
The daemon's snapshot, made anew every so often in a thread of its own, and once more at the end.

Whatever goes wrong is told with what to do about it, once until it changes, and counted; the last good file stays, and
nothing else of the daemon notices.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from kvsync.index import Contents, Hold

_logger = logging.getLogger(__name__)


class Saves(Protocol):
    """What of an index is needed here."""

    def save(self, path: Path, *, hold: Hold) -> Contents: ...


@dataclass(frozen=True, slots=True)
class LastSave:
    """The last snapshot that came to be."""

    taken: float
    seconds: float
    size: int
    engines: int
    entries: int


class Keeper:
    """
    Keeps a snapshot of an index at `file`, every `interval` seconds while the context lasts.

    `save` is for any thread. `wall` gives seconds since 1970.
    """

    # Guarded by `_saving`: last, saved, failed, error. Each is replaced whole, so readers need no lock.

    def __init__(
        self, index: Saves, hold: Hold, file: Path, interval: float, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.file = file
        self.last: LastSave | None = None
        self.saved = 0
        self.failed = 0
        self.error: str | None = None
        self._index = index
        self._hold = hold
        self._interval = interval
        self._wall = wall
        self._saving = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvsync-snapshots", daemon=True)

    def __repr__(self) -> str:
        return f"<Keeper of {self.file} saved={self.saved} failed={self.failed}>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread; one that is writing is let finish."""
        self._stop.set()
        self._thread.join()

    def save(self) -> bool:
        """Make a snapshot now; whether it came to be."""
        with self._saving:
            try:
                began = time.monotonic()
                contents = self._index.save(self.file, hold=self._hold)
            except Exception as error:  # noqa: BLE001  (whatever it is, the daemon goes on; it is told)
                self._fail(error)
                return False
            self._succeed(contents, time.monotonic() - began)
            return True

    def view(self) -> dict[str, Any]:
        """What `/v1/stats` shows."""
        last = self.last
        return {
            "file": str(self.file),
            "interval_s": self._interval,
            "saved": self.saved,
            "failed": self.failed,
            "error": self.error,
            "last": None
            if last is None
            else {
                "age_s": round(max(0.0, self._wall() - last.taken), 3),
                "taken": last.taken,
                "seconds": round(last.seconds, 3),
                "bytes": last.size,
                "engines": last.engines,
                "entries": last.entries,
            },
        }

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.save()

    def _succeed(self, contents: Contents, seconds: float) -> None:
        entries = sum(row.entries for row in contents.rows)
        self.last = LastSave(contents.taken, seconds, contents.size, len(contents.rows), entries)
        self.saved += 1
        level = logging.INFO if self.error is not None or self.saved == 1 else logging.DEBUG
        self.error = None
        _logger.log(
            level,
            "snapshot %s saved: %d engines, %d entries, %d bytes in %.2f s",
            *(self.file, len(contents.rows), entries, contents.size, seconds),
        )

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        told = f"snapshot {self.file} could not be saved: {reason_of(error, self.file)}"
        level = logging.DEBUG if told == self.error else logging.ERROR
        self.error = told
        foreseen = isinstance(error, OSError | MemoryError)
        _logger.log(level, "%s; an older one stays as it is", told, exc_info=None if foreseen else error)


def reason_of(error: Exception, file: Path) -> str:
    """What went wrong with a file, and what can be done about it."""
    if isinstance(error, MemoryError):
        return "not enough memory for one engine's record; raise the memory limit of the process"
    if not isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    folder, what = file.parent, error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"{what}; free space in {folder}, or name a larger --snapshot-dir"
        case errno.EROFS:
            return f"{what}; mount {folder} for writing, or name another --snapshot-dir"
        case errno.EACCES | errno.EPERM:
            return f"{what}; let user {os.geteuid()} write to {folder}, or name another --snapshot-dir"
        case errno.ENOENT:
            return f"{what}; {folder} has been removed, make it again"
        case _:
            return f"{what}; check {folder}"
