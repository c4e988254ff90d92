"""`kvsync record`: write the raw frames of live streams to a capture file."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from kvsync.cli.listen import Listener
    from kvsync.stream.capture import CaptureWriter
    from kvsync.stream.redact import Redactor


def command(
    model: Annotated[str, typer.Option(metavar="NAME", help="The model the pod serves; kept in the file.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The capture to write; readable by its owner only.")],
    events: EventsOption = None,
    replay: ReplayOption = None,
    topic: TopicOption = "",
    bind: BindOption = False,
    ranks: RanksOption = 1,
    pod: PodOption = "pod",
    seconds: SecondsOption = None,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Hide token ids by whole blocks, hashes and names; equal stay equal. The model and the pod's name,"
            " topics, times and sizes stay readable.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """
    Record the event streams of a pod, with the replays that fill their holes, until Ctrl-C or for --seconds.

    The file holds raw frames, and so the token ids of users' prompts: it is written with mode 0600. With
    --redact, the token ids of each block are replaced as one, and block hashes and names one by one, by a key that
    is forgotten: the capture replays as the original does, and no prompt can be matched with it. Which blocks are
    equal still shows; where blocks hold one token (SGLang's page size 1), that is how often each token occurs. The
    model and the pod's name are written as given.

    Where no event batch was heard the exit status is 1, and no file is left.
    `kvsync replay`, `kvsync match` and `kvsync tail` read it.
    """
    from kvsync import __version__
    from kvsync.cli.listen import Listener, sources, stopped_by_signals
    from kvsync.cli.output import plural, print_json
    from kvsync.cli.silence import why_silent
    from kvsync.stream.capture import CaptureWriter
    from kvsync.stream.redact import Redactor

    if not events:
        raise ConfigError("--events is missing; give where the engine publishes, as in tcp://127.0.0.1:5557")
    streams = sources(events, model=model, replay=replay, topic=topic, bind=bind, ranks=ranks, pod=pod)
    header = {"kvsync": __version__, "model": model, "topic": topic, "started": time.time(), "redacted": redact}
    with CaptureWriter(out, header, overwrite=overwrite) as writer, Listener(streams) as listener:
        print(f"Recording {pod} from {events} to {out}; Ctrl-C ends it.", file=sys.stderr)
        with stopped_by_signals(listener):
            tally = write(listener, writer, Redactor() if redact else None, seconds)
        if not tally.batches:
            writer.discard()
            raise KvsyncError(f"{why_silent(streams, listener.status(), tally.unreadable)}; no capture was written")
        counts = dict(sorted(tally.engines.items()))
        summary = {"file": str(out), "frames": writer.records, "bytes": writer.size_bytes, "engines": counts}
    if as_json:
        print_json(summary | {"lost": listener.lost})
    else:
        frames, engines = plural(writer.records, "frame"), plural(len(counts), "engine")
        print(f"{frames} of {engines}, {writer.size_bytes:,} bytes, in {out}")
    if listener.lost:
        raise KvsyncError(f"{listener.lost:,} frames are missing in {out}: it could not be written fast enough")


@dataclass(slots=True)
class Tally:
    """
    What was written: messages of each engine, and how many of all were event batches, or nothing that is known.
    """

    engines: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    unreadable: int = 0


def write(listener: Listener, writer: CaptureWriter, redactor: Redactor | None, seconds: float | None) -> Tally:
    """Write what is heard until the listening ends, and say on stderr what is in its way."""
    from kvsync.cli.silence import Troubles
    from kvsync.stream.frames import PUB, Batch, EndMarker, read_live, read_replay

    tally, troubles = Tally(), Troubles("record")
    for heard in listener.heard(seconds):
        if heard is None:
            troubles.tell(listener.status())
            continue
        frames = heard.frames if redactor is None else redactor.frames(heard.frames)
        writer.write(str(heard.engine), heard.channel, frames)
        tally.engines[str(heard.engine)] += 1
        match (read_live if heard.channel == PUB else read_replay)(heard.frames):
            case Batch():
                tally.batches += 1
            case EndMarker():
                pass  # the answer of an engine that has nothing to replay yet
            case _:
                tally.unreadable += 1
    return tally
