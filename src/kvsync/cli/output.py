"""
How commands print: results on stdout, the rest on stderr, JSON as one line and the last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kvsync.cli.eventview import hash_text
from kvsync.errors import KvsyncError
from kvsync.types import EngineHash, Trust

if TYPE_CHECKING:
    from rich.console import Console

TRUST_STYLE: Mapping[str, str] = {
    Trust.EXACT: "green",
    Trust.PARTIAL: "yellow",
    Trust.STALE: "red",
    Trust.UNKNOWN: "dim",
}


@contextmanager
def writing() -> Iterator[None]:
    """Print what is printed within, to its end; `KvsyncError` where standard output does not take it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # a reader who has gone has what he wanted
        raise
    except OSError as error:
        raise KvsyncError(f"standard output cannot be written: {error.strerror}; make room, or send it on") from error


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document as one line."""
    # Text of a stranger may hold lone surrogates; escaped, they are ASCII on any terminal.
    text = json.dumps(document, ensure_ascii=True, separators=(",", ":")) + "\n"
    with writing():
        sys.stdout.write(text)


def plural(count: int, thing: str) -> str:
    """So many of a thing, in words: `1 engine`, `2 engines`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def console(*, stderr: bool = False) -> Console:
    """A console: colours and the terminal's width where there is one, plain and wide enough in a pipe or a file."""
    from rich.console import Console

    found = Console(highlight=False, markup=False, emoji=False, stderr=stderr)
    return found if found.is_terminal else Console(highlight=False, markup=False, emoji=False, stderr=stderr, width=160)


def media_json(held: Mapping[str, Mapping[int, Mapping[EngineHash, int]]]) -> dict[str, dict[str, dict[str, int]]]:
    """
    What an engine holds in the words of a dump; media and groups that hold nothing are left out.
    """
    media = {
        medium: {
            str(group): {hash_text(engine_hash): copies for engine_hash, copies in sorted(hashes.items(), key=_order)}
            for group, hashes in sorted(groups.items())
            if hashes
        }
        for medium, groups in sorted(held.items())
    }
    return {medium: groups for medium, groups in media.items() if groups}


def _order(item: tuple[EngineHash, int]) -> tuple[bool, str]:
    return isinstance(item[0], bytes), hash_text(item[0])
