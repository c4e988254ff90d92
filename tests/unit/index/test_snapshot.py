"""Saving an index and loading it again: nothing is lost, and nothing foreign is believed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from kvsync.errors import ConfigError, FrameError
from kvsync.index import Index
from kvsync.index.snapshot import VERSION, SnapshotFile, make_pieces, write_snapshot
from kvsync.testing.compare import compare_answers, compare_records, play
from kvsync.testing.history import History
from kvsync.testing.model import ModelIndex
from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import Bookmark, Engine, Trust

SEEDS = range(12)
STEPS = 160
BATCH = encode_batch([Stored((1, 2), None, tuple(range(32)), 16)])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loaded_index_goes_on_where_it_was(seed: int, tmp_path: Path) -> None:
    """In the middle of any history an index can be saved and loaded, and nobody can tell."""
    path = tmp_path / "index.snapshot"
    index, model = Index(seed=seed), ModelIndex()
    history = History(seed, steps=STEPS)
    try:
        for step, operation in enumerate(history, start=1):
            assert play(index, operation) == play(model, operation)
            if step % 40 == 0:
                index.save(path)
                index.close()
                index = Index.load(path)
                for engine in index.engines():
                    index.confirm(engine)
                compare_records(index, model, f"seed {seed}, loaded after step {step}")
            compare_answers(index, model, history.questions(2, step), f"seed {seed}, step {step}")
        compare_records(index, model, f"seed {seed}, at the end")
    finally:
        index.close()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A snapshot of an index with something of everything in it."""
    path = tmp_path / "index.snapshot"
    with Index(seed=3) as index:
        for operation in History(3, steps=STEPS):
            play(index, operation)
        index.save(path)
    return path


def test_the_seed_is_kept(saved: Path) -> None:
    """Block hashes are the same before and after."""
    with Index.load(saved) as index, Index(seed=3) as other:
        assert index.block_hashes(range(64), model="m", block_size=16) == other.block_hashes(
            range(64), model="m", block_size=16
        )


def test_it_is_for_its_owner_only(saved: Path) -> None:
    """The file holds the seed, so nobody else may read it, and nothing else is left beside it."""
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    """What was loaded is saved as it was."""
    again = tmp_path / "again"
    with Index.load(saved) as index:
        index.save(again)
        first, second = Index.load(saved), Index.load(again)
        with first, second:
            assert first.stats()["entries"] == second.stats()["entries"] == index.stats()["entries"]
            for engine in index.engines():
                assert first.engine_hashes(engine) == second.engine_hashes(engine) == index.engine_hashes(engine)


def test_a_failed_save_leaves_the_old_one(saved: Path) -> None:
    """A folder that cannot be written to is an error, and what was there stays whole."""
    with Index.load(saved) as index, pytest.raises(OSError, match="nowhere"):
        index.save(saved.parent / "nowhere" / "index")
    Index.load(saved).close()


def test_a_file_cut_anywhere_is_refused(saved: Path) -> None:
    """A file that ends too soon, in any of its parts, is told, and the way out."""
    data = saved.read_bytes()
    head, table = [0, 1, 7, 8, 11, 12, 23, 24], [len(data) - 32 - 8 - extra for extra in (-9, -8, -1, 0, 1, 40)]
    sections = range(25, len(data) - 100, len(data) // 50)
    for cut in (*head, *sections, *table, len(data) - 1):
        saved.write_bytes(data[:cut])
        with pytest.raises(FrameError, match="start without it"):
            Index.load(saved)


def test_a_file_with_more_behind_it_is_refused(saved: Path) -> None:
    """Bytes behind the end are no part of a snapshot."""
    saved.write_bytes(saved.read_bytes() + b"more")
    with pytest.raises(FrameError, match="cut or damaged"):
        Index.load(saved)


def test_every_damaged_byte_is_seen(saved: Path) -> None:
    """A flipped bit anywhere is found by the mark, the version, the table or the checksum."""
    data = saved.read_bytes()
    for at in (*range(48), *range(48, len(data), max(1, len(data) // 150)), *range(len(data) - 48, len(data))):
        saved.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(FrameError):
            Index.load(saved)


@pytest.mark.parametrize(("version", "whose"), [(VERSION + 1, "a newer"), (VERSION - 1, "an older")])
def test_another_version_is_named(saved: Path, version: int, whose: str) -> None:
    """A file of another version says which it has and which would be read."""
    data = bytearray(saved.read_bytes())
    data[8:12] = version.to_bytes(4, "big")
    saved.write_bytes(data)
    with pytest.raises(FrameError, match=f"has version {version}, of {whose} kvsync; this one reads {VERSION}"):
        Index.load(saved)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """What is no snapshot at all is called so, and a pipe does not make us wait."""
    other, pipe = tmp_path / "other", tmp_path / "pipe"
    other.write_text("{}" * 100)
    with pytest.raises(FrameError, match="no snapshot of kvsync's"):
        Index.load(other)
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="no regular file"):
        Index.load(pipe)


def test_a_true_checksum_does_not_make_a_snapshot(saved: Path) -> None:
    """Records that contradict themselves are refused, though the file is whole."""
    with SnapshotFile(saved) as file:
        seed, rows = file.seed, file.contents.rows
        sections = [bytearray(file.section(row)) for row in rows]
    sections[0][0] ^= 1
    told = ((row, memoryview(section)) for row, section in zip(rows, sections, strict=True))
    write_snapshot(saved, make_pieces(seed, told))
    with pytest.raises(FrameError, match="contradicts itself"):
        Index.load(saved)


def test_a_loaded_engine_is_stale_until_it_is_confirmed(tmp_path: Path) -> None:
    """Nothing loaded is trusted before its stream was compared; then it is what it was."""
    path, engine = tmp_path / "index", Engine("a")
    with Index() as index:
        index.apply(engine, BATCH, model="m", sequence=0)
        assert index.trust(engine) is Trust.EXACT
        index.save(path)
    with Index.load(path) as index:
        assert index.trust(engine) is Trust.STALE
        assert index.record(engine).media["GPU"].reason == "loaded and not compared with the engine yet"
        assert index.saved_trust == {engine: Trust.EXACT}
        index.confirm(engine)
        index.confirm(Engine("unknown"))
        assert index.trust(engine) is index.record(engine).media["GPU"].trust is Trust.EXACT


@pytest.mark.parametrize(("number", "kept"), [(1, True), (0, False), (2, False)])
def test_a_bookmark_is_kept_where_it_fits(number: int, kept: bool, tmp_path: Path) -> None:
    """The bookmark of the batch that the record ends with comes back; of any other batch it would prove nothing."""
    path, engine, mark = tmp_path / "index", Engine("a"), Bookmark(number, b"digest!!")
    with Index() as index:
        for sequence in range(2):
            index.apply(engine, BATCH, model="m", sequence=sequence)
        contents = index.save(path, hold=lambda _engine: nullcontext(mark))
    assert contents.rows[0].sequence == 1
    assert contents.size == path.stat().st_size
    with Index.load(path) as index:
        assert index.bookmarks == ({engine: mark} if kept else {})


def test_each_record_is_taken_in_its_own_hold(tmp_path: Path) -> None:
    """One engine at a time is held, while its record is taken, and no other."""
    told: list[str] = []

    @contextmanager
    def hold(engine: Engine) -> Iterator[None]:
        told.append(f"hold {engine}")
        yield None
        told.append(f"release {engine}")

    with Index() as index:
        for name in "ab":
            index.register(Engine(name), model="m")
        index.save(tmp_path / "index", hold=hold)
    assert told == ["hold a/0", "release a/0", "hold b/0", "release b/0"]


def test_an_engine_removed_meanwhile_is_left_out(tmp_path: Path) -> None:
    """An engine that goes while others are saved is not in the snapshot, and does not stop it."""
    with Index() as index:
        for name in "ab":
            index.register(Engine(name), model="m")

        def hold(engine: Engine) -> nullcontext[None]:
            index.remove(Engine("b"))
            return nullcontext()

        contents = index.save(tmp_path / "index", hold=hold)
    assert [row.engine for row in contents.rows] == [Engine("a")]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file is the operator's to mend."""
    with pytest.raises(ConfigError, match="nothing-here"):
        Index.load(tmp_path / "nothing-here")


def test_the_ceiling_holds_for_loading(saved: Path) -> None:
    """A snapshot that needs more than is allowed is not half loaded."""
    with pytest.raises(MemoryError):
        Index.load(saved, max_bytes=5000)


def test_new_engines_follow_the_loaded_ones(tmp_path: Path) -> None:
    """Engines that come and go before and after a snapshot are never taken for each other."""
    path = tmp_path / "index"
    a, b, c = (Engine(name) for name in "abc")
    with Index() as index:
        for engine in (a, b, c):
            index.register(engine, model="m")
        index.remove(a)
        index.remove(c)
        index.save(path)
    with Index.load(path) as index:
        assert index.engines() == [b]
        index.register(c, model="m")
        index.register(a, model="m")
        assert index.engines() == [a, b, c]
        assert index.record(b).model == "m"


def test_the_limit_of_an_engine_holds_for_loading(tmp_path: Path) -> None:
    """A record with more entries than one may have now gives up its deepest blocks, and says so."""
    path, engine, prompt = tmp_path / "index", Engine("a"), tuple(range(16 * 400))
    with Index() as index:
        stored = Stored(tuple(range(1, 401)), None, prompt, 16)
        index.apply(engine, encode_batch([stored]), model="m", sequence=0)
        index.save(path)
    with Index.load(path, engine_entries_max=100) as index:
        index.confirm(engine)
        assert 0 < index.stats()["entries"] <= 100
        assert index.trust(engine) is Trust.PARTIAL
        assert index.record(engine).media["GPU"].reason == "evicted to keep within memory"
        assert index.match(prompt, model="m")[engine].blocks == index.stats()["entries"]
