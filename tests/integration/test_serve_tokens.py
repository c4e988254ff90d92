"""The daemon in front of models with tokenizers of their own, some of which hang, fail or are not there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.integration.serve_helpers import MODEL, daemon, make_pod, until
from tests.integration.stream_helpers import NEVER_S
from tests.unit.tokens.samples import CHATS, TEKKEN, TOOLS, tekken, write_hf, write_vocabulary

from kvsync.errors import TokenizerUnavailable
from kvsync.fleet.kubernetes.reading import read_pod
from kvsync.serve.settings import load_settings
from kvsync.testing.fake_pod import FakePod
from kvsync.tokens.backends import open_backend
from kvsync.tokens.chat import Chat
from kvsync.tokens.model import ModelSpec

TEXT = "Many words about a fox and its den. " * 20
MESSAGES = [{"role": "user", "content": TEXT}]

PATIENT_S = 60.0
"""The longest there is, where the deadline is not what is tested: loading takes seconds on a busy machine."""

Answer = Callable[[web.Request], Any]


@asynccontextmanager
async def engine(answer: Answer) -> AsyncIterator[str]:
    """An engine whose `/tokenize` does as it is told."""
    application = web.Application()
    application.router.add_post("/tokenize", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def right(request: web.Request) -> web.Response:
    """Code points; the model's name is looked at."""
    asked = await request.json()
    if asked["model"] != MODEL:
        return web.json_response({"error": {"message": "no such model"}}, status=404)
    text = asked["prompt"] if "prompt" in asked else asked["messages"][0]["content"]
    return web.json_response({"count": len(text), "tokens": list(map(ord, text))})


async def hang(request: web.Request) -> web.Response:
    """Takes the request and never answers."""
    await asyncio.Event().wait()
    raise AssertionError


async def drip(request: web.Request) -> web.StreamResponse:
    """Answers a byte at a time, and never to the end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def fail(request: web.Request) -> web.Response:
    """Answers 500."""
    return web.json_response({"error": {"message": "out of memory"}}, status=500)


async def elsewhere(request: web.Request) -> web.Response:
    """Sends the asker to another address."""
    raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/tokenize")


def remote(*endpoints: str, seconds: float = 0.3) -> dict[str, Any]:
    """Settings of a model whose engines are asked."""
    return {MODEL: {"kind": "remote", "endpoints": list(endpoints), "timeout_seconds": seconds}}


@pytest.mark.parametrize("kind", ["hf", "tiktoken", "mistral"])
def test_prompts_and_chats_match_what_the_engine_holds(kind: Any, tmp_path: Path) -> None:
    """Score, route and proxy find the blocks of the model's own tokens, for text, chats and tools."""
    write_hf(tmp_path)
    write_vocabulary(tmp_path)
    table = {"base": str(TEKKEN if kind == "mistral" else tmp_path), "kind": kind, "pattern": "qwen"}
    backend = tekken() if kind == "mistral" else open_backend(ModelSpec.model_validate(table))
    asked: list[tuple[dict[str, Any], Any]] = [
        ({"prompt": TEXT}, backend.encode(TEXT)),
        ({"messages": MESSAGES}, backend.encode_chat(Chat(MESSAGES))),
        ({"messages": MESSAGES, "tools": TOOLS}, backend.encode_chat(Chat(MESSAGES, TOOLS))),
    ]

    async def story() -> None:
        flags: Any = {"tokenizers": {MODEL: table}, "tokenize_seconds": PATIENT_S}
        async with FakePod() as pod, daemon(make_pod("a", pod.url), make_pod("b"), **flags) as here:
            for number, (body, tokens) in enumerate(asked):
                here.hold("a", tokens, sequence=number)
                status, answer = await here.post("/v1/score", {"model": MODEL, **body})
                assert (status, "degraded" in answer) == (200, False)
                held = {one["pod"]: one["matched_tokens"] for one in answer["pods"]}
                assert held == {"a": len(tokens) // 16 * 16, "b": 0}
                _, answer = await here.post("/v1/route", {"model": MODEL, **body})
                assert (answer["pod"], "degraded" in answer) == ("a", False)
            path = f"{here.url}/v1/chat/completions"
            async with here.client.post(path, json={"model": MODEL, "messages": MESSAGES, "tools": TOOLS}) as response:
                assert response.headers["x-kvsync-matched-tokens"] == str(len(asked[2][1]) // 16 * 16)
            _, stats = await here.get("/v1/stats")
            loaded = stats["tokenizers"]["loaded"]
            assert [(one["kind"], one["load_seconds"] > 0) for one in loaded] == [(kind, True)]
            assert stats["tokenizers"]["hits"] >= len(asked)

    asyncio.run(story())


def test_annotations_of_a_clusters_pods_name_their_models_tokenizer(tmp_path: Path) -> None:
    """What stands at a pod's object makes its model's prompts tokens, unless the settings say something."""
    texts = {"tokenizer": str(write_hf(tmp_path)), "tokenizer-kind": "hf", "model": MODEL}
    item = {
        "metadata": {
            "name": "p",
            "namespace": "ns",
            "uid": "1",
            "annotations": {f"kvsync.io/{key}": text for key, text in texts.items()},
        },
        "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    pod = read_pod(item).pod
    assert pod is not None
    tokens = open_backend(ModelSpec(base=str(tmp_path))).encode(TEXT)

    async def held(**flags: Any) -> int:
        async with daemon(pod, tokenize_seconds=PATIENT_S, **flags) as here:
            here.hold("ns/p", tokens)
            status, answer = await here.post("/v1/score", {"model": MODEL, "prompt": TEXT})
            assert (status, "degraded" in answer) == (200, False)
            matched: int = answer["pods"][0]["matched_tokens"]
            return matched

    assert asyncio.run(held()) == len(tokens) // 16 * 16
    assert asyncio.run(held(tokenizers={MODEL: {"kind": "dummy"}})) == 0


def test_a_refused_chat_is_told_when_scored_and_left_to_the_engine_when_proxied(tmp_path: Path) -> None:
    """What the template refuses is 400 for score; the proxy routes it by load, counted, for the engine to say so."""
    write_hf(tmp_path, template="{{ raise_exception('roles must alternate') }}")

    async def story() -> None:
        tokenizers = {MODEL: {"base": str(tmp_path)}}
        flags: Any = {"tokenizers": tokenizers, "tokenize_seconds": PATIENT_S}
        async with FakePod() as pod, daemon(make_pod("a", pod.url), **flags) as here:
            status, answer = await here.post("/v1/score", {"model": MODEL, "messages": MESSAGES})
            assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "invalid_messages", "messages")
            assert "roles must alternate" in answer["error"]["message"]
            status, _ = await here.post("/v1/chat/completions", {"model": MODEL, "messages": MESSAGES})
            assert (status, (await here.scrape())['kvsync_degraded_total{reason="no_tokens"}']) == (200, 1)

    asyncio.run(story())


def test_an_empty_prompt_is_refused() -> None:
    """As one without token ids is."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            status, answer = await here.post("/v1/score", {"model": MODEL, "prompt": ""})
            assert (status, answer["error"]["code"]) == (400, "empty_prompt")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("answer", "engine_s", "deadline_s", "reason"),
    [
        (hang, PATIENT_S, 0.25, "tokenizer_deadline"),
        (hang, 0.25, PATIENT_S, "tokenizer_unavailable"),
        (drip, 0.25, PATIENT_S, "tokenizer_unavailable"),
        (fail, PATIENT_S, PATIENT_S, "tokenizer_unavailable"),
        (elsewhere, PATIENT_S, PATIENT_S, "tokenizer_unavailable"),
    ],
)
def test_an_engine_that_does_not_tokenize_costs_a_request_its_match_only(
    answer: Answer, engine_s: float, deadline_s: float, reason: str
) -> None:
    """Within the deadline the request is routed by load; health and other models answer at once meanwhile."""

    async def story() -> None:
        async with (
            engine(answer) as url,
            FakePod() as pod,
            daemon(
                make_pod("a", pod.url),
                make_pod("o", pod.url, model="other"),
                tokenizers=remote(url, seconds=engine_s),
                tokenize_seconds=deadline_s,
            ) as here,
        ):
            slow = asyncio.create_task(here.post("/v1/route", {"model": MODEL, "prompt": TEXT}))
            others = [here.post("/v1/score", {"model": "other", "prompt": TEXT}) for _ in range(5)]
            assert [status for status, _ in await asyncio.gather(*others, here.get("/healthz"))] == [200] * 6
            status, routed = await slow
            assert (status, routed["pod"]) == (200, "a")
            assert routed["degraded"]["reason"] == reason
            status, _ = await here.post("/v1/completions", {"model": MODEL, "prompt": TEXT})
            counted = await here.scrape()
            assert status == 200
            assert sum(n for name, n in counted.items() if "kvsync_degraded_total{" in name) == 2

    asyncio.run(story())


def test_engines_are_asked_in_place_of_the_pods_own_address() -> None:
    """Without addresses in the settings, the pods that serve the model are asked; others' ids are not believed."""

    async def wrong(_request: web.Request) -> web.Response:
        return web.json_response({"tokens": [1, 2, 3]})

    async def story() -> None:
        async with engine(right) as a, engine(right) as b, engine(wrong) as c:
            pods = [make_pod("a", a), make_pod("b", b), make_pod("c", c)]
            flags: Any = {"tokenizers": remote(seconds=PATIENT_S), "tokenize_seconds": PATIENT_S}
            async with daemon(*pods, **flags) as here:
                here.hold("b", list(map(ord, TEXT)))
                for _ in range(9):
                    status, answer = await here.post("/v1/score", {"model": MODEL, "messages": MESSAGES})
                    held = {one["pod"]: one["matched_tokens"] for one in answer["pods"]}
                    assert (status, held) == (200, {"a": 0, "b": len(TEXT) // 16 * 16, "c": 0})
                _, stats = await here.get("/v1/stats")
                (loaded,) = stats["tokenizers"]["loaded"]
                assert (loaded["endpoints"], loaded["breakers_open"], loaded["disagreements"] > 0) == (3, 1, True)

    asyncio.run(story())


def test_the_client_of_engines_keeps_time_and_follows_nobody() -> None:
    """A hanging, dripping, failing and redirecting engine each end in one clear error, in time."""

    async def ask(url: str, seconds: float = PATIENT_S) -> str:
        spec = ModelSpec(base=MODEL, kind="remote", endpoints=(url,), timeout_seconds=seconds)
        backend = open_backend(spec)
        try:
            with pytest.raises(TokenizerUnavailable) as caught:
                await asyncio.to_thread(backend.encode, "hi")
            return str(caught.value)
        finally:
            backend.close()

    async def story() -> None:
        for answer, named in ((hang, "imed out"), (drip, "no answer in time")):
            async with engine(answer) as url:
                assert named in await ask(url, 0.3)
        async with engine(fail) as url:
            assert "500: out of memory" in await ask(url)
        async with engine(elsewhere) as url:
            assert "answered 307" in await ask(url)
        assert "127.0.0.1:1" in await ask("http://127.0.0.1:1")

    asyncio.run(story())


def test_an_engine_gets_the_token_of_its_file(tmp_path: Path) -> None:
    """As a bearer token, and no log or error shows it."""
    (tmp_path / "token").write_text("s3cret\n")
    seen: list[str] = []

    async def look(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return await right(request)

    async def story() -> None:
        async with engine(look) as url:
            spec = ModelSpec(
                base=MODEL,
                kind="remote",
                endpoints=(url,),
                token_file=tmp_path / "token",
                timeout_seconds=PATIENT_S,
            )
            backend = open_backend(spec)
            assert list(await asyncio.to_thread(backend.encode, "hi")) == [104, 105]
            backend.close()
            assert (seen, "s3cret" in repr(spec)) == (["Bearer s3cret"], False)

    asyncio.run(story())


def test_a_missing_tokenizer_stops_neither_the_daemon_nor_other_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon starts; requests of that model are routed by load, and /v1/stats says why."""
    monkeypatch.setattr("kvsync.serve.tokenizing.BROKEN_SECONDS", NEVER_S)

    async def story() -> None:
        tokenizers = {MODEL: {"base": str(tmp_path / "gone")}, "other": {"base": str(write_hf(tmp_path))}}
        flags: Any = {"tokenizers": tokenizers, "tokenize_seconds": PATIENT_S}
        async with daemon(make_pod("a"), make_pod("o", model="other"), **flags) as here:
            status, answer = await here.post("/v1/score", {"model": MODEL, "prompt": TEXT})
            assert (status, answer["degraded"]["reason"]) == (200, "tokenizer_broken")
            status, answer = await here.post("/v1/score", {"model": "other", "prompt": TEXT})
            assert (status, "degraded" in answer) == (200, False)
            _, stats = await here.get("/v1/stats")
            assert "gone' is not there" in stats["tokenizers"]["broken"][0]

    asyncio.run(story())


@pytest.mark.parametrize("forward", [True, False])
def test_token_ids_are_forwarded_where_asked_for(forward: bool, tmp_path: Path) -> None:
    """A completion's text goes on as its ids; what asks for the text back, and chats, go on as they came."""
    table = {"base": str(write_hf(tmp_path))}
    ids = open_backend(ModelSpec.model_validate(table)).encode("hi there").tolist()
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"prompt": "hi there", "max_tokens": 3}),
        ("/v1/completions", {"prompt": "hi there", "max_tokens": 3, "echo": True}),
        ("/v1/completions", {"prompt": ["hi there"], "max_tokens": 3}),
        ("/v1/chat/completions", {"messages": CHATS["one question"], "max_tokens": 3}),
    ]

    async def story() -> None:
        pods = FakePod()
        flags: Any = {"tokenizers": {MODEL: table}, "forward_token_ids": forward, "tokenize_seconds": PATIENT_S}
        async with pods as pod, daemon(make_pod("a", pod.url), make_pod("o", pod.url, model="other"), **flags) as here:
            for path, body in bodies:
                assert (await here.post(path, {"model": MODEL, **body}))[0] == 200
            assert (await here.post("/v1/completions", {"model": "other", "prompt": "hi there"}))[0] == 200
            sent = [request.body for request in pod.requests]
            first = {**bodies[0][1], "prompt": ids} if forward else bodies[0][1]
            expected = [{"model": MODEL, **body} for body in (first, *(body for _, body in bodies[1:]))]
            assert sent == [*expected, {"model": "other", "prompt": "hi there"}]

    asyncio.run(story())


def test_settings_of_tokenizers_come_from_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table a model; the variable takes JSON."""
    (tmp_path / "kvsync.toml").write_text('[tokenizers."org/m"]\nkind = "mistral"\nbase = "/models/tekken.json"\n')
    spec = ModelSpec(base="/models/tekken.json", kind="mistral")
    assert load_settings({}, config=tmp_path / "kvsync.toml").tokenizers == {"org/m": spec}
    monkeypatch.setenv("KVSYNC_TOKENIZERS", json.dumps({"n": {"kind": "dummy"}}))
    assert load_settings({}).tokenizers == {"n": ModelSpec(base="n", kind="dummy")}


def test_a_thousand_requests_leave_nothing_waiting(tmp_path: Path) -> None:
    """Whatever a hanging engine did to them, no count stays behind."""

    async def story() -> None:
        async with engine(hang) as url:
            flags: Any = {"tokenizers": remote(url, seconds=0.1), "tokenize_seconds": 0.1}
            async with daemon(make_pod("a"), **flags) as here:
                asked = (here.post("/v1/score", {"model": MODEL, "prompt": TEXT}) for _ in range(200))
                answers = await asyncio.gather(*asked)
                assert {status for status, _ in answers} == {200}
                reasons = {answer["degraded"]["reason"] for _, answer in answers}
                assert reasons <= {"tokenizer_deadline", "tokenizer_busy", "tokenizer_unavailable"}
                await until(lambda: here.parts.tokenizing.stats()["waiting"] == {MODEL: 0})

    asyncio.run(story())
