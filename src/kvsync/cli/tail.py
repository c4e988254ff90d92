"""`kvsync tail`: watch event streams, decoded, a line an event."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsync.cli.listen import (
    BindOption,
    EventsOption,
    PodOption,
    RanksOption,
    ReplayOption,
    SecondsOption,
    TopicOption,
)
from kvsync.errors import ConfigError, KvsyncError

if TYPE_CHECKING:
    from kvsync.cli.eventview import EventView

STYLES = {
    "BlockStored": "green",
    "BlockRemoved": "yellow",
    "AllBlocksCleared": "bold magenta",
    "unreadable": "bold red",
}


def command(
    capture: Annotated[
        Path | None, typer.Argument(metavar="[CAPTURE]", help="Show a capture file in place of a live stream.")
    ] = None,
    events: EventsOption = None,
    replay: ReplayOption = None,
    topic: TopicOption = "",
    bind: BindOption = False,
    ranks: RanksOption = 1,
    pod: PodOption = "pod",
    seconds: SecondsOption = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Show token ids too (with --json): they are users' text.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each event.")] = False,
) -> None:
    """
    Watch the events of a pod as they come, or those of a capture, one line each.

    A line tells the engine, the number of the batch, the time the engine gave it, and the event. Batches from a replay
    are marked with `r`, since they may come twice or out of order: this shows what was sent, not what it leads to.
    What cannot be decoded is shown as such. Where there was nobody to listen to the exit status is 1.
    """
    if (capture is None) == (not events):
        raise ConfigError("give either a capture file or --events ENDPOINT to watch")
    printer = Printer(as_json=as_json, tokens=tokens)
    if capture is not None:
        from kvsync.stream.capture import open_capture

        with open_capture(capture) as records:
            for record in records:
                printer.message(str(record.engine), record.channel, record.frames)
        return
    from kvsync.cli.listen import Listener, sources, stopped_by_signals
    from kvsync.cli.silence import Troubles, why_silent

    assert events is not None
    streams = sources(events, model="tail", replay=replay, topic=topic, bind=bind, ranks=ranks, pod=pod)
    with Listener(streams) as listener, stopped_by_signals(listener):
        troubles, shown = Troubles("tail"), False
        for heard in listener.heard(seconds):
            if heard is None:
                troubles.tell(listener.status())
                continue
            shown |= printer.message(str(heard.engine), heard.channel, heard.frames)
        if not shown:
            status = listener.status()
            why = why_silent(streams, status, 0)
            if not any(stream.connected for stream in status.values()):
                raise KvsyncError(why)
            print(f"kvsync tail: {why}", file=sys.stderr)
    if listener.lost:
        raise KvsyncError(f"{listener.lost:,} frames were not shown: they came faster than they could be printed")


class Printer:
    """
    Prints messages, a line an event.
    """

    def __init__(self, *, as_json: bool, tokens: bool) -> None:
        from kvsync.cli.output import console

        self._as_json = as_json
        self._tokens = tokens
        self._console = None if as_json else console()

    def message(self, engine: str, channel: str, frames: list[bytes]) -> bool:
        """Print what one message holds; False for the end of a replay, which is not shown."""
        from kvsync.cli.eventview import decode_batch
        from kvsync.stream.frames import PUB, Batch, EndMarker, read_live, read_replay

        match read_live(frames) if channel == PUB else read_replay(frames):
            case EndMarker():
                return False
            case Batch(number, payload):
                batch = decode_batch(bytes(payload))
                self._events(engine, channel, number, batch.ts, batch.events)
            case unreadable:
                sizes = [len(frame) for frame in frames]
                problem = f"a message of {len(frames)} frames ({unreadable.reason}), of {sizes} bytes"
                self._events(engine, channel, None, None, [_unreadable(problem)])
        return True

    def _events(self, engine: str, channel: str, number: int | None, ts: float | None, events: Any) -> None:
        for event in events:
            if self._console is None:
                self._json({"engine": engine, "channel": channel, "sequence": number, "ts": ts}, event)
            else:
                self._line(engine, channel, number, ts, event)
        if self._console is None:
            sys.stdout.flush()

    def _json(self, where: dict[str, Any], event: EventView) -> None:
        print(json.dumps(where | event.to_json(tokens=self._tokens)))

    def _line(self, engine: str, channel: str, number: int | None, ts: float | None, event: EventView) -> None:
        from rich.text import Text

        from kvsync.cli.eventview import describe

        assert self._console is not None
        mark = " " if channel == "pub" else "r"
        line = Text.assemble(
            (f"{clock(ts)} ", "dim"),
            (f"{engine} ", "cyan"),
            (f"{'?' if number is None else number:>6}{mark} ", "dim"),
            (describe(event), STYLES.get(event.tag, "bold")),
        )
        self._console.print(line, soft_wrap=True)


def clock(ts: float | None) -> str:
    """The time of day in UTC, to the millisecond; blank where the batch does not say, or says nonsense."""
    try:
        return datetime.fromtimestamp(ts, UTC).strftime("%H:%M:%S.%f")[:-3] if ts is not None else " " * 12
    except (OverflowError, ValueError, OSError):
        return "?" * 12


def _unreadable(problem: str) -> EventView:
    from kvsync.cli.eventview import UNREADABLE, EventView

    return EventView(UNREADABLE, {"problem": problem})
