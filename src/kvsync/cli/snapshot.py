"""`kvsync snapshot`: what is in a snapshot file, and whether it is whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kvsync.index import Contents, Row

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)

File = Annotated[Path, typer.Argument(help="A file that `kvsync serve --snapshot-dir` or Index.save() wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on the last line of stdout.")]


@app.callback()
def command() -> None:
    """
    Look into a snapshot, or check it.

    `kvsync serve --snapshot-dir DIR` keeps one at DIR/index.snapshot. It holds a secret, the seed of all block hashes,
    which is never shown.
    """


@app.command()
def inspect(file: File, *, as_json: AsJson = False) -> None:
    """
    Show what a snapshot says of itself: version, age, size, and each engine's record.

    Reads the head and the table only, in no time whatever the size; **verify** reads all. Exit status: 0 it can be
    read, 1 it is no snapshot, cut, or of another version, 2 there is no such file.

    Example: kvsync snapshot inspect /var/lib/kvsync/index.snapshot
    """
    from kvsync.cli.output import print_json
    from kvsync.index import SnapshotFile

    with SnapshotFile(file) as snapshot:
        contents = snapshot.contents
    if as_json:
        print_json({"file": str(file), **described(contents)})
    else:
        show(file, contents)


@app.command()
def verify(file: File, *, as_json: AsJson = False) -> None:
    """
    Check a snapshot: compare its checksum, and load all of it.

    Takes the time and the memory of a start. Exit status: 0 it is whole, 1 it is not, 2 there is no such file.

    Example: kvsync snapshot verify /var/lib/kvsync/index.snapshot
    """
    from kvsync.cli.output import plural, print_json
    from kvsync.errors import FrameError
    from kvsync.index import Index

    try:
        with Index.load(file) as index:
            stats, resumable = index.stats(), len(index.bookmarks)
    except FrameError as error:
        if not as_json:
            raise
        print_json({"file": str(file), "whole": False, "error": str(error)})
        raise typer.Exit(1) from error
    counts = {"engines": stats["engines"], "entries": stats["entries"], "resumable": resumable}
    if as_json:
        print_json({"file": str(file), "whole": True, **counts, "index_bytes": stats["bytes"]})
        return
    engines = plural(stats["engines"], "engine")
    print(f"{file} is whole: {engines}, {stats['entries']:,} entries; {resumable} can go on from their last batch")


def described(contents: Contents) -> dict[str, Any]:
    """A snapshot as JSON."""
    return {
        "version": contents.version,
        "kvsync": contents.kvsync,
        "taken": _time(contents.taken),
        "bytes": contents.size,
        "entries": sum(row.entries for row in contents.rows),
        "models": sorted({row.model for row in contents.rows}),
        "engines": [_engine(row) for row in contents.rows],
    }


def show(file: Path, contents: Contents) -> None:
    """A snapshot for people."""
    from rich.table import Table
    from rich.text import Text

    from kvsync.cli.output import TRUST_STYLE, console, plural

    out = console()
    entries = sum(row.entries for row in contents.rows)
    out.print(f"{file}: version {contents.version}, by kvsync {contents.kvsync}, taken {_time(contents.taken)}")
    out.print(f"{plural(len(contents.rows), 'engine')}, {entries:,} entries, {contents.size:,} bytes")
    table = Table("engine", "model", "trust", "sequence", "life", "entries", "bytes", "goes on from", box=None)
    for row in contents.rows:
        table.add_row(
            str(row.engine),
            row.model,
            Text(row.trust, style=TRUST_STYLE[row.trust]),
            "-" if row.sequence is None else str(row.sequence),
            str(row.lives),
            f"{row.entries:,}",
            f"{row.size:,}",
            "the beginning" if row.bookmark is None else f"batch {row.bookmark.number}",
        )
    out.print(table)


def _engine(row: Row) -> dict[str, Any]:
    return {
        "pod": row.engine.pod,
        "rank": row.engine.rank,
        "model": row.model,
        "trust": row.trust.value,
        "sequence": row.sequence,
        "lives": row.lives,
        "entries": row.entries,
        "bytes": row.size,
        "resumable": row.bookmark is not None,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
