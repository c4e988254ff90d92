"""
Text to tokens: a conversation from nothing, and its next turn when the turns before were seen.

The next turn brings an answer and a question that are new each time; all before them comes from the prefix-token cache.
The tekken file is the one that mistral-common ships; the other two tokenizers are made of its first tokens, so that
text, vocabulary and expression are alike.
"""

from __future__ import annotations

import base64
import json
import random
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from benchmarks.checks import expect
from benchmarks.clock import Timed
from benchmarks.sizes import SIZES
from kvsync.errors import ConfigError
from kvsync.tokens.backends import Backend, open_backend
from kvsync.tokens.chat import Chat
from kvsync.tokens.model import ModelSpec

KINDS: Final = ("tekken", "tiktoken", "tokenizer.json")
RANKS: Final = 32_000
TEMPLATE: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL: Final = ("<|im_start|>", "<|im_end|>")
WORDS: Final = """
    the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one
    engine prefix cache router request block token because nevertheless international understanding 2026 17 3.5
    größer naïve Москва 東京 你好 print(x) self.value return None != == foo_bar JSON HTTP/1.1 it's don't
    """.split()  # noqa: SIM905  sixty words are read better so


def prose(seed: int, chars: int) -> str:
    """Text of about so many characters, with sentences and paragraphs; a page of it is like no other."""
    chance, parts, size = random.Random(seed), list[str](), 0
    while size < chars:
        word = chance.choice(WORDS) + chance.choice(["", "", "", "", "s", ",", ".", ".\n", ";", ":"])
        parts.append(word)
        size += len(word) + 1
    return " ".join(parts)[:chars]


def conversation(chars: int) -> list[dict[str, str]]:
    """Turns of about 4,000 characters, with a system prompt before them, ending with a question."""
    turns = max(chars // 4_000, 1) | 1
    texts = [prose(number, chars // (turns + 1)) for number in range(turns + 1)]
    roles = ["system", *("user" if number % 2 == 0 else "assistant" for number in range(turns))]
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]


@cache
def backend(kind: str) -> Backend:
    """A loaded tokenizer; `NotImplementedError`, which asv skips, where its library is missing."""
    try:
        import mistral_common
    except ImportError as missing:
        raise NotImplementedError(str(missing)) from missing
    tekken = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    try:
        if kind == "tekken":
            return open_backend(ModelSpec(base=str(tekken), kind="mistral"))
        document = json.loads(tekken.read_text(encoding="utf-8"))
        ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in document["vocab"][:RANKS]}
        with tempfile.TemporaryDirectory() as folder:
            write = write_ranks if kind == "tiktoken" else write_json
            return open_backend(write(Path(folder), ranks, document["config"]["pattern"]))
    except ConfigError as missing:
        raise NotImplementedError(str(missing)) from missing


def write_ranks(folder: Path, ranks: dict[bytes, int], pattern: str) -> ModelSpec:
    """A tiktoken-style vocabulary."""
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    (folder / "tiktoken.model").write_text("".join(lines), encoding="utf-8")
    added = {str(RANKS + number): {"content": token} for number, token in enumerate(SPECIAL)}
    settings = {"chat_template": TEMPLATE, "added_tokens_decoder": added}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return ModelSpec(base=str(folder), kind="tiktoken", pattern=pattern)


def write_json(folder: Path, ranks: dict[bytes, int], pattern: str) -> ModelSpec:
    """The same as a tokenizer.json."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    letters = _byte_letters()
    text = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [(text[left], text[right]) for left, right in (_parts(t, ranks) for t in ranks if len(t) > 1)]
    made = Tokenizer(models.BPE({text[token]: rank for token, rank in ranks.items()}, merges))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}), encoding="utf-8")
    return ModelSpec(base=str(folder), kind="hf")


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in byte-level vocabularies: itself where it can be seen."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unseen = iter(range(0x100, 0x200))
    return [chr(byte) if byte in seen else chr(next(unseen)) for byte in range(256)]


def _parts(token: bytes, ranks: dict[bytes, int]) -> Sequence[bytes]:
    """The two tokens that one is made of: what merging by rank leaves of it just before the end."""
    parts = [token[n : n + 1] for n in range(len(token))]
    while len(parts) > 2:
        at = min(range(len(parts) - 1), key=lambda n: ranks.get(parts[n] + parts[n + 1], RANKS))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


class Turn(Timed):
    """
    Seconds from a conversation of `chat_chars` characters to its token ids.
    """

    params = (KINDS,)
    param_names = ("tokenizer",)
    timeout = 300.0

    def setup(self, kind: str) -> None:
        """The tokenizer, warm; the conversation, once; and its ids by another way."""
        self.backend: Any = backend(kind)
        self.chat = conversation(SIZES.chat_chars)
        self.turn, self.answer = 0, prose(-1, min(1_500, SIZES.chat_chars))
        self.backend.close()  # forgets all text
        fresh = self.backend.encode_chat(Chat(self.chat)).tolist()
        expect("ids of the same chat again", self.backend.encode_chat(Chat(self.chat)).tolist(), fresh)

    def next_turn(self) -> Chat:
        """
        The conversation with an answer and a question that were never there before: each sentence has a number.

        All texts are new objects, as a request brings them: none is known by its place or has its hash.
        """
        self.turn += 1
        before = [message | {"content": f"{message['content']} "[:-1]} for message in self.chat]
        answer = {"role": "assistant", "content": self.answer.replace(".", f" {self.turn}.")}
        return Chat([*before, answer, {"role": "user", "content": f"And what of number {self.turn}?"}])

    def time_fresh(self, kind: str) -> None:
        """All of it from nothing."""
        self.backend.close()
        self.backend.encode_chat(self.next_turn())

    def time_next(self, kind: str) -> None:
        """The turns before were seen."""
        self.backend.encode_chat(self.next_turn())


class SegmentMemory:
    """Bytes that the prefix-token cache takes for each token it holds."""

    params = (KINDS,)
    param_names = ("tokenizer",)
    timeout = 300.0
    unit = "bytes/token"

    def track_bytes(self, kind: str) -> float:
        """By the cache's own count, text, ids and heads of objects included."""
        made: Any = backend(kind)
        made.close()
        count = len(made.encode(prose(0, SIZES.chat_chars), add_special_tokens=False))
        return float(made.stats()["segment_bytes"]) / count
