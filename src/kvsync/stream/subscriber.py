"""
All engines' sockets and the one thread that serves them.

    any thread     add, remove, status: checked and noted under the lock; what needs a socket becomes a command
    I/O thread     waits for descriptors, runs commands, gives each engine with something to do a bounded turn, and
                   every `tick_s` lets time pass for all: retries, overdue replays, probes

Engines have their turns in groups: all lines of a group are read, then one look tells which monitors have news, then
the core applies the batches that plainly follow, and the links are told the rest. An engine that has more to say than
fits in its turn is served again in the next round, after the others; no engine can hold up another for longer than one
turn.
Sockets are opened, used and closed in the I/O thread only. Batches are applied there too: the index releases the GIL
and bounds its own work.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from random import Random
from types import TracebackType
from typing import Final, Self

from kvsync.errors import CapacityError, ClosedError, ConfigError, KvsyncError
from kvsync.stream.endpoints import Source, check_source
from kvsync.stream.files import make_room
from kvsync.stream.link import Link, Tap
from kvsync.stream.options import SubscriberOptions
from kvsync.stream.receiver import LOST, SILENCE, Burst, Follower, Haul
from kvsync.stream.replays import Turns, Urgency
from kvsync.stream.sequence import Bookmark
from kvsync.stream.sockets import WatchedSocket, new_context
from kvsync.stream.status import Pulse, StreamStatus
from kvsync.stream.target import Target
from kvsync.types import Engine

logger = logging.getLogger(__name__)

THREAD_NAME: Final = "kvsync-stream"
JOIN_S: Final = 10.0
PROBES_TOGETHER: Final = 4.0
"""How many probes may be sent at once after a pause."""

WAKE_BYTES: Final = 4096

CROWD_PER_S: Final = 1_000.0
"""Turns a second from which on it pays to let some gather."""

GATHER_S_PER_TURN: Final = 1.6e-6
"""From one round to the next, for each turn a second: 4 ms at 2,500."""

GROUP_LINKS: Final = 16
"""Engines that have their turns together: what was read of them is in memory at once."""

Command = Callable[[], None]


def gather_s(turns_per_s: float, most_s: float) -> float:
    """How long after the last a round may begin, in seconds: the more turns there are, the more it saves."""
    return 0.0 if turns_per_s < CROWD_PER_S else min(most_s, turns_per_s * GATHER_S_PER_TURN)


class Subscriber:
    """
    Follows the event streams of any number of engines into one index.

    Nothing is received before `start()`. `tap` is shown every message as it came, in the I/O thread. What
    was learned stays in the index after `remove` and `close`. `interest` says how much an engine is asked for: where
    replays wait for each other the larger goes first. It is called in the I/O thread. `clock` gives the time
    in seconds.
    """

    # Guarded by `_lock`: _links, _commands, _closing. The rest belongs to the I/O thread, or never changes.

    def __init__(
        self,
        index: Target,
        options: SubscriberOptions | None = None,
        tap: Tap | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = SubscriberOptions() if options is None else options
        self.target = index
        self.follower: Follower | None = index if isinstance(index, Follower) else None
        self.tap = tap
        self.interest: Callable[[Engine], float] | None = None
        self._clock = clock
        self.context = new_context(self.options)
        self._rng = Random(self.options.seed)
        self._lock = threading.Lock()
        self._links: dict[Engine, Link] = {}
        self._commands: deque[Command] = deque()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._wake_here, self._wake_there = socket.socketpair()
        self._wake_here.setblocking(False)
        self._wake_there.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_here, selectors.EVENT_READ, None)
        self._monitors = selectors.DefaultSelector()
        self._selector.register(self._monitors.fileno(), selectors.EVENT_READ, self._monitors)
        self._open_links: deque[Link] = deque()
        self._hot: dict[Link, None] = {}
        self._turns: Turns[Link] = Turns(self.options.replays_max, self.options.replay_spread_s, self._rng)
        self._probes = PROBES_TOGETHER
        self._ticked_at = 0.0
        self._turns_taken = 0
        self._round_at = 0.0
        self._gather_s = 0.0

    def __repr__(self) -> str:
        state = "closed" if self._closing else "running" if self._thread is not None else "not started"
        return f"<Subscriber {state} engines={len(self._links)} replays={self._turns.open}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        """Start the I/O thread; a second call does nothing."""
        with self._lock:
            self._check_open()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                self._thread.start()

    def add(self, source: Source, bookmark: Bookmark | None = None, *, is_whole: bool = True) -> None:
        """
        Follow an engine, from where `bookmark` says if its record in the index is still at hand.

        A record that was not exact when it was saved is not whole: it is built anew as soon as the engine's buffer is
        seen to reach back to the beginning.
        Without one a record of the engine belongs to an unknown past and is removed. Raises `ConfigError` for
        a source that cannot be used or an engine that is followed elsewhere; a port that does not answer is no
        error but a status, and tried for ever.
        """
        check_source(source)
        with self._lock:
            self._check_open()
            known = self._links.get(source.engine)
            if known is not None:
                if known.source != source:
                    raise ConfigError(
                        f"engine {source.engine} is followed at {known.source.events}: remove it before adding it"
                        f" at {source.events}"
                    )
                return
            if len(self._links) >= self.options.engines_max:
                raise CapacityError(f"engine {source.engine} is one too many: raise engines_max ({len(self._links)})")
            link = Link(source, self, Random(self._rng.random()), bookmark, is_whole=is_whole)
            self._links[source.engine] = link
            make_room(len(self._links))
            self._command(lambda: self._open(link))

    def remove(self, engine: Engine) -> None:
        """Stop following an engine; when this returns nothing of it is applied any more."""
        with self._lock:
            link = self._links.pop(engine, None)
            if link is not None and not self._closing:
                self._command(lambda: self._drop(link))
        if link is not None:
            link.detach()

    def status(self) -> dict[Engine, StreamStatus]:
        """Every engine's stream as it is now."""
        now = self._clock()
        return {link.source.engine: link.status(now) for link in self._followed()}

    def pulses(self) -> dict[Engine, Pulse]:
        """Whether each engine is connected, and how often it began anew: cheap, for those who look all the time."""
        return {link.source.engine: link.pulse() for link in self._followed()}

    def bookmarks(self) -> dict[Engine, Bookmark]:
        """Where a later process may go on, for every engine that has sent something."""
        marks = {link.source.engine: link.bookmark() for link in self._followed()}
        return {engine: mark for engine, mark in marks.items() if mark is not None}

    def hold(self, engine: Engine) -> AbstractContextManager[Bookmark | None]:
        """
        Apply nothing of an engine while the context lasts, so that its record can be saved with the bookmark given.

        All engines wait once it is this one's turn: be quick. None for one that is not followed, or has nothing to
        verify.
        """
        with self._lock:
            link = self._links.get(engine)
        return contextlib.nullcontext() if link is None else link.hold()

    def close(self) -> None:
        """Stop following, close every socket and end the thread; a second call does nothing."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            thread = self._thread
            with contextlib.suppress(OSError):  # the thread has ended by itself
                self._wake()
        if thread is None:
            self._close_all()
        elif thread is not threading.current_thread():
            thread.join(JOIN_S)
            if thread.is_alive():
                logger.error("the stream thread is still busy after %.0f s and is left behind", JOIN_S)

    # ------------------------------------------------------------------ for links

    def watch(self, sock: WatchedSocket, link: Link) -> None:
        """Give the link a turn whenever the socket has news, and once now: opening it may have eaten some."""
        self._selector.register(sock.fd, selectors.EVENT_READ, link)
        self._monitors.register(sock.monitor_fd, selectors.EVENT_READ, link)
        self.serve_soon(link)

    def unwatch(self, sock: WatchedSocket) -> None:
        """Forget a socket that is about to be closed."""
        self._selector.unregister(sock.fd)
        self._monitors.unregister(sock.monitor_fd)

    def serve_soon(self, link: Link) -> None:
        """Give the link a turn in the next round."""
        self._hot[link] = None

    def take_replay_turn(self, link: Link, urgency: Urgency, now: float) -> bool:
        """Whether a link may ask for its replay now; it is to try again if not."""
        weight = 0.0 if self.interest is None else self.interest(link.source.engine)
        return self._turns.take(link, urgency, now, weight)

    def give_replay_turn(self, link: Link) -> None:
        """A replay is over, or not wanted any more."""
        self._turns.give_back(link)

    # ------------------------------------------------------------------ the I/O thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._round()
        except Exception:
            logger.exception("the stream thread has ended: no engine is followed any more")
        finally:
            self._closing = True
            self._close_all()

    def _round(self) -> None:
        if self._gather_s and not self._hot:
            time.sleep(max(0.0, self._round_at + self._gather_s - self._clock()))
        wait_s = 0.0 if self._hot else max(0.0, self._ticked_at + self.options.tick_s - self._clock())
        for key, _ in self._selector.select(wait_s):
            if key.data is None:
                self._run_commands()
            elif key.data is self._monitors:
                self._hot |= self._with_news()
            else:
                self._hot[key.data] = None
        turn, self._hot = list(self._hot), {}
        self._turns_taken += len(turn)
        now = self._round_at = self._clock()
        at = 0
        while at < len(turn):
            at += self._serve(turn[at : at + GROUP_LINKS], now)
        if now >= self._ticked_at + self.options.tick_s:
            self._tick(now)

    def _serve(self, group: Sequence[Link], now: float) -> int:
        """Give each link its turn, or the first of them if what they say together is too much; gives how many."""
        for link in group:
            if not link.is_followed:
                link.begin(now)
        lines = {link: link.lane for link in group if link.lane is not None}
        haul = self.context.receiver.receive(list(lines.values()), self.options.burst_bytes)
        unread = list(lines)[haul.count :]
        served = group[: group.index(unread[0])] if unread else group
        news = self._with_news()  # after the messages: see `sockets`
        for link in news:
            link.stop()
        heard = self._follow(list(lines), haul, now)
        heard |= {link: SILENCE for link in served if link not in lines}
        for link, burst in heard.items():
            if link.take(burst, now, has_news=link in news):
                self._hot[link] = None
        return len(served)

    def _follow(self, lines: Sequence[Link], haul: Haul, now: float) -> dict[Link, Burst]:
        """Let the core apply what it can; gives what is left to look at."""
        try:
            places = haul.follow(self.follower, now)
        except KvsyncError:
            places = range(haul.count)  # each is told why when its batch is applied
        try:
            bursts = haul.bursts(places)
        except MemoryError:
            bursts = [LOST] * len(places)
        return dict(zip([lines[at] for at in places], bursts, strict=True))

    def _with_news(self) -> dict[Link, None]:
        return {key.data: None for key, _ in self._monitors.select(0)}

    def _tick(self, now: float) -> None:
        """Let time pass for every engine, each time beginning with another one: probes are rationed."""
        self._probes = min(PROBES_TOGETHER, self._probes + self.options.probes_per_s * (now - self._ticked_at))
        self._gather_s = gather_s(self._turns_taken / (now - self._ticked_at), self.options.gather_s)
        self._ticked_at, self._turns_taken = now, 0
        for link in tuple(self._open_links):
            if link.tick(now, may_probe=self._probes >= 1):
                self._probes -= 1
                self._open_links.remove(link)
                self._open_links.append(link)

    def _run_commands(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_here.recv(WAKE_BYTES)
        while self._commands:
            self._commands.popleft()()

    def _open(self, link: Link) -> None:
        self._open_links.append(link)
        link.tick(self._clock(), may_probe=False)

    def _drop(self, link: Link) -> None:
        link.close()
        self._open_links.remove(link)
        self._hot.pop(link, None)

    def _close_all(self) -> None:
        for link in self._open_links:
            link.close()
        self._open_links.clear()
        self._hot.clear()
        self._selector.close()
        self._monitors.close()
        self._wake_here.close()
        self._wake_there.close()
        self.context.term()

    # ------------------------------------------------------------------ helpers

    def _followed(self) -> list[Link]:
        with self._lock:
            return list(self._links.values())

    def _check_open(self) -> None:
        if self._closing:
            raise ClosedError("the subscriber is closed: make a new one")

    def _command(self, command: Command) -> None:
        self._commands.append(command)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # enough wake-ups are on their way
            self._wake_there.send(b"\0")
