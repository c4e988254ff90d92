"""Captures are read record by record, and what cannot be read says where and why."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.errors import ClosedError, ConfigError, FrameError
from kvsync.stream.capture import CaptureRecord, CaptureWriter, open_capture

HEADER = {"format": 1, "about": "a test"}
FRAMES = [b"topic", b"\0" * 8, b"payload"]
RECORD = [0, "pub", FRAMES]


def write(path: Path, *objects: object) -> Path:
    """
    A file of these msgpack objects.
    """
    path.write_bytes(b"".join(msgpack.packb(item) for item in objects))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Header and records come back as they went in, whichever way the engine is named."""
    path = tmp_path / "capture"
    with CaptureWriter(path, {"about": "a test"}) as writer:
        writer.write("ns/pod/0", "pub", FRAMES)
        writer.write(3, "replay", [b"", b"\xff" * 8, memoryview(b"")])
    with open_capture(path) as capture:
        assert capture.header == HEADER
        assert list(capture) == [
            CaptureRecord("ns/pod/0", "pub", FRAMES),
            CaptureRecord(3, "replay", [b"", b"\xff" * 8, b""]),
        ]


def test_a_capture_is_for_its_owner_only(tmp_path: Path) -> None:
    """It holds prompts, so nobody else may read it, whatever the umask."""
    before = os.umask(0)
    try:
        CaptureWriter(tmp_path / "capture").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "capture").stat().st_mode) == 0o600


def test_a_capture_that_exists_is_left_alone(tmp_path: Path) -> None:
    """It is only overwritten on demand, and is then for its owner only."""
    path = write(tmp_path / "capture", HEADER, RECORD)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="exists: choose another name, or --overwrite"):
        CaptureWriter(path)
    CaptureWriter(path, overwrite=True).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_capture(path) as capture:
        assert list(capture) == []


def test_a_capture_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    """Each record is whole in the file once `write` has returned."""
    path = tmp_path / "capture"
    with CaptureWriter(path) as writer:
        writer.write(0, "pub", FRAMES)
        assert path.stat().st_size == writer.size_bytes
        with open_capture(path) as capture:
            assert len(list(capture)) == 1


def test_further_fields_of_a_record_are_ignored(tmp_path: Path) -> None:
    """Later writers may append fields."""
    with open_capture(write(tmp_path / "capture", HEADER, [*RECORD, 12.5, {"more": None}])) as capture:
        assert list(capture) == [CaptureRecord(0, "pub", FRAMES)]


def test_every_cut_gives_the_whole_records_and_then_the_offset(tmp_path: Path) -> None:
    """A file cut anywhere gives what is whole, and an error that names the byte where the rest begins."""
    whole = write(tmp_path / "whole", HEADER, RECORD, RECORD).read_bytes()
    first, second = len(msgpack.packb(HEADER)), len(msgpack.packb(HEADER)) + len(msgpack.packb(RECORD))
    for size in range(first, len(whole)):
        path = tmp_path / "cut"
        path.write_bytes(whole[:size])
        read = []
        with open_capture(path) as capture:
            if size in (first, second):
                read = list(capture)
            else:
                with pytest.raises(FrameError, match=f"starts at byte {first if size < second else second} "):
                    read.extend(capture)
        assert len(read) == (size >= second)


def test_a_cut_header_is_an_error(tmp_path: Path) -> None:
    """A file that ends within its header has nothing to give."""
    path = tmp_path / "cut"
    path.write_bytes(msgpack.packb(HEADER)[:-1])
    with pytest.raises(FrameError, match=r"ends within the header, after \d+ bytes; .* record it again") as caught:
        open_capture(path)
    assert "head" not in str(caught.value).replace("header", "")


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    """A capture has a header at least."""
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(FrameError, match="is empty"):
        open_capture(path)


def test_an_unreadable_file_is_the_operators_error(tmp_path: Path) -> None:
    """A name that is not there, or is a directory, is a `ConfigError` with the reason."""
    with pytest.raises(ConfigError, match="No such file"):
        open_capture(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="is a directory"):
        open_capture(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b'{"json": true}',
        b"\x89PNG\r\n\x1a\n",
        msgpack.packb([1, 2, 3]),
        msgpack.packb({1: 2}),
        b"\xc1",
        b"\x81\x90\x01",
        b"\xdd\xff\xff\xff\xff" * 4,
        b"\xdf\xff\xff\xff\xff" * 4,
        b"\x91" * 100_000,
        b"\xa4\xff\xfe\xfd\xfc",
        b"\xa4\xff\xfe\xfd\xfc" * 1000,
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever does not begin with a header map is no capture, and is found so without much memory."""
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=r"is not a capture: .*; give a file") as caught:
        open_capture(path)
    for foreign in ("codec", "Error", "error", "max_"):
        assert foreign not in str(caught.value).removeprefix(str(path))


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    """A format that this version does not know is named."""
    with pytest.raises(FrameError, match="format 2; this version reads format 1"):
        open_capture(write(tmp_path / "later", {"format": 2}))


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        [0, "pub"],
        [0, "sub", FRAMES],
        [None, "pub", FRAMES],
        [True, "pub", FRAMES],
        [0, "pub", ["text"]],
        [0, "pub", b"frame"],
        [0, ["pub"], FRAMES],
        7,
    ],
)
def test_a_foreign_record_ends_the_reading_where_it_stands(tmp_path: Path, record: object) -> None:
    """Records before it have been given; the error names its byte."""
    with open_capture(write(tmp_path / "foreign", HEADER, RECORD, record, RECORD)) as capture:
        assert next(capture) == CaptureRecord(0, "pub", FRAMES)
        offset = len(msgpack.packb(HEADER)) + len(msgpack.packb(RECORD))
        with pytest.raises(FrameError, match=f"no record at byte {offset} "):
            next(capture)
        assert list(capture) == []


@given(junk=st.binary(max_size=200))
def test_junk_behind_a_header_never_does_worse_than_an_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    """Any bytes are read to their end or refused with a `FrameError`."""
    path = tmp_path_factory.mktemp("junk") / "capture"
    path.write_bytes(msgpack.packb(HEADER) + junk)
    with open_capture(path) as capture, contextlib.suppress(FrameError):
        assert all(isinstance(record, CaptureRecord) for record in capture)


def test_a_full_disk_leaves_whole_records() -> None:
    """What does not fit is refused in words."""
    with pytest.raises(ConfigError, match="make room"):
        CaptureWriter("/dev/full", overwrite=True)


def test_a_closed_writer_refuses_records(tmp_path: Path) -> None:
    """Writing after closing is the caller's mistake, and closing twice is none."""
    writer = CaptureWriter(tmp_path / "capture")
    writer.close()
    writer.close()
    with pytest.raises(ClosedError):
        writer.write(0, "pub", FRAMES)


def test_a_writer_knows_its_channels(tmp_path: Path) -> None:
    """A record that no reader would take is not written."""
    with CaptureWriter(tmp_path / "capture") as writer, pytest.raises(ConfigError, match="no channel 'sub'"):
        writer.write(0, "sub", FRAMES)


def test_a_capture_can_be_discarded(tmp_path: Path) -> None:
    """The file goes with it, but not a file of another that has taken its name, nor a device."""
    path = tmp_path / "capture"
    CaptureWriter(path).discard()
    assert not path.exists()
    writer = CaptureWriter(path)
    path.rename(tmp_path / "moved")
    path.write_bytes(b"another's")
    writer.discard()
    assert path.read_bytes() == b"another's"


def test_a_directory_is_no_capture(tmp_path: Path) -> None:
    """Also with overwriting, it is called what it is."""
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="is a directory: give the name of a file in it"):
            CaptureWriter(tmp_path, overwrite=overwrite)
