"""Saving an index and loading it again: nothing is lost, and nothing foreign is believed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from kvsync.errors import ConfigError, FrameError
from kvsync.index import Index
from kvsync.testing.compare import compare_answers, compare_records, play
from kvsync.testing.history import History
from kvsync.testing.model import ModelIndex
from kvsync.types import Engine

SEEDS = range(12)
STEPS = 160


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


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 40, 1000, -33, -1])
def test_a_cut_file_is_refused(saved: Path, cut: int) -> None:
    """A file that ends too soon is told, and the way out."""
    data = saved.read_bytes()
    saved.write_bytes(data[:cut])
    with pytest.raises(FrameError, match="start without it"):
        Index.load(saved)


def test_every_damaged_byte_is_seen(saved: Path) -> None:
    """A flipped bit anywhere is found by the mark or the checksum."""
    data = saved.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 200)):
        saved.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(FrameError):
            Index.load(saved)


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
