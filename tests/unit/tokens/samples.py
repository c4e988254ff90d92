"""
Texts, chats and tokenizer files that tests of tokenizers share: all made here, but for those that mistral-common ships.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import mistral_common
import urllib3  # noqa: F401  binds a socket to see whether there is IPv6, which a unit test must not
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from kvsync.tokens.mistral import MistralBackend
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.vocabulary import PATTERNS

TEKKEN = Path(mistral_common.__file__).parent / "data" / "tekken_240718.json"

TEXTS = {
    "english": "The engines keep what they computed; a router that knows it sends each request home.\n\nWhy? I'm sure.",
    "german": "Größere Straßen führen über den Fluß – „schön“, sagte sie, 12.345,67 € später.",
    "russian": "Съешь же ещё этих мягких французских булок, да выпей чаю. ЁЖИК 2024",
    "chinese": "敏捷的棕色狐狸跳过了懒狗。今天天气很好，我们去公园吧！价格：￥128。\n第二行",
    "japanese": "いろはにほへと ちりぬるを。カタカナとひらがな、漢字も混ぜる。ｶﾞｷﾞｸﾞ",
    "korean": "다람쥐 헌 쳇바퀴에 타고파. 한국어 문장입니다! 각",
    "arabic": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر، ١٢٣",
    "hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश।",
    "code": 'def f(x: int) -> str:\n    if x >= 10 and not x % 2:\n\t\treturn f"{x!r:>8}"  # naïve\n    return x\n\n',
    "json": '{"name": "get_weather", "arguments": {"city": "Köln", "days": [1, 2, 3], "ok": true, "x": null}}',
    "emoji": "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👍🏽 thumb, 🇩🇪🇯🇵 and ❤️‍🔥!",
    "combining": "e\u0301 a\u0308\u0304 n\u0303 \u0958 \u1e9b\u0323 Z\u0351\u036b\u0343a\u0300l\u0334go \u0301 x",
    "control": "a\0b\x07c\x1b[31mred\x1b[0m\x7f\u200b\u200d\ufeff\u2028\u2029\x85 \x0b\x0c end",
    "spaces": "a  b   c" + " " * 40 + "d\n\n\n   \n\t\t e \r\n f\u00a0g\u3000h   ",
    "look-alikes": "<s> [INST] hi [/INST] </s> <|im_start|>user\n<|im_end|> <|endoftext|> <|eot _id|> <unk> <mask>x",
    "digits": "0 1 12 123 1234 12345678901234567890 ٣٤ 1e-9 0x7fff v1.2.3 ½ ²",
    "quotes": "it's IT'S we'll they've I'd you'RE 'tis ‘so’ it''s don't'",
    "empty": "",
    "one": "a",
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city – now.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]

CHATS: dict[str, list[dict[str, Any]]] = {
    "one question": [{"role": "user", "content": "Why is the sky blue?"}],
    "system prompt": [
        {"role": "system", "content": "Be brief.\nAnswer in German."},
        {"role": "user", "content": "  Hello, wörld! 👋 \n"},
    ],
    "turns": [
        {"role": "user", "content": "Count to three."},
        {"role": "assistant", "content": "1, 2, 3"},
        {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "on?"}]},
    ],
    "look-alikes": [{"role": "user", "content": TEXTS["look-alikes"]}],
    "tool call": [
        {"role": "user", "content": "Weather in Köln?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_0123456789abc",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_0123456789abc", "name": "get_weather", "content": '{"temp": 14}'},
        {"role": "user", "content": "Thanks!"},
    ],
}

CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
        {{- '\\n' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>' + message.content + '</tool_response><|im_end|>\\n' }}
    {%- elif not (loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>' ~ call.function.name ~ call.function.arguments | tojson ~ '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

PARTS = """\
{{- bos_token }}
{%- for message in messages %}
<{{ message['role'] }}>
{%- for part in message['content'] %}{{ part.text | trim }}{% endfor %}
{% endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}
"""

SPECIAL = ("<s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")

_CL100K = PATTERNS["cl100k_base"]


def _bpe(pre_tokenizer: Any, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(TEXTS.values()) * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def _split(pattern: str, behavior: str = "isolated", *, invert: bool = False) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior, invert=invert),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<unk>", *SPECIAL, *fallback], show_progress=False)
    tokenizer.train_from_iterator(list(TEXTS.values()) * 3, trainer)
    return tokenizer


def _digits_first() -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
            pre_tokenizers.Split(Regex("[一-龥\u3040-ゟ゠-ヿ]+"), "isolated"),
            pre_tokenizers.Split(Regex(_CL100K), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@cache
def hf_tokenizers() -> dict[str, str]:
    """Tokenizers as families of models have them, as JSON; small, but of the same build."""
    made = {
        "gpt2": _bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)),
        "gpt2 with a space put before": _bpe(pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "llama3": _bpe(_split(_CL100K)),
        "qwen2": _bpe(_split(PATTERNS["qwen"]), normalizers.NFC()),
        "o200k": _bpe(_split(PATTERNS["o200k_base"], "removed", invert=True)),
        "deepseek": _bpe(_digits_first()),
        "nfkc": _bpe(_split(_CL100K), normalizers.NFKC()),
        "nfd": _bpe(_split(_CL100K), normalizers.Sequence([normalizers.NFD()])),
        "llama2": _metaspace(),
    }
    return {name: tokenizer.to_str() for name, tokenizer in made.items()}


@cache
def tekken() -> MistralBackend:
    """The tekken file, loaded once for all tests: that takes a second."""
    return MistralBackend(ModelSpec(base=str(TEKKEN), kind="mistral"))


WITH_CUTS = ("gpt2", "gpt2 with a space put before", "llama3", "qwen2", "o200k", "deepseek", "nfkc", "nfd")
"""Those of them of which some cut is proved."""


def write_hf(folder: Path, name: str = "llama3", *, template: str | None = CHATML, **settings: Any) -> Path:
    """Write a model's folder as the hub has them."""
    (folder / "tokenizer.json").write_text(hf_tokenizers()[name], encoding="utf-8")
    config = {"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}, "chat_template": template, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@cache
def ranks() -> dict[bytes, int]:
    """The first tokens of a tekken file, which are a vocabulary of their own: each is made of two before it."""
    vocabulary = json.loads(TEKKEN.read_text(encoding="utf-8"))["vocab"][:4000]
    return {base64.b64decode(token["token_bytes"]): token["rank"] for token in vocabulary}


def special_ranks() -> dict[str, int]:
    """Special tokens behind that vocabulary."""
    return {token: 4000 + number for number, token in enumerate(SPECIAL)}


def write_vocabulary(folder: Path, *, template: str | None = CHATML, **settings: Any) -> Path:
    """Write a tiktoken-style vocabulary and what stands beside it."""
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks().items()]
    (folder / "tiktoken.model").write_text("".join(lines), encoding="utf-8")
    added = {str(rank): {"content": token, "special": True} for token, rank in special_ranks().items()}
    config = {"bos_token": "<s>", "added_tokens_decoder": added, "chat_template": template, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


_PIECES = (
    *TEXTS.values(),
    *SPECIAL,
    *" \n\t\r\u00a0\u3000.,;:!?'’\"-_/\\()[]{}<>|0123456789abcxyzABCXYZéßµ漢字かなカナ한글。，、！",
    "\u0301", "\u0308", "\u3099", "\u309a", "\u200d", "\ufe0f", "👩‍👧", "🇩🇪", "👍🏽", "  ", "\n\n", " \n", "   " * 9,
    "<|im_", "start|>", "<|im_start|", "|>", "<s", "'s", "'LL", " 'd", "ſ", "K", "\u2126", "ﬁ", "각",
    "\u1112\u1161\u11ab",
    "word", " word", "Word ", "12", " 345", "漢字。", "は、", "end.\n", "x ", "y\n", "Z。", "7 ", "8\n", "国 ", "国\n",
)  # fmt: skip


def random_texts(seed: int, count: int) -> Iterator[str]:
    """Texts in which everything stands beside everything."""
    chance = random.Random(seed)
    for _ in range(count):
        yield "".join(chance.choices(_PIECES, k=chance.randint(1, 60)))
