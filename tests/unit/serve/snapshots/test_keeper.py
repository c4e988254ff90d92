"""The keeper of snapshots: what it tells, and that nothing stops it."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from kvsync.index import Contents, Hold, Row
from kvsync.serve.snapshots.keeper import Keeper, reason_of
from kvsync.types import Engine, Trust

FILE = Path("/var/lib/kvsync/index.snapshot")
CONTENTS = Contents(2, "0", 1000.0, 77, (Row(Engine("a"), "m", 3, 1, Trust.EXACT, 5, None),))


class Disk:
    """In place of an index: each save does what the test says."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = list(outcomes)
        self.saves = 0
        self.enough = threading.Event()

    def save(self, path: Path, *, hold: Hold) -> Contents:
        """Fail or not, as it comes."""
        assert path == FILE
        self.saves += 1
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if not self._outcomes:
            self.enough.set()
        if outcome is not None:
            raise outcome
        return CONTENTS


def keeper(disk: Disk, interval: float = 3600.0, wall: Callable[[], float] = lambda: 1010.0) -> Keeper:
    """A keeper over made-up saves."""
    return Keeper(disk, lambda _engine: nullcontext(), FILE, interval, wall=wall)


def test_it_says_what_the_last_one_was() -> None:
    """Size, age and contents, as /v1/stats shows them; nothing before the first."""
    kept = keeper(Disk())
    assert kept.view()["last"] is None
    assert kept.save()
    view = kept.view()
    assert view["saved"] == 1
    assert view["failed"] == 0
    assert view["last"] | {"seconds": 0} == {
        "age_s": 10.0,
        "taken": 1000.0,
        "seconds": 0,
        "bytes": 77,
        "engines": 1,
        "entries": 5,
    }


def test_a_failure_is_told_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    """The same trouble every minute is one line; another one, and its end, are one each. All are counted."""
    caplog.set_level(logging.INFO)
    full, read_only = OSError(errno.ENOSPC, "No space left"), OSError(errno.EROFS, "Read-only")
    kept = keeper(Disk(full, full, read_only, None, None))
    assert [kept.save() for _ in range(5)] == [False, False, False, True, True]
    told = [record.message for record in caplog.records]
    assert len(told) == 3
    assert "free space in /var/lib/kvsync" in told[0]
    assert "mount /var/lib/kvsync for writing" in told[1]
    assert "saved: 1 engines, 5 entries" in told[2]
    assert (kept.saved, kept.failed, kept.error) == (2, 3, None)


def test_a_fault_of_ours_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a save raises, the next one comes, and the log has the traceback."""
    kept = keeper(Disk(RuntimeError("oops"), None), interval=0.001)
    disk = kept._index
    assert isinstance(disk, Disk)
    with kept:
        assert disk.enough.wait(10)
    assert kept.failed == 1
    assert kept.saved >= 1
    assert caplog.records[0].exc_info is not None
    assert "RuntimeError: oops" in caplog.text


def test_its_thread_ends_with_it() -> None:
    """Leaving the context does not wait for the interval."""
    with keeper(Disk()):
        pass
    assert not any(thread.name == "kvsync-snapshots" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free space in"),
        (OSError(errno.EDQUOT, "Quota exceeded"), "free space in"),
        (OSError(errno.EROFS, "Read-only file system"), "for writing"),
        (PermissionError(errno.EACCES, "Permission denied"), "write to /var/lib/kvsync"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "make it again"),
        (OSError(errno.EIO, "Input/output error"), "check /var/lib/kvsync"),
        (MemoryError(), "memory limit"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_each_failure_has_a_remedy(error: Exception, remedy: str) -> None:
    """What went wrong is followed by what to do."""
    assert remedy in reason_of(error, FILE)
