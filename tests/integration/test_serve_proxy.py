"""The OpenAI proxy, in front of pods that only pretend."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from tests.integration.serve_helpers import BLOCK, MODEL, Daemon, daemon, make_pod, until
from tests.patience import PATIENCE_S

from kvsync.testing.fake_pod import FakePod
from kvsync.tokens import encode

TEXT = "x" * (10 * BLOCK)
ASKED = {"model": MODEL, "prompt": TEXT, "max_tokens": 3}
STREAMED = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
PATH = "/v1/completions"


def test_a_request_and_its_answer_pass_unchanged() -> None:
    """The pod gets the client's body and query, the client the pod's answer, status and headers."""

    async def story() -> None:
        async with FakePod() as pod, daemon(make_pod("a", pod.url)) as here:
            asked = {**ASKED, "something": {"of": "the engine's"}}
            headers = {
                "X-Request-Id": "7",
                "Connection": "X-Hop, keep-alive",
                "X-Hop": "1",
                "x-kvsync-policy": "random",
            }
            async with here.client.post(f"{here.url}{PATH}?q=1", json=asked, headers=headers) as response:
                answer = await response.json()
            assert answer["choices"][0]["text"] == "one two three"
            seen = pod.requests[0]
            assert (seen.path, seen.body) == (f"{PATH}?q=1", asked)
            assert seen.headers["X-Request-Id"] == "7"
            assert not {"X-Hop", "x-kvsync-policy", "X-data-parallel-rank"} & set(seen.headers)
            assert response.headers["x-kvsync-policy"] == "random"

    asyncio.run(story())


def test_the_answer_says_where_it_came_from() -> None:
    """Pod, matched tokens and trust, as the index knew them."""

    async def story() -> None:
        async with FakePod() as pod, daemon(make_pod("a", pod.url), make_pod("b", pod.url)) as here:
            here.hold("b", encode(TEXT))
            async with here.client.post(f"{here.url}{PATH}", json=STREAMED) as response:
                assert "data: [DONE]" in await response.text()
            said = {name: response.headers[f"x-kvsync-{name}"] for name in ("pod", "matched-tokens", "trust", "policy")}
            assert said == {"pod": "b", "matched-tokens": "160", "trust": "exact", "policy": "cost"}
            assert response.headers["X-Of-The-Pod"] == "kept"

    asyncio.run(story())


def test_the_picked_rank_is_sent_on() -> None:
    """Whatever rank the client names."""

    async def story() -> None:
        async with FakePod() as pod, daemon(make_pod("a", pod.url, ranks=3)) as here:
            here.hold("a", encode(TEXT), rank=2)
            status, _ = await here.post(PATH, ASKED, **{"X-data-parallel-rank": "0"})
            assert status == 200
            assert pod.requests[0].headers.getall("X-data-parallel-rank") == ["2"]  # type: ignore[attr-defined]

    asyncio.run(story())


def test_pieces_arrive_before_the_end() -> None:
    """Each as the pod sends it, while the rest of the answer does not exist yet."""

    async def story() -> None:
        gate = asyncio.Semaphore(0)
        async with FakePod(gate=gate) as pod, daemon(make_pod("a", pod.url)) as here:
            async with here.client.post(f"{here.url}{PATH}", json=STREAMED) as response:
                for word in pod.words:
                    piece = await asyncio.wait_for(response.content.readuntil(b"\n\n"), PATIENCE_S)
                    assert json.loads(piece.removeprefix(b"data: "))["choices"][0]["text"] == word
                    load = here.parts.router.loads.load(here.parts.pods["a"].engines[0], 0.0, rate=1.0)
                    assert (load.waiting, load.running) == (0, 1)
                    gate.release()
                assert b"[DONE]" in await response.read()
            await until(lambda: "requests=0" in repr(here.parts.router.loads))

    asyncio.run(story())


@pytest.mark.parametrize("asked", [ASKED, STREAMED])
def test_predicted_and_actual_hits_are_compared(asked: dict[str, Any]) -> None:
    """From the usage of streams and of whole answers."""

    async def story() -> None:
        async with FakePod(cached_tokens=64) as pod, daemon(make_pod("a", pod.url)) as here:
            here.hold("a", encode(TEXT))
            async with here.client.post(f"{here.url}{PATH}", json=asked) as response:
                await response.read()
            await until(lambda: "requests=0" in repr(here.parts.router.loads))
            figures = await here.scrape()
            assert figures['kvsync_predicted_cached_tokens_total{pod="a"}'] == 144
            assert figures['kvsync_actual_cached_tokens_total{pod="a"}'] == 64
            assert figures['kvsync_mispredicted_total{direction="fewer",pod="a"}'] == 1
            assert figures['kvsync_matched_tokens_total{pod="a"}'] == 160
            assert figures['kvsync_prompt_tokens_total{pod="a"}'] == 160

    asyncio.run(story())


def test_a_dead_pod_is_passed_over_and_gets_no_more() -> None:
    """The next best answers in its place; the dead one is down until it answers a probe."""

    async def story() -> None:
        async with FakePod() as dead, FakePod() as living:
            await dead.stop()
            async with daemon(make_pod("a", dead.url), make_pod("b", living.url)) as here:
                here.hold("a", encode(TEXT))
                async with here.client.post(f"{here.url}{PATH}", json=ASKED) as response:
                    assert (response.status, response.headers["x-kvsync-pod"]) == (200, "b")
                assert not here.parts.health.is_up("a")
                figures = await here.scrape()
                assert figures['kvsync_upstream_failures_total{pod="a",reason="connect"}'] == 1
                assert figures["kvsync_retries_total"] == 1
                await dead.start()
                await until(lambda: here.parts.health.is_up("a"))
                scored = (await here.post("/v1/score", {"model": MODEL, "prompt": TEXT}))[1]["pods"]
                assert [candidate["pod"] for candidate in scored] == ["a", "b"]

    asyncio.run(story())


def test_a_pod_that_hangs_up_is_passed_over_and_stays_up() -> None:
    """One connection that ended says little about the pod."""

    async def story() -> None:
        async with (
            FakePod(hang_up=True) as rude,
            FakePod() as other,
            daemon(make_pod("a", rude.url), make_pod("b", other.url)) as here,
        ):
            here.hold("a", encode(TEXT))
            async with here.client.post(f"{here.url}{PATH}", json=ASKED) as response:
                assert (response.status, response.headers["x-kvsync-pod"]) == (200, "b")
            assert here.parts.health.is_up("a")
            assert (len(rude.requests), len(other.requests)) == (1, 1)

    asyncio.run(story())


def test_a_second_failure_is_answered() -> None:
    """At most two pods are tried; the error has OpenAI's shape and says what each did."""

    async def story() -> None:
        async with FakePod(hang_up=True) as rude, daemon(*(make_pod(name, rude.url) for name in "abc")) as here:
            status, answer = await here.post(PATH, ASKED)
            assert (status, answer["error"]["code"], answer["error"]["type"]) == (
                502,
                "upstream_failed",
                "server_error",
            )
            assert len(rude.requests) == 2
            assert "2 of the 3 pods of 'm' were tried and none gave an answer (" in answer["error"]["message"]

    asyncio.run(story())


def test_the_only_pod_is_not_tried_twice() -> None:
    """502 where it failed, 503 once it is known to be down."""

    async def story() -> None:
        async with FakePod() as pod:
            await pod.stop()
            async with daemon(make_pod("a", pod.url)) as here:
                status, answer = await here.post(PATH, ASKED)
                assert status == 502
                assert answer["error"]["message"].startswith("the only pod of 'm' gave no answer (a/0: no connection")
                status, answer = await here.post(PATH, ASKED)
                assert (status, answer["error"]["code"]) == (503, "no_candidates")
                assert answer["error"]["message"].startswith("the only pod of 'm' is not up (a: HTTP")

    asyncio.run(story())


def test_a_refusal_counts_the_pods_of_the_adapter() -> None:
    """Not those of its base model."""

    async def story() -> None:
        pods = [make_pod("a", loras=("l",), events=None), make_pod("b", loras=("l",), events=None), make_pod("c")]
        async with daemon(*pods) as here:
            status, answer = await here.post(PATH, {**ASKED, "model": "l"})
            assert status == 503
            assert "none of the 2 pods of 'm' with the adapter 'l' is up (a: " in answer["error"]["message"]

    asyncio.run(story())


def test_an_answer_that_breaks_off_is_seen_to() -> None:
    """The client's answer ends as the pod's does, and not as if it were whole."""

    async def story() -> None:
        async with FakePod(cut_after=1) as pod, daemon(make_pod("a", pod.url)) as here:
            async with here.client.post(f"{here.url}{PATH}", json=STREAMED) as response:
                assert response.status == 200
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            await until(lambda: "requests=0" in repr(here.parts.router.loads))
            assert (await here.scrape())['kvsync_upstream_failures_total{pod="a",reason="cut_short"}'] == 1

    asyncio.run(story())


@pytest.mark.parametrize("asked", [ASKED, STREAMED])
def test_a_client_that_goes_away_ends_the_request_at_the_pod(asked: dict[str, Any]) -> None:
    """Before the answer begins and in its middle; no load is left behind."""

    async def story() -> None:
        async with FakePod(gate=asyncio.Semaphore(0)) as pod, daemon(make_pod("a", pod.url)) as here:
            request = asyncio.create_task(_read(here.client, f"{here.url}{PATH}", asked))
            await until(lambda: bool(pod.requests))
            request.cancel()
            await asyncio.wait_for(pod.cancelled.wait(), PATIENCE_S)
            await until(lambda: "requests=0" in repr(here.parts.router.loads))
            assert (await here.scrape())['kvsync_cancelled_total{pod="a"}'] == 1

    asyncio.run(story())


async def _read(client: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bytes:
    async with client.post(url, json=body) as response:
        return await response.read()


def test_an_engines_refusal_is_passed_on() -> None:
    """It is the engine's answer, not a failure to answer."""

    async def story() -> None:
        async with FakePod(status=422) as pod, daemon(make_pod("a", pod.url), make_pod("b", pod.url)) as here:
            assert await here.post(PATH, ASKED) == (422, {"error": {"message": "scripted"}})
            assert len(pod.requests) == 1
            assert _own_blocks(here) == 0

    asyncio.run(story())


def _own_blocks(here: Daemon) -> int:
    """How much of the prompt our own picks are believed to have put anywhere."""
    parts, hashes = here.parts, here.index.block_hashes(encode(TEXT), model=MODEL, block_size=BLOCK)
    engines = [engine for pod in parts.pods.values() for engine in pod.engines]
    return max(parts.router.own_picks.blocks(engine, hashes, parts.clock()) for engine in engines)


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": {"no": "tokens"}},
        {"messages": [{"role": 3}]},
        {"prompt": "x" * 500},
        {"prompt": "hi", "cache_salt": "x" * 5_000},
        {"prompt": "hi", "cache_salt": "\ud800"},
    ],
)
def test_a_prompt_that_cannot_be_matched_is_routed_by_load(asked: dict[str, Any]) -> None:
    """The engine has the last word on it; we count that we could not look."""

    async def story() -> None:
        async with FakePod() as pod, daemon(make_pod("a", pod.url), prompt_tokens_max=400) as here:
            assert (await here.post(PATH, {"model": MODEL, **asked}))[0] == 200
            assert pod.requests[0].body == {"model": MODEL, **asked}
            assert (
                sum(value for name, value in (await here.scrape()).items() if name.startswith("kvsync_degraded_total"))
                == 1
            )

    asyncio.run(story())


def test_the_policy_may_be_named_by_a_header() -> None:
    """For this request only; an unknown one is refused."""

    async def story() -> None:
        async with FakePod() as pod, daemon(make_pod("a", pod.url), make_pod("b", pod.url)) as here:
            pods = []
            for _ in range(4):
                headers = {"x-kvsync-policy": "round-robin"}
                async with here.client.post(f"{here.url}{PATH}", json=ASKED, headers=headers) as response:
                    pods.append(response.headers["x-kvsync-pod"])
            assert pods == ["a", "b", "a", "b"]
            status, answer = await here.post(PATH, ASKED, **{"x-kvsync-policy": "none"})
            assert (status, answer["error"]["code"]) == (400, "unknown_policy")

    asyncio.run(story())


def test_our_token_stays_with_us_and_the_engines_goes_on() -> None:
    """Authorization is for whoever asks for it first."""

    async def story() -> None:
        async with FakePod() as pod:
            for token, expected in ((b"correct-horse", None), (None, "Bearer correct-horse")):
                async with daemon(make_pod("a", pod.url), token=token) as here:
                    assert (await here.post(PATH, ASKED, Authorization="Bearer correct-horse"))[0] == 200
                assert pod.requests[-1].headers.get("Authorization") == expected

    asyncio.run(story())


def test_models_are_listed() -> None:
    """Base models and adapters of the whole fleet, in OpenAI's shape."""

    async def story() -> None:
        async with daemon(make_pod("a", loras=("l",)), make_pod("b", model="n")) as here:
            status, answer = await here.get("/v1/models")
            assert (status, answer["object"]) == (200, "list")
            assert [(model["id"], model["parent"]) for model in answer["data"]] == [
                ("l", "m"),
                ("m", None),
                ("n", None),
            ]

    asyncio.run(story())


def test_an_adapter_is_asked_for_by_name() -> None:
    """The body keeps the name; only pods that list it are asked."""

    async def story() -> None:
        async with FakePod() as pod, daemon(make_pod("a", pod.url, loras=("l",)), make_pod("b", pod.url)) as here:
            async with here.client.post(f"{here.url}{PATH}", json={**ASKED, "model": "l"}) as response:
                assert (response.status, response.headers["x-kvsync-pod"]) == (200, "a")
            assert pod.requests[0].body["model"] == "l"

    asyncio.run(story())


def test_a_burst_of_one_prompt_shares_a_pod() -> None:
    """No event ever comes; the first pick draws the next, until waiting costs more than computing."""

    async def story() -> None:
        gate = asyncio.Semaphore(0)
        async with FakePod(gate=gate) as pod, daemon(*(make_pod(name, pod.url) for name in "abcd")) as here:
            requests = [asyncio.create_task(_pod_of(here.client, f"{here.url}{PATH}")) for _ in range(2)]
            await until(lambda: len(pod.requests) == 2)
            for _ in range(2):
                gate.release()
            first, second = await asyncio.gather(*requests)
            assert first == second

    asyncio.run(story())


async def _pod_of(client: aiohttp.ClientSession, url: str) -> str:
    async with client.post(url, json=ASKED) as response:
        await response.read()
        return response.headers["x-kvsync-pod"]


def test_pods_without_events_keep_a_conversation_together() -> None:
    """By the record of own picks; the answer says that nothing is known."""

    async def story() -> None:
        async with FakePod() as pod, daemon(*(make_pod(name, pod.url, events=None) for name in "abcd")) as here:
            await until(lambda: all(here.parts.health.is_up(name) for name in "abcd"))
            now = here.parts.clock()
            here.parts.clock = lambda: now  # own picks are believed for a while only
            said = []
            for _ in range(3):
                async with here.client.post(f"{here.url}{PATH}", json=ASKED) as response:
                    await response.read()
                    said.append((response.headers["x-kvsync-pod"], response.headers["x-kvsync-trust"]))
            assert len(set(said)) == 1
            assert said[0][1] == "unknown"

    asyncio.run(story())
