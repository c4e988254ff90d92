"""
Frames of live engines for a command, as they come, on the command's own thread.

    subscriber's I/O thread --tap--> a bounded queue --> whoever iterates

The subscriber orders the stream and asks for replays, as it does for the daemon, so that a capture holds what the
daemon would have got; what it would apply goes nowhere. When the command cannot keep up, the queue fills and frames
are lost: counted, and said in the end, rather than holding back the subscriber.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from kvsync.cli.texts import check_text
from kvsync.errors import ConfigError
from kvsync.types import Applied, Engine, Trust

if TYPE_CHECKING:
    from kvsync.stream.endpoints import Source
    from kvsync.stream.status import StreamStatus

QUEUE_FRAMES_MAX = 100_000
TICK_S = 0.2

EventsOption = Annotated[
    str | None,
    typer.Option(
        metavar="ENDPOINT", help="Where rank 0 publishes: tcp://HOST:PORT; rank r has the r-th port after it."
    ),
]
ReplayOption = Annotated[
    str | None, typer.Option(metavar="ENDPOINT", help="Where rank 0 answers replays; without it, holes stay open.")
]
TopicOption = Annotated[str, typer.Option(metavar="TEXT", help="Only messages whose topic begins so.")]
BindOption = Annotated[
    bool, typer.Option("--bind", help="Bind the events endpoint: for engines that connect to their subscriber.")
]
RanksOption = Annotated[int, typer.Option(min=1, help="How many data-parallel ranks the pod has.")]
PodOption = Annotated[str, typer.Option(metavar="NAME", help="What to call the pod.")]
SecondsOption = Annotated[
    float | None, typer.Option(metavar="S", min=0, help="Stop after so long; by default on Ctrl-C.")
]


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it came."""

    engine: Engine
    channel: str
    frames: list[bytes]


class Nowhere:
    """An index that keeps nothing."""

    def apply(self, engine: Engine, payload: bytes | memoryview, *, model: str, sequence: int | None = None) -> Applied:
        return Applied()

    def restart(self, engine: Engine) -> None:
        """Nothing to forget."""

    def clear(self, engine: Engine) -> None:
        """Nothing to forget."""

    def doubt(self, engine: Engine, reason: str) -> None:
        """Nothing to doubt."""

    def confirm(self, engine: Engine) -> None:
        """Nothing to believe again."""

    def remove(self, engine: Engine) -> None:
        """Nothing to remove."""

    def trust(self, engine: Engine) -> Trust:
        return Trust.UNKNOWN


class Listener:
    """
    A subscriber to some engines, and what it heard, by iteration; `lost` counts what nobody took in time.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        from kvsync.stream.subscriber import Subscriber

        self.lost = 0
        self.stopped = False
        self._sources = sources
        self._queue: queue.Queue[Heard] = queue.Queue(QUEUE_FRAMES_MAX)
        self._subscriber = Subscriber(Nowhere(), tap=self._tap)

    def __enter__(self) -> Self:
        self._subscriber.start()
        for source in self._sources:
            self._subscriber.add(source)
        return self

    def __exit__(self, *exception: object) -> None:
        self._subscriber.close()

    def status(self) -> Mapping[Engine, StreamStatus]:
        """Each engine's stream as it stands."""
        return self._subscriber.status()

    def stop(self) -> None:
        """End the iteration soon; may be called from a signal handler."""
        self.stopped = True

    def heard(self, seconds: float | None) -> Iterator[Heard | None]:
        """
        Messages as they come, for `seconds` (None: until `stop`); None now and then when none comes.
        """
        end = None if seconds is None else monotonic() + seconds
        while not self.stopped and (end is None or monotonic() < end):
            wait = TICK_S if end is None else min(TICK_S, max(0.0, end - monotonic()))
            try:
                yield self._queue.get(timeout=wait)
            except queue.Empty:
                yield None
        while True:
            try:
                yield self._queue.get_nowait()
            except queue.Empty:
                return

    def _tap(self, engine: Engine, channel: str, frames: Sequence[Any]) -> None:
        try:
            self._queue.put_nowait(Heard(engine, channel, [bytes(frame) for frame in frames]))
        except queue.Full:
            self.lost += 1


def sources(
    events: str, *, model: str, replay: str | None, topic: str, bind: bool, ranks: int, pod: str
) -> list[Source]:
    """The streams of one pod's ranks; `ConfigError` for an endpoint that is none."""
    from kvsync.stream.endpoints import sources_of_pod

    for flag, text in (("--model", model), ("--topic", topic), ("--pod", pod)):
        check_text(flag, text)
    for flag, endpoint in (("--events", events), ("--replay", replay)):
        check_text(flag, endpoint)
    if not pod:
        raise ConfigError("--pod is empty; give the pod a name")
    return sources_of_pod(pod, model=model, events=events, replay=replay, ranks=ranks, topic=topic, bind=bind)


@contextmanager
def stopped_by_signals(listener: Listener) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the listening in good order instead of tearing it down."""

    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and not listener.stopped and sys.stderr.isatty():
            # What follows would stand behind ^C. Not by print: it may be what was interrupted.
            os.write(sys.stderr.fileno(), b"\n")
        listener.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
