"""Files that somebody names: who reads one neither waits for a pipe nor reads without end, and says which it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kvsync.cli.engine import _token
from kvsync.cli.match import read_tokens
from kvsync.cli.tokenize import _read
from kvsync.errors import ConfigError
from kvsync.files import read_file
from kvsync.fleet.file import read_entries
from kvsync.index import Index
from kvsync.keys import read_public_key, read_secret_key
from kvsync.serve.auth import read_token
from kvsync.serve.settings import load_settings
from kvsync.stream.capture import open_capture

pytestmark = pytest.mark.timeout(60)

READERS: dict[str, Callable[[Path], object]] = {
    "--curve-key": lambda path: read_secret_key(path, "--curve-key"),
    "--curve-server-key": lambda path: read_public_key(path, "--curve-server-key"),
    "--token-file": read_token,
    "--token-file of an engine": _token,
    "--config": lambda path: load_settings({}, config=path, environment={}),
    "--pods-file": read_entries,
    "--tokens": read_tokens,
    "--file": lambda path: _read(path, "--file"),
    "capture": open_capture,
    "snapshot": Index.load,
}
ENDLESS = sorted(READERS.keys() - {"capture", "snapshot"})
"""Whose files are read whole; the others are read piece by piece."""


def refusal(reader: str, path: Path) -> str:
    """What a reader says about a file that it refuses."""
    with pytest.raises(ConfigError) as caught:
        READERS[reader](path)
    return str(caught.value)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with a directory, a pipe that nobody writes and a file that is too long for anything."""
    (tmp_path / "dir.yaml").mkdir(0o755)
    os.mkfifo(tmp_path / "pipe.yaml", 0o600)
    with (tmp_path / "long.yaml").open("wb") as file:
        file.truncate(1 << 29)  # takes no room: nothing is written
    (tmp_path / "long.yaml").chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("file", "said"), [("dir.yaml", "is a directory"), ("pipe.yaml", "is no regular file"), ("/dev/zero", "no regular")]
)
def test_what_is_no_regular_file_is_refused_at_once(odd: Path, reader: str, file: str, said: str) -> None:
    """By its name, with what it is, and never with advice to change the rights of it."""
    says = refusal(reader, odd / file)
    assert said in says
    assert str(odd / file) in says
    assert "chmod" not in says


@pytest.mark.parametrize("reader", ENDLESS)
def test_no_more_is_read_than_such_a_file_may_have(odd: Path, reader: str) -> None:
    """Half a gigabyte of zeros is refused, by the file's name."""
    says = refusal(reader, odd / "long.yaml")
    assert "has more than" in says
    assert str(odd / "long.yaml") in says


def test_a_pipe_that_a_shell_opened_is_read() -> None:
    """As of `--token-file <(command)`: it has a writer, who may take its time."""
    reading, writing = os.pipe()
    path = f"/dev/fd/{reading}"
    try:
        os.write(writing, b"12345")
        os.close(writing)
        assert read_file(path, path, 5, "give another") == b"12345"
        with pytest.raises(ConfigError, match="is no regular file; give another"):
            read_file(path, path, 5, "give another", pipe=False)
    finally:
        os.close(reading)


def test_a_file_may_have_just_its_size(tmp_path: Path) -> None:
    """The limit is the last size that is taken."""
    (tmp_path / "f").write_bytes(b"123456")
    assert read_file(tmp_path / "f", "f", 6, "give another") == b"123456"
    with pytest.raises(ConfigError, match="f has more than 5 bytes; give another"):
        read_file(tmp_path / "f", "f", 5, "give another")
