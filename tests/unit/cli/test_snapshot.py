"""`kvsync snapshot`: what it shows of a file, and with which status it ends."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kvsync.cli.main import app
from kvsync.index import Index
from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import Bookmark, Engine

BATCH = encode_batch([Stored((1, 2), None, tuple(range(32)), 16)])
SEED = 0x1234567890ABCDEF


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Two engines, one of which can go on."""
    path = tmp_path / "index.snapshot"
    with Index(seed=SEED) as index:
        for name in "ab":
            index.apply(Engine(name), BATCH, model="m", sequence=0)
        mark = Bookmark(0, b"digest!!")
        index.save(path, hold=lambda engine: nullcontext(mark if engine.pod == "a" else None))
    return path


def run(*arguments: str) -> tuple[int, str]:
    """Status and stdout of a command."""
    result = CliRunner().invoke(app, ["snapshot", *arguments])
    return result.exit_code, result.stdout


def test_inspect_says_all_but_the_secret(saved: Path) -> None:
    """Version, time, size and each engine's record, as JSON and as a table; never the seed."""
    status, out = run("inspect", str(saved), "--json")
    document = json.loads(out)
    assert status == 0
    assert document["version"] == 2
    assert document["taken"].endswith("+00:00")
    assert (document["entries"], document["models"], document["bytes"]) == (4, ["m"], saved.stat().st_size)
    first, second = document["engines"]
    assert (first["pod"], first["rank"], first["model"], first["trust"]) == ("a", 0, "m", "exact")
    assert (first["sequence"], first["lives"], first["entries"], first["resumable"]) == (0, 1, 2, True)
    assert second["resumable"] is False
    status, table = run("inspect", str(saved))
    assert status == 0
    assert "2 engines, 4 entries" in table
    assert "batch 0" in table
    assert "the beginning" in table
    for secret in (str(SEED), f"{SEED:x}"):
        assert secret not in out + table


def test_verify_loads_it(saved: Path) -> None:
    """A whole file ends with status 0, and how much of it can go on."""
    assert run("verify", str(saved)) == (
        0,
        f"{saved} is whole: 2 engines, 4 entries; 1 can go on from their last batch\n",
    )
    status, out = run("verify", str(saved), "--json")
    assert status == 0
    assert json.loads(out) | {"index_bytes": 0} == {
        "file": str(saved),
        "whole": True,
        "engines": 2,
        "entries": 4,
        "resumable": 1,
        "index_bytes": 0,
    }


def test_a_damaged_file_is_a_problem(saved: Path) -> None:
    """Its table can be read and its checksum does not fit: inspect shows it, verify does not let it pass."""
    data = bytearray(saved.read_bytes())
    data[60] ^= 1
    saved.write_bytes(data)
    assert run("inspect", str(saved))[0] == 0
    assert run("verify", str(saved))[0] == 1
    status, out = run("verify", str(saved), "--json")
    assert status == 1
    assert json.loads(out)["whole"] is False
    assert "checksum" in json.loads(out)["error"]


@pytest.mark.parametrize("action", ["inspect", "verify"])
def test_no_file_and_no_snapshot_are_told_apart(action: str, tmp_path: Path) -> None:
    """2 for the operator's slip, 1 for a file that is something else."""
    other = tmp_path / "other"
    other.write_text("something else")
    assert run(action, str(tmp_path / "nothing"))[0] == 2
    assert run(action, str(other))[0] == 1
