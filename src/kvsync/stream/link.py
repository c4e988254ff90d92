"""
One engine's sockets around its `Sequence`: frames and connections in, instructions carried out.

All methods but `status`, `bookmark` and `detach` belong to the I/O thread. A turn is bounded. It begins (`begin`) with
what may be read of the line. Then the subscriber takes the messages of several engines out and looks which monitors
have news, and after that the messages are told to the sequence (`take`). In that order no message of a new connection
is taken for one of the old, see `sockets`; those read along with the news of a new connection may be of either, and the
sequence is told how many they are.

As long as nothing but the next batch is expected of an engine its lane is open, see `lane`: such batches are applied by
the core, and this link has no turn for them. Whoever looks at the sequence, in any thread, closes the lane first and
tells the sequence what was followed (`_settle`). The next turn or tick opens it again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from random import Random
from typing import Final, Protocol, TypeAlias

from kvsync.errors import KvsyncError
from kvsync.stream.backoff import Backoff
from kvsync.stream.budget import Budget, cost_of
from kvsync.stream.connection import DOWN, MISMATCH, REFUSED, RETRIED, UP, Connection, refusal
from kvsync.stream.endpoints import Source
from kvsync.stream.fairlock import FairLock
from kvsync.stream.frames import PUB, REPLAY, Frames
from kvsync.stream.instructions import Drop, Instruction, RequestReplay
from kvsync.stream.lane import Lane
from kvsync.stream.options import SubscriberOptions
from kvsync.stream.receiver import SILENCE, Burst, Follower
from kvsync.stream.replays import Urgency
from kvsync.stream.sequence import Bookmark, Replay, Sequence, feed
from kvsync.stream.sockets import Context, Line, Question, SocketError, WatchedSocket, size_of
from kvsync.stream.status import Pulse, StreamStatus, status_of
from kvsync.stream.target import Target, carry_out
from kvsync.types import Engine

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How long the core may follow a stream and nobody looks."""

Tap: TypeAlias = Callable[[Engine, str, Frames], None]
"""Is shown every message as it came, in the I/O thread: it must be quick."""


class Home(Protocol):
    """What a link needs of the subscriber it lives in."""

    context: Context
    target: Target
    follower: Follower | None
    options: SubscriberOptions
    tap: Tap | None

    def watch(self, socket: WatchedSocket, link: Link) -> None: ...

    def unwatch(self, socket: WatchedSocket) -> None: ...

    def serve_soon(self, link: Link) -> None: ...

    def take_replay_turn(self, link: Link, urgency: Urgency, now: float) -> bool: ...

    def give_replay_turn(self, link: Link) -> None: ...


class Link:
    """
    One engine that is followed.
    """

    # The mutable state, guarded by `_lock` where other threads look:
    #   _line, _question    the open sockets
    #   lane, is_followed   that of the open line, and whether the core follows it
    #   _look_at            when time matters to one that is followed
    #   _heard, _is_dry     what came off the line for `take`, and whether that was all
    #   _room               how many messages may wait in a socket's queue, the fewer the larger they are
    #   _is_unsure          sockets were opened: their monitors may have news that no descriptor tells of
    #   _turns_heard        turns in which the line was read while an answer waited; None once the answer is read
    #   _wanted             the start of a replay that is to be asked for once there is a slot
    #   _answers_budget, _is_answer_held_back   what may be read of answers, and whether one waits for the next tick
    #   _budget, _is_spent, _held_back   what may be read of the line, whether that was nothing in this turn, and
    #                       whether the line is left alone until the next tick
    #   _reopen_at          when the line is opened (again); None while it is open
    #   _detached           nothing may be applied any more
    #   error, _index_errors, _failed

    def __init__(
        self, source: Source, home: Home, rng: Random, bookmark: Bookmark | None, *, is_whole: bool = True
    ) -> None:
        options = home.options
        self.source = source
        self.error: str | None = None
        self._home = home
        self._rng = rng
        self._lock = FairLock()  # its owner may take it again: a tap may ask for the status
        self._is_new = bookmark is None
        self._sequence = Sequence(
            options.sequence,
            replay=Replay.NONE if source.replay is None else Replay.ASKED,
            phase=rng.random(),
            bookmark=bookmark,
            is_whole=is_whole,
        )
        self._budget = Budget(options.frames_per_s, options.frames_burst)
        self._held_back = False
        self._answers_budget = Budget(options.frames_per_s, options.frames_burst)
        self._is_answer_held_back = False
        self._is_spent = False
        limit = options.frames_per_s or 0
        self._too_fast = f"it sends more than {limit:.0f} frames a second, and is read no faster; raise frames_per_s"
        self._backoff = Backoff(options.reconnect_first_s, options.reconnect_max_s, rng)
        self._room = options.queue_frames_max
        self._line: Line | None = None
        self.lane: Lane | None = None
        self.is_followed = False
        self._look_at = 0.0
        self._question: Question | None = None
        self._heard = SILENCE
        self._is_dry = True
        self._is_unsure = False
        self._turns_heard: int | None = None
        self._wanted: int | None = None
        self._reopen_at: float | None = 0.0
        self._detached = False
        self._failed = False
        self._index_errors = 0
        self._is_refused = False

    def __repr__(self) -> str:
        sequence = self._sequence
        trouble = f" error={self.error!r}" if self.error else ""
        return f"<Link {self.source.engine} {sequence.state} applied={sequence.applied}{trouble}>"

    # ------------------------------------------------------------------ any thread

    def status(self, now: float) -> StreamStatus:
        """The stream as it is between two turns."""
        with self._lock:
            self._settle()
            return status_of(
                self.source.engine,
                self._sequence,
                now,
                has_failed=self._failed,
                error=self.error,
                index_errors=self._index_errors,
            )

    def pulse(self) -> Pulse:
        """What can be seen in passing, a turn too early perhaps: nobody waits for it."""
        return Pulse(self._sequence.connected, self._sequence.counters.restarts)

    def bookmark(self) -> Bookmark | None:
        """Where a later process may go on."""
        with self._lock:
            self._settle()
            return self._sequence.bookmark

    @contextlib.contextmanager
    def hold(self) -> Iterator[Bookmark | None]:
        """Apply nothing while the context lasts; gives where a later process may go on from the record as it is."""
        with self._lock:
            self._settle()
            yield None if self._failed else self._sequence.bookmark

    def detach(self) -> None:
        """Apply nothing from now on; returns once nothing is being applied."""
        with self._lock:
            self._settle()
            self._detached = True

    # ------------------------------------------------------------------ the I/O thread

    def begin(self, now: float) -> None:
        """Begin a turn: bound what is taken off the line, and let the core follow it if that is simple."""
        self._try(lambda now, told: False, now, False)

    def stop(self) -> None:
        """Let the core follow nothing in this turn."""
        with self._lock:
            self._settle()

    def take(self, burst: Burst, now: float, *, has_news: bool) -> bool:
        """End a turn with what came off the line and whether the monitors have news; True if there is more to do."""
        self._heard = burst
        return self._try(self._take, now, has_news)

    def tick(self, now: float, *, may_probe: bool) -> bool:
        """Let time pass; True if a probe was sent."""
        if self.is_followed and now < self._look_at:
            return False
        return self._try(self._tick, now, may_probe)

    def _try(self, step: Callable[[float, bool], bool], now: float, told: bool) -> bool:
        with self._lock:
            try:
                self._settle()
                if self._detached or self._failed:
                    return False
                has_more = step(now, told)
                self._open_lane(now)
                return has_more
            except SocketError as error:
                self._lose_line(f"socket trouble: {error}", now)
            except Exception:
                logger.exception("engine %s is not followed any more", self.source.engine)
                self._fail()
            return False

    def close(self) -> None:
        """Close the sockets."""
        with self._lock:
            self._settle()
            self._detached = True
            self._close_question()
            self._close_line()

    # ------------------------------------------------------------------ the lane

    def _settle(self) -> None:
        """Let the core follow no longer, and tell the sequence what it has followed."""
        self.is_followed = False
        followed = None if self.lane is None else self.lane.close()
        if followed is not None:
            self._note_heard(followed.frames, followed.size)
            self._sequence.follow(followed.frames, followed.payload, followed.at)

    def _open_lane(self, now: float) -> None:
        """Bound what is read of the line next, and let the core follow it if nothing but the next batch is expected."""
        line, follower = self._line, self._home.follower
        if line is None:
            return
        frames_max = self._budget.allowed(self._home.options.burst_frames, now)
        self._is_spent = frames_max == 0
        line.limit(frames_max)
        number = self._sequence.awaited
        if number is None or follower is None or not (line.lane.can_open and self._is_at_rest()):
            return
        with contextlib.suppress(KvsyncError, MemoryError):  # it is told when a batch is applied
            line.lane.open(follower.number_of(self.source.engine, self.source.model), number)
            self.is_followed = True
            self._look_at = min(now + LOOK_S, self._sequence.due_at)

    def _is_at_rest(self) -> bool:
        """Whether there is nothing to look after."""
        if not self._sequence.connected or self._home.tap is not None:
            return False
        asks = self._sequence.asked is not None or self._question is not None or self._is_unsure
        is_held = self._is_spent or self._held_back or self.error == self._too_fast
        return not (asks or is_held)

    # ------------------------------------------------------------------ turns

    def _take(self, now: float, has_news: bool) -> bool:
        burst, self._heard = self._heard, SILENCE
        self._is_dry = burst.is_dry
        heard = burst.messages()
        if has_news or self._is_unsure:
            self._is_unsure = False
            heard = self._read_news(heard, now)
        self._tell(heard, now)
        if self._line is not None:
            self._line.note(burst)
            # Without a replay nothing would prove the new connection's life: its price is paid where frames do wait.
            if self._line.room_wanted < self._room and (self.source.replay is not None or not self._is_dry):
                self._make_less_room(self._line, now)
        if self._question is not None and not self._has_to_hear_out():
            self._read_answer(now)
        if self._is_spent or self._held_back or self.error == self._too_fast:
            self._hold_back(self._is_spent and self._has_more())
        question = self._question
        return (not self._is_dry and not self._held_back) or (
            question is not None and not self._is_answer_held_back and question.has_more()
        )

    def _tell(self, heard: list[Frames], now: float) -> None:
        self._note_heard(len(heard), sum(map(size_of, heard)))
        for frames in heard:
            self._tap(PUB, frames)
            self._obey(feed(self._sequence, PUB, frames, now), now)

    def _make_less_room(self, line: Line, now: float) -> None:
        """Read what has come, and open the line again with less room. What is said meanwhile is asked for."""
        options = self._home.options
        more = line.receive_burst(2 * options.queue_frames_max, options.sequence.waiting_bytes_max)
        self._tell(more.messages(), now)
        self._room = line.room_wanted
        self._close_line()
        self._sequence.disconnect()
        self._open_line(now)

    def _read_news(self, heard: list[Frames], now: float) -> list[Frames]:
        """Read the monitor of the line, after what was heard of it: given with what is to be heard before the news."""
        line = self._line
        if line is None:
            return heard
        news = line.news()
        if UP in news:
            # To the last of the old connection: what came over it must not be met later as if it were new.
            options = self._home.options
            more = line.receive_burst(2 * options.queue_frames_max, options.sequence.waiting_bytes_max)
            heard, self._is_dry = heard + more.messages(), more.is_dry
        for event in news:
            line.connection.take(event, now)
            self._line_news(line.connection, event, len(heard), now)
        return heard

    def _hold_back(self, held_back: bool) -> None:
        """The line is left alone until the next tick, for this engine has used up its budget."""
        if held_back and self.error != self._too_fast:
            logger.warning("engine %s: %s", self.source.engine, self._too_fast)
            self.error = self._too_fast
        elif self.error == self._too_fast and self._line is not None and not self._has_more():
            self.error = None
        self._held_back = held_back

    def _has_more(self) -> bool:
        """Whether the line has more: to be read soon, for looking has eaten the wake-up."""
        more = self._line is not None and self._line.has_more()
        self._is_dry = self._is_dry and not more
        return more

    def _note_heard(self, frames: int, size: int) -> None:
        if frames:
            self._budget.spend(cost_of(frames, size))
            self._backoff.reset()

    def _has_to_hear_out(self) -> bool:
        """
        Whether the line comes before an answer: what an engine said before it died is told before its heir answers.

        Of a line that never runs dry, all that was on it when the answer came is read after so many turns.
        """
        line, question, options = self._line, self._question, self._home.options
        if line is None or question is None or self._turns_heard is None or not question.has_more():
            return False
        if self._has_more() and self._turns_heard * options.burst_frames < 2 * options.queue_frames_max:
            self._turns_heard += 1
            return True
        self._turns_heard = None
        return False

    def _read_answer(self, now: float) -> None:
        # Message by message: one of them may be the reason to throw the others away with their socket.
        question, size = self._question, 0
        if question is None:
            return
        for event in question.news():
            question.connection.take(event, now)
        options = self._home.options
        frames_max = self._answers_budget.allowed(options.burst_frames, now)
        self._is_answer_held_back = frames_max == 0
        for _ in range(frames_max):
            if question is not self._question or size >= options.burst_bytes:
                return
            frames = question.receive()
            if frames is None:
                return
            size += size_of(frames)
            self._answers_budget.spend(cost_of(1, size_of(frames)))
            self._tap(REPLAY, frames)
            self._obey(feed(self._sequence, REPLAY, frames, now), now)
            if question is self._question and question.room_wanted < self._room:
                self._room = question.room_wanted
                self._obey(self._sequence.replay_failed(now), now)  # asked on with less room

    def _line_news(self, connection: Connection, event: int, heard: int, now: float) -> None:
        if event == UP:
            self.error = None
            self._obey(self._sequence.connect(now, unread=heard), now)
        elif event == DOWN and connection.up == 0:
            self._sequence.disconnect()
        elif event == RETRIED:
            if not self._is_refused:  # else the reason has just been told
                self.error = (
                    f"no connection to {self.source.events}: refused, unreachable or an unknown name; trying again"
                )
            self._is_refused = False
        elif event in REFUSED or event == MISMATCH:
            why = refusal(event, self.source.events, is_curve=self._home.options.curve is not None)
            self.error, self._is_refused = f"{why}; trying again", True

    def _tick(self, now: float, may_probe: bool) -> bool:
        if self._reopen_at is not None and now >= self._reopen_at:
            self._open_line(now)
        self._look_for_given_up(now)
        if self._is_answer_held_back:
            self._is_answer_held_back = False
            self._sequence.replay_sent(now)  # it is we who did not read, so its time does not run
            self._home.serve_soon(self)
        if self._held_back:
            self._home.serve_soon(self)
        if self._wanted is not None:
            self._sequence.replay_sent(now)  # it has not, so its time does not run
            self._open_question(now)
        probes = may_probe and self._sequence.wants_probe(now)
        instructions = self._sequence.tick(now, may_probe=probes)
        if instructions or self._question is not None or self._wanted is not None:
            self._obey(instructions, now)
        return probes

    def _look_for_given_up(self, now: float) -> None:
        question = self._question
        if question is not None and question.connection.is_given_up(now) and self._is_drained(question):
            self._close_question()
            was_up = question.connection.was_up
            self._obey((self._sequence.oversize_replayed if was_up else self._sequence.replay_failed)(now), now)
        line = self._line
        # A bound line is the one that is connected to: the engine comes back by itself.
        if line is None or self.source.bind or not line.connection.is_given_up(now) or not self._is_drained(line):
            return
        if line.connection.was_up:
            limit = self._home.options.frame_bytes_max
            logger.warning("engine %s sent a frame over %d bytes: it is passed over", self.source.engine, limit)
            self._obey(self._sequence.oversize(), now)
            self._lose_line(f"a frame over {limit} bytes was passed over; raise frame_bytes_max", now)
        else:
            self._lose_line(self.error or f"{self.source.events} closed the connection", now)

    def _is_drained(self, sock: WatchedSocket) -> bool:
        if sock.has_more():
            self._home.serve_soon(self)  # looking has eaten the wake-up
            return False
        return True

    # ------------------------------------------------------------------ instructions

    def _obey(self, instructions: tuple[Instruction, ...], now: float) -> None:
        for instruction in instructions:
            if isinstance(instruction, RequestReplay):
                self._close_question()
                self._wanted = instruction.start
            elif not isinstance(instruction, Drop):
                self._change_index(instruction)
        if self._sequence.asked is None:
            self._close_question()
        elif self._wanted is not None:
            self._open_question(now)

    def _change_index(self, instruction: Instruction) -> None:
        engine = self.source.engine
        try:
            carry_out(instruction, self._home.target, engine, self.source.model)
        except Exception as error:
            # One engine's trouble with the index must not end the thread of all.
            self._index_errors += 1
            self.error = f"the index refused a batch: {error}"
            # The next number is a jump to the index, so the engine turns stale without our help.
            level = logging.WARNING if isinstance(error, KvsyncError) else logging.ERROR
            first = self._index_errors == 1
            logger.log(level if first else logging.DEBUG, "engine %s: %s", engine, self.error, exc_info=first)

    def _tap(self, channel: str, frames: Frames) -> None:
        if self._home.tap is None:
            return
        try:
            self._home.tap(self.source.engine, channel, frames)
        except Exception:
            logger.exception("the tap failed on a frame of %s and is not called again", self.source.engine)
            self._home.tap = None

    def _fail(self) -> None:
        """A fault of ours: this engine is followed no further, and what is known of it is doubted."""
        self.error = "an internal error: see the log; remove the engine and add it again"
        self._failed = True
        self._close_question()
        self._close_line()
        with contextlib.suppress(Exception):
            self._home.target.doubt(self.source.engine, "internal error")

    # ------------------------------------------------------------------ sockets

    def _open_line(self, now: float) -> None:
        if self._is_new:
            self._is_new = False
            self._home.target.remove(self.source.engine)  # of a stream that left no bookmark: nothing proves it
        try:
            self._line = Line(self._home.context, self.source, self._home.options, self._rng, self._room)
        except SocketError as error:
            verb = "bound" if self.source.bind else "connected to"
            self.error = f"{self.source.events} cannot be {verb}: {error}; trying again"
            self._reopen_at = now + self._backoff.pause()
            return
        self.lane = self._line.lane
        self._reopen_at = None
        self._is_unsure = True
        self._home.watch(self._line, self)

    def _lose_line(self, error: str, now: float) -> None:
        self._close_line()
        self._sequence.disconnect()
        self.error = error
        self._reopen_at = now + self._backoff.pause()

    def _close_line(self) -> None:
        if self._line is not None:
            self._home.unwatch(self._line)
            self._line.close()
            self._line = self.lane = None
            self._heard, self._is_dry = SILENCE, True

    def _open_question(self, now: float) -> None:
        endpoint, start = self.source.replay, self._wanted
        assert endpoint is not None, "a replay was asked for without a port"
        if start is None or not self._home.take_replay_turn(self, self._sequence.urgency, now):
            return
        self._wanted = None
        try:
            self._question = Question(self._home.context, endpoint, start, self._home.options, self._rng, self._room)
        except SocketError as error:
            self._home.give_replay_turn(self)
            self.error = f"replay endpoint {endpoint} cannot be used: {error}"
            return  # its time runs out like that of one without an answer
        self._turns_heard = 0
        self._is_unsure = True
        self._home.watch(self._question, self)
        self._sequence.replay_sent(now)

    def _close_question(self) -> None:
        self._wanted = None
        self._home.give_replay_turn(self)
        if self._question is not None:
            self._home.unwatch(self._question)
            self._question.close()
            self._question = None
