"""
What the daemon knows when it starts: its own snapshot, a sibling's, or nothing.

Its own file counts first while it is young: an engine's replay reaches back minutes, and what it still has is added
from there. An old one is worth less than a sibling's record of now. Whatever cannot be used is told, and the daemon
starts all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from kvsync.errors import ConfigError, FrameError
from kvsync.index import Index, SnapshotFile
from kvsync.serve.settings import Settings
from kvsync.serve.snapshots.folder import SnapshotFolder
from kvsync.serve.snapshots.inherited import Inherited
from kvsync.serve.snapshots.siblings import Siblings
from kvsync.types import Trust

YOUNG_INTERVALS = 2
"""A snapshot of our own is young until so many others should have been made."""

_logger = logging.getLogger(__name__)


Limits = dict[str, int | None]


@dataclass(slots=True)
class Start:
    """An index to begin with, and what is in it."""

    index: Index
    inherited: Inherited


async def begin(settings: Settings, folder: SnapshotFolder | None, siblings: Siblings) -> Start:
    """The best index there is to begin with."""
    taken = None if folder is None else _usable(folder)

    async def own() -> Start | None:
        if folder is None or taken is None:
            return None
        return await asyncio.to_thread(_from_folder, folder, settings.index_limits)

    async def others() -> Start | None:
        async with siblings.fetched(None if folder is None else folder.path) as given:
            return None if given is None else await asyncio.to_thread(_from_sibling, *given, settings.index_limits)

    is_young = taken is not None and time.time() - taken <= YOUNG_INTERVALS * settings.snapshot_interval
    for attempt in (own, others) if is_young else (others, own):
        start = await attempt()
        if start is not None:
            return start
    return Start(Index(**settings.index_limits), Inherited())


def _usable(folder: SnapshotFolder) -> float | None:
    """When the folder's snapshot was taken; None if there is none that may be loaded."""
    try:
        if not folder.file.exists():
            _logger.info("there is no snapshot in %s yet: starting without one", folder.path)
            return None
        why_not = folder.why_not()
        if why_not is None:
            with SnapshotFile(folder.file) as file:
                return file.contents.taken
    except (FrameError, ConfigError, OSError) as error:
        why_not = str(error)
    _refuse(folder, why_not)
    return None


def _refuse(folder: SnapshotFolder, why_not: str) -> None:
    aside = folder.set_aside()
    kept = "" if aside is None else f"; it is kept as {aside}"
    _logger.warning("starting without a snapshot: %s%s", why_not, kept)


def _from_folder(folder: SnapshotFolder, limits: Limits) -> Start | None:
    try:
        return _loaded(folder.file, "snapshot", limits)
    except MemoryError as error:
        _logger.warning("starting without a snapshot: %s", error)  # it is as good as before, with more memory
    except (FrameError, ConfigError) as error:
        _refuse(folder, str(error))
    return None


def _from_sibling(path: Path, url: str, limits: Limits) -> Start | None:
    try:
        return _loaded(path, url, limits)
    except (FrameError, ConfigError, MemoryError) as error:
        _logger.warning("what sibling %s gave cannot be used: %s", url, error)
    return None


def _loaded(path: Path, origin: str, limits: Limits) -> Start:
    began = time.monotonic()
    with SnapshotFile(path) as file:
        taken = file.contents.taken
    index = Index.load(path, **limits)
    engines = index.engines()
    doubtful = {engine for engine, trust in index.saved_trust.items() if trust is not Trust.EXACT}
    inherited = Inherited(origin, taken, len(engines), dict(index.bookmarks), set(engines), doubtful)
    _logger.info(
        "%d engines with %d entries loaded from %s in %.2f s, %.0f s old; each is compared with its stream before it is"
        " trusted",
        *(len(engines), index.stats()["entries"], path if origin == "snapshot" else origin),
        *(time.monotonic() - began, max(0.0, time.time() - taken)),
    )
    return Start(index, inherited)
