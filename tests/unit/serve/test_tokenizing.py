"""Text to tokens beside the event loop: deadlines, bounds, and what is said where there are none."""

from __future__ import annotations

import asyncio
import logging
import threading
from array import array
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.serve_helpers import make_pod
from tests.patience import PATIENCE_S

from kvsync.errors import ConfigError, TokenizeError, TokenizerUnavailable
from kvsync.serve import tokenizing as room
from kvsync.serve.tokenizing import BROKEN_SECONDS, LANES_MAX, WAITING_MAX, NoTokens, Text, Tokenizing
from kvsync.tokens import cache as cache_module
from kvsync.tokens import encode, render_chat
from kvsync.tokens.cache import CachedBackend
from kvsync.tokens.chat import Chat
from kvsync.tokens.model import ModelSpec

MESSAGES = [{"role": "user", "content": "hi"}]
POD = make_pod("a")


class Slow:
    """A backend whose texts begin with what it is to do."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.closes = 0

    def encode(self, text: str, *, add_special_tokens: bool = True) -> array[int]:
        """Code points, with a 0 for special tokens before them."""
        if text.startswith("wait"):
            assert self.gate.wait(20)
        if text.startswith("refuse"):
            raise TokenizeError("a bad text")
        if text.startswith("gone"):
            raise TokenizerUnavailable("no engine answers")
        if text.startswith("break"):
            raise ZeroDivisionError
        return array("I", [0] * add_special_tokens + list(map(ord, text)))

    def encode_chat(self, chat: Chat) -> array[int]:
        """The number of messages."""
        return array("I", [len(chat.messages)])

    def stats(self) -> dict[str, int]:
        """One figure."""
        return {"segment_hits": 7}

    def close(self) -> None:
        """Counted."""
        self.closes += 1


class Stage:
    """Tokenizers of two models, with a clock that is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.backend = Slow()
        self.loads: list[str] = []
        self.first: Callable[[ModelSpec], object] = lambda _spec: None
        monkeypatch.setattr(cache_module, "_build_entry", self.build)

    def build(self, spec: ModelSpec, *, key: Hashable, adapter_path: Path | None) -> CachedBackend:
        """In place of loading."""
        self.loads.append(spec.base)
        self.first(spec)
        return CachedBackend(key=key, backend=self.backend, model_spec=spec, load_seconds=1.25)

    @asynccontextmanager
    async def tokenizing(
        self, *models: str, seconds: float = PATIENCE_S, bases: Mapping[str, str] | None = None
    ) -> AsyncIterator[Tokenizing]:
        """The daemon's tokenizers; `bases` where they are not the models' own."""
        named = bases or {model: model for model in models or ("m", "n")}
        specs = {model: ModelSpec(base=base) for model, base in named.items()}
        made = Tokenizing(specs, seconds=seconds, clock=lambda: self.now)
        try:
            yield made
        finally:
            self.backend.gate.set()
            made.close()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Tokenizers that do as they are told."""
    return Stage(monkeypatch)


async def reason(made: Tokenizing, text: str, model: str = "m") -> NoTokens:
    """Why there are no tokens."""
    with pytest.raises(NoTokens) as caught:
        await made.tokens(model, [POD], Text(text))
    return caught.value


async def until(holds: Callable[[], bool]) -> None:
    """Wait for threads."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  (threads tell nobody)
            await asyncio.sleep(0.001)


def test_texts_and_chats_are_tokenized_by_the_models_own(stage: Stage) -> None:
    """The backend is loaded by the first text and used by all; special tokens are as asked for."""

    async def story() -> None:
        async with stage.tokenizing() as made:
            assert list(await made.tokens("m", [POD], Text("ab"))) == [0, 97, 98]
            assert list(await made.tokens("m", [POD], Text("ab", False))) == [97, 98]
            assert list(await made.tokens("m", [POD], Text(Chat(MESSAGES)))) == [1]
            stats = made.stats()
            assert (stats["hits"], stats["misses"], stats["loaded"]) == (
                2,
                1,
                [
                    {
                        "models": ["m"],
                        "base": "m",
                        "kind": "hf",
                        "revision": None,
                        "load_seconds": 1.25,
                        "segment_hits": 7,
                    }
                ],
            )

    asyncio.run(story())
    assert (stage.loads, stage.backend.closes) == (["m"], 1)


def test_a_loaded_backend_says_which_models_it_serves(stage: Stage) -> None:
    """Two models of one tokenizer stand at the same entry."""

    async def story() -> None:
        async with stage.tokenizing(bases={"m": "shared", "n": "shared", "o": "other"}) as made:
            for model in ("m", "o", "n"):
                await made.tokens(model, [POD], Text("ab"))
            assert [(one["base"], one["models"]) for one in made.stats()["loaded"]] == [
                ("other", ["o"]),
                ("shared", ["m", "n"]),
            ]

    asyncio.run(story())


def test_a_model_without_settings_is_read_byte_by_byte_and_told_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Right on the loop, as simulated engines do; a warning says what to give, once a model."""

    async def story() -> None:
        async with stage.tokenizing() as made:
            for _ in range(3):
                assert await made.tokens("other", [POD], Text("hé")) == encode("hé")
            assert await made.tokens("other", [POD], Text(Chat(MESSAGES))) == render_chat(MESSAGES)
            with pytest.raises(NoTokens) as caught:
                await made.tokens("other", [POD], Text(Chat([{"role": 3}])))
            assert caught.value.refused

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    assert sum("'other' has no tokenizer settings" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("text", "expected", "refused"),
    [
        ("refuse", "no_tokens", True),
        ("gone", "tokenizer_unavailable", False),
        ("break", "tokenizer_failed", False),
    ],
)
def test_what_goes_wrong_has_a_name(stage: Stage, text: str, expected: str, refused: bool) -> None:
    """A bad text is told apart from a tokenizer that does not answer, and from one that fails."""

    async def story() -> None:
        async with stage.tokenizing() as made:
            error = await reason(made, text)
            assert (error.reason, error.refused) == (expected, refused)
            assert list(await made.tokens("m", [POD], Text("a", False))) == [97]

    asyncio.run(story())


def test_a_slow_text_ends_at_its_deadline_and_holds_up_nobody(stage: Stage) -> None:
    """It is routed without tokens; the loop and other models go on, and the backend stays open under its lease."""

    async def story() -> None:
        async with stage.tokenizing(seconds=0.05) as made:
            slow = asyncio.create_task(reason(made, "wait"))
            await asyncio.sleep(0)
            made.seconds = PATIENCE_S
            assert list(await made.tokens("n", [POD], Text("a", False))) == [97]
            assert (await slow).reason == "tokenizer_deadline"
            made.backends.evict_all()
            assert stage.backend.closes == 1  # that of n; m's is in use
            stage.backend.gate.set()
            await until(lambda: stage.backend.closes == 2)

    asyncio.run(story())


def test_a_load_goes_on_after_the_deadline_of_who_caused_it(stage: Stage) -> None:
    """The first request is routed by load; the next finds the tokenizer warm, from one load."""

    async def story() -> None:
        gate = threading.Event()
        stage.first = lambda _spec: gate.wait(20)
        async with stage.tokenizing(seconds=0.02) as made:
            errors = await asyncio.gather(*(reason(made, "a") for _ in range(8)))
            assert {error.reason for error in errors} == {"tokenizer_deadline"}
            gate.set()
            await until(lambda: made.backends.loaded_keys() != [])
            made.seconds = PATIENCE_S
            assert list(await made.tokens("m", [POD], Text("a", False))) == [97]

    asyncio.run(story())
    assert stage.loads == ["m"]


def test_only_so_many_texts_wait_for_a_model(stage: Stage) -> None:
    """One more is turned away at once, and counted nowhere else; afterwards there is room again."""

    async def story() -> None:
        async with stage.tokenizing() as made:
            waiting = [asyncio.create_task(made.tokens("m", [POD], Text("wait"))) for _ in range(WAITING_MAX)]
            await until(lambda: made.stats()["waiting"] == {"m": WAITING_MAX})
            assert (await reason(made, "a")).reason == "tokenizer_busy"
            assert list(await made.tokens("n", [POD], Text("a", False))) == [97]
            stage.backend.gate.set()
            await asyncio.gather(*waiting)
            await until(lambda: made.stats()["waiting"]["m"] == 0)

    asyncio.run(story())


def test_only_so_many_characters_wait_for_a_model(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are turned away while others are at work, but one alone may have any length."""
    monkeypatch.setattr(room, "CHARS_MAX", 100)

    async def story() -> None:
        async with stage.tokenizing() as made:
            first = asyncio.create_task(made.tokens("m", [POD], Text("wait" + "x" * 200)))
            await until(lambda: made.stats()["waiting"] == {"m": 1})
            assert (await reason(made, "a")).reason == "tokenizer_busy"
            stage.backend.gate.set()
            await first
            await until(lambda: made.stats()["waiting"]["m"] == 0)
            assert list(await made.tokens("m", [POD], Text("a", False))) == [97]

    asyncio.run(story())


def test_a_client_that_goes_away_leaves_no_count_behind(stage: Stage) -> None:
    """Work that never began is called off."""

    async def story() -> None:
        async with stage.tokenizing() as made:
            tasks = [asyncio.create_task(made.tokens("m", [POD], Text("wait"))) for _ in range(20)]
            await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            stage.backend.gate.set()
            await until(lambda: made.stats()["waiting"] == {"m": 0})

    asyncio.run(story())


def test_a_tokenizer_that_cannot_be_loaded_is_left_alone_for_a_while(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is shown and logged; other models are read; later it is tried again."""

    def refuse(spec: ModelSpec) -> None:
        if spec.base == "m":
            raise ConfigError("tokenizer.json is cut short")

    async def story() -> None:
        stage.first = refuse
        async with stage.tokenizing() as made:
            for _ in range(3):
                error = await reason(made, "a")
                assert (error.reason, str(error)) == ("tokenizer_broken", "tokenizer.json is cut short")
            assert list(await made.tokens("n", [POD], Text("a", False))) == [97]
            assert (stage.loads, made.stats()["broken"]) == (["m", "n"], ["tokenizer.json is cut short"])
            stage.now += BROKEN_SECONDS
            stage.first = lambda _spec: None
            assert list(await made.tokens("m", [POD], Text("a", False))) == [97]
            assert made.stats()["broken"] == []

    with caplog.at_level(logging.ERROR):
        asyncio.run(story())
    assert "the tokenizer of 'm' cannot be loaded" in caplog.text
    assert "tokenizer.json is cut short" in caplog.text


def test_what_the_settings_name_is_loaded_before_there_are_requests(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be loaded, or not in time, does not keep the daemon from starting."""
    monkeypatch.setattr(room, "PRELOAD_SECONDS", 0.2)

    def load(spec: ModelSpec) -> None:
        if spec.base == "n":
            raise ConfigError("gone")
        if spec.base == "slow":
            stage.backend.gate.wait(20)

    async def story() -> None:
        stage.first = load
        async with stage.tokenizing("m", "n", "slow") as made:
            await made.preload()
            assert (sorted(stage.loads), made.backends.loaded_specs()) == (["m", "n", "slow"], [ModelSpec(base="m")])

    asyncio.run(story())


def test_a_remote_one_asks_the_models_own_pods(stage: Stage) -> None:
    """Without addresses of its own, it has those of the pods that serve the model, whatever their order."""
    made = Tokenizing({"m": ModelSpec(base="m", kind="remote")})
    pods = [make_pod("b"), make_pod("a")]
    spec = made.spec_of("m", pods)
    assert spec is not None
    assert spec.endpoints == tuple(sorted(pod.http for pod in pods))
    assert made.spec_of("m", pods[::-1]) == spec
    own = ModelSpec(base="m", kind="remote", endpoints=("http://h:1",))
    assert Tokenizing({"m": own}).spec_of("m", pods) is own


def test_a_pods_annotations_count_where_the_settings_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The first pod that says something right; one that is wrong is told once and passed over."""

    class Annotated:
        name, http = "ns/p", "http://h:1"

        def __init__(self, *texts: tuple[str, str]) -> None:
            self.tokenizer = texts

    wrong, right = Annotated(("tokenizer-kind", "x")), Annotated(("tokenizer", "org/model"), ("tokenizer-kind", "hf"))
    pods: Any = [Annotated(), wrong, right]
    made = Tokenizing({"n": ModelSpec(base="n")})
    assert made.spec_of("m", pods) == made.spec_of("m", pods) == ModelSpec(base="org/model")
    assert made.spec_of("n", pods) == ModelSpec(base="n")
    assert caplog.text.count("kind is 'x'") == 1


def test_a_wrong_annotation_of_many_pods_is_read_once_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a deployment's template costs each request one reading, however many pods have it."""
    read: list[str] = []

    def reading(texts: Any, model: str, where: str) -> None:
        read.append(where)
        raise ConfigError(where)

    monkeypatch.setattr(room, "spec_of_annotations", reading)
    pods = [make_pod(f"p{number}", tokenizer=(("tokenizer-kind", "x"),)) for number in range(100)]
    assert Tokenizing().spec_of("m", [make_pod("q"), *pods]) is None
    assert read == ["pod p0"]


def test_threads_of_models_that_went_away_are_not_kept(stage: Stage) -> None:
    """However many models a fleet has had, only so many have threads."""

    async def story() -> None:
        models = [f"m{number}" for number in range(LANES_MAX + 10)]
        async with stage.tokenizing(*models) as made:
            for model in models:
                await made.tokens(model, [POD], Text("a"))
                await until(lambda: not any(made.stats()["waiting"].values()))
            assert len(made.stats()["waiting"]) == LANES_MAX

    asyncio.run(story())
