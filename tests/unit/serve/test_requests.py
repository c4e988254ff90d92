"""Bodies in, prompts out."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.serve.problems import Problem
from kvsync.serve.requests import Prompt, model_of, read_document, read_json, read_octets, read_openai
from kvsync.serve.tokenizing import Text
from kvsync.tokens.chat import Chat

MAX = 100
MESSAGES = [{"role": "user", "content": "hi"}]


def body(**fields: Any) -> bytes:
    """A JSON body for the model m."""
    return json.dumps({"model": "m", **fields}).encode()


def octets(*tokens: int) -> bytes:
    """Token ids as little-endian uint32."""
    made = array("I", tokens)
    if sys.byteorder == "big":
        made.byteswap()
    return made.tobytes()


def test_token_ids() -> None:
    """They are taken as they are, up to the largest uint32."""
    prompt = read_json(body(token_ids=[1, 2, 2**32 - 1]), tokens_max=MAX)
    assert (prompt.model, list(prompt.tokens)) == ("m", [1, 2, 2**32 - 1])


def test_a_text_and_a_chat_are_still_to_be_tokenized() -> None:
    """They come with all that changes their tokens, by the engines' defaults where nothing is said."""
    assert read_json(body(prompt="hé"), tokens_max=MAX).text == Text("hé")
    assert read_json(body(prompt="hé", add_special_tokens=False), tokens_max=MAX).text == Text("hé", False)
    assert read_json(body(messages=MESSAGES), tokens_max=MAX).text == Text(Chat(MESSAGES))
    said = {
        "tools": [{"a": 1}],
        "documents": [{"b": 2}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    }
    asked = body(
        messages=MESSAGES, **said, add_special_tokens=True, chat_template_kwargs={"c": 3}, reasoning_effort="low"
    )
    expected = Chat(MESSAGES, **said, add_special_tokens=True, template_kwargs={"c": 3, "reasoning_effort": "low"})  # type: ignore[arg-type]
    assert read_json(asked, tokens_max=MAX).text == Text(expected)
    assert read_openai(json.loads(asked), tokens_max=MAX).text == Text(expected)


def test_token_ids_may_be_called_a_prompt() -> None:
    """As OpenAI's completions have it."""
    assert read_json(body(prompt=[1, 2]), tokens_max=MAX).tokens == array("I", [1, 2])


def test_what_else_makes_blocks_differ() -> None:
    """Adapter, salt, extra keys and policy are passed on."""
    prompt = read_json(
        body(token_ids=[1], lora="l", cache_salt="s", extra_keys=[["img", 0, 5]], policy="random"), tokens_max=MAX
    )
    assert (prompt.lora, prompt.cache_salt, prompt.extra_keys, prompt.policy) == ("l", "s", [("img", 0, 5)], "random")


@pytest.mark.parametrize(
    ("sent", "param", "says"),
    [
        (b"", None, "no JSON"),
        (b"{", None, "no JSON"),
        (b"[]", None, "the body is an array; send a JSON object"),
        (b"\xff", None, "no JSON"),
        (b"{}", "model", "model is missing"),
        (body(), None, "holds none of them; give one of token_ids, prompt and messages"),
        (body(token_ids=[1], prompt="a"), None, "holds token_ids and prompt"),
        (body(token_ids=[]), None, "no token"),
        (body(token_ids=list(range(MAX + 1))), None, "has 101 tokens, more than the 100 of"),
        (body(token_ids=[1, -1]), "token_ids.1", "token_ids.1 is -1"),
        (body(token_ids=[2**32]), "token_ids.0", "is 4294967296"),
        (body(token_ids=[1.5]), "token_ids.0", "is 1.5"),
        (body(token_ids=["1"]), "token_ids.0", "is '1'"),
        (body(token_ids=[True]), "token_ids.0", "is True"),
        (body(token_ids="1"), "token_ids", "is '1'"),
        (body(prompt=3), "prompt", "is 3; send a text, or a list of token ids"),
        (body(prompt=[1, "a"]), "prompt", "send a text, or a list of token ids"),
        (body(prompt=[-1]), "prompt", "send a text, or a list of token ids"),
        (body(token_ids=[1], cache_salt="x" * 100_000), "cache_salt", "100000 bytes; send at most 4096"),
        (body(token_ids=[1], cache_salt=3), "cache_salt", "is 3"),
        (body(token_ids=[1], extra_keys=[["a", 2**70, 1]]), "extra_keys", "extra_keys[0][1] is 1180591620717411303424"),
        (body(token_ids=[1], extra_keys=[["a", 0, 2**64 - 1]]), "extra_keys", "numbers up to 4294967295"),
        (body(token_ids=[1], extra_keys=[["x" * 9_000, 0, 1]]), "extra_keys", "extra_keys[0][0] is 'xxx"),
        (body(messages=["x"]), "messages.0", "is 'x'"),
        (body(token_ids=[1], tokens=[1]), "tokens", "field 'tokens' is not known"),
        (body(token_ids=[1], lora=3), "lora", "is 3"),
        (body(token_ids=[1], lora=""), "lora", "is ''"),
        (body(token_ids=[1], extra_keys=[["a", 1]]), "extra_keys", "give a list of [identifier"),
        (body(token_ids=[1], extra_keys=[["a", -1, 1]]), "extra_keys", "give a list of [identifier"),
        (body(token_ids=[1], extra_keys={"a": 1}), "extra_keys", "give a list of [identifier"),
    ],
)
def test_a_wrong_body_is_refused(sent: bytes, param: str | None, says: str) -> None:
    """The field, the value met and the remedy are named."""
    with pytest.raises(Problem) as caught:
        read_json(sent, tokens_max=MAX)
    assert caught.value.status == 400
    assert caught.value.param == param
    assert says in caught.value.message


def test_raw_tokens() -> None:
    """Four bytes each, everything else in the query string."""
    query = {"model": "m", "lora": "l", "cache_salt": "s", "extra_keys": '[["img", 0, 5]]', "policy": "random"}
    prompt = read_octets(octets(1, 2**32 - 1), query, tokens_max=MAX)
    assert list(prompt.tokens) == [1, 2**32 - 1]
    assert (prompt.lora, prompt.cache_salt, prompt.extra_keys, prompt.policy) == ("l", "s", [("img", 0, 5)], "random")


@pytest.mark.parametrize(
    ("sent", "query", "says"),
    [
        (octets(1)[:3], {"model": "m"}, "length in bytes is 3;"),
        (b"", {"model": "m"}, "no token"),
        (octets(1), {}, "names no model"),
        (octets(1), {"model": "m", "slat": "x"}, "query 'slat' is not known"),
        (octets(1), {"model": "m", "extra_keys": "["}, "extra_keys is no JSON"),
        (octets(1), {"model": "m", "extra_keys": "[1]"}, "give a list of [identifier"),
        (octets(1), {"model": "m", "lora": "x" * 5_000}, "5000 bytes; send at most 4096"),
        (octets(1), {"model": "m", "cache_salt": "\ud800"}, "which has no UTF-8 form"),
        (octets(*range(MAX + 1)), {"model": "m"}, "has 101 tokens"),
    ],
)
def test_wrong_raw_tokens_are_refused(sent: bytes, query: dict[str, str], says: str) -> None:
    """As JSON is."""
    with pytest.raises(Problem) as caught:
        read_octets(sent, query, tokens_max=MAX)
    assert caught.value.status == 400
    assert says in caught.value.message


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=MAX))
def test_both_forms_say_the_same(tokens: list[int]) -> None:
    """JSON and raw bytes of the same ids give the same prompt."""
    one = read_json(body(token_ids=tokens), tokens_max=MAX)
    other = read_octets(octets(*tokens), {"model": "m"}, tokens_max=MAX)
    assert list(one.tokens) == list(other.tokens) == tokens


def status(read: Callable[[], Prompt]) -> int:
    """The status of the problem, 200 where there is none."""
    try:
        read()
    except Problem as problem:
        return problem.status
    return 200


@given(st.binary(max_size=60))
def test_any_bytes_are_a_prompt_or_a_problem(sent: bytes) -> None:
    """Nothing else is raised, whatever is sent."""
    assert status(lambda: read_json(sent, tokens_max=MAX)) in (200, 400)
    assert status(lambda: read_octets(sent, {"model": "m"}, tokens_max=MAX)) in (200, 400)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["model", "token_ids", "prompt", "messages", "lora", "extra_keys"]), JSON))
def test_any_fields_are_a_prompt_or_a_problem(fields: dict[str, Any]) -> None:
    """Wrong types meet the same fate."""
    assert status(lambda: read_json(json.dumps(fields).encode(), tokens_max=MAX)) in (200, 400)


@pytest.mark.parametrize(
    ("document", "tokens", "text"),
    [
        ({"messages": MESSAGES}, [], Text(Chat(MESSAGES))),
        ({"prompt": "hi"}, [], Text("hi")),
        ({"prompt": [1, 2]}, [1, 2], None),
        ({"prompt": ["hi", "ho"]}, [], Text("hi")),
        ({"prompt": [[1, 2], [3]]}, [1, 2], None),
    ],
)
def test_openai_prompts(document: dict[str, Any], tokens: list[int], text: Text | None) -> None:
    """All forms of a prompt are known; of several, the first is matched."""
    prompt = read_openai({"model": "m", "cache_salt": "s", **document}, tokens_max=MAX)
    assert (list(prompt.tokens), prompt.text, prompt.cache_salt) == (tokens, text, "s")


@pytest.mark.parametrize(
    "document",
    [
        {}, {"prompt": [1, "a"]}, {"prompt": [-1]}, {"prompt": 3}, {"prompt": []},
        {"messages": MESSAGES, "chat_template": "{{ 1 }}"}, {"prompt": "hi", "truncate_prompt_tokens": 1},
    ],
)  # fmt: skip
def test_an_openai_prompt_that_is_no_tokens_is_the_engines_to_refuse(document: dict[str, Any]) -> None:
    """It is told apart from a request that we refuse."""
    with pytest.raises((ValueError, Problem)):
        read_openai({"model": "m", **document}, tokens_max=MAX)


@given(st.dictionaries(st.sampled_from(["prompt", "messages", "cache_salt"]), JSON))
def test_any_openai_body_is_a_prompt_or_no_prompt(fields: dict[str, Any]) -> None:
    """Nothing else is raised."""
    try:
        read_openai({"model": "m", **fields}, tokens_max=MAX)
    except (ValueError, Problem):
        return


@pytest.mark.parametrize("salt", ["x" * 5_000, "\ud800"])
def test_a_salt_that_the_index_cannot_take_is_told(salt: str) -> None:
    """Such a request is routed by load."""
    with pytest.raises(Problem, match="cache_salt is"):
        read_openai({"model": "m", "prompt": "hi", "cache_salt": salt}, tokens_max=MAX)


@pytest.mark.parametrize(
    ("sent", "says"),
    [(b"null", "the body is null;"), (b"3", "the body is a number;"), (b"[]", "the body is an array;")],
)
def test_the_kind_of_a_body_is_told_in_jsons_words(sent: bytes, says: str) -> None:
    """Not in Python's."""
    with pytest.raises(Problem, match=says):
        read_document(sent)


@pytest.mark.parametrize(
    ("document", "says"),
    [({}, "missing;"), ({"model": None}, "null;"), ({"model": ""}, '"";'), ({"model": 3}, "a number;")],
)
def test_a_model_that_is_none_is_told(document: dict[str, Any], says: str) -> None:
    """A missing one is called missing."""
    with pytest.raises(Problem, match=f"model is {says}"):
        model_of(document)


@pytest.mark.parametrize("sent", [b"", b"[]", b"3", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(sent: bytes) -> None:
    """Nesting without end is no crash."""
    with pytest.raises(Problem):
        read_document(sent)


def test_a_body_without_a_model_is_refused() -> None:
    """There is no pod to send it to."""
    with pytest.raises(Problem, match="name the model"):
        read_openai({"prompt": "hi"}, tokens_max=MAX)


TOKEN_TEXTS = st.sampled_from(["0", "7", "131072", "4294967295", "4294967296", "-1", "01", "1.0", "1e3", "true", '"1"'])


def outcome(sent: bytes) -> tuple[Any, ...]:
    """What becomes of a body: its prompt's parts, or what is said of it."""
    try:
        prompt = read_json(sent, tokens_max=MAX)
    except Problem as problem:
        return (str(problem),)
    return prompt.model, list(prompt.tokens), prompt.text, prompt.lora, prompt.extra_keys


def outcome_of_the_whole(sent: bytes) -> tuple[Any, ...]:
    """The same when the token ids are not read apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvsync.serve.requests.read_json_tokens", lambda text, at: None)
        return outcome(sent)


@given(
    st.lists(TOKEN_TEXTS, max_size=5),
    st.sampled_from([",", ", ", " ,\n\t", ",,", ";"]),
    st.sampled_from(["", "]", " "]),
)
def test_token_ids_read_apart_are_the_same(tokens: list[str], comma: str, end: str) -> None:
    """However they are written, right or wrong, the answer is that of the body read as a whole."""
    sent = ('{"model": "m", "token_ids" : [ ' + comma.join(tokens) + " ]" + end + ', "lora": "l"}').encode()
    assert outcome(sent) == outcome_of_the_whole(sent)


@pytest.mark.parametrize(
    "sent",
    [
        b'{"model": "m", "token_ids": [1, 2]}',
        b'{"token_ids": [1, 2], "model": "m", "lora": ""}',
        b'{"token_ids": [1, 2], "model": "m", "prompt": "x"}',
        b'{"model": "m", "prompt": "\\"token_ids\\": [1, 2]"}',
        b'{"model": "m", "extra_keys": {"token_ids": [1, 2]}}',
        b'{"model": "m", "prompt": [3], "extra_keys": {"token_ids": [1, 2]}}',
        b'{"model": "m", "token_ids": [1, 2], "token_ids": [3]}',
        b'{"model": "m", "token_ids": [[1, 2]]}',
        b'{"model": "m", "token_ids": [1, 2}',
        b'{"model": "m", "token_ids": [1, 2]',
        b'{"model": "m", "token_ids": [',
        b'{"model": "token_ids", "token_ids": [1]}',
    ],
)
def test_token_ids_are_only_those_of_the_body_itself(sent: bytes) -> None:
    """A list of that name elsewhere, or twice, or cut, changes nothing of the answer."""
    assert outcome(sent) == outcome_of_the_whole(sent)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b'{"model": ' + b"9" * 6_000 + b"}", "the body is no JSON: it holds an integer of more than 4300 digits"),
        (b"[" * 100_000, "the body is no JSON: it is nested too deeply"),
    ],
    ids=["long integer", "deep"],
)
def test_json_beyond_what_is_read_is_told_in_our_words(sent: bytes, says: str) -> None:
    """The interpreter's own advice is of no use to a client."""
    with pytest.raises(Problem) as caught:
        read_document(sent)
    assert (caught.value.status, caught.value.message) == (400, says)


def test_a_chat_without_a_message_is_refused() -> None:
    """As a prompt without a token is; the field is named."""
    with pytest.raises(Problem, match="messages is \\[\\]") as caught:
        read_json(body(messages=[]), tokens_max=MAX)
    assert (caught.value.status, caught.value.param) == (400, "messages")
