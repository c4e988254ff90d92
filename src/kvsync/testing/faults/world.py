"""
Plays a history: engines, wires, and the daemon's half made of the real `Sequence` and the real index.

What a subscriber does with sockets is done here with values, in the same order: a burst of messages, the news of
connections, the messages told to the sequence, then the answer. After each operation the checker looks at all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Self

from kvsync.index import Index
from kvsync.stream.bookmark import Bookmark
from kvsync.stream.instructions import Apply, Instruction, RequestReplay, Reset
from kvsync.stream.life import WITHIN_A_LIFE
from kvsync.stream.options import SequenceOptions
from kvsync.stream.sequence import Replay, Sequence
from kvsync.stream.target import carry_out
from kvsync.testing.faults.checker import check, check_reset
from kvsync.testing.faults.engine import Batch, TrueEngine, garbled
from kvsync.testing.faults.followed import Followed
from kvsync.testing.faults.history import History, Kind, Operation
from kvsync.testing.faults.wires import End, Item, News, Noise
from kvsync.types import Engine, Trust

MODEL = "m"
PAUSES_S = (0.05, 0.3, 1.0, 4.0)


class World:
    """
    A history on its way; to be closed, or used in a `with`.

    `folder` is where snapshots lie, `saved` which life each record in the last one is of. `log` takes a line for
    everything that happens, if there is one.
    """

    def __init__(self, history: History, folder: Path, log: list[str] | None = None) -> None:
        self.now = 0.0
        self.setup = history.setup
        self.log = log
        self.folder = folder
        self.index = Index(seed=1)
        self.saved: dict[Engine, int | None] | None = None
        self.followed = [
            self._follow(Engine(f"pod-{place}"), TrueEngine(setup, seed=place))
            for place, setup in enumerate(history.setup.engines)
        ]
        self._acts: dict[Kind, Callable[[Followed, Random], str]] = {
            kind: getattr(self, f"_{kind.value}") for kind in Kind
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the index back."""
        self.index.close()

    @property
    def options(self) -> SequenceOptions:
        """The options of every sequence."""
        return self.setup.options

    def play(self, operation: Operation) -> None:
        """Let one thing happen, and hold everything against the truth."""
        followed = self.followed[operation.engine]
        said = self._acts[operation.kind](followed, Random(operation.dice))
        self.say(f"{followed.engine} {operation.kind}: {said}")
        for each in self.followed:
            check(each, self.index, self.options)

    def say(self, line: str) -> None:
        """Note what happened, if anybody wants to know."""
        if self.log is not None:
            self.log.append(f"{self.now:8.2f} s  {line}")

    # ------------------------------------------------------------------ the engine

    def _publish(self, followed: Followed, random: Random) -> str:
        return self._send(followed, self._make(followed, random))

    def _clear(self, followed: Followed, random: Random) -> str:
        if self.is_wedged(followed):
            return "wedged"
        return self._send(followed, followed.truth.clear(random))

    def _lose(self, followed: Followed, random: Random) -> str:
        batch = self._make(followed, random)
        return "nothing" if batch is None else f"number {self._note(followed, batch).number} lost on its way"

    def _hole(self, followed: Followed, random: Random) -> str:
        if self.is_wedged(followed):
            return "wedged"
        batch = followed.truth.serve(random, keep=False)
        return "nothing" if batch is None else f"number {batch.number} used up"

    def _garble(self, followed: Followed, random: Random) -> str:
        batch = self._make(followed, random)
        return self._send(followed, batch and followed.truth.damage(batch, garbled(batch.payload, random)))

    def _truncate(self, followed: Followed, random: Random) -> str:
        batch = self._make(followed, random)
        return self._send(
            followed,
            batch and followed.truth.damage(batch, batch.payload[: random.randrange(1, len(batch.payload) - 1)]),
        )

    def _oversize(self, followed: Followed, random: Random) -> str:
        batch = self._make(followed, random)
        return self._send(followed, batch and followed.truth.damage(batch, batch.payload, oversize=True))

    def _noise(self, followed: Followed, random: Random) -> str:
        followed.line.send(Noise())
        return "sent"

    def _serve(self, followed: Followed, random: Random) -> str:
        if self.is_wedged(followed):
            return "wedged"
        start = followed.asking.request
        followed.asking.serve(followed.truth.kept, followed.truth.number)
        return "not asked" if start is None else f"from {start}, {len(followed.asking.answer) - 1} batches"

    def _restart(self, followed: Followed, random: Random) -> str:
        followed.line.drop(random)
        followed.truth.restart()
        followed.truth.wedged_until = 0.0
        if random.random() < 0.5:
            followed.asking.request = None
        return f"life {followed.truth.number}"

    def _wedge(self, followed: Followed, random: Random) -> str:
        followed.truth.wedged_until = self.now + random.uniform(1, 20)
        return f"until {followed.truth.wedged_until:.2f} s"

    def is_wedged(self, followed: Followed) -> bool:
        """Whether the engine does nothing."""
        return self.now < followed.truth.wedged_until

    def _make(self, followed: Followed, random: Random) -> Batch | None:
        return None if self.is_wedged(followed) else followed.truth.serve(random)

    def _note(self, followed: Followed, batch: Batch) -> Batch:
        followed.published[batch.payload] = batch
        return batch

    def _send(self, followed: Followed, batch: Batch | None) -> str:
        if batch is None:
            return "nothing"
        followed.line.send(self._note(followed, batch))
        what = "damaged " * batch.damaged
        return f"{what}number {batch.number} of life {batch.life}" + ("" if followed.line.up else ", to nobody")

    # ------------------------------------------------------------------ the network

    def _drop(self, followed: Followed, random: Random) -> str:
        followed.line.drop(random)
        return f"{len(followed.line.messages)} messages left"

    def _connect(self, followed: Followed, random: Random) -> str:
        followed.line.connect(followed.truth.number)
        return "up" if followed.line.up else "given up"

    def _cut(self, followed: Followed, random: Random) -> str:
        followed.asking.cut(random)
        return f"{len(followed.asking.answer)} frames left"

    def _riddle(self, followed: Followed, random: Random) -> str:
        followed.asking.riddle(random)
        return f"{len(followed.asking.answer)} frames left"

    def _mislay(self, followed: Followed, random: Random) -> str:
        followed.asking.request = None
        return "lost"

    # ------------------------------------------------------------------ the daemon

    def _pump(self, followed: Followed, random: Random) -> str:
        return self.pump(followed, random.choice((1, 2, 5, 20)))

    def pump(self, followed: Followed, count: int) -> str:
        """Take a turn at the live line."""
        messages, news = followed.line.read(count)
        for item in news:
            self.hear_news(followed, item, unread=len(messages))
        for message in messages:
            followed.told += 1
            if isinstance(message, Noise):
                self.obey(followed, followed.sequence.unreadable("frame_count"))
            else:
                followed.met.add(message.life)
                self.obey(followed, followed.sequence.live(message.number, message.payload, self.now))
        return f"{len(messages)} messages, {len(news)} news"

    def hear_news(self, followed: Followed, news: News, *, unread: int) -> None:
        """Tell of a connection that is up, along with which so many messages were read, or down."""
        if news.up:
            followed.connected_to = news.life
            followed.met.add(news.life)
            self.obey(followed, followed.sequence.connect(self.now, unread=unread))
        else:
            followed.sequence.disconnect()

    def _answer(self, followed: Followed, random: Random) -> str:
        return self.read_answer(followed, random.choice((1, 2, 5, 20)))

    def read_answer(self, followed: Followed, count: int) -> str:
        """Take a turn at the answer; it is over as soon as the sequence wants another, or none."""
        read = 0
        answer = followed.asking.answer
        while read < count and answer:
            self._hear_out(followed, answer[0].life)
            if answer:
                self.read_item(followed, answer.popleft())
                read += 1
        return f"{read} frames"

    def _hear_out(self, followed: Followed, life: int) -> None:
        """What a life said live before it ended is read before what the next one answers: links see to that."""
        messages = followed.line.messages
        if any(isinstance(message, Batch) and message.life < life for message in messages):
            self.pump(followed, len(messages))

    def read_item(self, followed: Followed, item: Item) -> None:
        """Tell of a frame of an answer."""
        sequence = followed.sequence
        if isinstance(item, Batch) and item.oversize:
            followed.asking.close()
            self.obey(followed, sequence.oversize_replayed(self.now))
            return
        followed.told += 1
        followed.met.add(item.life)
        match item:
            case End():
                self.obey(followed, sequence.replay_ended(self.now))
            case Batch():
                self.obey(followed, sequence.replayed(item.number, item.payload, self.now))

    def _pass(self, followed: Followed, random: Random) -> str:
        pause_s = random.choice(PAUSES_S)
        self.pass_time(pause_s)
        return f"{pause_s} s"

    def pass_time(self, pause_s: float) -> None:
        """Let time go by for everybody, and see what is overdue."""
        self.now += pause_s
        for followed in self.followed:
            if followed.line.given_up and not followed.line.messages:
                self.obey(followed, followed.sequence.oversize())
                followed.sequence.disconnect()
                followed.line.given_up = False
            self.obey(followed, self.tick(followed.sequence))

    def tick(self, sequence: Sequence) -> tuple[Instruction, ...]:
        """See what is overdue."""
        return sequence.tick(self.now)

    def _snapshot(self, followed: Followed, random: Random) -> str:
        saved: dict[Engine, int | None] = {}

        @contextmanager
        def hold(engine: Engine) -> Iterator[Bookmark | None]:
            for each in self.followed:
                self.pump(each, random.choice((0, 0, 2)))  # records are saved one after the other, and life goes on
            each = self._by_name(engine)
            saved[engine] = each.recorded
            yield self.bookmark(each)

        contents = self.index.save(self._file, hold=hold)
        self.saved = saved
        return f"with {sum(row.bookmark is not None for row in contents.rows)} bookmarks"

    def bookmark(self, followed: Followed) -> Bookmark | None:
        """Where another process could go on with an engine."""
        return followed.sequence.bookmark

    def _by_name(self, engine: Engine) -> Followed:
        return next(each for each in self.followed if each.engine == engine)

    def _crash(self, followed: Followed, random: Random) -> str:
        saved = self.saved
        self.load()
        for each in self.followed:
            each.line.abandon()
            each.asking.close()
            mark = self.resume(each)
            if mark is None:
                self.index.remove(each.engine)  # nothing proves its record
            each.sequence = self._sequence(each.truth, mark, is_whole=self.is_whole(each))
            each.recorded = saved[each.engine] if saved and mark else None
            each.met = set() if each.recorded is None else {each.recorded}
            each.told = 0
        return "cold" if saved is None else f"warm, with {len(self.index.bookmarks)} bookmarks"

    def resume(self, followed: Followed) -> Bookmark | None:
        """Where the loaded record of an engine ends."""
        return self.index.bookmarks.get(followed.engine)

    def is_whole(self, followed: Followed) -> bool:
        """Whether the loaded record of an engine, if there is one, was exact when it was saved."""
        return self.index.saved_trust.get(followed.engine, Trust.EXACT) is Trust.EXACT

    def load(self) -> None:
        """Begin with the last snapshot, if there is one."""
        self.index.close()
        self.index = Index(seed=1) if self.saved is None else Index.load(self._file)

    def obey(self, followed: Followed, instructions: tuple[Instruction, ...]) -> None:
        """Do what a subscriber does."""
        for instruction in instructions:
            self.say(f"{followed.engine}   -> {_shown(instruction)}")
            if isinstance(instruction, RequestReplay):
                followed.asking.ask(instruction.start)
                followed.asked += 1
                continue
            if isinstance(instruction, Reset):
                check_reset(followed, instruction)
                if instruction.reason not in WITHIN_A_LIFE:
                    followed.met = {followed.connected_to}
            self.change_index(followed, instruction)
            if isinstance(instruction, Apply):
                followed.recorded = followed.published[bytes(instruction.payload)].life
                followed.met.add(followed.recorded)  # the one applied behind a reset may be older than the connection
            elif isinstance(instruction, Reset):
                followed.recorded = None
        if followed.sequence.asked is None:
            followed.asking.close()

    def change_index(self, followed: Followed, instruction: Instruction) -> None:
        """Carry out what is about the index."""
        carry_out(instruction, self.index, followed.engine, MODEL)

    # ------------------------------------------------------------------ helpers

    @property
    def _file(self) -> Path:
        return self.folder / "snapshot"

    def _follow(self, engine: Engine, truth: TrueEngine) -> Followed:
        return Followed(engine, truth, self._sequence(truth, None))

    def _sequence(self, truth: TrueEngine, bookmark: Bookmark | None, *, is_whole: bool = True) -> Sequence:
        replay = Replay.ASKED if truth.setup.replay else Replay.NONE
        return Sequence(self.options, replay=replay, phase=0.5, bookmark=bookmark, is_whole=is_whole)


def _shown(instruction: Instruction) -> str:
    if isinstance(instruction, Apply):
        return f"Apply({instruction.sequence})"
    return repr(instruction)
