"""Keys in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsync.errors import ConfigError
from kvsync.keys import read_public_key, read_secret_key

KEY = b"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


def written(tmp_path: Path, content: bytes, mode: int) -> Path:
    """A file with this content and mode."""
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_is_read(tmp_path: Path) -> None:
    """With or without an end of line."""
    assert read_secret_key(written(tmp_path, KEY + b"\n", 0o600), "--k") == KEY
    assert read_public_key(written(tmp_path, KEY, 0o644), "--k") == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    """With the mode and the remedy, and without the key."""
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        read_secret_key(written(tmp_path, KEY, mode), "--k")
    assert f"{mode:04o}" in str(caught.value)
    assert KEY.decode() not in str(caught.value)


@pytest.mark.parametrize("content", [b"", KEY[:-1], KEY + b"x", b"\xff" * 40, KEY + b" " + KEY])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """Without showing what it is."""
    with pytest.raises(ConfigError, match="holds no CURVE key"):
        read_public_key(written(tmp_path, content, 0o600), "--k")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """By the flag that named it."""
    with pytest.raises(ConfigError, match=r"--k .*cannot be read"):
        read_secret_key(tmp_path / "none", "--k")
