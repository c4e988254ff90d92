"""
tiktoken-style vocabularies: lines of a token in base64 and its rank, and an expression that cuts text into pieces.

The file holds no expression and no special tokens. The expression is named by the operator, for a wrong one makes other
ids without a sign; special tokens and the chat template come from the `tokenizer_config.json` beside the file.
"""

from __future__ import annotations

import base64
import binascii
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvsync.errors import ConfigError, TokenizeError
from kvsync.tokens import files
from kvsync.tokens.chat import Chat
from kvsync.tokens.cuts import PAIRS, cuts, parted_by, without_those_in
from kvsync.tokens.extras import need
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.segments import SegmentCache
from kvsync.tokens.templates import template_for

FILES = ("*.tiktoken", "tiktoken.model", "tokenizer.model")

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"

PATTERNS: Mapping[str, str] = {
    "r50k_base": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k_base": rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
    "qwen": rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
    "o200k_base": "|".join(
        [
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDINGS}?",
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDINGS}?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            _SPACES,
        ]
    ),
}
"""The expressions of well-known vocabularies, by tiktoken's names for them; Llama 3 has that of cl100k_base."""


class VocabularyBackend:
    """A loaded vocabulary."""

    def __init__(self, spec: ModelSpec, adapter: Path | None = None) -> None:
        library = need("tiktoken", "tiktoken")
        path = files.find(spec, FILES, adapter=adapter)
        settings = files.settings_of(path.parent)
        source = _pattern(spec)
        special = _special(settings, path.parent / "tokenizer_config.json")
        self._encoding = _encoding(library, path, source, special)
        pairs = without_those_in(special, parted_by(source, PAIRS))
        self._segments = SegmentCache(self._call, cuts(pairs))
        self._before = _before(settings, special)
        self._template = template_for(spec, path.parent)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> array[int]:
        ids = self._segments.encode(text)
        return self._before + ids if add_special_tokens else ids

    def encode_chat(self, chat: Chat) -> array[int]:
        return self.encode(self._template.render(chat), add_special_tokens=chat.add_special_tokens)

    def decode(self, ids: array[int]) -> str:
        return str(self._encoding.decode(list(ids)))

    def stats(self) -> Mapping[str, float]:
        return self._segments.stats()

    def close(self) -> None:
        self._segments.clear()

    def _call(self, text: str) -> array[int]:
        return guarded(lambda: array("I", self._encoding.encode(text, allowed_special="all")))


def guarded(call: Any) -> array[int]:
    """
    Call into the library; what it fails with becomes a `TokenizeError`, also where its expression gives up on a text.
    """
    try:
        ids: array[int] = call()
        return ids
    except (ValueError, KeyError, OverflowError) as error:
        raise TokenizeError(f"the tokenizer failed: {error}") from error
    except BaseException as error:
        # A panic of the library's own language is no Exception; all else that is none is not ours to stop.
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizeError(f"the tokenizer gave up on the text: {error}") from error


def _pattern(spec: ModelSpec) -> str:
    if spec.pattern is None:
        raise ConfigError(
            f"tokenizer of {spec.base!r}: a tiktoken vocabulary needs its pattern; give a regular expression or one of"
            f" {', '.join(PATTERNS)} (the model's own tokenizer code says which)"
        )
    return PATTERNS.get(spec.pattern, spec.pattern)


def _encoding(library: Any, path: Path, source: str, special: Mapping[str, int]) -> Any:
    ranks = _ranks(path)
    taken = set(ranks.values())
    clash = next((token for token, rank in special.items() if rank in taken), None)
    if clash is not None:
        raise ConfigError(f"special token {clash!r} has an id of the vocabulary {path}; check tokenizer_config.json")
    try:
        return library.Encoding(path.name, pat_str=source, mergeable_ranks=ranks, special_tokens=dict(special))
    except Exception as error:  # of what the library's own language has
        raise ConfigError(f"{path} with its pattern is no tiktoken vocabulary: {error}") from error


def _ranks(path: Path) -> dict[bytes, int]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise ConfigError(
                # Not what it holds: an annotation may name any file of ours, and whoever asks is told why it is none.
                f"{path} line {number} is no token in base64 and its rank, as a tiktoken vocabulary's lines are;"
                " give another file"
            ) from None
    missing = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if missing is not None:
        raise ConfigError(f"{path} has no token for the byte {missing:#04x}; it is cut short, or no byte-level one")
    return ranks


def _special(settings: Mapping[str, Any], where: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    added = settings.get("added_tokens_decoder") or {}
    try:
        for rank, token in added.items():
            found[token["content"]] = int(rank)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: added_tokens_decoder is no mapping of ids to tokens; fetch it anew") from error
    return found


def _before(settings: Mapping[str, Any], special: Mapping[str, int]) -> array[int]:
    """What stands before a prompt, where the settings ask for a beginning-of-sequence token."""
    bos = files.special_tokens(settings).get("bos_token")
    if not settings.get("add_bos_token") or bos is None:
        return array("I")
    if bos not in special:
        raise ConfigError(f"tokenizer_config.json asks for the bos_token {bos!r}, which added_tokens_decoder lacks")
    return array("I", [special[bos]])
