"""
Where the daemon keeps its snapshot: one folder, used by one daemon at a time.

    index.snapshot                  the last good one
    .index.snapshot.*               one that is being written; what is left of it goes when the daemon starts again
    index.snapshot.refused-<time>   what could not be loaded: the last few, for whoever wants to know why
    lock                            held while a daemon runs

The files are of mode 0600, the folder is made with 0700. A file is believed only if it is ours or root's, and nobody
but owner and group may write to it: a volume of Kubernetes with an fsGroup opens every file to that group, so the group
is only told of. A folder that anyone may write to is told of as well: others could remove the snapshot, not plant one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from pathlib import Path

from kvsync.errors import ConfigError
from kvsync.index.snapshot import unfinished

NAME = "index.snapshot"
REFUSED_KEPT = 3

_logger = logging.getLogger(__name__)


class SnapshotFolder:
    """
    The folder, locked until `close`.

    Raises `ConfigError` if it cannot be one, or is another daemon's. One that can be read and not written to is taken:
    what is in it can be loaded, and each attempt to save says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / NAME
        _make(path)
        self._lock = _lock(path)
        _warn_of_folder(path)
        self._sweep()

    def close(self) -> None:
        """Let another daemon have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def why_not(self) -> str | None:
        """Why the file there is not to be believed; None if it may be. It exists."""
        found = self.file.stat()
        if found.st_uid not in (os.geteuid(), 0):
            return f"{self.file} belongs to user {found.st_uid}, not to us ({os.geteuid()}); it is not believed"
        if found.st_mode & stat.S_IWOTH:
            return f"{self.file} can be written to by anyone (mode {stat.S_IMODE(found.st_mode):o}); it is not believed"
        if found.st_mode & (stat.S_IRWXG | stat.S_IROTH):
            _logger.warning(
                "%s has mode %o and holds the secret seed of the index; close it with chmod 600",
                *(self.file, stat.S_IMODE(found.st_mode)),
            )
        return None

    def set_aside(self) -> Path | None:
        """Keep a file that was refused under another name; None if that cannot be done."""
        aside = self.path / f"{NAME}.refused-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        try:
            self.file.rename(aside)
            for old in sorted(self.path.glob(f"{NAME}.refused-*"))[:-REFUSED_KEPT]:
                old.unlink()
        except OSError as error:
            _logger.warning("%s cannot be set aside (%s)", self.file, error.strerror)
            return None
        return aside

    def _sweep(self) -> None:
        for left in self.path.glob(f"{unfinished(self.file)}*"):
            try:
                left.unlink()
            except OSError as error:
                _logger.warning("%s was left unfinished and cannot be removed (%s)", left, error.strerror)


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        next(path.iterdir(), None)
    except OSError as error:
        raise ConfigError(f"--snapshot-dir {path} cannot be used ({error.strerror}); name a folder of ours") from error


def _lock(path: Path) -> int | None:
    try:
        handle = os.open(path / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None  # nothing can be written here, so there is nothing to fight for
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"--snapshot-dir {path} is in use by another daemon; give each daemon a folder of its own"
        ) from error
    return handle


def _warn_of_folder(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        _logger.warning(
            "--snapshot-dir %s can be written to by anyone (mode %o): others can remove the snapshot; chmod 700 it",
            *(path, stat.S_IMODE(mode)),
        )
