"""
One history from beginning to end, and what comes of it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from kvsync.testing.faults.checker import Violation
from kvsync.testing.faults.history import History
from kvsync.testing.faults.settle import settle
from kvsync.testing.faults.world import World

MakeWorld: TypeAlias = Callable[[History, Path, "list[str] | None"], World]

MEMORY: Final = Path("/dev/shm")
"""Snapshots are written many times and wanted for no longer than a moment."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A history that came to something untrue; `step` is None if that was after its end, when faults had ceased."""

    history: History
    step: int | None
    trouble: str


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for snapshots, in memory where there is such a place."""
    where = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kvsync-faults-", dir=where) as folder:
        yield Path(folder)


def run(
    history: History, folder: Path, *, make_world: MakeWorld = World, log: list[str] | None = None
) -> Failure | None:
    """
    Play a history and let faults cease; None if all was true at every moment.

    Whatever is raised on the way is a failure too: nothing an engine or a network does may raise.
    """
    step: int | None = None
    with make_world(history, folder, log) as world:
        try:
            for at, operation in enumerate(history.operations):
                step = at
                world.play(operation)
            step = None
            settle(world)
        except Violation as violation:
            return Failure(history, step, str(violation))
        except Exception as error:  # noqa: BLE001 - a fault of ours in the code under test is what is looked for
            return Failure(history, step, f"raised {type(error).__name__}: {error}")
    return None
