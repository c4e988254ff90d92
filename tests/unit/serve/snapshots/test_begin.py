"""What the daemon starts with: its own snapshot, a sibling's, or nothing, and what it says of the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from kvsync.index import Index
from kvsync.serve.settings import load_settings
from kvsync.serve.snapshots.begin import begin
from kvsync.serve.snapshots.folder import SnapshotFolder
from kvsync.serve.snapshots.siblings import Siblings
from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import Bookmark, Engine, Trust

BATCH = encode_batch([Stored((1, 2), None, tuple(range(32)), 16)])
OWN, THEIRS = Engine("own"), Engine("theirs")
MARK = Bookmark(0, b"digest!!")
URL = "http://sibling:8090"


def save(path: Path, engine: Engine, blocks: int = 2, doubt: str | None = None) -> None:
    """A snapshot of one engine, taken now."""
    with Index(seed=1) as index:
        batch = encode_batch([Stored(tuple(range(1, blocks + 1)), None, tuple(range(16 * blocks)), 16)])
        index.apply(engine, batch, model="m", sequence=0)
        if doubt is not None:
            index.doubt(engine, doubt)
        index.save(path, hold=lambda _engine: nullcontext(MARK))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SnapshotFolder]:
    """A folder in use."""
    opened = SnapshotFolder(tmp_path / "snapshots")
    yield opened
    opened.close()


class Giving(Siblings):
    """One sibling that gives a file, or does not; remembers whether it was asked."""

    def __init__(self, path: Path | None) -> None:
        super().__init__((URL,), b"token")
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "asked", [])

    path: Path | None
    asked: list[bool]

    @asynccontextmanager
    async def fetched(self, folder: Path | None) -> AsyncIterator[tuple[Path, str] | None]:
        """What there is."""
        self.asked.append(True)
        yield None if self.path is None else (self.path, URL)


def start(
    folder: SnapshotFolder | None, siblings: Siblings | None = None, *, doubtful: bool = False, **flags: Any
) -> tuple[str, list[Engine]]:
    """Where the index came from, and whose records it has; each of them is not trusted yet."""
    settings = load_settings(flags, environment={})
    begun = asyncio.run(begin(settings, folder, siblings or Siblings()))
    with begun.index as index:
        assert all(index.trust(engine) is Trust.STALE for engine in index.engines())
        assert begun.inherited.bookmarks == dict.fromkeys(index.engines(), MARK)
        assert begun.inherited.unclaimed == set(index.engines())
        assert begun.inherited.doubtful == (set(index.engines()) if doubtful else set())
        return begun.inherited.origin, index.engines()


def test_the_first_start_is_cold(folder: SnapshotFolder, caplog: pytest.LogCaptureFixture) -> None:
    """No folder, or nothing in it: an empty index, and no word of warning."""
    caplog.set_level(logging.WARNING)
    assert start(None) == start(folder) == ("cold", [])
    assert caplog.records == []


def test_our_own_is_loaded(folder: SnapshotFolder) -> None:
    """With the bookmarks of its engines, and none of them trusted yet."""
    save(folder.file, OWN)
    assert start(folder) == ("snapshot", [OWN])
    assert folder.file.exists()


def test_a_record_that_was_stale_is_loaded_as_doubtful(folder: SnapshotFolder) -> None:
    """So that its stream can be told."""
    save(folder.file, OWN, doubt="gap")
    assert start(folder, doubtful=True) == ("snapshot", [OWN])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[: len(data) // 2], "cut or damaged"),
        (lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:], "checksum does not fit"),
        (lambda data: data[:11] + bytes([data[11] + 1]) + data[12:], "of a newer kvsync"),
        (lambda data: b"something else altogether", "no snapshot of kvsync's"),
        (lambda data: b"", "no snapshot of kvsync's"),
    ],
    ids=["cut", "flipped", "newer", "foreign", "empty"],
)
def test_what_cannot_be_used_is_told_and_kept(
    damage: Any, told: str, folder: SnapshotFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon starts without it; the operator finds it beside its place."""
    save(folder.file, OWN)
    data = damage(folder.file.read_bytes())
    folder.file.write_bytes(data)
    assert start(folder) == ("cold", [])
    assert told in caplog.text
    assert [path.read_bytes() for path in folder.path.glob("index.snapshot.refused-*")] == [data]
    assert not folder.file.exists()


def test_one_that_anyone_could_have_written_is_not_loaded(
    folder: SnapshotFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole as it may be."""
    save(folder.file, OWN)
    folder.file.chmod(0o606)
    assert start(folder) == ("cold", [])
    assert "can be written to by anyone" in caplog.text


def test_too_little_memory_is_told(folder: SnapshotFolder, caplog: pytest.LogCaptureFixture) -> None:
    """The file is as good as it was, and stays."""
    save(folder.file, OWN, blocks=60_000)
    assert start(folder, max_bytes="1MiB") == ("cold", [])
    assert "needs more memory than is allowed: raise max_bytes" in caplog.text
    assert folder.file.exists()


def test_a_young_one_of_our_own_comes_before_siblings(folder: SnapshotFolder, tmp_path: Path) -> None:
    """Replays fill what is missing; nobody is asked."""
    save(folder.file, OWN)
    save(tmp_path / "theirs", THEIRS)
    sibling = Giving(tmp_path / "theirs")
    assert start(folder, sibling) == ("snapshot", [OWN])
    assert sibling.asked == []


@pytest.mark.parametrize("age", [1, 1_000])
def test_a_sibling_comes_before_an_old_one(
    age: int, folder: SnapshotFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond two intervals a sibling's record of now is worth more; where none gives, the old one is loaded."""
    save(folder.file, OWN)
    save(tmp_path / "theirs", THEIRS)
    now = folder.file.stat().st_mtime + age
    monkeypatch.setattr("kvsync.serve.snapshots.begin.time.time", lambda: now)
    is_old = age > 100
    assert start(folder, Giving(tmp_path / "theirs")) == ((URL, [THEIRS]) if is_old else ("snapshot", [OWN]))
    assert start(folder, Giving(None)) == ("snapshot", [OWN])


def test_what_a_sibling_gives_is_checked_like_any_other(
    folder: SnapshotFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of a damaged one is believed."""
    save(tmp_path / "theirs", THEIRS)
    (tmp_path / "theirs").write_bytes((tmp_path / "theirs").read_bytes()[:-1])
    assert start(folder, Giving(tmp_path / "theirs")) == ("cold", [])
    assert f"what sibling {URL} gave cannot be used" in caplog.text
