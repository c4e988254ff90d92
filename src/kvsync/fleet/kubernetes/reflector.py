"""
What to ask an API server next, given what came of what was asked before: no socket, no clock, no thread.

    start, expired ----> List page, page, ... ----> Watch from the list's version ----+
       ^                   |  410: from page one       |   ^                          |
       +-------------------+---------------------------+   +-- ended, failed: watch --+
                               410, in-stream or not           on from the last version heard

What is known stays known until a whole list or an event says otherwise. Pages are put together aside, and count when
the last has come. A bookmark moves the version on and says nothing of pods. A watch that fails `WATCH_FAILURES_MAX`
times without a word between is given up for a list: the server may have lost the version (one restored from a
backup says "too large"). Such a list proves nothing of watches: what was wrong with them stays said, and pauses go on
growing, until one of them tells something. Else a server that lists and refuses or expires every watch would be asked
without an end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from kvsync.fleet.kubernetes.failure import GONE, MALFORMED, Failure, failure_of
from kvsync.fleet.kubernetes.reading import Reading
from kvsync.stream.backoff import Backoff

WATCH_FAILURES_MAX: Final = 3
SHORT_S: Final = 1.0
"""A watch that ends sooner, without an event, has failed: to go on at once would be to run in circles."""


@dataclass(frozen=True, slots=True)
class List:
    """Ask for a page of the list: the first, or the one that the token stands for."""

    continue_token: str | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Ask for what happens after the version."""

    version: str


Step: TypeAlias = List | Watch


class Reflector:
    """
    The pods of one list, as last heard, in `readings` by name. Not thread-safe.

    `failure` is the present trouble, None while all is well; `failures` counts those in a row. `is_listed` says that a
    whole list has come at least once.
    """

    # The state: _version None means that a list is due; _pages holds it while it comes. _is_of_watch says that the last
    # failure is a watch's, and that no watch has been well since; _is_latest that nothing at all came since it.

    def __init__(self, read: Callable[[Mapping[str, Any]], Reading], backoff: Backoff) -> None:
        self.readings: dict[str, Reading] = {}
        self.is_listed = False
        self.failure: Failure | None = None
        self.failures = 0
        self._read = read
        self._backoff = backoff
        self._version: str | None = None
        self._continue: str | None = None
        self._pages: dict[str, Reading] = {}
        self._is_of_watch = self._is_latest = False

    def __repr__(self) -> str:
        return f"<Reflector pods={len(self.readings)} next={self.next()} failures={self.failures}>"

    def next(self) -> Step:
        """What to ask now."""
        return List(self._continue) if self._version is None else Watch(self._version)

    def pause_s(self) -> float:
        """How long to wait before that."""
        if self.failure is None or not self._is_latest or (self.failures == 1 and self.failure.status == GONE):
            return 0.0
        return max(self._backoff.pause(), self.failure.retry_after_s)

    def page(self, document: Any) -> None:
        """A page of the list has come."""
        items = document.get("items") if isinstance(document, dict) else None
        version = _version_of(document)
        if not isinstance(items, list) or version is None:
            self.failed(Failure(200, MALFORMED, "the answer is no list of pods; is the server's address right?"))
            return
        self._is_latest = False
        for item in items:
            self._put(self._pages, item)
        self._continue = document["metadata"].get("continue") or None
        if self._continue is None:
            self.readings, self._pages, self.is_listed = self._pages, {}, True
            self._version = version
            if not self._is_of_watch:
                self._well()

    def opened(self) -> None:
        """A watch was answered: the server is there. Whether it is well shows when the watch tells something."""
        self.failure = None

    def event(self, document: Any) -> bool:
        """A line of the watch has come; False where the watch is over with it."""
        kind = document.get("type") if isinstance(document, dict) else None
        item = document.get("object") if isinstance(document, dict) else None
        if kind == "ERROR":
            self.failed(failure_of(item, 500))
            return False
        version = _version_of(item)
        if version is None or not isinstance(item, dict):
            self.failed(Failure(200, MALFORMED, f"a watch sent {str(document)[:80]!r}, which is no event"))
            return False
        if kind in ("ADDED", "MODIFIED"):
            self._put(self.readings, item)
        elif kind == "DELETED":
            self.readings.pop(self._read(item).name, None)
        self._version = version  # of a bookmark, and of whatever a later release may send, too
        self._well()
        return True

    def ended(self, *, lived_s: float, events: int) -> None:
        """The server ended the watch in good order, as it does from time to time."""
        if lived_s < SHORT_S and not events:
            self.failed(Failure(200, "Ended", f"a watch ended after {lived_s:.2f} s without an event"))
        else:
            self._well()

    def failed(self, failure: Failure) -> None:
        """Something did not come, was refused, or was cut off."""
        self.failure = failure
        self.failures += 1
        self._is_of_watch, self._is_latest = self._version is not None, True
        if failure.status == GONE or (self._is_of_watch and self.failures % WATCH_FAILURES_MAX == 0):
            self._version, self._continue, self._pages = None, None, {}

    def _well(self) -> None:
        self.failure, self.failures = None, 0
        self._is_of_watch = self._is_latest = False
        self._backoff.reset()

    def _put(self, readings: dict[str, Reading], item: Any) -> None:
        reading = self._read(item if isinstance(item, dict) else {})
        readings[reading.name] = reading


def _version_of(item: Any) -> str | None:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) and version else None
