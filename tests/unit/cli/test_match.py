"""What `kvsync match` reads."""

from __future__ import annotations

import codecs
import re
import struct
from array import array
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kvsync.cli.main import app
from kvsync.cli.match import match_json, parse_extra_keys, read_tokens
from kvsync.errors import ConfigError
from kvsync.stream.capture import CaptureWriter
from kvsync.types import Match, Trust

IDS = [91, 0, 4_000_000_000, 128_000]


def test_both_forms_of_a_prompt_give_the_same_tokens(tmp_path: Path) -> None:
    """A JSON array and raw little-endian uint32, also one that begins with the byte of a bracket."""
    text, raw = tmp_path / "tokens.json", tmp_path / "tokens.bin"
    text.write_text(f" {IDS}\n")
    raw.write_bytes(struct.pack(f"<{len(IDS)}I", *IDS))
    assert raw.read_bytes()[:1] == b"["
    assert read_tokens(text) == read_tokens(raw) == array("I", IDS)


def test_an_empty_prompt_is_a_prompt(tmp_path: Path) -> None:
    """An empty array is no tokens."""
    (tmp_path / "tokens").write_bytes(b"[]")
    assert len(read_tokens(tmp_path / "tokens")) == 0


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Some editors write one before JSON."""
    (tmp_path / "tokens").write_bytes(codecs.BOM_UTF8 + b" [1, 2]\n")
    assert read_tokens(tmp_path / "tokens") == array("I", [1, 2])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"abc", "is text, beginning b'abc', and no JSON array"),
        (b"\0bc", "has 3 bytes"),
        (b"", "is empty"),
        (b"null", "is text"),
        ("gr\u00fc\u00dfe!".encode(), "is text"),
        (b"hello world!", "give the prompt's token ids"),
        (b"1\n2\n3\n4\n", "is text"),
        (b"[1, 2", "begins as a JSON array and is none"),
        (b"[1,x]  \n", "begins as a JSON array and is none"),
        (b"[1, -2]", "has -2 at position 1"),
        (b"[4294967296]", "has 4294967296 at position 0"),
        (b"[1.0]", "has 1.0 at position 0"),
        (b"[true]", "has True at position 0"),
        (b'["1"]', "has '1' at position 0"),
        (b"[" * 200_000, "begins as a JSON array and is none"),
    ],
)
def test_what_is_no_prompt_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """The message says what was met and where."""
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_tokens(tmp_path / "tokens")


def test_a_prompt_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With the path and the reason."""
    with pytest.raises(ConfigError, match="none cannot be read: No such file"):
        read_tokens(tmp_path / "none")


def test_extra_keys_are_triples() -> None:
    """A JSON array of identifier, first token and number of tokens; absent stays absent."""
    assert parse_extra_keys('[["image-1", 5, 64], ["image-2", 80, 64]]') == [("image-1", 5, 64), ("image-2", 80, 64)]
    assert parse_extra_keys(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "x",
        "[1]",
        '[["a", 1]]',
        '[["a", -1, 2]]',
        '[["a", true, 2]]',
        "[[1, 2, 3]]",
        '[["a", 0, 99999999999999999999]]',
        '[["a", 18446744073709551615, 1]]',
    ],
)
def test_what_are_no_extra_keys_is_refused(text: str) -> None:
    """The message says the form."""
    with pytest.raises(ConfigError, match=r"give \[\[.identifier"):
        parse_extra_keys(text)


def test_the_document_of_a_match() -> None:
    """A holder with its figures, and one that holds nothing with zeros."""
    match = Match(3, 48, {"GPU": 2, "CPU": 1}, False, Trust.PARTIAL)
    assert match_json(match, "partial") == {
        "blocks": 3,
        "tokens": 48,
        "by_medium": {"GPU": 2, "CPU": 1},
        "certain": False,
        "trust": "partial",
    }
    assert match_json(None, "exact") == {"blocks": 0, "tokens": 0, "by_medium": {}, "certain": True, "trust": "exact"}


def capture_of(path: Path, **header: object) -> str:
    """A capture without messages."""
    CaptureWriter(path, header).close()
    return str(path)


def test_a_redacted_capture_matches_nothing(tmp_path: Path) -> None:
    """Status 1 and the reason, in place of a table of zeros."""
    (tmp_path / "tokens").write_text("[1]")
    capture = capture_of(tmp_path / "capture", model="m", redacted=True)
    result = CliRunner().invoke(
        app, ["match", "--capture", capture, "--tokens", str(tmp_path / "tokens"), "--model", "m"]
    )
    assert result.exit_code == 1
    assert "recorded with --redact: its token ids are hidden" in result.stderr


@pytest.mark.parametrize(("model", "noted"), [("m", False), ("n", True)])
def test_another_model_than_the_recorded_is_noted(tmp_path: Path, model: str, noted: bool) -> None:
    """On stderr, and no error: the flag names both sides."""
    (tmp_path / "tokens").write_text("[1]")
    capture = capture_of(tmp_path / "capture", model="m", redacted=False)
    result = CliRunner().invoke(
        app, ["match", "--capture", capture, "--tokens", str(tmp_path / "tokens"), "--model", model]
    )
    assert result.exit_code == 0
    assert ("was recorded of 'm', and is taken as 'n'" in result.stderr) is noted
