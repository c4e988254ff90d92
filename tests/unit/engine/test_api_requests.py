"""Request bodies: what the engine is asked for, and refusals in the client's words."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.engine.api_requests import (
    RequestError,
    Served,
    check_rank,
    describe,
    parse_chat,
    parse_completion,
    parse_detokenize,
    parse_tokenize,
)
from kvsync.engine.events import Lora
from kvsync.tokens.bytelevel import END_OF_MESSAGE, IMAGE_PLACEHOLDER, encode, render_chat

MODEL_TOKENS = 200
SERVED = Served("base", {"adapter": Lora("adapter", 1)}, MODEL_TOKENS, image_tokens=5)
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("prompt", ["hi", ["hi"], [104, 105], [[104, 105]]])
def test_a_prompt_is_text_or_token_ids(prompt: object) -> None:
    """One prompt, bare or as the only one of a list."""
    assert parse_completion({"prompt": prompt}, SERVED).asked.prompt == encode("hi")


def test_chat_is_rendered_and_may_answer_to_the_end() -> None:
    """Unasked, a chat's answer may fill the context, a completion's has 16 tokens."""
    chat = parse_chat({"messages": HELLO}, SERVED)
    assert chat.asked.prompt == render_chat(HELLO)
    assert chat.asked.max_tokens == MODEL_TOKENS - len(chat.asked.prompt)
    assert parse_completion({"prompt": "hi"}, SERVED).asked.max_tokens == 16


def test_the_newer_name_of_the_length_wins() -> None:
    """max_completion_tokens stands above max_tokens."""
    body = {"messages": HELLO, "max_tokens": 5, "max_completion_tokens": 7}
    assert parse_chat(body, SERVED).asked.max_tokens == 7


def test_a_model_may_be_an_adapter() -> None:
    """The adapter's name asks for the adapter, and comes back as the answer's model."""
    generation = parse_completion({"prompt": "hi", "model": "adapter"}, SERVED)
    assert (generation.asked.lora, generation.model) == (Lora("adapter", 1), "adapter")
    assert parse_completion({"prompt": "hi", "model": "base"}, SERVED).asked.lora is None


def test_images_take_placeholders_where_they_stand() -> None:
    """The same picture has the same name; its tokens lie where its part stood."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "look: "}, picture, picture]
    asked = parse_chat({"messages": [{"role": "user", "content": content}]}, SERVED).asked
    first, second = asked.images
    assert first.identifier == second.identifier
    assert (first.length, second.offset) == (5, first.offset + 5)
    assert set(asked.prompt[first.offset : first.offset + 10]) == {IMAGE_PLACEHOLDER}


def test_what_a_request_may_carry_besides() -> None:
    """Salt, stop strings, session, report mode and the end to ignore arrive where they belong."""
    body = {
        "prompt": "hi",
        "cache_salt": "tenant",
        "stop": ["a", "bc"],
        "session_id": "talk",
        "ignore_eos": True,
        "vllm_xargs": {"kv_cache_report_mode": "full"},
        "temperature": 0.7,
    }
    generation = parse_completion(body, SERVED)
    asked = generation.asked
    assert (asked.cache_salt, asked.stops, asked.session) == ("tenant", (b"a", b"bc"), "talk")
    assert asked.report_full
    assert generation.end is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, -1]}, "prompt"),
        ({"prompt": [1, 2**32]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": "x" * MODEL_TOKENS}, "prompt"),
        ({"prompt": "x" * 190}, "max_tokens"),
        ({"prompt": "hi", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "hi", "max_tokens": True}, "max_tokens"),
        ({"prompt": "hi", "max_tokens": MODEL_TOKENS}, "max_tokens"),
        ({"prompt": "hi", "n": 2}, "n"),
        ({"prompt": "hi", "logprobs": 3}, "logprobs"),
        ({"prompt": "hi", "echo": True}, "echo"),
        ({"prompt": "hi", "stream": "yes"}, "stream"),
        ({"prompt": "hi", "stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": "hi", "stream": True, "stream_options": 1}, "stream_options"),
        ({"prompt": "hi", "stop": [""]}, "stop"),
        ({"prompt": "hi", "stop": ["a"] * 5}, "stop"),
        ({"prompt": "hi", "cache_salt": ""}, "cache_salt"),
        ({"prompt": "hi", "vllm_xargs": {"kv_cache_report_mode": "some"}}, "vllm_xargs"),
        ([], None),
    ],
)
def test_a_completion_that_cannot_be_is_refused(body: object, param: str | None) -> None:
    """A 400 that names the parameter."""
    if param == "max_tokens" and body == {"prompt": "x" * 190}:
        body = {"prompt": "x" * 190, "max_tokens": 11}
    with pytest.raises(RequestError) as caught:
        parse_completion(body, SERVED)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "hello",
        ["hello"],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": [{"type": "video_url"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
    ],
)
def test_messages_that_cannot_be_rendered_are_refused(messages: object) -> None:
    """A 400 that names the messages."""
    with pytest.raises(RequestError) as caught:
        parse_chat({"messages": messages}, SERVED)
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_an_unknown_model_is_a_404_in_openais_shape() -> None:
    """The answer says what is served."""
    with pytest.raises(RequestError) as caught:
        parse_completion({"prompt": "hi", "model": "other"}, SERVED)
    document = describe(caught.value)["error"]
    assert (document["type"], document["param"], document["code"]) == ("NotFoundError", "model", 404)
    assert "base, adapter" in document["message"]


def test_tokenize_takes_a_prompt_or_messages() -> None:
    """With messages, the prompt to go on can be left off."""
    assert parse_tokenize({"prompt": "hi"}, SERVED) == encode("hi")
    assert parse_tokenize({"messages": HELLO}, SERVED) == render_chat(HELLO)
    bare = parse_tokenize({"messages": HELLO, "add_generation_prompt": False}, SERVED)
    assert bare.tolist()[-2:] == [END_OF_MESSAGE, 10]


def test_detokenize_takes_token_ids() -> None:
    """The list of ids, and nothing else."""
    assert parse_detokenize({"tokens": [104, 105]}, SERVED) == encode("hi")
    with pytest.raises(RequestError, match="tokens"):
        parse_detokenize({"tokens": "hi"}, SERVED)


@pytest.mark.parametrize(("header", "rank"), [(None, None), ("0", 0), ("2", 2)])
def test_a_header_chooses_the_rank(header: str | None, rank: int | None) -> None:
    """No header leaves the choice to the engine."""
    assert check_rank(header, 3) == rank


@pytest.mark.parametrize("header", ["3", "-1", "", "a", "\u0662", "1" * 5_000])
def test_a_rank_that_is_not_there_is_refused(header: str) -> None:
    """The message says which ranks there are."""
    with pytest.raises(RequestError, match="ranks 0 to 2"):
        check_rank(header, 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    "model",
    "prompt",
    "messages",
    "max_tokens",
    "stop",
    "stream",
    "stream_options",
    "cache_salt",
    "n",
    "vllm_xargs",
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON) | JSON)
def test_no_body_is_worse_than_a_refusal(body: object) -> None:
    """Whatever JSON a client sends is parsed or refused; nothing else is raised."""
    for parse in (parse_completion, parse_chat, parse_tokenize, parse_detokenize):
        with suppress(RequestError):
            parse(body, SERVED)
