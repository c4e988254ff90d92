"""The simulated engine over HTTP: answers, caching, controls, limits."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import aiohttp
import pytest
from tests.integration.engine_helpers import Client, run, running_engine, until

from kvsync.engine.options import ResetEvents
from kvsync.engine.request import Finish
from kvsync.tokens.bytelevel import encode, render_chat

SYSTEM = {"role": "system", "content": "You are a careful assistant who answers in one short paragraph."}
PROMPT = "The quick brown fox jumps over the lazy dog, again and again and again."


async def streamed(client: Client, path: str, body: Any) -> list[Any]:
    """Post a streaming request and give its documents, the end mark as text."""
    async with client.http.post(path, json=body | {"stream": True}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        raw = (await response.read()).decode()
    events = [line.removeprefix("data: ") for line in raw.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def test_a_completion_has_openais_shape() -> None:
    """Text, why it ended, and what it cost."""

    async def scenario() -> None:
        async with running_engine(model="m") as client:
            document = await client.complete(PROMPT, max_tokens=7)
            (choice,) = document["choices"]
            assert (document["object"], document["model"], choice["finish_reason"]) == (
                "text_completion",
                "m",
                "length",
            )
            assert len(choice["text"]) == 7
            assert document["usage"] == {
                "prompt_tokens": len(PROMPT),
                "completion_tokens": 7,
                "total_tokens": len(PROMPT) + 7,
                "prompt_tokens_details": {"cached_tokens": 0},
            }

    run(scenario)


def test_text_and_its_token_ids_are_the_same_prompt() -> None:
    """Ids hit what the text stored, and get the same answer."""

    async def scenario() -> None:
        async with running_engine() as client:
            by_text = await client.complete(PROMPT)
            by_ids = await client.complete(encode(PROMPT).tolist(), return_token_ids=True)
            assert by_ids["choices"][0]["text"] == by_text["choices"][0]["text"]
            assert by_ids["usage"]["prompt_tokens_details"]["cached_tokens"] == (len(PROMPT) - 1) // 16 * 16
            assert by_ids["prompt_token_ids"] == encode(PROMPT).tolist()

    run(scenario)


def test_a_second_turn_is_spared_the_first() -> None:
    """A conversation that goes on finds its prompt and the answer in the cache."""

    async def scenario() -> None:
        async with running_engine() as client:
            messages = [SYSTEM, {"role": "user", "content": "Why is the sky blue?"}]
            _, first = await client.post("/v1/chat/completions", {"messages": messages, "max_tokens": 40})
            messages += [first["choices"][0]["message"], {"role": "user", "content": "And at dusk?"}]
            _, second = await client.post("/v1/chat/completions", {"messages": messages, "max_tokens": 4})
            held = first["usage"]["total_tokens"] - 1
            assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == held // 16 * 16
            assert second["usage"]["prompt_tokens"] == len(render_chat(messages))

    run(scenario)


def test_a_stream_says_the_same_as_a_whole_answer() -> None:
    """Deltas joined are the text; the role comes first, the reason last, then usage if asked for."""

    async def scenario() -> None:
        async with running_engine() as client:
            body = {"messages": [SYSTEM], "max_tokens": 12}
            _, whole = await client.post("/v1/chat/completions", body)
            chunks = await streamed(client, "/v1/chat/completions", body | {"stream_options": {"include_usage": True}})
            *spoken, usage = chunks
            deltas = [chunk["choices"][0]["delta"] for chunk in spoken]
            assert "".join(delta["content"] for delta in deltas) == whole["choices"][0]["message"]["content"]
            assert [("role" in delta) for delta in deltas] == [True] + [False] * (len(deltas) - 1)
            assert spoken[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
            assert usage["choices"] == []
            assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
            assert usage["usage"]["prompt_tokens_details"]["cached_tokens"] > 0

    run(scenario)


def test_a_completion_streams_as_text() -> None:
    """Without usage asked for, the last chunk carries the reason and nothing follows but the end."""

    async def scenario() -> None:
        async with running_engine() as client:
            chunks = await streamed(client, "/v1/completions", {"prompt": PROMPT, "max_tokens": 6})
            whole = await client.complete(PROMPT, max_tokens=6)
            assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
            assert chunks[-1]["choices"][0]["finish_reason"] == "length"

    run(scenario)


def test_a_stop_string_ends_an_answer_and_is_not_shown() -> None:
    """Whole or streamed, the text ends before the stop string, with the reason stop."""

    async def scenario() -> None:
        async with running_engine() as client:
            text = (await client.complete(PROMPT, max_tokens=15, ignore_eos=True))["choices"][0]["text"]
            stop = text[8:11]
            wanted = text[: text.index(stop)]
            body = {"prompt": PROMPT, "max_tokens": 15, "ignore_eos": True, "stop": stop}
            whole = (await client.complete(**body))["choices"][0]
            assert (whole["text"], whole["finish_reason"]) == (wanted, "stop")
            chunks = await streamed(client, "/v1/completions", body)
            assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == wanted

    run(scenario)


def test_adapters_are_models_with_a_cache_of_their_own() -> None:
    """They are listed under their parent, asked for by name, and share no blocks with it."""

    async def scenario() -> None:
        async with running_engine(model="base", loras=("a", "b")) as client:
            listed = {card["id"]: card["parent"] for card in (await client.get("/v1/models"))["data"]}
            assert listed == {"base": None, "a": "base", "b": "base"}
            await client.complete(PROMPT)
            for model in ("a", "b"):
                answer = await client.complete(PROMPT, model=model)
                assert answer["model"] == model
                assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            assert (await client.complete(PROMPT, model="a"))["usage"]["prompt_tokens_details"]["cached_tokens"] == 64

    run(scenario)


def test_a_salt_keeps_tenants_apart() -> None:
    """The same prompt under another salt is computed anew, and under the same found."""

    async def scenario() -> None:
        async with running_engine() as client:
            cached = [
                (await client.complete(PROMPT, **salt))["usage"]["prompt_tokens_details"]["cached_tokens"]
                for salt in ({}, {"cache_salt": "t1"}, {"cache_salt": "t2"}, {"cache_salt": "t1"})
            ]
            assert cached == [0, 0, 0, 64]

    run(scenario)


def test_images_are_part_of_the_prompt() -> None:
    """The same image is found again; another one at the same place is not."""

    async def scenario() -> int:
        async with running_engine() as client:

            async def cached(url: str) -> int:
                content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
                body = {"messages": [{"role": "user", "content": content}], "max_tokens": 2}
                status, document = await client.post("/v1/chat/completions", body)
                assert status == 200, document
                return int(document["usage"]["prompt_tokens_details"]["cached_tokens"])

            assert await cached("http://cat") == 0
            other = await cached("http://dog")
            return await cached("http://cat") - other

    assert run(scenario) >= 64


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/completions", {"prompt": ""}, 400, "BadRequestError"),
        ("/v1/completions", {"prompt": "x" * 5_000}, 400, "BadRequestError"),
        ("/v1/completions", {"prompt": "hi", "model": "other"}, 404, "NotFoundError"),
        ("/v1/chat/completions", {"messages": []}, 400, "BadRequestError"),
        ("/v1/nothing", {}, 404, "NotFoundError"),
        ("/health", {}, 405, "MethodNotAllowed"),
        ("/sleep?level=7", None, 400, "BadRequestError"),
    ],
)
def test_refusals_have_openais_shape(path: str, body: Any, status: int, kind: str) -> None:
    """Status, kind and a message, whoever refuses."""

    async def scenario() -> None:
        async with running_engine() as client:
            got, document = await client.post(path, body)
            assert (got, document["error"]["code"], document["error"]["type"]) == (status, status, kind)
            assert document["error"]["message"]

    run(scenario)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"prompt": "hi"} x'])
def test_a_body_that_is_no_json_is_a_400(raw: bytes) -> None:
    """Whatever the bytes, the answer is a refusal and the engine goes on."""

    async def scenario() -> None:
        async with running_engine() as client:
            async with client.http.post("/v1/completions", data=raw) as response:
                assert (response.status, (await response.json())["error"]["type"]) == (400, "BadRequestError")
            await client.complete("still there")

    run(scenario)


def test_a_body_is_not_unpacked(caplog: pytest.LogCaptureFixture) -> None:
    """A packed one is no JSON, as with engines, and nobody logs a traceback for it."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}

    async def scenario() -> None:
        async with running_engine() as client:
            for body in (b"[]", gzip.compress(b"{}")):
                async with client.http.post("/v1/completions", data=body, headers=headers) as response:
                    assert (response.status, (await response.json())["error"]["type"]) == (400, "BadRequestError")

    run(scenario)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_body_over_the_limit_is_refused() -> None:
    """It is not read to its end, and the answer says why."""

    async def scenario() -> None:
        async with running_engine(body_bytes_max=1_000) as client:
            status, document = await client.post("/v1/completions", {"prompt": "x" * 2_000})
            assert (status, document["error"]["type"]) == (413, "RequestTooLarge")

    run(scenario)


def test_tokenize_and_detokenize_undo_each_other() -> None:
    """For a prompt; messages give what a chat is computed on."""

    async def scenario() -> None:
        async with running_engine() as client:
            _, tokens = await client.post("/tokenize", {"prompt": "héllo"})
            assert tokens["count"] == len(tokens["tokens"]) == 6
            _, text = await client.post("/detokenize", {"tokens": tokens["tokens"]})
            assert text == {"prompt": "héllo"}
            _, chat = await client.post("/tokenize", {"messages": [SYSTEM]})
            assert chat["tokens"] == render_chat([SYSTEM]).tolist()

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_is_aborted(stream: bool) -> None:
    """Its request ends between two steps, and its blocks are free again."""

    async def scenario() -> None:
        async with running_engine(decode_rate=20.0) as client:
            rank = client.engine.ranks[0]
            body = {"prompt": PROMPT, "max_tokens": 500, "ignore_eos": True, "stream": stream}
            async with aiohttp.ClientSession(client.engine.addresses.http) as stranger:
                leaving = asyncio.ensure_future(stranger.post("/v1/completions", json=body))
                await until(lambda: rank.scheduler.running)
                if stream:
                    (await leaving).close()
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
            await until(lambda: not rank.scheduler.has_work)
            assert rank.scheduler.cache.pool.used_count == 0
            assert rank.scheduler.stats.ends[Finish.ABORT] == 1

    run(scenario)


def test_a_reset_is_refused_under_load_and_told_with_the_next_step() -> None:
    """In use: nothing happens. Idle: the cache is empty at once, and subscribers hear with the next request."""

    async def scenario() -> None:
        async with running_engine(decode_rate=25.0) as client:
            rank = client.engine.ranks[0]
            busy = asyncio.create_task(client.complete(PROMPT, max_tokens=10))
            await until(lambda: rank.scheduler.running)
            assert await client.post("/reset_prefix_cache") == (200, {"success": False})
            await busy
            assert await client.post("/reset_prefix_cache") == (200, {"success": True})
            truth = (await client.truth())["0"]
            assert (truth["media"], truth["pending_events"]) == ({}, 1)
            assert (await client.complete(PROMPT))["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            after = (await client.truth())["0"]
            assert (after["sequence"], after["pending_events"]) == (truth["sequence"] + 1, 0)

    run(scenario)


@pytest.mark.parametrize(("when", "published", "pending"), [("step", 0, 1), ("now", 1, 0), ("never", 0, 0)])
def test_when_a_reset_is_told_can_be_chosen(when: str, published: int, pending: int) -> None:
    """With the next step, at once, or not at all."""

    async def scenario() -> None:
        async with running_engine(reset_events=ResetEvents(when)) as client:
            await client.complete(PROMPT)
            before = (await client.truth())["0"]["sequence"]
            await client.post("/reset_prefix_cache")
            truth = (await client.truth())["0"]
            assert (truth["sequence"] - before, truth["pending_events"]) == (published, pending)
            assert truth["media"] == {}

    run(scenario)


def test_running_requests_can_be_made_to_start_over() -> None:
    """A reset that may preempt succeeds under load, and the answer is the same as ever."""

    async def scenario() -> None:
        async with running_engine(decode_rate=25.0) as client:
            rank = client.engine.ranks[0]
            undisturbed = (await client.complete(PROMPT, max_tokens=10))["choices"][0]["text"]
            again = asyncio.create_task(client.complete(PROMPT, max_tokens=10))
            await until(lambda: rank.scheduler.running)
            answer = await client.post("/reset_prefix_cache?reset_running_requests=true")
            assert answer == (200, {"success": True})
            assert (await again)["choices"][0]["text"] == undisturbed
            assert rank.scheduler.stats.preemptions == 1

    run(scenario)


def test_a_sleeping_engine_holds_nothing_and_works_again_when_woken() -> None:
    """Sleep ends what runs, empties the cache and lets requests wait until somebody wakes it."""

    async def scenario() -> None:
        async with running_engine() as client:
            await client.complete(PROMPT)
            assert (await client.post("/sleep?level=1"))[0] == 200
            assert await client.get("/is_sleeping") == {"is_sleeping": True}
            assert (await client.truth())["0"]["media"] == {}
            metrics = await client.text("/metrics")
            state = 'vllm:engine_sleep_state{engine="0",model_name="simulated",sleep_state="weights_offloaded"} 1.0'
            assert state in metrics
            waiting = asyncio.create_task(client.complete(PROMPT))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            assert (await client.post("/wake_up"))[0] == 200
            assert (await waiting)["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            assert await client.get("/is_sleeping") == {"is_sleeping": False}

    run(scenario)


def test_a_header_chooses_the_rank_and_else_the_least_loaded_serves() -> None:
    """The answer names its rank; ranks have caches of their own."""

    async def scenario() -> None:
        async with running_engine(ranks=2) as client:

            async def served(rank: str | None) -> tuple[str, int]:
                headers = {"X-data-parallel-rank": rank} if rank else None
                body = {"prompt": PROMPT, "max_tokens": 5}
                async with client.http.post("/v1/completions", json=body, headers=headers) as response:
                    usage = (await response.json())["usage"]
                    return response.headers["X-data-parallel-rank"], usage["prompt_tokens_details"]["cached_tokens"]

            assert await served("1") == ("1", 0)
            assert await served("1") == ("1", 64)
            # Asleep it takes requests and computes none: neither has ended when the other comes.
            assert (await client.post("/sleep?level=1"))[0] == 200
            together = asyncio.gather(served(None), served(None))
            await until(lambda: sum(len(rank.scheduler.waiting) for rank in client.engine.ranks) == 2)
            assert (await client.post("/wake_up"))[0] == 200
            assert {rank for rank, _ in await together} == {"0", "1"}
            status, document = await client.post(
                "/v1/completions", {"prompt": PROMPT}, headers={"X-data-parallel-rank": "2"}
            )
            assert (status, "ranks 0 to 1" in document["error"]["message"]) == (400, True)

    run(scenario)


def test_metrics_have_vllms_names_and_count_per_rank() -> None:
    """Queries and hits in tokens, requests by how they ended, and a histogram of first tokens."""

    async def scenario() -> None:
        async with running_engine(model="m") as client:
            await client.complete(PROMPT)
            await client.complete(PROMPT)
            text = await client.text("/metrics")
            labels = 'engine="0",model_name="m"'
            for line in (
                f"vllm:num_requests_running{{{labels}}} 0.0",
                f"vllm:num_requests_waiting{{{labels}}} 0.0",
                f"vllm:kv_cache_usage_perc{{{labels}}} 0.0",
                f"vllm:prefix_cache_queries_total{{{labels}}} {2.0 * len(PROMPT)}",
                f"vllm:prefix_cache_hits_total{{{labels}}} 64.0",
                f"vllm:prompt_tokens_total{{{labels}}} {2.0 * len(PROMPT)}",
                f"vllm:generation_tokens_total{{{labels}}} 10.0",
                'vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 2.0',
                'vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 2.0',
                f"vllm:time_to_first_token_seconds_count{{{labels}}} 2.0",
            ):
                assert line in text

    run(scenario)


def test_a_token_is_asked_of_everybody_but_health() -> None:
    """Without it 401, with it the answer; probes need none."""

    async def scenario() -> None:
        async with running_engine(token="secret") as client:
            await client.complete(PROMPT)
            async with aiohttp.ClientSession(client.engine.addresses.http) as stranger:
                for path, status in (("/health", 200), ("/v1/models", 401), ("/metrics", 401), ("/debug/blocks", 401)):
                    async with stranger.get(path) as response:
                        assert response.status == status
                async with stranger.get("/v1/models", headers={"Authorization": "Bearer sécret"}) as response:
                    assert response.status == 401

    run(scenario)
