"""`kvsync replay`: apply a capture, and show what its engines hold in the end."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kvsync.index import Index, Record
    from kvsync.stream.capture import Capture
    from kvsync.stream.offline import FrameCounts, Replayer
    from kvsync.types import Engine

MODEL_UNNAMED = "captured"
"""What all engines of a capture serve when nobody says; it is never shown."""

_COUNTED = ("stored", "removed", "cleared", "reannounced")


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A capture, as `kvsync record` writes it.")],
    dump: Annotated[
        bool,
        typer.Option("--dump", help="Print every block every engine holds, with copies, as one JSON document."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model the engines serve, if the capture does not say.")
    ] = None,
    records: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Stop after so many records of the file.")
    ] = None,
) -> None:
    """
    Apply a capture to an empty index and show what its engines hold in the end.

    Frames go through the same ordering as live ones: duplicates are dropped, restarts found, holes filled from the
    replays that the file holds. The exit status is 0 whatever trust comes out. A capture that is cut short, or has a
    record that cannot be read, is an error; the table then shows what was applied up to there, and --dump and --json
    print nothing. Payloads have no checksum: bytes that were changed within one are not noticed as such, and what can
    no longer be decoded is counted as skipped.
    """
    from kvsync.cli.output import print_json, writing
    from kvsync.cli.texts import check_text
    from kvsync.errors import FrameError
    from kvsync.index import Index
    from kvsync.stream.capture import open_capture
    from kvsync.stream.offline import Replayer

    check_text("--model", model)
    with open_capture(file) as capture, Index() as index:
        replayer = Replayer(index, model=model or model_of(capture))
        broken: FrameError | None = None
        try:
            feed(replayer, islice(capture, records))
        except FrameError as error:
            broken = error
        frames = replayer.finish()
        if broken is not None and (dump or as_json):
            raise broken
        if dump:
            print_json(dump_json(index, replayer, frames))
        elif as_json:
            print_json(summary_json(index, replayer, frames))
        else:
            with writing():
                show(index, replayer, frames)
        if broken is not None:
            raise broken


def model_of(capture: Capture) -> str:
    """The model that a capture's header names, or a stand-in."""
    named = capture.header.get("model")
    return named if isinstance(named, str) and named else MODEL_UNNAMED


def feed(replayer: Replayer, records: Iterable[Any]) -> None:
    """Apply records in order."""
    for record in records:
        replayer.feed(record)


def record_of(index: Index, engine: Engine) -> Record | None:
    """The index's record of an engine; None where none of its frames could be applied."""
    return index.record(engine) if engine in set(index.engines()) else None


def dump_json(index: Index, replayer: Replayer, frames: FrameCounts) -> dict[str, Any]:
    """Everything that every engine holds, by the name the capture has for it."""
    from kvsync.cli.output import media_json

    engines: dict[str, Any] = {}
    for engine, name in replayer.names.items():
        record = record_of(index, engine)
        engines[name] = {
            "trust": str(index.trust(engine)),
            "lives": 1 if record is None else record.lives,
            "media": {} if record is None else media_json(index.engine_hashes(engine)),
        }
    return {"engines": engines, "frames": frames_json(frames)}


def frames_json(frames: FrameCounts) -> dict[str, Any]:
    """Where the frames went."""
    return {
        "received": frames.received,
        "applied": frames.applied,
        "duplicate": frames.duplicate,
        "dropped": dict(frames.dropped),
        "waiting": frames.waiting,
    }


def summary_json(index: Index, replayer: Replayer, frames: FrameCounts) -> dict[str, Any]:
    """Every engine's record in figures."""
    engines: dict[str, Any] = {}
    for engine, name in replayer.names.items():
        record = record_of(index, engine)
        engines[name] = {"trust": str(index.trust(engine)), "lives": 1}
        if record is not None:
            engines[name] |= record_json(record)
    return {"engines": engines, "frames": frames_json(frames)}


def record_json(record: Record) -> dict[str, Any]:
    """One engine's record in figures."""
    return {
        "trust": str(record.trust),
        "lives": record.lives,
        "sequence": record.sequence,
        "block_size": record.block_size,
        "dialect": record.dialect,
        "orphans": record.orphans,
        "media": {
            medium: {"trust": str(one.trust), "reason": one.reason, "entries": one.entries, "doubtful": one.doubtful}
            for medium, one in record.media.items()
        },
        "counters": dict(record.counters),
    }


def show(index: Index, replayer: Replayer, frames: FrameCounts) -> None:
    """Print the summary as a table, and where the frames went."""
    from rich.table import Table
    from rich.text import Text

    from kvsync.cli.output import TRUST_STYLE, console

    summary = summary_json(index, replayer, frames)["engines"]
    table = Table()
    table.add_column("engine")
    table.add_column("trust")
    for title in (
        "lives",
        "last batch",
        "block size",
        "blocks held",
        "stored",
        "removed",
        "cleared",
        "told again",
        "skipped",
    ):
        table.add_column(title, justify="right")
    for name, engine in summary.items():
        counters = engine.get("counters", {})
        table.add_row(
            Text(name),
            Text(_trust(engine), style=TRUST_STYLE[engine["trust"]]),
            str(engine["lives"]),
            _number(engine.get("sequence")),
            _number(engine.get("block_size")),
            _held(engine.get("media", {})),
            *(f"{counters.get(counter, 0):,}" for counter in _COUNTED),
            f"{sum(count for counter, count in counters.items() if counter.startswith('skipped')):,}",
        )
    out = console()
    out.print(table)
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in frames.dropped.items())
    out.print(
        f"{frames.received:,} frames: {frames.applied:,} applied, {frames.duplicate:,} duplicate,"
        f" {sum(frames.dropped.values()):,} dropped{f' ({dropped})' if dropped else ''}, {frames.waiting:,} waiting"
    )


def _trust(engine: dict[str, Any]) -> str:
    """The trust, with the reason where one medium has one."""
    reasons = {one["reason"] for one in engine.get("media", {}).values() if one["trust"] != "exact" and one["reason"]}
    return f"{engine['trust']}{': ' + ', '.join(sorted(reasons)) if reasons else ''}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _held(media: dict[str, Any]) -> str:
    held = [f"{one['entries']:,} {medium}" for medium, one in media.items() if one["entries"]]
    return ", ".join(held) or "0"
