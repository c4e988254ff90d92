"""Backends of real tokenizers: the ids of their libraries' own calls, and clear errors for files that are none."""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2.sandbox
import pytest
import tiktoken
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from tests.unit.tokens.samples import (
    CHATML,
    CHATS,
    TEKKEN,
    TEXTS,
    TOOLS,
    hf_tokenizers,
    random_texts,
    ranks,
    special_ranks,
    tekken,
    write_hf,
    write_vocabulary,
)
from tokenizers import Tokenizer

from kvsync.errors import ConfigError, TokenizeError
from kvsync.tokens import hf_cuts
from kvsync.tokens.backends import open_backend
from kvsync.tokens.chat import Chat
from kvsync.tokens.messages import conversation, tools_of
from kvsync.tokens.mistral import _encoder
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.vocabulary import PATTERNS

SEED = 66
LONG = "\n".join(TEXTS.values()) * 3


def chatml(chat: Chat) -> str:
    """The chat as plain jinja2 renders it."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(CHATML).render(
        messages=conversation(chat.messages, "string"), tools=tools_of(chat.tools), add_generation_prompt=True
    )


@pytest.mark.parametrize("name", hf_tokenizers())
def test_hf_ids_are_the_librarys_own(name: str, tmp_path: Path) -> None:
    """Prompts of all scripts, twice, with and without special tokens, and long ones that are cut."""
    backend = open_backend(ModelSpec(base=str(write_hf(tmp_path, name))))
    own = Tokenizer.from_str(hf_tokenizers()[name])
    for text in [*TEXTS.values(), LONG, LONG + "x", *random_texts(SEED, 50)]:
        for special in (True, False):
            assert (
                backend.encode(text, add_special_tokens=special).tolist()
                == own.encode(text, add_special_tokens=special).ids
            )
    assert backend.stats()["segment_hits"] > 0


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
def test_hf_chats_are_rendered_and_tokenized_without_a_second_bos(name: str, tools: Any, tmp_path: Path) -> None:
    """A chat's ids are those of its rendered text without special tokens at the ends, unless they are asked for."""
    backend = open_backend(ModelSpec(base=str(write_hf(tmp_path))))
    own, chat = Tokenizer.from_str(hf_tokenizers()["llama3"]), Chat(CHATS[name], tools)
    assert backend.encode_chat(chat).tolist() == own.encode(chatml(chat), add_special_tokens=False).ids
    asked = Chat(CHATS[name], tools, add_special_tokens=True)
    assert backend.encode_chat(asked)[0] == own.token_to_id("<s>")


@pytest.mark.parametrize("pattern", [*PATTERNS, r"\S+|\s+", r"(?<!x)\w+|\W"])
def test_vocabulary_ids_are_tiktokens_own(pattern: str, tmp_path: Path) -> None:
    """Texts with special tokens, with every known expression and with the operator's own."""
    spec = ModelSpec(base=str(write_vocabulary(tmp_path)), kind="tiktoken", pattern=pattern)
    backend = open_backend(spec)
    own = tiktoken.Encoding(
        "own", pat_str=PATTERNS.get(pattern, pattern), mergeable_ranks=ranks(), special_tokens=special_ranks()
    )
    for text in [*TEXTS.values(), LONG, LONG + "x", *random_texts(SEED, 50)]:
        assert backend.encode(text).tolist() == own.encode(text, allowed_special="all")
    chat = Chat(CHATS["tool call"], TOOLS)
    assert backend.encode_chat(chat).tolist() == own.encode(chatml(chat), allowed_special="all")
    assert backend.decode(backend.encode("naïve")) == "naïve"


def test_a_vocabulary_writes_a_bos_where_its_settings_ask_for_one(tmp_path: Path) -> None:
    """`add_bos_token` puts it before prompts, and not before chats."""
    folder = write_vocabulary(tmp_path, add_bos_token=True)
    backend = open_backend(ModelSpec(base=str(folder), kind="tiktoken", pattern="qwen"))
    bos = special_ranks()["<s>"]
    assert backend.encode("a")[0] == bos
    assert bos not in backend.encode("a", add_special_tokens=False)
    assert bos not in backend.encode_chat(Chat(CHATS["one question"]))


@pytest.fixture(scope="module")
def mistral() -> Any:
    """mistral-common's own tokenizer from the same file."""
    return MistralTokenizer.from_file(TEKKEN)


def test_mistral_ids_are_mistral_commons_own(mistral: Any) -> None:
    """Prompts of all scripts with a beginning-of-sequence token, as engines make them."""
    own = mistral.instruct_tokenizer.tokenizer
    for text in [*TEXTS.values(), LONG, LONG + "x", *random_texts(SEED, 50)]:
        assert tekken().encode(text).tolist() == own.encode(text, bos=True, eos=False)
        assert tekken().encode(text, add_special_tokens=False).tolist() == own.encode(text, bos=False, eos=False)


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("name", CHATS)
def test_mistral_chats_are_mistral_commons_own(mistral: Any, name: str, tools: Any) -> None:
    """Chats with system prompts, tools and their answers, short texts and long ones."""
    for messages in (CHATS[name], [{"role": "system", "content": LONG}, *CHATS[name]]):
        shortened = json.loads(json.dumps(messages).replace("call_0123456789abc", "456789abc"))
        request = ChatCompletionRequest.from_openai(messages=shortened, tools=tools)
        expected = mistral.encode_chat_completion(request).tokens
        assert tekken().encode_chat(Chat(messages, tools)).tolist() == expected


def test_mistral_keeps_messages_whole(mistral: Any) -> None:
    """The next turn's known messages cost one look-up each, and its ids are mistral-common's own; closing forgets."""
    backend = tekken()
    backend.close()
    messages: list[Any] = [
        {"role": role, "content": " ".join(list(TEXTS.values()) * 3) + str(turn)}
        for turn in range(3)
        for role in ("user", "assistant")
    ]
    stats = []
    for count in (4, 6):
        chat = [*messages[:count], {"role": "user", "content": "Why?"}]
        stats.append(backend.stats())
        request = ChatCompletionRequest.from_openai(messages=chat)
        assert backend.encode_chat(Chat(chat)).tolist() == mistral.encode_chat_completion(request).tokens
    known, after = sum(len(message["content"]) for message in messages[:4]), backend.stats()
    assert after["chars_reused"] - stats[1]["chars_reused"] >= known
    assert after["segment_hits"] - stats[1]["segment_hits"] < known / 768
    backend.close()
    assert backend.stats()["segment_bytes"] == 0


def model(ids: list[int], special: set[str]) -> Any:
    """What stands for tiktoken's vocabulary within mistral-common's tokenizer."""
    return SimpleNamespace(encode_ordinary=lambda _: ids, special_tokens_set=special)


@pytest.mark.parametrize(
    ("inner", "quick"),
    [
        ({}, False),
        ({"_model": model([7], set())}, False),
        ({"_model": model([7], set()), "num_special_tokens": 3}, False),
        ({"_model": model([7], {"<s>"}), "num_special_tokens": 2}, False),
        ({"_model": model([7], set()), "num_special_tokens": 2}, True),
    ],
    ids=["no vocabulary", "unknown place", "other ids", "special tokens", "the same ids"],
)
def test_the_way_past_mistral_commons_own_call_leads_to_the_same_ids(inner: dict[str, Any], quick: bool) -> None:
    """It is taken where it does, for a vocabulary without special tokens; else the own call is made."""
    asked: list[str] = []

    def encode_own(text: str, *, bos: bool, eos: bool) -> list[int]:
        asked.append(text)
        return [9]

    encode = _encoder(SimpleNamespace(encode=encode_own, **inner))
    asked.clear()
    assert (encode("what").tolist(), asked) == ([9], [] if quick else ["what"])


def test_half_a_character_has_mistral_commons_ids(mistral: Any) -> None:
    """A text that no UTF-8 can hold is mended as the library does."""
    own = mistral.instruct_tokenizer.tokenizer
    assert tekken().encode("a \ud83d b").tolist() == own.encode("a \ud83d b", bos=True, eos=False)


def test_mistral_continues_a_final_message(mistral: Any) -> None:
    """The assistant's last message is left open."""
    messages: Any = [{"role": "user", "content": "go"}, {"role": "assistant", "content": LONG}]
    request = ChatCompletionRequest.from_openai(messages=messages, continue_final_message=True)
    chat = Chat(messages, add_generation_prompt=False, continue_final_message=True)
    assert tekken().encode_chat(chat).tolist() == mistral.encode_chat_completion(request).tokens


@pytest.mark.parametrize(
    ("chat", "named"),
    [
        (Chat([]), "messages is empty"),
        (Chat(["hi"]), r"messages\[0\] is str"),  # type: ignore[list-item]
        (Chat([{"role": "user", "content": "a"}, {"role": "user"}]), "refuses the chat"),
        (Chat([{"role": "robot", "content": "a"}]), "refuses the chat"),
        (Chat(CHATS["turns"][:2]), "last message is the assistant's"),
        (Chat(CHATS["one question"], add_generation_prompt=False, continue_final_message=True), "not the assistant's"),
        (Chat(CHATS["one question"], continue_final_message=True), "exclude each other"),
        (Chat(CHATS["one question"], template_kwargs={"x": 1}), "no chat template"),
        (
            Chat([{"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}]),
            "'image_url', which only the engine",
        ),
    ],
)
def test_what_mistral_cannot_lay_out_is_told(chat: Chat, named: str) -> None:
    """Chats that engines refuse are refused, and nothing that a message names is fetched."""
    with pytest.raises(TokenizeError, match=named):
        tekken().encode_chat(chat)


def test_half_a_character_is_no_text_for_hf(tmp_path: Path) -> None:
    """A lone surrogate, which JSON can carry, is refused by the tokenizers library as engines refuse it."""
    with pytest.raises(TokenizeError, match="lone surrogate"):
        open_backend(ModelSpec(base=str(write_hf(tmp_path)))).encode("a\ud800")


def test_a_text_that_the_library_gives_up_on_is_told(tmp_path: Path) -> None:
    """Where an expression runs out of its own bounds, an error comes back instead of the library's panic."""
    spec = ModelSpec(base=str(write_vocabulary(tmp_path)), kind="tiktoken", pattern=r"(?:a|aa|aaa|[ab]+(?=b))+c|(?s:.)")
    with pytest.raises(TokenizeError, match=r"gave up|failed"):
        open_backend(spec).encode("a" * 5_000)


def test_a_model_without_a_template_has_prompts_only(tmp_path: Path) -> None:
    """Prompts work; a chat is refused, as engines do."""
    backend = open_backend(ModelSpec(base=str(write_hf(tmp_path, template=None))))
    assert len(backend.encode("hi")) > 1
    with pytest.raises(TokenizeError, match="no chat template"):
        backend.encode_chat(Chat(CHATS["one question"]))


def named_templates(folder: Path) -> None:
    """Several templates by name, of which engines take the default one."""
    held = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    write_hf(folder, template=None, chat_template=held)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda folder: (folder / "chat_template.jinja").write_text("own file"), "own file"),
        (lambda folder: write_hf(folder, template="settings"), "settings"),
        (lambda folder: (folder / "chat_template.json").write_text('{"chat_template": "json"}'), "json"),
        (named_templates, "d"),
    ],
    ids=["file", "settings", "json", "named"],
)
def test_a_template_is_found_where_models_have_it(
    write: Callable[[Path], object], expected: str, tmp_path: Path
) -> None:
    """In a file of its own, in the settings, in a JSON file, or among several; the operator's own comes first."""
    write_hf(tmp_path, template=None)
    write(tmp_path)
    own = Tokenizer.from_str(hf_tokenizers()["llama3"])
    chat = Chat(CHATS["one question"])
    ids = open_backend(ModelSpec(base=str(tmp_path))).encode_chat(chat)
    assert ids.tolist() == own.encode(expected, add_special_tokens=False).ids
    (tmp_path / "mine.jinja").write_text("mine")
    ids = open_backend(ModelSpec(base=str(tmp_path), chat_template=tmp_path / "mine.jinja")).encode_chat(chat)
    assert ids.tolist() == own.encode("mine", add_special_tokens=False).ids


def test_an_adapters_own_tokenizer_comes_first(tmp_path: Path) -> None:
    """An adapter that brings a tokenizer is read by it; one that brings none, by the base's."""
    (tmp_path / "base").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "none").mkdir()
    base = str(write_hf(tmp_path / "base", "gpt2"))
    write_hf(tmp_path / "own", "qwen2")
    for name, expected in (("own", "qwen2"), ("none", "gpt2")):
        spec = ModelSpec(base=base, adapter=tmp_path / name)
        ids = open_backend(spec, adapter=spec.adapter).encode(LONG)
        assert ids.tolist() == Tokenizer.from_str(hf_tokenizers()[expected]).encode(LONG).ids
    with pytest.raises(ConfigError, match="no folder"):
        open_backend(ModelSpec(base=base), adapter=tmp_path / "gone")


def test_a_hub_name_is_taken_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was fetched before is found without a network, at its revision."""
    import huggingface_hub.constants as constants

    model = tmp_path / "models--own--model"
    (model / "snapshots" / "abc").mkdir(parents=True)
    write_hf(model / "snapshots" / "abc", "gpt2")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    own = Tokenizer.from_str(hf_tokenizers()["gpt2"])
    assert open_backend(ModelSpec(base="own/model")).encode(LONG).tolist() == own.encode(LONG).ids
    with pytest.raises(ConfigError, match=r"'own/model' \(revision other\) cannot be had from the hub"):
        open_backend(ModelSpec(base="own/model", revision="other"))


CLASH = b'{"added_tokens_decoder": {"1": {"content": "<x>"}}}'


def spoiled(name: str, content: bytes) -> Callable[[Path], object]:
    """Writes a file over with something else."""
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "spoil", "named"),
    [
        ("hf", lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        ("hf", spoiled("tokenizer.json", b""), "has 0 bytes"),
        ("hf", spoiled("tokenizer.json", b'{"model": {"type": "BPE", "voc'), "is no tokenizer of the library"),
        ("hf", spoiled("tokenizer.json", b"[]"), "is no tokenizer of the library"),
        ("hf", spoiled("tokenizer_config.json", b"{"), "is no JSON"),
        ("hf", spoiled("tokenizer_config.json", b"[]"), "holds no object"),
        ("hf", spoiled("tokenizer_config.json", b"\xff\xfe"), "is no UTF-8"),
        ("hf", spoiled("chat_template.jinja", b"{% for %}"), "cannot be compiled"),
        ("tiktoken", lambda folder: (folder / "tiktoken.model").unlink(), "has no"),
        ("tiktoken", spoiled("tiktoken.model", b"IQ== 0\nIg== x\n"), "line 2 is no token"),
        ("tiktoken", spoiled("tiktoken.model", b"IQ== 0\n"), "no token for the byte"),
        ("tiktoken", spoiled("tokenizer_config.json", CLASH), "'<x>' has an id"),
        ("tiktoken", spoiled("tokenizer_config.json", b'{"added_tokens_decoder": [1]}'), "no mapping of ids"),
        ("mistral", lambda folder: None, "has no tekken.json"),
        ("mistral", spoiled("tekken.json", b"{}"), "no tokenizer of mistral-common"),
        ("mistral", spoiled("tekken.json", b"{"), "no tokenizer of mistral-common"),
    ],
)  # fmt: skip
def test_files_that_are_none_are_named(kind: Any, spoil: Callable[[Path], object], named: str, tmp_path: Path) -> None:
    """A missing, cut, foreign or contradictory file is an operator's error that names it."""
    write_hf(tmp_path)
    if kind == "tiktoken":
        write_vocabulary(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=named) as caught:
        open_backend(ModelSpec(base=str(tmp_path), kind=kind, pattern="qwen"))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"base": "/gone/model"}, "'/gone/model' is not there"),
        ({"base": "gone"}, "'gone' is not there"),
        ({"base": "gone", "kind": "mistral"}, "is not there"),
        ({"base": "m", "kind": "remote"}, "needs endpoints"),
    ],
)
def test_what_is_not_there_is_named(fields: dict[str, Any], named: str) -> None:
    """A path without a file, a name that is none of the hub's, and engines that are not given."""
    with pytest.raises(ConfigError, match=named):
        open_backend(ModelSpec.model_validate(fields))


@pytest.mark.parametrize("kind", ["hf", "tiktoken", "mistral"])
@pytest.mark.parametrize(
    "content", ["hunter2 hunter2", '{"config": "hunter2", "model": "hunter2", "vocab": "hunter2"}']
)
def test_a_file_that_is_no_tokenizer_is_not_shown(kind: Any, content: str, tmp_path: Path) -> None:
    """What names files for us need not be who may read them, so no message holds what stands in one."""
    path = tmp_path / "secret.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        open_backend(ModelSpec(base=str(path), kind=kind, pattern="qwen"))
    assert "secret.json" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_vocabulary_needs_its_pattern(tmp_path: Path) -> None:
    """No expression is guessed; one that is none is refused."""
    folder = str(write_vocabulary(tmp_path))
    with pytest.raises(ConfigError, match="needs its pattern; give a regular expression or one of r50k_base"):
        open_backend(ModelSpec(base=folder, kind="tiktoken"))
    with pytest.raises(ConfigError, match="no tiktoken vocabulary"):
        open_backend(ModelSpec(base=folder, kind="tiktoken", pattern="("))


@pytest.mark.parametrize(
    ("kind", "library"),
    [
        ("hf", "tokenizers"),
        ("hf", "jinja2"),
        ("tiktoken", "tiktoken"),
        ("mistral", "mistral_common"),
        ("remote", "urllib3"),
    ],
)
def test_a_missing_library_names_its_command(
    kind: Any, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not installed is named with the command that installs it."""
    write_hf(tmp_path)
    write_vocabulary(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    spec = ModelSpec(base=str(tmp_path), kind=kind, pattern="qwen", endpoints=("http://127.0.0.1:1",))
    with pytest.raises(ConfigError, match=rf"python -m pip install 'kvsync\[{kind}\]'"):
        open_backend(spec)


def plain(**parts: Any) -> dict[str, Any]:
    """A tokenizer of which all is proved, with some parts replaced."""
    document: dict[str, Any] = json.loads(hf_tokenizers()["llama3"])
    for key, value in parts.items():
        document[key] = {**document["model"], **value} if key == "model" else value
    return document


def sequence(*stages: dict[str, Any]) -> dict[str, Any]:
    """Pre-tokenizers one after the other."""
    return {"type": "Sequence", "pretokenizers": list(stages)}


ADDED = {"id": 9, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
SPLIT = {"type": "Split", "pattern": {"Regex": r"\s"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("document", "proved"),
    [
        (plain(), 12),
        (plain(normalizer={"type": "NFC"}), 12),
        (plain(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]}), 6),
        (plain(normalizer={"type": "Lowercase"}), 0),
        (plain(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}), 0),
        (plain(model={"dropout": 0.1}), 0),
        (plain(model={"type": "Unigram"}), 0),
        (plain(added_tokens=[ADDED]), 12),
        (plain(added_tokens=[{**ADDED, "content": "<a b>"}]), 11),
        (plain(added_tokens=[{**ADDED, "lstrip": True}]), 12),
        (plain(added_tokens=[{**ADDED, "rstrip": True}]), 0),
        (plain(added_tokens=[{**ADDED, "single_word": True}]), 0),
        (plain(pre_tokenizer=None), 0),
        (plain(pre_tokenizer={"type": "Whitespace"}), 0),
        (plain(pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}), 0),
        (plain(pre_tokenizer=SPLIT), 8),
        (plain(pre_tokenizer={**SPLIT, "behavior": "MergedWithPrevious"}), 0),
        (plain(pre_tokenizer={**SPLIT, "pattern": {"String": " "}}), 0),
        (plain(pre_tokenizer={**SPLIT, "pattern": {"Regex": r"\w+"}}), 0),
        (plain(pre_tokenizer=sequence({"type": "ByteLevel", "use_regex": False}, SPLIT)), 0),
        (plain(pre_tokenizer=sequence(SPLIT, {"type": "Metaspace"})), 0),
        (plain(pre_tokenizer=sequence({"type": "Punctuation", "behavior": "MergedWithPrevious"}, SPLIT)), 0),
        (plain(pre_tokenizer=sequence({"type": "Digits", "individual_digits": True}, SPLIT)), 8),
    ],
)  # fmt: skip
def test_cuts_are_proved_or_not_made(document: dict[str, Any], proved: int) -> None:
    """Of each part of a tokenizer's file, what it leaves of the twelve pairs; nothing where it is not known."""
    assert len(hf_cuts.pairs_of(document)) == proved


def test_the_files_are_read_as_they_are(tmp_path: Path) -> None:
    """Truncation and padding in a file, which engines switch off, are switched off."""
    document = plain(
        truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "<s>",
        },
    )  # fmt: skip
    write_hf(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    own = Tokenizer.from_str(hf_tokenizers()["llama3"])
    ids = open_backend(ModelSpec(base=os.fspath(tmp_path / "tokenizer.json"))).encode("a b c d e f")
    assert ids == array("I", own.encode("a b c d e f").ids)
