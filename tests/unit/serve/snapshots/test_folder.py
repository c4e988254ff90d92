"""The folder of snapshots: whose it may be, what is believed of it, and what becomes of the rest."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kvsync.errors import ConfigError
from kvsync.serve.snapshots.folder import NAME, REFUSED_KEPT, SnapshotFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where nothing is yet."""
    return tmp_path / "deep" / "snapshots"


def test_it_is_made_for_us_alone(folder: Path) -> None:
    """A folder that is not there is made, and closed to others."""
    SnapshotFolder(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "lock").stat().st_mode) == 0o600


def test_two_daemons_cannot_share_it(folder: Path) -> None:
    """The second is told so; when the first has ended, the folder is free."""
    first = SnapshotFolder(folder)
    with pytest.raises(ConfigError, match="in use by another daemon; give each daemon a folder of its own"):
        SnapshotFolder(folder)
    first.close()
    first.close()
    SnapshotFolder(folder).close()


def test_what_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    """A file in its place is the operator's slip."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--snapshot-dir .*file cannot be used \(File exists\)"):
        SnapshotFolder(tmp_path / "file")


def test_what_was_left_unfinished_goes(folder: Path) -> None:
    """The remains of a daemon that was killed while it wrote do not pile up; the good file stays."""
    folder.mkdir(parents=True)
    for name in (NAME, f".{NAME}.abc", f".{NAME}.def", "other"):
        (folder / name).write_text("x")
    SnapshotFolder(folder).close()
    assert {path.name for path in folder.iterdir()} == {NAME, "lock", "other"}


@pytest.mark.parametrize(
    ("mode", "believed", "told"),
    [(0o600, True, False), (0o660, True, True), (0o644, True, True), (0o606, False, False), (0o666, False, False)],
)
def test_the_mode_of_the_file_counts(
    mode: int, believed: bool, told: bool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What anyone could have written is not believed; what others may read is told."""
    with_file(folder).chmod(mode)
    opened = SnapshotFolder(folder)
    why_not = opened.why_not()
    opened.close()
    assert (why_not is None) == believed
    assert why_not is None or f"mode {mode:o}" in why_not
    assert ("close it with chmod 600" in caplog.text) == told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_not_believed(folder: Path) -> None:
    """A file that somebody else put there is refused."""
    os.chown(with_file(folder), 12345, -1)
    opened = SnapshotFolder(folder)
    assert "belongs to user 12345" in (opened.why_not() or "")
    opened.close()


def test_a_folder_open_to_all_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is used all the same: a volume may be like that."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    SnapshotFolder(folder).close()
    assert "can be written to by anyone (mode 777)" in caplog.text


def test_only_the_last_refused_files_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set aside for the operator is bounded."""
    opened = SnapshotFolder(folder)
    for number in range(REFUSED_KEPT + 2):
        with_file(folder).write_text(str(number))
        monkeypatch.setattr("time.strftime", lambda *_, number=number: f"2026010{number}T000000Z")
        assert opened.set_aside() is not None
    opened.close()
    kept = sorted(folder.glob(f"{NAME}.refused-*"))
    assert [path.read_text() for path in kept] == [str(number) for number in range(2, REFUSED_KEPT + 2)]


def with_file(folder: Path) -> Path:
    """A file in the place of the snapshot."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.write_text("x")
    path.chmod(0o600)
    return path
