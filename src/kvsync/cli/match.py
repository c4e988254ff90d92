"""`kvsync match`: how much of a prompt the engines of a capture hold."""

from __future__ import annotations

import codecs
import json
import string
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsync.cli.texts import check_text
from kvsync.errors import ConfigError, KvsyncError
from kvsync.files import read_file

if TYPE_CHECKING:
    from kvsync.stream.capture import Capture
    from kvsync.types import ExtraKey, Match

TOKEN_BYTES = 4
TOKENS_BYTES_MAX = 256 * 1024 * 1024
TOKEN_MAX = 2**32 - 1
PLACE_MAX = 2**63 - 1
SHOWN = 24

_WITHOUT_SPACE = str.maketrans("", "", string.whitespace)


def command(
    capture: Annotated[Path, typer.Option(metavar="FILE", help="A capture, as `kvsync record` writes it.")],
    tokens: Annotated[
        Path, typer.Option(metavar="FILE", help="The prompt's token ids: a JSON array, or raw little-endian uint32.")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The model, of the engines and of the prompt alike; any name does.")
    ],
    lora: Annotated[str | None, typer.Option(metavar="NAME", help="The adapter the prompt is for.")] = None,
    salt: Annotated[str | None, typer.Option(metavar="TEXT", help="The prompt's cache salt.")] = None,
    extra_keys: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='Images and the like in the prompt: [["identifier", first token, number of tokens], ...].',
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """
    Count how much of a prompt's beginning each engine of a capture holds at its end.

    Every engine of the capture is listed, also those that hold nothing. A match is "certain" where the engine's events
    can tell apart everything that was asked for; trust says how far the engine's record may be believed. --model names
    both sides: what the capture's engines are taken to serve, and what the prompt is for. A capture that was recorded
    with --redact has no token ids to match.
    """
    from kvsync.cli.output import print_json, writing
    from kvsync.cli.replay import feed
    from kvsync.index import Index
    from kvsync.stream.capture import open_capture
    from kvsync.stream.offline import Replayer

    for flag, text in (("--model", model), ("--lora", lora), ("--salt", salt)):
        check_text(flag, text)
    prompt = read_tokens(tokens)
    keys = parse_extra_keys(extra_keys)
    with open_capture(capture) as records, Index() as index:
        check_header(records, model)
        replayer = Replayer(index, model=model)
        feed(replayer, records)
        replayer.finish()
        found = index.match(prompt, model=model, lora=lora, cache_salt=salt, extra_keys=keys)
        engines = {
            name: match_json(found.get(engine), str(index.trust(engine))) for engine, name in replayer.names.items()
        }
    if as_json:
        print_json({"engines": engines})
    else:
        with writing():
            show(engines, len(prompt))


def check_header(capture: Capture, model: str) -> None:
    """Raise `KvsyncError` for a capture whose tokens are hidden; say on stderr if it was recorded of another model."""
    if capture.header.get("redacted"):
        raise KvsyncError(
            f"{capture.path} was recorded with --redact: its token ids are hidden and match no prompt; record one"
            " without"
        )
    recorded = capture.header.get("model")
    if isinstance(recorded, str) and recorded and recorded != model:
        print(f"kvsync match: {capture.path} was recorded of {recorded!r}, and is taken as {model!r}", file=sys.stderr)


def match_json(match: Match | None, trust: str) -> dict[str, Any]:
    """One engine's match; None is an engine that holds nothing of the prompt, which is certain."""
    if match is None:
        return {"blocks": 0, "tokens": 0, "by_medium": {}, "certain": True, "trust": trust}
    return {
        "blocks": match.blocks,
        "tokens": match.tokens,
        "by_medium": dict(match.by_medium),
        "certain": match.certain,
        "trust": trust,
    }


def read_tokens(path: Path) -> array[int]:
    """
    Read a prompt: a JSON array of token ids, or raw little-endian uint32.

    JSON is what begins with `[`, after a byte order mark or white space, and has no zero byte: of raw ids below 2**24
    each has one. Printable text that is no JSON array is refused, and so is an empty file.
    """
    data = read_file(path, f"--tokens {path}", TOKENS_BYTES_MAX, "give a file with one prompt's token ids")
    if not data:
        raise ConfigError(
            f"--tokens {path} is empty; give a JSON array of token ids ([] for an empty prompt) or raw uint32"
        )
    text = data.removeprefix(codecs.BOM_UTF8)
    if text.lstrip()[:1] == b"[" and b"\0" not in text:
        try:
            return _token_array(json.loads(text), path)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--tokens {path} begins as a JSON array and is none: {error}") from error
    if _is_text(text):
        raise ConfigError(
            f"--tokens {path} is text, beginning {data[:SHOWN]!r}, and no JSON array; give the prompt's token ids, as"
            " in [1, 2, 3], not its text"
        )
    if len(data) % TOKEN_BYTES:
        raise ConfigError(
            f"--tokens {path} has {len(data)} bytes: neither a JSON array of token ids nor raw uint32,"
            f" of which every token takes {TOKEN_BYTES}"
        )
    found = array("I", data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def parse_extra_keys(text: str | None) -> list[ExtraKey] | None:
    """Read `--extra-keys`: a JSON array of [identifier, first token, number of tokens]."""
    if text is None:
        return None
    form = 'give [["identifier", first token, number of tokens], ...]'
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--extra-keys {text!r} is not JSON: {error}; {form}") from error
    if not isinstance(keys, list):
        raise ConfigError(f"--extra-keys {text!r} is no array; {form}")
    return [_extra_key(key, form) for key in keys]


def show(engines: Mapping[str, Mapping[str, Any]], tokens: int) -> None:
    """Print the matches as a table, the longest first."""
    from rich.table import Table
    from rich.text import Text

    from kvsync.cli.output import TRUST_STYLE, console

    table = Table()
    for title in ("engine", "tokens", "blocks", "of the prompt", "by medium", "certain", "trust"):
        table.add_column(title, justify="right" if title in ("tokens", "blocks", "of the prompt") else "left")
    for name, match in sorted(engines.items(), key=lambda item: -item[1]["tokens"]):
        table.add_row(
            Text(name),
            f"{match['tokens']:,}",
            f"{match['blocks']:,}",
            f"{match['tokens'] / tokens:.1%}" if tokens else "-",
            Text(", ".join(f"{count:,} {medium}" for medium, count in match["by_medium"].items())),
            "yes" if match["certain"] else "no",
            Text(match["trust"], style=TRUST_STYLE[match["trust"]]),
        )
    console().print(table)


def _is_text(data: bytes) -> bool:
    """Whether people could read it, which raw ids below 2**24 with their zero bytes never are."""
    try:
        return data.decode().translate(_WITHOUT_SPACE).isprintable()
    except UnicodeDecodeError:
        return False


def _token_array(values: Any, path: Path) -> array[int]:
    """Raises `ConfigError` for an array that holds anything but token ids."""
    for position, value in enumerate(values):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= TOKEN_MAX:
            raise ConfigError(
                f"--tokens {path} has {value!r} at position {position}; token ids are integers from 0 to {TOKEN_MAX}"
            )
    return array("I", values)


def _extra_key(key: Any, form: str) -> ExtraKey:
    match key:
        case [str(identifier), int(offset), int(length)] if not isinstance(offset, bool) and not isinstance(
            length, bool
        ):
            check_text("an identifier in --extra-keys", identifier)
            if 0 <= offset <= PLACE_MAX and 0 <= length <= PLACE_MAX:
                return identifier, offset, length
            form += f", with places and numbers from 0 to {PLACE_MAX}"
    raise ConfigError(f"--extra-keys has {key!r}; {form}")
