"""
A lock that nobody takes twice while somebody else waits for it.

A `threading.RLock` that is given back and taken again at once stays with its thread: who sleeps before it has hardly
woken up when it is gone again. The thread of the streams does that with the lock of an engine that never stops sending,
and whoever asks for that engine's status would wait for as long as it sends.
"""

from __future__ import annotations

from threading import Lock, get_ident
from types import TracebackType


class FairLock:
    """
    Held in a `with`, or from `acquire` to `release`; its owner may take it again, and gives it back as often.

    Who waits for it holds the place at its door, so the one who has just left finds that taken.
    """

    __slots__ = ("_depth", "_door", "_owner", "_room")

    def __init__(self) -> None:
        self._door = Lock()
        self._room = Lock()
        self._owner = 0
        self._depth = 0

    def __repr__(self) -> str:
        return f"<FairLock {'held' if self._depth else 'free'}>"

    def acquire(self) -> None:
        """Wait until it is ours."""
        me = get_ident()
        if self._owner != me:
            with self._door:
                self._room.acquire()
            self._owner = me
        self._depth += 1

    def release(self) -> None:
        """Give it back; only its owner may."""
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            self._room.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
