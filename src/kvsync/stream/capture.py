"""
Capture files: the raw frames of live streams, in the order they came.

    header     a msgpack map; `format` is 1, the rest is for people
    record     [engine, channel, [frame, ...]]  again and again; further fields are for later writers

A file ends where its writer stopped: there is no trailer, so the capture of a process that was killed is
whole up to its last record. Reading streams through the file with a bounded buffer. A record that cannot be
read ends the reading with a `FrameError` that says where; every record before it has been given by then.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import msgpack

from kvsync.errors import ClosedError, ConfigError, FrameError
from kvsync.files import open_file
from kvsync.stream.frames import CHANNELS, Frames

logger = logging.getLogger(__name__)

FORMAT: Final = 1
FILE_MODE: Final = 0o600

READ_BYTES: Final = 256 * 1024

RECORD_BYTES_MAX: Final = 512 * 1024 * 1024
"""No frame that a subscriber takes comes near it; what claims to be longer is not a capture."""

COUNT_MAX: Final = 65_536

RECORD_FIELDS: Final = 3


@dataclass(frozen=True, slots=True)
class CaptureRecord:
    """
    One message of one engine: its raw frames, and the channel (`pub` or `replay`) they came on.

    `engine` is what the file calls the engine: a text such as `ns/pod/0`, or a rank.
    """

    engine: str | int
    channel: str
    frames: list[bytes]


class Capture:
    """
    A capture file being read: its header, and its records by iteration, once.

    `close()`, `with`, or the end of the iteration closes the file.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self._file = file
        self._objects = _Objects(path, file)
        self._records = 0

    def __repr__(self) -> str:
        return f"<Capture {self.path} records={self._records} at byte {self._objects.offset}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[CaptureRecord]:
        return self

    def __next__(self) -> CaptureRecord:
        offset = self._objects.offset
        try:
            record = _record(next(self._objects), self.path, offset)
        except StopIteration:
            self.close()
            raise
        except FrameError:
            self.close()
            raise
        self._records += 1
        return record

    def close(self) -> None:
        """Close the file; nothing more can be read."""
        self._objects.stop()
        self._file.close()

    def read_header(self) -> None:
        """Read the first object; `FrameError` if it is not the header of a capture."""
        try:
            header = next(self._objects)
        except StopIteration:
            raise FrameError(f"{self.path} is empty: a capture starts with a header; record it again") from None
        if not isinstance(header, dict) or not all(isinstance(key, str) for key in header):
            raise FrameError(
                f"{self.path} is not a capture: it starts with {_shape(header)} in place of a header map;"
                " give a file that `kvsync record` wrote"
            )
        written = header.get("format", FORMAT)
        if written != FORMAT:
            raise FrameError(f"{self.path} is a capture of format {written!r}; this version reads format {FORMAT}")
        self.header = header


def open_capture(path: str | os.PathLike[str]) -> Capture:
    """
    Open a capture file and read its header.

    Raises `ConfigError` for a file that cannot be opened and `FrameError` for one that is not a capture.
    """
    place = Path(path)
    capture = Capture(place, open_file(place, f"capture {place}", "give a file that `kvsync record` wrote"))
    try:
        capture.read_header()
    except FrameError:
        capture.close()
        raise
    return capture


class CaptureWriter:
    """
    A capture file being written, readable by its owner only: it holds prompts.

    Each record goes to the file by one write and is taken back if it does not fit, so that a full disk or a
    killed process leaves whole records. A file that exists is left alone unless `overwrite` is true. One thread.
    """

    def __init__(
        self, path: str | os.PathLike[str], header: Mapping[str, object] | None = None, *, overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        self.records = 0
        self.size_bytes = 0
        self._packer = msgpack.Packer(use_bin_type=True, autoreset=True)
        self._file: int | None = self._open(overwrite)
        try:
            self._append({"format": FORMAT, **(header or {})})
        except ConfigError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<CaptureWriter {self.path} records={self.records} bytes={self.size_bytes}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, engine: str | int, channel: str, frames: Frames) -> None:
        """Append one message; `ConfigError` if the disk does not take it."""
        if channel not in CHANNELS:
            raise ConfigError(f"a capture has no channel {channel!r}; use one of {', '.join(CHANNELS)}")
        self._append([engine, channel, [bytes(frame) for frame in frames]])
        self.records += 1

    def discard(self) -> None:
        """Close the file and remove it; a pipe, a device, or what has taken the file's place stays."""
        if self._file is None:
            return
        ours = os.fstat(self._file)
        self.close()
        try:
            there = os.lstat(self.path)
            if stat.S_ISREG(there.st_mode) and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                self.path.unlink()
        except OSError as error:
            logger.warning("capture %s holds nothing and stays: %s", self.path, error.strerror)

    def close(self) -> None:
        """Close the file once everything is on the disk."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            os.fsync(file)
        except OSError as error:  # a pipe or a device has nothing to sync
            logger.debug("capture %s was not synced: %s", self.path, error)
        finally:
            os.close(file)

    def _open(self, overwrite: bool) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if overwrite else os.O_EXCL)
        try:
            file = os.open(self.path, flags, FILE_MODE)
            os.fchmod(file, FILE_MODE)  # it may have existed with another mode
        except OSError as error:
            if self.path.is_dir():
                raise ConfigError(f"capture {self.path} is a directory: give the name of a file in it") from error
            if isinstance(error, FileExistsError):
                raise ConfigError(
                    f"capture {self.path} exists: choose another name, or --overwrite to replace it"
                ) from error
            raise ConfigError(
                f"capture {self.path} cannot be written: {error.strerror}; give a place that can be written"
            ) from error
        return file

    def _append(self, record: object) -> None:
        if self._file is None:
            raise ClosedError(f"capture {self.path} is closed: nothing more can be written")
        data = self._packer.pack(record)
        try:
            written = os.write(self._file, data)
            while written < len(data):
                written += os.write(self._file, memoryview(data)[written:])
        except OSError as error:
            self._take_back()
            raise ConfigError(
                f"capture {self.path} takes no more than {self.size_bytes} bytes: {error.strerror}; make room"
            ) from error
        self.size_bytes += len(data)

    def _take_back(self) -> None:
        assert self._file is not None
        try:
            os.ftruncate(self._file, self.size_bytes)
            os.lseek(self._file, self.size_bytes, os.SEEK_SET)
        except OSError as error:
            logger.warning("capture %s may end within a record: %s", self.path, error)


class _Objects:
    """
    The msgpack objects of a file, one after the other, and where the next one starts.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.offset = 0
        self._path = path
        self._file: BinaryIO | None = file
        self._fed = 0
        # Counts are limited beside bytes: four bytes that claim a list of 2**28 would have one made.
        self._unpacker = msgpack.Unpacker(
            raw=False,
            strict_map_key=False,
            max_buffer_size=RECORD_BYTES_MAX,
            max_array_len=COUNT_MAX,
            max_map_len=COUNT_MAX,
        )

    def __next__(self) -> object:
        if self._file is None:
            raise StopIteration
        while True:
            try:
                item: object = self._unpacker.unpack()
            except msgpack.OutOfData:
                if not self._feed(self._file):
                    self._check_end()
                    raise StopIteration from None
            except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:  # a list may be no key
                raise self._unreadable(_plain(error)) from error
            else:
                self.offset = self._unpacker.tell()
                return item

    def stop(self) -> None:
        self._file = None

    def _feed(self, file: BinaryIO) -> bool:
        try:
            data = file.read(READ_BYTES)
            self._unpacker.feed(data)
        except OSError as error:
            raise ConfigError(f"capture {self._path} cannot be read on: {error.strerror}") from error
        except msgpack.BufferFull as error:
            raise self._unreadable(f"an object longer than {RECORD_BYTES_MAX} bytes") from error
        self._fed += len(data)
        return bool(data)

    def _check_end(self) -> None:
        if self.offset == self._fed:
            return
        if self.offset == 0:
            raise FrameError(
                f"{self._path} is not a capture: it ends within the header, after {self._fed} bytes; give a file that"
                " `kvsync record` wrote, or record it again"
            )
        raise FrameError(
            f"capture {self._path} is cut short: its last record starts at byte {self.offset}"
            f" and {self._fed - self.offset} bytes of it are there; record it again, or keep its whole"
            f" records: head -c {self.offset}"
        )

    def _unreadable(self, why: str) -> FrameError:
        if self.offset == 0:
            return FrameError(
                f"{self._path} is not a capture: in place of a header map it starts with {why};"
                " give a file that `kvsync record` wrote"
            )
        return FrameError(
            f"capture {self._path} cannot be read from byte {self.offset} on: {why};"
            f" the file is damaged: record it again, or keep what comes before: head -c {self.offset}"
        )


def _plain(error: Exception) -> str:
    """What stands there in place of a record, for a person."""
    if isinstance(error, UnicodeDecodeError):
        return "text that is no UTF-8"
    if isinstance(error, msgpack.FormatError):
        return "a byte that begins no value"
    if isinstance(error, msgpack.StackError | RecursionError):
        return "values nested too deep"
    return "a value that no capture has"


def _record(item: object, path: Path, offset: int) -> CaptureRecord:
    if isinstance(item, list) and len(item) >= RECORD_FIELDS:
        engine, channel, frames = item[:RECORD_FIELDS]
        is_engine = isinstance(engine, str | int) and not isinstance(engine, bool)
        if is_engine and channel in CHANNELS and _are_frames(frames):
            return CaptureRecord(engine, channel, frames)
    raise FrameError(
        f"capture {path} has no record at byte {offset} but {_shape(item)};"
        f" a record is [engine, {' or '.join(CHANNELS)}, [frame, ...]]"
    )


def _are_frames(frames: object) -> bool:
    return isinstance(frames, list) and all(isinstance(frame, bytes) for frame in frames)


def _shape(item: object) -> str:
    if isinstance(item, list):
        return f"an array of {len(item)} elements"
    shapes = {dict: "a map", bytes: "bytes", str: "text", int: "an integer", type(None): "nil"}
    return shapes.get(type(item), f"a {type(item).__name__}")
