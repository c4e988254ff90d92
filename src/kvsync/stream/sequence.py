"""
The order of one engine's frames, decided without sockets and without a clock of its own.

Numbers of one life run 0, 1, 2, ... and each is applied at most once, in rising order. What comes in is told
by a method; what is to be done comes back as a tuple of instructions, to be obeyed in that order.

    next expected, live            Apply
    above it                       a hole: RequestReplay from the first missing number; the frame waits
    live, <= the highest live      restart: Reset, RequestReplay(0). Within one life the live stream never goes back
    known number, other bytes      restart, likewise
    live, <= applied otherwise     a replay ran ahead of the live stream: a duplicate
    connected, first time          RequestReplay(0). An answer that begins later is accepted: the buffer has wrapped
    connected again                RequestReplay(last), live frames wait meanwhile. Same bytes: the same life.
                                   Other bytes, or nothing at all: restart. Only later ones: wrapped, Doubt
    silent for a while             the same question, without waiting

An answer is trusted as far as its numbers follow each other. Behind a hole inside it the question is put again,
from the hole; an answer that *begins* behind the number asked shows that the number is no longer there. Such a hole
is passed over: the next Apply jumps, and the index turns stale by that. Every question needs a new socket, so no
frame of an earlier answer can be taken for one of a later.

Three ways to a replay, see `Replay`: there is none, it may be asked for, or it comes unasked (in a capture).

Every frame told is accounted for at every moment: received = applied + duplicate + dropped + waiting. An end marker
is a frame with nothing to apply: it is dropped under its own name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import Final, TypeAlias

from kvsync.stream.frames import (
    NUMBER_MAX,
    PUB,
    WRONG_NUMBER,
    Batch,
    EndMarker,
    Frames,
    Unreadable,
    read_live,
    read_replay,
)
from kvsync.stream.instructions import Apply, Doubt, Drop, Instruction, Payload, RequestReplay, Reset
from kvsync.stream.options import SequenceOptions

DUPLICATE: Final = "duplicate"
END_MARKER: Final = "end_marker"
OLD_LIFE: Final = "old_life"
OVERFLOW: Final = "overflow"
REPLAY_ORDER: Final = "replay_order"
RECONNECT: Final = "reconnect"
RESTART: Final = "restart"
UNASKED: Final = "unasked"

UNVERIFIED: Final = "unverified"
WRAPPED: Final = "wrapped"
OVERSIZE: Final = "oversize"

NEVER_MAX = 1_024
"""Over-size numbers remembered; a publisher that sends more of them has stopped being followable."""

DIGEST_BYTES = 8


class Replay(Enum):
    """How missing numbers may come back."""

    NONE = "none"
    """The engine has no replay port: a hole is passed over at once."""

    ASKED = "asked"
    """By request."""

    GIVEN = "given"
    """Unasked, at any time: in a capture the questions are not recorded, only the answers."""


class Purpose(Enum):
    """Why a replay was asked for."""

    BEGINNING = "beginning"
    GAP = "gap"
    VERIFY = "verify"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Bookmark:
    """The last batch applied, as far as a later process needs it to tell the same life from another."""

    number: int
    digest: bytes


Last: TypeAlias = Bookmark | tuple[int, Payload]
"""The last batch applied: as it came, or as an earlier process noted it."""


@dataclass(slots=True)
class Counters:
    """
    What has happened since the stream was first followed.

    `gaps` counts holes met, `unfilled` those passed over.
    """

    received: int = 0
    applied: int = 0
    duplicate: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    unfilled: int = 0
    replays: int = 0
    replay_failures: int = 0
    restarts: int = 0
    reconnects: int = 0
    oversize: int = 0


@dataclass(slots=True)
class _Asked:
    """
    A replay under way.

    `last` is the batch whose bytes must come first, until they have. `heard` is the last number of the
    answer so far. `applied` and `live_last` are those of the moment of asking.
    """

    start: int
    purpose: Purpose
    deadline: float
    last: Last | None
    applied: int | None
    live_last: int | None
    heard: int | None = None


class Sequence:
    """
    The order of one engine's frames.

    `phase` in [0, 1) spreads the probes of many engines in time. `bookmark` is where an earlier process
    stopped: the first connection is then treated as a reconnection.
    """

    # The whole mutable state, beside the counters:
    #   connected, _was_connected   the live socket now, and ever
    #   applied     the last number applied or passed over in this life; None before the first
    #   live_last   the highest number heard live in this life
    #   _last       the last batch applied, for the byte check; None behind an over-size one: an answer would meet it
    #   _digests    number -> digest of batches whose number may be heard a second time, oldest first
    #   _waiting    number -> batch, all above `applied`: kept until the hole below is filled or given up
    #   _never      numbers too large to receive: passed over when their turn comes, never asked for
    #   _asked      the replay under way
    #   _unread     live frames to come that may be of a connection before
    #   _connects   connections since the last live frame that was made use of
    #   _attempts   replays without progress in a row
    #   _answers    whether the last replay asked for was answered; None before the first
    #   _emptied    the index was told that a new life is empty, and nothing was applied since
    #   _bufferless the engine answers with nothing though it has published: its buffer has no room
    #   _probe_at   when a silent stream is probed

    def __init__(
        self,
        options: SequenceOptions | None = None,
        *,
        replay: Replay = Replay.ASKED,
        phase: float = 0.0,
        bookmark: Bookmark | None = None,
    ) -> None:
        self.options = SequenceOptions() if options is None else options
        self.counters = Counters()
        self.connected = False
        self.applied: int | None = None if bookmark is None else bookmark.number
        self.live_last: int | None = None
        self.last_event_at: float | None = None
        self._replay = replay
        # Between half and nine tenths of the allowed silence: early enough for the answer to be in time.
        self._probe_after = self.options.probe_idle_s * (0.5 + 0.4 * phase)
        self._probe_at = 0.0
        self._was_connected = False
        self._last: Last | None = bookmark
        self._digests: dict[int, bytes] = {}
        self._waiting: dict[int, Payload] = {}
        self._waiting_bytes = 0
        self._never: set[int] = set()
        self._asked: _Asked | None = None
        self._unread = 0
        self._connects = 0
        self._attempts = 0
        self._answers: bool | None = None
        self._emptied = False
        self._bufferless = False

    def __repr__(self) -> str:
        counters = self.counters
        return (
            f"<Sequence {self.state} applied={self.applied} live={self.live_last} waiting={len(self._waiting)}"
            f" gaps={counters.gaps} restarts={counters.restarts}>"
        )

    # ------------------------------------------------------------------ what can be seen

    @property
    def state(self) -> str:
        """`connecting`, `disconnected`, `replaying` or `live`."""
        if not self.connected and self._replay is not Replay.GIVEN:
            return "disconnected" if self._was_connected else "connecting"
        behind = self._asked is not None and self._asked.purpose is not Purpose.PROBE
        return "replaying" if behind or self._waiting else "live"

    @property
    def asked(self) -> int | None:
        """The start of the replay under way; None means that its socket is no longer needed."""
        return None if self._asked is None else self._asked.start

    @property
    def waiting(self) -> int:
        """Frames kept above a hole."""
        return len(self._waiting)

    @property
    def replay_available(self) -> bool | None:
        """Whether the last replay asked for was answered; None before the first, False without a port."""
        return False if self._replay is Replay.NONE else self._answers

    @property
    def bookmark(self) -> Bookmark | None:
        """Where to go on from in another process; None if there is nothing that could be verified."""
        if self._last is None or isinstance(self._last, Bookmark):
            return self._last
        number, payload = self._last
        return Bookmark(number, digest(payload))

    def wants_probe(self, now: float) -> bool:
        """Whether the next `tick` would probe, if it may."""
        idle = self._replay is Replay.ASKED and self.connected and self._asked is None
        return idle and now >= self._probe_at

    # ------------------------------------------------------------------ frames

    def live(self, number: int, payload: Payload, now: float) -> tuple[Instruction, ...]:
        """Take a frame of the live stream."""
        self.counters.received += 1
        if number > NUMBER_MAX:
            return (self._drop(WRONG_NUMBER),)
        out: list[Instruction] = []
        went_back = self.live_last is not None and number <= self.live_last
        if went_back and self._connects <= 1:
            self._unread = 0  # what comes from here on is of the new life too
        is_unread = self._count_unread()
        if is_unread and self._replay is Replay.ASKED:
            # Whosever it is, the answer that the new connection has asked for holds it if it matters.
            return (self._drop(RECONNECT),)
        self._connects = 0
        if went_back:
            self._restart(out, "the live stream went back")
        elif self._differs(number, payload):
            self._restart(out, "a known number came with other bytes")
        elif self._leaves_hole(number):
            self.counters.gaps += 1
        self.live_last = number
        self.last_event_at = now
        self._probe_at = now + self._probe_after
        self._take(out, number, payload)
        if self._asked is None and self._is_behind():
            self._ask_for_missing(out, now)
        if is_unread:
            out.append(Doubt(UNVERIFIED))
        return tuple(out)

    def replayed(self, number: int, payload: Payload, now: float) -> tuple[Instruction, ...]:
        """Take a frame of a replay."""
        self.counters.received += 1
        if number > NUMBER_MAX:
            return (self._drop(WRONG_NUMBER),)
        out: list[Instruction] = []
        if self._replay is Replay.GIVEN:
            if self._differs(number, payload):
                self._restart(out, "a known number was replayed with other bytes")
            self._take(out, number, payload)
        elif self._asked is None:
            out.append(self._drop(UNASKED))
        elif self._asked.heard is not None and number <= self._asked.heard:
            # Does not put off the deadline either: an answer that turns in circles must end.
            out.append(self._drop(REPLAY_ORDER))
        else:
            self._take_answer(out, self._asked, number, payload, now)
        return tuple(out)

    def replay_ended(self, now: float) -> tuple[Instruction, ...]:
        """Take the end marker of a replay."""
        self.counters.received += 1
        out: list[Instruction] = [self._drop(END_MARKER)]
        asked, self._asked = self._asked, None
        if asked is None:
            return tuple(out)
        self._answers, self._attempts = True, 0
        self._probe_at = now + self._probe_after
        self._bufferless = self._bufferless or self._is_contradicted(asked)
        if asked.last is None:
            self._settle(out, asked, now)
        elif not self._bufferless:
            # A living engine always keeps its last batch.
            silent = asked.heard is None and not self._waiting
            self._restart(out, "the replay buffer has lost the last batch", empty=silent)
            if not silent:
                self._ask(out, 0, Purpose.BEGINNING, now)
        else:
            if asked.purpose is Purpose.VERIFY:
                out.append(Doubt(UNVERIFIED))
            self._settle(out, asked, now)
        return tuple(out)

    def unreadable(self, reason: str) -> tuple[Instruction, ...]:
        """Take note of a message that has no number to go by."""
        self.counters.received += 1
        self._count_unread()
        return (self._drop(reason),)

    # ------------------------------------------------------------------ the sockets

    def connect(self, now: float, *, unread: int = 0) -> tuple[Instruction, ...]:
        """
        Take note that the live socket is connected, for the first time or again.

        `unread` live frames were read along with this news, and may be of the connection before. They come next.
        """
        out: list[Instruction] = []
        again = self._was_connected or isinstance(self._last, Bookmark)
        self.counters.reconnects += self._was_connected
        self.connected = self._was_connected = True
        self._attempts = 0
        if not again and self._asked is not None:
            return ()  # a live frame was faster than the news of the connection
        known = again and self.applied is not None
        self._unread = unread if again else 0
        self._connects += 1
        if again and not known:
            self._throw_away(RECONNECT)  # of whatever life they were, this one's answer begins at 0
            self.live_last = None
        if self._replay is Replay.ASKED and known and self._last is not None:
            self._ask(out, _number(self._last), Purpose.VERIFY, now)
            return tuple(out)
        if known:
            out.append(Doubt(UNVERIFIED))
        if self._replay is Replay.ASKED:
            self._ask_for_missing(out, now)
        return tuple(out)

    def disconnect(self) -> None:
        """Take note that the live socket lost its connection. It proves nothing: what is recorded stays."""
        self.connected = False

    def replay_sent(self, now: float) -> None:
        """Take note that the request has only now been sent: its time runs from here."""
        if self._asked is not None:
            self._asked.deadline = now + self.options.replay_timeout_s

    def replay_failed(self, now: float) -> tuple[Instruction, ...]:
        """Take note that the replay under way will not come to its end."""
        asked, self._asked = self._asked, None
        if asked is None:
            return ()
        out: list[Instruction] = []
        self.counters.replay_failures += 1
        self._answers = asked.heard is not None
        self._probe_at = now + self._probe_after
        if self.connected:  # else the next connection asks anew
            self._after_failure(out, asked, now, progressed=self.applied != asked.applied)
        return tuple(out)

    def oversize(self) -> tuple[Instruction, ...]:
        """
        Take note that a live frame was too large to receive.

        It was the one after the last heard: a connection keeps its order.
        """
        self.counters.oversize += 1
        out: list[Instruction] = [Doubt(OVERSIZE)]
        if self.live_last is not None:
            self.live_last += 1
            self._pass_over(out, self.live_last)
        return tuple(out)

    def oversize_replayed(self, now: float) -> tuple[Instruction, ...]:
        """Take note that a frame of the replay under way was too large to receive."""
        asked, self._asked = self._asked, None
        if asked is None:
            return ()
        out: list[Instruction] = [Doubt(OVERSIZE)]
        self.counters.oversize += 1
        progressed = self.applied != asked.applied
        if asked.heard is None:
            self._pass_over(out, asked.start)
        else:
            self._answers = True
            self._pass_over(out, asked.heard + 1)
        self._after_failure(out, asked, now, progressed=progressed)
        return tuple(out)

    def tick(self, now: float, *, may_probe: bool = True) -> tuple[Instruction, ...]:
        """Let time pass: a replay may be overdue, a silent stream may want a probe."""
        if self._asked is not None and now >= self._asked.deadline:
            return self.replay_failed(now)
        out: list[Instruction] = []
        if may_probe and self.wants_probe(now):
            self._ask(out, self._expected() if self._last is None else _number(self._last), Purpose.PROBE, now)
        return tuple(out)

    def give_up(self) -> tuple[Instruction, ...]:
        """Nothing more will come: what waits is applied over its holes."""
        out: list[Instruction] = []
        self._asked = None
        self._abandon_holes(out)
        return tuple(out)

    # ------------------------------------------------------------------ decisions

    def _expected(self) -> int:
        return 0 if self.applied is None else self.applied + 1

    def _count_unread(self) -> bool:
        self._unread -= (is_unread := self._unread > 0)
        return is_unread

    def _is_behind(self) -> bool:
        """Whether the live stream has shown a number that is not applied yet."""
        return self.live_last is not None and (self.applied is None or self.applied < self.live_last)

    def _leaves_hole(self, number: int) -> bool:
        known = [top for top in (self.applied, self.live_last) if top is not None]
        return bool(known) and number > max(known) + 1

    def _is_contradicted(self, asked: _Asked) -> bool:
        """Whether an answer without a single batch comes from an engine that had surely published some."""
        if asked.heard is not None:
            return False
        if asked.last is None:
            return asked.live_last is not None and asked.live_last >= asked.start
        return asked.purpose is Purpose.PROBE and self.live_last != asked.live_last

    def _is_held(self) -> bool:
        """Whether live frames wait although they follow: it is not yet certain whom they follow."""
        return self._asked is not None and self._asked.purpose is Purpose.VERIFY and self._asked.last is not None

    def _differs(self, number: int, payload: Payload) -> bool:
        known = self._digests.get(number)
        if known is not None:
            return known != digest(payload)
        waiting = self._waiting.get(number)
        return waiting is not None and waiting != payload

    def _take(self, out: list[Instruction], number: int, payload: Payload) -> None:
        """Apply a frame, keep it, or drop it as known."""
        expected = self._expected()
        if number < expected or number in self._waiting:
            out.append(self._drop_duplicate())
        elif number == expected and not self._is_held():
            self._apply(out, number, payload)
            self._advance(out)
        elif self._replay is Replay.NONE:
            self.counters.unfilled += self.applied is not None
            self._apply(out, number, payload)
        else:
            self._keep(out, number, payload)

    def _take_answer(self, out: list[Instruction], asked: _Asked, number: int, payload: Payload, now: float) -> None:
        is_first = asked.heard is None
        asked.heard = number
        asked.deadline = now + self.options.replay_timeout_s
        self._bufferless = False
        if asked.last is not None and number >= asked.start:
            last, asked.last = asked.last, None
            if number == asked.start and not _same(last, payload):
                self._restart_from_answer(out, now)
                return
            if number == asked.start + 1 == self._expected():
                out.append(Doubt(WRAPPED))  # nothing is missing, but nothing proves that this is the same life
        if self._differs(number, payload):
            self._restart_from_answer(out, now)
        elif number <= self._expected():
            self._take(out, number, payload)
            self._advance(out)
        elif is_first:
            self._jump_to(out, number, payload)
        else:
            self._keep(out, number, payload)
            self._ask_for_missing(out, now)

    def _restart_from_answer(self, out: list[Instruction], now: float) -> None:
        # The answer belongs to the new life, but not to its beginning.
        out.append(self._drop(RESTART))
        self._restart(out, "a known number was replayed with other bytes")
        self._ask(out, 0, Purpose.BEGINNING, now)

    def _settle(self, out: list[Instruction], asked: _Asked, now: float) -> None:
        """After a complete answer: what is still missing is asked for again, or is not to be had."""
        self._advance(out)
        if not self._is_behind():
            return
        older_than_hole = asked.live_last is None or self._expected() > asked.live_last
        if self.applied == asked.applied and not older_than_hole:
            if self._waiting:
                self._jump(out, min(self._waiting))
            else:
                self._abandon_holes(out)
        if self._is_behind():
            self._ask_for_missing(out, now)

    def _after_failure(self, out: list[Instruction], asked: _Asked, now: float, *, progressed: bool) -> None:
        """Ask again from the first hole, or go on without."""
        if asked.purpose is Purpose.PROBE and not self._is_behind():
            return  # nothing is known to be missing, and the next probe comes anyway
        self._attempts = 0 if progressed else self._attempts + 1
        unverified = asked.purpose is Purpose.VERIFY and asked.last is not None
        if self._attempts < self.options.replay_attempts:
            if unverified:
                self._ask(out, asked.start, Purpose.VERIFY, now)
            else:
                self._ask_for_missing(out, now)
            return
        if asked.heard is None:
            self._attempts = self.options.replay_attempts - 1  # a dead port gets one chance from here on, not all
        self._abandon_holes(out)
        if unverified:
            out.append(Doubt(UNVERIFIED))

    def _restart(self, out: list[Instruction], reason: str, *, empty: bool = False) -> None:
        self.counters.restarts += 1
        self._throw_away(OLD_LIFE)
        self._digests.clear()
        self._never.clear()
        self.applied = self.live_last = None
        self._last = self._asked = None
        self._attempts = 0
        self._bufferless = False
        self._emptied = empty
        out.append(Reset(reason, empty))

    # ------------------------------------------------------------------ steps

    def _ask_for_missing(self, out: list[Instruction], now: float) -> None:
        if self._replay is Replay.ASKED:
            self._ask(out, self._expected(), Purpose.BEGINNING if self.applied is None else Purpose.GAP, now)

    def _ask(self, out: list[Instruction], start: int, purpose: Purpose, now: float) -> None:
        last = self._last if purpose in (Purpose.VERIFY, Purpose.PROBE) else None
        deadline = now + self.options.replay_timeout_s
        self._asked = _Asked(start, purpose, deadline, last, self.applied, self.live_last)
        self.counters.replays += 1
        out.append(RequestReplay(start))

    def _apply(self, out: list[Instruction], number: int, payload: Payload) -> None:
        if self._emptied and number != 0:
            out.append(Reset("the new life was not empty"))
        self._emptied = False
        self.counters.applied += 1
        self.applied = number
        self._last = (number, payload)
        if self._replay is Replay.GIVEN or self.live_last is None or number > self.live_last:
            self._digests[number] = digest(payload)
            if len(self._digests) > self.options.digests_max:
                del self._digests[next(iter(self._digests))]
        out.append(Apply(number, payload))

    def _advance(self, out: list[Instruction]) -> None:
        """Apply what waits, as far as its numbers follow."""
        while not self._is_held():
            expected = self._expected()
            if expected in self._waiting:
                self._apply(out, expected, self._unkeep(expected))
            elif expected in self._never:
                self._never.discard(expected)
                self.counters.unfilled += 1
                self.applied, self._last = expected, None
            else:
                return

    def _keep(self, out: list[Instruction], number: int, payload: Payload) -> None:
        if number in self._waiting:
            out.append(self._drop_duplicate())
            return
        self._waiting[number] = payload
        self._waiting_bytes += len(payload)
        while self._is_overfull():
            if self._replay is Replay.GIVEN:
                self._jump(out, min(self._waiting))
            else:
                self._throw_away(OVERFLOW)
                out.append(Drop(OVERFLOW))

    def _unkeep(self, number: int) -> Payload:
        payload = self._waiting.pop(number)
        self._waiting_bytes -= len(payload)
        return payload

    def _is_overfull(self) -> bool:
        options = self.options
        return len(self._waiting) > options.waiting_frames_max or self._waiting_bytes > options.waiting_bytes_max

    def _throw_away(self, reason: str) -> None:
        if self._waiting:
            self.counters.dropped[reason] += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _pass_over(self, out: list[Instruction], number: int) -> None:
        if number >= self._expected() and len(self._never) < NEVER_MAX:
            self._never.add(number)
            self._advance(out)

    def _jump(self, out: list[Instruction], lowest: int) -> None:
        """Pass over the hole below the lowest waiting frame: the numbers tell the index."""
        self.counters.unfilled += self.applied is not None
        self._apply(out, lowest, self._unkeep(lowest))
        self._advance(out)

    def _jump_all(self, out: list[Instruction], below: int = NUMBER_MAX + 1) -> None:
        for number in sorted(self._waiting):
            if number < below and number in self._waiting:  # a follower of a lower one is gone already
                self._jump(out, number)

    def _jump_to(self, out: list[Instruction], number: int, payload: Payload) -> None:
        """Pass over every hole below a frame that starts an answer: what is not there is nowhere."""
        self._jump_all(out, below=number)
        if self._expected() < number:
            self.counters.unfilled += self.applied is not None
            self.applied = number - 1
        self._take(out, number, payload)
        self._advance(out)

    def _abandon_holes(self, out: list[Instruction]) -> None:
        self._jump_all(out)
        if self._is_behind():
            # Thrown away, and not to be had again: no later number need ever show it.
            self.counters.unfilled += 1
            self.applied = self.live_last
            out.append(Doubt(OVERFLOW))

    def _drop(self, reason: str) -> Drop:
        self.counters.dropped[reason] += 1
        return Drop(reason)

    def _drop_duplicate(self) -> Drop:
        self.counters.duplicate += 1
        return Drop(DUPLICATE)


def feed(sequence: Sequence, channel: str, frames: Frames, now: float) -> tuple[Instruction, ...]:
    """
    Hand a multipart message of either channel to its method.
    """
    message = read_live(frames) if channel == PUB else read_replay(frames)
    match message:
        case Unreadable(reason):
            return sequence.unreadable(reason)
        case EndMarker():
            return sequence.replay_ended(now)
        case Batch(number, payload):
            return (sequence.live if channel == PUB else sequence.replayed)(number, payload, now)


def digest(payload: Payload) -> bytes:
    """
    Tell one batch from another, in this process and in the next.

    Batches heard live in order are never digested, so this is not on the path that must be fast: 64 bits that
    mean what they say are worth more here than the few microseconds a CRC would save.
    """
    return blake2b(payload, digest_size=DIGEST_BYTES).digest()


def _number(last: Last) -> int:
    return last.number if isinstance(last, Bookmark) else last[0]


def _same(last: Last, payload: Payload) -> bool:
    return last.digest == digest(payload) if isinstance(last, Bookmark) else last[1] == payload
