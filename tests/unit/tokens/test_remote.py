"""Engines asked for their tokens: turns, deadlines, breakers, and answers that are not believed."""

from __future__ import annotations

import json
import threading
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.unit.tokens.samples import TOOLS

from kvsync.errors import TokenizeError
from kvsync.tokens.chat import Chat
from kvsync.tokens.http import CallFailed
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.remote import FAILURES_TO_OPEN, OPEN_SECONDS, PROBE, RemoteBackend

A, B, C = "http://a", "http://b", "http://c"
USER = [{"role": "user", "content": "hi"}]


class Engines:
    """Engines as a client sees them; each answers as it is told, by default with the text's code points."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], tuple[int, bytes]]] = {}

    def __call__(self, url: str, body: bytes, deadline: float) -> tuple[int, bytes]:
        """One request."""
        base, _, path = url.rpartition("/")
        asked = json.loads(body)
        self.asked.append((base, asked))
        assert self.now < deadline
        return self.answers.get(base, self.right)(asked | {"path": path})

    def right(self, asked: dict[str, Any]) -> tuple[int, bytes]:
        """An engine of the model."""
        if asked["path"] == "detokenize":
            return 200, json.dumps({"prompt": "".join(map(chr, asked["tokens"]))}).encode()
        text = asked["prompt"] if "prompt" in asked else asked["messages"][0]["content"]
        return 200, json.dumps({"count": len(text), "tokens": list(map(ord, text))}).encode()

    def backend(self, *endpoints: str, timeout: float = 2.0) -> RemoteBackend:
        """A backend that asks them."""
        spec = ModelSpec(base="m", kind="remote", endpoints=endpoints, timeout_seconds=timeout)
        return RemoteBackend(spec, client=self, clock=lambda: self.now)

    def given_up(self, endpoint: str) -> RemoteBackend:
        """A backend whose one engine failed until it is left alone."""
        self.answers[endpoint] = fail
        backend = self.backend(endpoint)
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(TokenizeError):
                backend.encode("hi")
        return backend

    def prompts_to(self, base: str) -> int:
        """How many prompts an engine was asked for, beside probes."""
        return sum(url == base and asked.get("prompt") != PROBE for url, asked in self.asked)


def wrong_model(asked: dict[str, Any]) -> tuple[int, bytes]:
    """An engine that serves another model."""
    return 200, b'{"tokens": [1, 2, 3]}'


def fail(_asked: dict[str, Any]) -> tuple[int, bytes]:
    """An engine that is gone."""
    raise CallFailed("no answer in time")


def status(number: int, body: bytes = b"{}") -> Callable[[dict[str, Any]], tuple[int, bytes]]:
    """An engine that answers with a status."""
    return lambda _asked: (number, body)


def test_a_prompt_is_asked_for_as_engines_want_it() -> None:
    """The model's name, the text and whether special tokens are added; the answer's ids come back."""
    engines = Engines()
    assert engines.backend(A).encode("hi") == array("I", [104, 105])
    assert engines.backend(A + "/").encode("hi", add_special_tokens=False) == array("I", [104, 105])
    assert engines.asked == [
        (A, {"model": "m", "prompt": "hi", "add_special_tokens": True}),
        (A, {"model": "m", "prompt": "hi", "add_special_tokens": False}),
    ]


def test_a_chat_is_asked_for_with_tools_and_template_arguments() -> None:
    """All that changes a chat's tokens goes along."""
    engines = Engines()
    chat = Chat(USER, TOOLS, documents=[{"text": "d"}], template_kwargs={"think": False}, add_generation_prompt=False)
    engines.backend(A).encode_chat(chat)
    (_, asked), = engines.asked  # fmt: skip
    assert asked == {
        "model": "m", "messages": USER, "add_generation_prompt": False, "continue_final_message": False,
        "add_special_tokens": False, "tools": TOOLS,
        "chat_template_kwargs": {"think": False, "documents": [{"text": "d"}]},
    }  # fmt: skip


def test_ids_are_turned_back_into_text() -> None:
    """An engine says what some ids mean."""
    assert Engines().backend(A).decode(array("I", [104, 105])) == "hi"


def test_engines_take_turns() -> None:
    """Each of several is asked as often as the others, after one probe each."""
    engines = Engines()
    backend = engines.backend(A, B, C)
    for _ in range(9):
        backend.encode("x")
    assert [engines.prompts_to(url) for url in (A, B, C)] == [3, 3, 3]
    assert len(engines.asked) == 12


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (fail, "no answer in time"),
        (status(500, b'{"error": {"message": "out of memory"}}'), "answered 500: out of memory"),
        (status(404, b'{"error": "no such model"}'), "answered 404: no such model"),
        (status(302), "answered 302"),
        (status(200, b"<html>"), "no JSON object"),
        (status(200, b"[1]"), "no JSON object"),
        (status(200, b"{}"), "no list of token ids"),
        (status(200, b'{"tokens": [1, -1]}'), "no list of token ids"),
        (status(200, b'{"tokens": [1, 4294967296]}'), "no list of token ids"),
        (status(200, b'{"tokens": [true]}'), "no list of token ids"),
        (status(200, b'{"tokens": "1"}'), "no list of token ids"),
        (status(200, b"[" * 100_000), "no JSON object"),
    ],
)
def test_another_engine_is_asked_where_one_fails(answer: Any, named: str) -> None:
    """Whatever is wrong with one engine, the answer comes from the other; alone, its failure is told."""
    engines = Engines()
    engines.answers[A] = answer
    assert engines.backend(A, B).encode("hi") == array("I", [104, 105])
    with pytest.raises(TokenizeError, match=f"no engine of 'm' answers /tokenize.*{named}"):
        engines.backend(A).encode("hi")


def test_a_refusal_is_the_answer() -> None:
    """What the engine calls a wrong request is not asked elsewhere, and is no failure of the engine."""
    engines = Engines()
    engines.answers[A] = status(400, b'{"error": {"message": "too long"}}')
    backend = engines.backend(A)
    for _ in range(FAILURES_TO_OPEN + 1):
        with pytest.raises(TokenizeError, match=r"refuses the request \(400: too long\)"):
            backend.encode("hi")
    assert (backend.stats()["refused"], backend.stats()["breakers_open"]) == (FAILURES_TO_OPEN + 1, 0)


def test_a_breaker_opens_after_failures_and_tries_one_call_later() -> None:
    """A failing engine is left alone for a while, fails at once meanwhile, and is taken back once one call succeeds."""
    engines = Engines()
    backend = engines.given_up(A)
    asked = len(engines.asked)
    with pytest.raises(TokenizeError, match="no answer in time"):
        backend.encode("hi")
    assert len(engines.asked) == asked
    assert backend.health() == {A: "no answer in time"}
    engines.now += OPEN_SECONDS
    with pytest.raises(TokenizeError):
        backend.encode("hi")
    assert len(engines.asked) == asked + 1
    engines.now += OPEN_SECONDS
    del engines.answers[A]
    assert backend.encode("hi") == array("I", [104, 105])
    assert (backend.health(), backend.stats()["breakers_open"]) == ({}, 0)


def test_only_one_call_tries_an_engine_that_was_left_alone() -> None:
    """While one thread tries it, others fail at once; and they are not kept waiting by a lock."""
    engines, entered, gate = Engines(), threading.Event(), threading.Event()
    engines.answers[A] = fail
    backend = engines.backend(A)
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(TokenizeError):
            backend.encode("hi")
    engines.now += OPEN_SECONDS

    def slow(asked: dict[str, Any]) -> tuple[int, bytes]:
        entered.set()
        assert gate.wait(20)
        return engines.right(asked)

    engines.answers[A] = slow
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(backend.encode, "hi")
        assert entered.wait(20)
        with pytest.raises(TokenizeError, match="all are being tried"):
            backend.encode("hi")
        gate.set()
        assert first.result(20) == array("I", [104, 105])


def test_tries_end_at_the_deadline() -> None:
    """A second engine is not asked once the first has used up the time."""
    engines = Engines()

    def late(_asked: dict[str, Any]) -> tuple[int, bytes]:
        engines.now += 5
        raise CallFailed("no answer in time")

    engines.answers = {A: late, B: late}
    with pytest.raises(TokenizeError):
        engines.backend(A, B).encode("hi")
    assert len(engines.asked) == 1


@pytest.mark.parametrize("other", [A, B, C])
def test_an_engine_of_another_model_is_not_believed(other: str) -> None:
    """Of three, the one whose ids for the probe differ from the others' is left alone, also where it is asked first."""
    engines = Engines()
    engines.answers[other] = wrong_model
    backend = engines.backend(A, B, C)
    for _ in range(12):
        assert backend.encode("hi") == array("I", [104, 105])
    assert backend.stats()["disagreements"] > 0
    assert list(backend.health()) == [other]


def test_an_engine_that_hangs_leaves_time_to_believe_another() -> None:
    """Asked whether it agrees, it has half of what there is; the others' ids are given in time."""
    engines = Engines()

    def hang(_asked: dict[str, Any]) -> tuple[int, bytes]:
        engines.now += 1.0
        raise CallFailed("no answer in time")

    engines.answers[B] = hang
    assert engines.backend(A, B).encode("hi") == array("I", [104, 105])
    assert [base for base, _ in engines.asked] == [A, B, A]


def test_two_engines_that_disagree_are_both_doubted() -> None:
    """Nobody can say which of two is wrong, so no answer is given, until they agree again."""
    engines = Engines()
    engines.answers[B] = wrong_model
    backend = engines.backend(A, B)
    for _ in range(3):
        with pytest.raises(TokenizeError, match="one of them serves another model"):
            backend.encode("hi")
    del engines.answers[B]
    engines.now += 2 * OPEN_SECONDS
    for _ in range(6):
        assert backend.encode("hi") == array("I", [104, 105])


def test_an_error_of_ours_leaves_no_engine_marked_as_being_tried() -> None:
    """Whatever comes out of a call, the engine can be asked again."""
    engines = Engines()
    backend = engines.given_up(A)
    engines.now += OPEN_SECONDS

    def interrupt(_asked: dict[str, Any]) -> tuple[int, bytes]:
        raise KeyboardInterrupt

    engines.answers[A] = interrupt
    with pytest.raises(KeyboardInterrupt):
        backend.encode("hi")
    del engines.answers[A]
    assert backend.encode("hi") == array("I", [104, 105])
