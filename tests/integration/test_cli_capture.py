"""Captures through the command line: `replay`, `match` and `tail`."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
from tests.patience import PATIENCE_S
from typer.testing import CliRunner, Result

from kvsync.cli.main import app
from kvsync.stream.capture import CaptureWriter, open_capture

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
NAMES = sorted(path.stem for path in CAPTURES.glob("*.msgpack"))
PLAIN, RANKS = "s1_single_int", "s2_lora_dp_bytes"


def kvsync(*arguments: str | Path) -> Result:
    """Run the command to its end, in this process: an error of ours is a status and a line, as in a shell."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def document(done: Result) -> Any:
    """The document on the last line of stdout."""
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def capture(name: str) -> Path:
    """The file of that capture."""
    return CAPTURES / f"{name}.msgpack"


def truth(name: str) -> Any:
    """What the engines of a capture really held."""
    return json.loads((CAPTURES / f"{name}.truth.json").read_text())


def digest(groups: Mapping[str, Mapping[str, int]]) -> str:
    """The digest that a checkpoint of the truth has."""
    rows = sorted(
        (group, engine_hash, copies) for group, hashes in groups.items() for engine_hash, copies in hashes.items()
    )
    return hashlib.sha256("\n".join(f"{group} {h} {copies}" for group, h, copies in rows).encode()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_a_dump_is_what_the_engines_held(name: str) -> None:
    """Block by block with copies, for every capture, with every frame accounted for."""
    dump = document(kvsync("replay", capture(name), "--dump"))
    for engine in truth(name)["engines"]:
        last = engine["points"][-1]
        told = dump["engines"][str(engine["rank"])]
        assert told["media"] == {"GPU": last["blocks"]}
        assert digest(told["media"]["GPU"]) == last["sha256"]
        assert (told["trust"], told["lives"]) == ("exact", last["life"] + 1)
    frames = dump["frames"]
    assert frames["received"] == sum(1 for _ in open_capture(capture(name)))
    assert frames["received"] == frames["applied"] + frames["duplicate"] + sum(frames["dropped"].values())
    assert frames["waiting"] == 0


def test_a_part_of_a_capture_is_what_was_held_then() -> None:
    """`--records` stops at a checkpoint, and the dump is the truth of that moment."""
    [engine] = truth(PLAIN)["engines"]
    point = engine["points"][1]
    numbers = [
        int.from_bytes(record.frames[1], "big") if record.channel == "pub" else None
        for record in open_capture(capture(PLAIN))
    ]
    count = numbers.index(point["seq"]) + 1
    dump = document(kvsync("replay", capture(PLAIN), "--records", str(count), "--dump"))
    assert digest(dump["engines"]["0"]["media"]["GPU"]) == point["sha256"]


def test_an_engine_keeps_the_name_the_capture_has_for_it(tmp_path: Path) -> None:
    """A text such as `ns/pod/0` is the key of the dump, and what was never applied has an unknown, empty record."""
    path = tmp_path / "named.capture"
    with CaptureWriter(path, {"model": "m"}) as writer:
        payload = msgpack.packb([0.0, [["BlockStored", [7], None, [1, 2], 2, None, "GPU"]], 0])
        writer.write("ns/pod/0", "pub", [b"", bytes(8), payload])
        writer.write("plain", "pub", [b"junk"])
    dump = document(kvsync("replay", path, "--dump"))
    assert dump["engines"] == {
        "ns/pod/0": {"trust": "exact", "lives": 1, "media": {"GPU": {"0": {"7": 1}}}},
        "plain": {"trust": "unknown", "lives": 1, "media": {}},
    }
    assert dump["frames"] == {
        "received": 2,
        "applied": 1,
        "duplicate": 0,
        "dropped": {"frame_count": 1},
        "waiting": 0,
    }


def test_a_summary_is_a_table_or_a_document() -> None:
    """Without `--dump` there are figures for people, and with `--json` for programs."""
    table = kvsync("replay", capture(RANKS))
    assert table.exit_code == 0
    assert "453 frames: 414 applied, 36 duplicate, 3 dropped (3 end_marker), 0 waiting" in table.stdout
    summary = document(kvsync("replay", capture(RANKS), "--json"))
    assert list(summary["engines"]) == ["0", "1", "2"]
    assert summary["engines"]["0"]["media"]["GPU"]["trust"] == "exact"


def test_a_truncated_capture_is_never_dumped(tmp_path: Path) -> None:
    """Status 1, nothing on stdout, and the offset of the broken record; the table shows what came before."""
    whole = capture(PLAIN).read_bytes()
    path = tmp_path / "cut.capture"
    path.write_bytes(whole[: len(whole) // 2])
    for flag in ("--dump", "--json"):
        done = kvsync("replay", path, flag)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "cut short: its last record starts at byte" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = kvsync("replay", path)
    assert done.exit_code == 1
    assert "exact" in done.stdout
    assert "cut short" in done.stderr


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (None, 2, "cannot be read: No such file"),
        (b"", 1, "is empty"),
        (b"#!/bin/sh\necho hello\n", 1, "is not a capture"),
        (msgpack.packb({"format": 9}), 1, "format 9"),
        (msgpack.packb({}) + b"\xc1", 1, "from byte 1 on"),
        (msgpack.packb({}) + msgpack.packb([1, "sub", []]), 1, "no record at byte 1"),
    ],
)
@pytest.mark.parametrize("command", ["replay", "match", "tail"])
def test_what_is_no_capture_is_a_clear_error(
    tmp_path: Path, command: str, content: bytes | None, status: int, said: str
) -> None:
    """Missing, empty, foreign, of another format or damaged: one line that names the file, and no result."""
    path, tokens = tmp_path / "some.file", tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)
    tokens.write_text("[1, 2]")
    arguments: dict[str, list[str | Path]] = {
        "replay": ["replay", path, "--dump"],
        "match": ["match", "--capture", path, "--tokens", tokens, "--model", "m"],
        "tail": ["tail", path],
    }
    done = kvsync(*arguments[command])
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_match_lists_every_engine(tmp_path: Path) -> None:
    """A prompt is found from either form of file; engines that hold less, or nothing, are listed too."""
    path = tmp_path / "one.capture"
    with CaptureWriter(path) as writer:
        for engine, hashes in (("a/0", [7, 8]), ("b/0", [9])):
            tokens = list(range(2 * len(hashes)))
            stored = {"type": "BlockStored", "block_hashes": hashes, "parent_block_hash": None, "token_ids": tokens}
            payload = msgpack.packb([0.0, [stored | {"block_size": 2, "medium": "GPU"}], 0])
            writer.write(engine, "pub", [b"", bytes(8), payload])
        writer.write("c/0", "pub", [b"", bytes(8), msgpack.packb([0.0, [], 0])])
    json_tokens, raw_tokens = tmp_path / "tokens.json", tmp_path / "tokens.bin"
    json_tokens.write_text("[0, 1, 2, 3, 4]")
    raw_tokens.write_bytes(struct.pack("<5I", 0, 1, 2, 3, 4))
    expected = {"a/0": (2, 4, {"GPU": 2}), "b/0": (1, 2, {"GPU": 1}), "c/0": (0, 0, {})}
    for tokens_file in (json_tokens, raw_tokens):
        told = document(kvsync("match", "--capture", path, "--tokens", tokens_file, "--model", "m", "--json"))
        assert {
            name: (match["blocks"], match["tokens"], match["by_medium"]) for name, match in told["engines"].items()
        } == expected
        assert {match["trust"] for match in told["engines"].values()} == {"exact"}
    table = kvsync("match", "--capture", path, "--tokens", json_tokens, "--model", "m")
    assert [line.split()[1] for line in table.stdout.splitlines() if "/0" in line] == ["a/0", "b/0", "c/0"]


def test_a_match_asks_for_adapter_salt_and_images(tmp_path: Path) -> None:
    """What must agree for blocks to match is asked for by flags, and anything else matches nothing."""
    path, tokens = tmp_path / "one.capture", tmp_path / "tokens"
    stored = {
        "type": "BlockStored",
        "block_hashes": [7, 8],
        "parent_block_hash": None,
        "token_ids": [0, 1, 2, 3],
        "block_size": 2,
        "lora_name": "adapter",
        "extra_keys": [["adapter", ["image", 1], "salt"], ["adapter", ["image", -1]]],
    }
    with CaptureWriter(path) as writer:
        writer.write(0, "pub", [b"", bytes(8), msgpack.packb([0.0, [stored], 0])])
    tokens.write_text("[0, 1, 2, 3]")

    def blocks(**flags: str) -> Any:
        extra = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)]
        told = kvsync("match", "--capture", path, "--tokens", tokens, "--model", "m", "--json", *extra)
        return document(told)["engines"]["0"]["blocks"]

    right = {"lora": "adapter", "salt": "salt", "extra_keys": '[["image", 1, 2]]'}
    assert blocks(**right) == 2
    for name, other in (("lora", "other"), ("salt", "pepper"), ("extra_keys", '[["picture", 1, 2]]')):
        assert blocks(**(right | {name: other})) == 0
        assert blocks(**{key: value for key, value in right.items() if key != name}) == 0


def test_tail_shows_a_line_for_every_event() -> None:
    """As text for people, and as JSON for programs, without the tokens' text."""
    done = kvsync("tail", capture(RANKS), "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["type"] for event in events} == {"BlockStored", "BlockRemoved"}
    assert {event["engine"] for event in events} == {"0", "1", "2"}
    assert not any("token_ids" in event for event in events)
    assert len(kvsync("tail", capture(RANKS)).stdout.splitlines()) == len(events)


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`kvsync tail | head` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kvsync", "tail", str(capture(RANKS))], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=PATIENCE_S) in (0, 1)


def test_a_foreign_file_is_a_line_and_a_status_in_a_shell_too(tmp_path: Path) -> None:
    """The process ends with status 1, without a traceback, and with nothing on stdout."""
    path = tmp_path / "notes.txt"
    path.write_text("not a capture")
    command = [sys.executable, "-m", "kvsync", "replay", str(path), "--dump"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"kvsync: {path} is not a capture")
    assert len(done.stderr.splitlines()) == 1
