"""The ready file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsync.engine.process import Addresses, check_ready_file, write_ready
from kvsync.errors import ConfigError

ADDRESSES = Addresses("http://127.0.0.1:1", ("tcp://127.0.0.1:2",), ())


def test_a_place_for_no_file_is_refused(tmp_path: Path) -> None:
    """A directory, and a name in none, before anything is started."""
    with pytest.raises(ConfigError, match="is a directory; give the name of a file in it"):
        check_ready_file(tmp_path)
    with pytest.raises(ConfigError, match="is in no directory; make"):
        check_ready_file(tmp_path / "none" / "ready")
    check_ready_file(tmp_path / "ready")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """Where the name is taken by a directory meanwhile, the unfinished file goes."""
    taken = tmp_path / "ready"
    taken.mkdir()
    with pytest.raises(ConfigError, match=r"--ready-file .* cannot be written: Is a directory"):
        write_ready(ADDRESSES, taken)
    assert list(tmp_path.iterdir()) == [taken]
