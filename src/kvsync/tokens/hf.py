"""
Tokenizers of the Hugging Face library `tokenizers`: a `tokenizer.json`, and the chat template beside it.

The file is taken as it is, as engines take it: its own normalizer, pre-tokenizer, model, added tokens and, for prompts,
its post-processor, which writes the special tokens at the ends. Truncation and padding are switched off.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvsync.errors import ConfigError, TokenizeError
from kvsync.tokens import files
from kvsync.tokens.chat import Chat
from kvsync.tokens.cuts import NO_CUTS, cuts
from kvsync.tokens.extras import need
from kvsync.tokens.hf_cuts import ends_only, pairs_of
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.segments import SegmentCache
from kvsync.tokens.templates import template_for

FILES = ("tokenizer.json",)


class HfBackend:
    """A loaded `tokenizer.json`."""

    def __init__(self, spec: ModelSpec, adapter: Path | None = None) -> None:
        library = need("tokenizers", "hf")
        path = files.find(spec, FILES, adapter=adapter)
        self._tokenizer = _load(library, path)
        document = json.loads(self._tokenizer.to_str())
        pairs = pairs_of(document)
        self._segments = SegmentCache(self._plain, cuts(pairs) if pairs else NO_CUTS)
        self._ends = self._find_ends() if ends_only(document.get("post_processor")) else None
        self._template = template_for(spec, path.parent)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> array[int]:
        if not add_special_tokens:
            return self._segments.encode(text)
        if self._ends is None:
            return self._call(text, True)
        before, behind = self._ends
        return before + self._segments.encode(text) + behind

    def encode_chat(self, chat: Chat) -> array[int]:
        return self.encode(self._template.render(chat), add_special_tokens=chat.add_special_tokens)

    def decode(self, ids: array[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def stats(self) -> Mapping[str, float]:
        return self._segments.stats()

    def close(self) -> None:
        self._segments.clear()

    def _plain(self, text: str) -> array[int]:
        return self._call(text, False)

    def _call(self, text: str, special: bool) -> array[int]:
        try:
            # The fast one leaves out where in the text each token lies, which nobody here asks for.
            return array("I", self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[0].ids)
        except (TypeError, UnicodeEncodeError) as error:
            raise TokenizeError("the text holds half a character (a lone surrogate), which no engine takes") from error
        except Exception as error:  # the library raises bare exceptions
            raise TokenizeError(f"the tokenizer failed: {error}") from error

    def _find_ends(self) -> tuple[array[int], array[int]] | None:
        """What the post-processor puts before and behind a text; None where that cannot be told."""
        plain, whole = self._call("a", False), self._call("a", True)
        places = [n for n in range(len(whole) - len(plain) + 1) if whole[n : n + len(plain)] == plain]
        if not plain or len(places) != 1:
            return None
        return whole[: places[0]], whole[places[0] + len(plain) :]


def _load(library: Any, path: Path) -> Any:
    try:
        tokenizer = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise ConfigError(f"{path} is no tokenizer of the library tokenizers ({error}); fetch the file anew") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
