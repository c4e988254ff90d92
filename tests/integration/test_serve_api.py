"""The daemon's own answers, over HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import msgpack
import pytest
from tests.integration.serve_helpers import BLOCK, MODEL, daemon, make_pod, status_of, until
from tests.integration.stream_helpers import NEVER_S, in_time

from kvsync.fleet import PodChange
from kvsync.serve import fleet
from kvsync.serve.readiness import WARM_UP_S
from kvsync.serve.roster import Learned
from kvsync.testing.fake_pod import FakePod
from kvsync.tokens import encode, render_chat
from kvsync.types import Engine, Match, Trust

PROMPT = list(range(1_000, 1_000 + 10 * BLOCK))
A, B = Engine("a"), Engine("b")
TOKEN = "correct-horse"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def by_pod(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The candidates of an answer, by pod."""
    return {candidate["pod"]: candidate for candidate in answer["pods"]}


def test_score_tells_every_candidate_what_it_holds() -> None:
    """Also those that hold nothing; the match is the match itself, and the best score is the least."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b"), make_pod("c")) as here:
            here.hold("a", PROMPT)
            here.hold("b", PROMPT[: 4 * BLOCK], medium="CPU")
            status, answer = await here.post("/v1/score", {"model": MODEL, "token_ids": PROMPT})
            assert status == 200
            pods = by_pod(answer)
            assert list(pods) == ["a", "b", "c"]
            media = {"by_medium", "trust_by_medium"}
            assert set(pods["a"]) == {
                *("pod", "rank", "matched_tokens", "matched_blocks", "trust", "certain", "score"),
                *media,
            }
            assert pods["a"]["trust_by_medium"] == {"GPU": "exact"}
            assert pods["a"]["certain"] is True
            assert [(p["matched_blocks"], p["matched_tokens"]) for p in pods.values()] == [(10, 160), (4, 64), (0, 0)]
            assert [p["by_medium"] for p in pods.values()] == [{"GPU": 10}, {"CPU": 4}, {}]
            assert [p["trust"] for p in pods.values()] == ["exact", "exact", "unknown"]
            assert pods["a"]["score"] < pods["b"]["score"] < pods["c"]["score"]
            assert pods["c"]["score"] == pytest.approx(len(PROMPT) / 1_000)

    asyncio.run(story())


def test_score_enters_nothing() -> None:
    """Asking a hundred times changes no score."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b")) as here:
            answers = [await here.post("/v1/score", {"model": MODEL, "token_ids": PROMPT}) for _ in range(100)]
            assert answers == [answers[0]] * 100

    asyncio.run(story())


def test_raw_tokens_are_scored_as_json_is() -> None:
    """The model, adapter, salt and extra keys stand in the query string."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            here.hold("a", PROMPT, lora="l")
            asked = {"model": MODEL, "token_ids": PROMPT, "lora": "l"}
            assert (await here.post("/v1/score", asked))[1]["pods"][0]["matched_blocks"] == 10
            assert await here.post_octets(f"/v1/score?model={MODEL}&lora=l", PROMPT) == await here.post(
                "/v1/score", asked
            )
            assert (await here.post_octets(f"/v1/score?model={MODEL}", PROMPT))[1]["pods"][0]["matched_blocks"] == 0

    asyncio.run(story())


def test_an_adapter_that_events_name_is_a_model_there() -> None:
    """A pod that lists no adapter is asked for one that its engine stores blocks for, until it lists others."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b", events="tcp://127.0.0.1:8")) as here:
            asked = {"model": "sql", "token_ids": PROMPT}
            assert (await here.post("/v1/score", asked))[0] == 404
            here.hold("b", PROMPT, lora="sql")
            status, answer = await here.post("/v1/score", asked)
            assert (status, [(p["pod"], p["matched_blocks"]) for p in answer["pods"]]) == (200, [("b", 10)])
            pods = (await here.get("/v1/pods"))[1]["pods"]
            assert {pod["pod"]: pod["loras"] for pod in pods} == {"a": [], "b": ["sql"]}
            assert [one["id"] for one in (await here.get("/v1/models"))[1]["data"]] == [MODEL, "sql"]
            fleet.learn(here.parts, here.parts.pods["b"], Learned((MODEL,), ()), None)
            assert (await here.post("/v1/score", asked))[0] == 404
            here.hold("b", [*PROMPT[BLOCK:], 1], lora="sql", sequence=1)
            assert (await here.post("/v1/score", asked))[0] == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ({"prompt": "x" * 40}, encode("x" * 40)),
        ({"messages": [{"role": "user", "content": "x" * 40}]}, render_chat([{"role": "user", "content": "x" * 40}])),
    ],
)
def test_text_and_chats_are_tokenized(asked: dict[str, Any], tokens: Any) -> None:
    """By the byte-level tokenizer, the same as the simulated engine's."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            here.hold("a", tokens)
            answer = (await here.post("/v1/score", {"model": MODEL, **asked}))[1]
            assert answer["pods"][0]["matched_blocks"] == len(tokens) // BLOCK

    asyncio.run(story())


def test_route_names_the_pod_and_says_why() -> None:
    """With its rank and address, the policy, a reason, and every candidate's score."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b", "http://127.0.0.1:8001", ranks=2)) as here:
            here.hold("b", PROMPT, rank=1)
            status, answer = await here.post("/v1/route", {"model": MODEL, "token_ids": PROMPT})
            assert status == 200
            assert (answer["pod"], answer["rank"], answer["endpoint"]) == ("b", 1, "http://127.0.0.1:8001")
            assert answer["policy"] == "cost"
            assert "144 of 160 tokens cached" in answer["reason"]
            assert [(p["pod"], p["rank"]) for p in answer["pods"]] == [("a", 0), ("b", 0), ("b", 1)]

    asyncio.run(story())


def test_a_routed_prompt_draws_the_next_one_like_it() -> None:
    """Although no event has come: the own pick counts at once, in the score and not in the match."""

    async def story() -> None:
        async with daemon(*(make_pod(name) for name in "abcd")) as here:
            asked = {"model": MODEL, "token_ids": PROMPT}
            first, second = [(await here.post("/v1/route", asked))[1] for _ in range(2)]
            assert first["pod"] == second["pod"]
            assert by_pod(second)[first["pod"]]["matched_blocks"] == 0

    asyncio.run(story())


def test_route_may_name_its_policy() -> None:
    """For this question only."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b")) as here:
            asked = {"model": MODEL, "token_ids": PROMPT, "policy": "round-robin"}
            answers = [(await here.post("/v1/route", asked))[1] for _ in range(4)]
            assert [answer["pod"] for answer in answers] == ["a", "b", "a", "b"]
            assert {answer["policy"] for answer in answers} == {"round-robin"}
            assert (await here.post_octets(f"/v1/route?model={MODEL}&policy=random", PROMPT))[1]["policy"] == "random"

    asyncio.run(story())


def test_an_adapter_is_a_model_of_the_pods_that_list_it() -> None:
    """Asked for as a model it is resolved, and only where it is loaded; a silent pod is taken at the caller's word."""

    async def story() -> None:
        async with daemon(make_pod("a", loras=("l",)), make_pod("b", loras=("k",)), make_pod("c")) as here:
            here.hold("a", PROMPT, lora="l")
            as_model = (await here.post("/v1/score", {"model": "l", "token_ids": PROMPT}))[1]
            assert {name: pod["matched_blocks"] for name, pod in by_pod(as_model).items()} == {"a": 10}
            as_lora = (await here.post("/v1/score", {"model": MODEL, "lora": "l", "token_ids": PROMPT}))[1]
            assert {name: pod["matched_blocks"] for name, pod in by_pod(as_lora).items()} == {"a": 10, "c": 0}
            status, answer = await here.post("/v1/score", {"model": "l", "lora": "k", "token_ids": PROMPT})
            assert (status, answer["error"]["code"]) == (400, "lora_twice")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/score", {"model": "none", "token_ids": [1]}, 404, "model_not_found"),
        ("/v1/score", {"model": MODEL, "lora": "none", "token_ids": [1]}, 404, "lora_not_found"),
        ("/v1/score", {"model": MODEL}, 400, "prompt_fields"),
        ("/v1/score", {"model": MODEL, "prompt": "a", "token_ids": [1]}, 400, "prompt_fields"),
        ("/v1/score", {"model": MODEL, "token_ids": [1] * 200}, 400, "prompt_too_long"),
        ("/v1/score", {"model": MODEL, "prompt": "x" * 5_000}, 413, "body_too_large"),
        ("/v1/score", {"model": MODEL, "token_ids": [1], "policy": "cost"}, 400, "unknown_field"),
        ("/v1/route", {"model": MODEL, "token_ids": [1], "policy": "none"}, 400, "unknown_policy"),
        ("/v1/chat/completions", {"model": "none", "messages": []}, 404, "model_not_found"),
        ("/v1/chat/completions", {"messages": []}, 400, "missing_field"),
        ("/v1/embeddings", {}, 404, "not_found"),
        ("/healthz", {}, 405, "method_not_allowed"),
    ],
)
def test_what_cannot_be_answered_is_refused(path: str, body: dict[str, Any], status: int, code: str) -> None:
    """With a status and a code, in one shape."""

    async def story() -> None:
        async with daemon(make_pod("a", loras=("l",)), prompt_tokens_max=190, body_bytes_max=2_048) as here:
            met, answer = await here.post(path, body)
            assert (met, answer["error"]["code"]) == (status, code)
            assert set(answer["error"]) == {"message", "type", "param", "code"}

    asyncio.run(story())


def test_another_content_type_is_refused() -> None:
    """A page in a browser can send such bodies without asking; it cannot send JSON."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            for path in ("/v1/score", "/v1/completions"):
                async with here.client.post(f"{here.url}{path}", data="{}") as response:
                    assert response.status == 415

    asyncio.run(story())


def test_a_pod_that_is_down_is_no_candidate() -> None:
    """When its event connection is lost it gets nothing within a second; when none is left, that is said."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b")) as here:
            asked = {"model": MODEL, "token_ids": PROMPT}
            await until(lambda: all(here.parts.health.state(name).connected for name in "ab"))
            here.streams.statuses[A] = status_of(A, connected=False)
            since = time.monotonic()
            await until(lambda: not here.parts.health.is_up("a"))
            in_time("an event connection that was lost", since)
            assert set(by_pod((await here.post("/v1/route", asked))[1])) == {"b"}
            here.streams.statuses[B] = status_of(B, connected=False)
            await until(lambda: not here.parts.health.is_up("b"))
            status, answer = await here.post("/v1/route", asked)
            assert (status, answer["error"]["code"]) == (503, "no_candidates")
            assert (await here.get("/readyz"))[0] == 503
            assert (await here.get("/healthz"))[0] == 200
            here.streams.statuses[A] = status_of(A)
            await until(lambda: here.parts.health.is_up("a"))
            assert (await here.get("/readyz"))[0] == 200

    asyncio.run(story())


def test_a_pod_that_was_never_reached_gets_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """With neither events nor HTTP it is no candidate from the start; those that live are, at once."""

    async def story() -> None:
        async with FakePod() as living, daemon(make_pod("a"), make_pod("b", living.url, events=None)) as here:
            here.streams.statuses[A] = status_of(A, connected=False)
            dead = make_pod("c", events=None)
            fleet.apply(here.parts, PodChange("c", None, dead))
            await until(lambda: not here.parts.health.is_up("a") and here.parts.health.is_up("b"))
            answer = (await here.post("/v1/route", {"model": MODEL, "token_ids": PROMPT}))[1]
            assert set(by_pod(answer)) == {"b"}
            ready = (await here.get("/readyz"))[1]
            assert (ready["ready"], ready["pods"]) == (True, {"known": 3, "up": 1})
        async with daemon(make_pod("c", events=None)) as here:
            assert (await here.post("/v1/route", {"model": MODEL, "token_ids": PROMPT}))[0] == 503
            assert (await here.get("/readyz"))[0] == 503
            assert "pod c is not up: HTTP does not answer" in caplog.text

    asyncio.run(story())


def test_missing_events_are_told_once_and_their_coming_too(caplog: pytest.LogCaptureFixture) -> None:
    """With pod, endpoint and remedy."""
    caplog.set_level(logging.INFO, "kvsync.serve.monitor")

    def lines(about: str) -> list[str]:
        return [record.getMessage() for record in caplog.records if about in record.getMessage()]

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            await until(lambda: len(lines("events are connected")) == 1)
            here.streams.statuses[A] = status_of(A, connected=False)
            await until(lambda: not here.parts.health.is_up("a"))
            late, here.parts.clock = here.parts.clock, lambda: late() + 100.0
            await until(lambda: len(lines("no event connection")) == 1)
            here.streams.statuses[A] = status_of(A)
            await until(lambda: len(lines("events are connected")) == 2)
            assert "pod a: no event connection to tcp://127.0.0.1:9 for 5 s; check" in lines("no event")[0]
            assert len(lines("no event")) == 1

    asyncio.run(story())


def test_a_pod_that_does_not_list_its_model_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With both names; a pod that lists its model, or nothing, is not spoken of."""

    async def story() -> None:
        async with FakePod(models=("simulated",)) as wrong, FakePod(models=(MODEL,)) as right, FakePod() as silent:
            urls = {"a": wrong.url, "b": right.url, "c": silent.url}
            async with daemon(*(make_pod(name, url) for name, url in urls.items())) as here:
                await until(lambda: "lists 'simulated'" in caplog.text)
                findings = (await here.get("/v1/engines"))[1]["findings"]
        assert [(finding["about"], finding["reason"]) for finding in findings] == [("a", "not_listed")]
        said = [record.getMessage() for record in caplog.records if "/v1/models" in record.getMessage()]
        assert len(said) == 1
        assert "a: is configured with the model or adapter 'm'" in said[0]

    asyncio.run(story())


def test_off_loopback_a_token_is_asked_for() -> None:
    """Everything needs it but `/healthz` and the plain answer of `/readyz`."""

    async def story() -> None:
        async with daemon(make_pod("a"), token=TOKEN.encode()) as here:
            for path in ("/v1/pods", "/v1/engines", "/v1/stats", "/v1/models", "/metrics", "/v1/blocks?pod=a", "/none"):
                status, answer = await here.get(path)
                assert (status, answer["error"]["code"]) == (401, "unauthorized")
            assert (await here.post("/v1/score", {}))[0] == 401
            assert (await here.post("/v1/score", {}, Authorization="Bearer wrong"))[0] == 401
            assert (await here.post("/v1/score", {}, **BEARER))[0] == 400
            assert (await here.get("/v1/pods", **BEARER))[0] == 200
            assert await here.get("/healthz") == (200, {"ok": True})
            assert await here.get("/readyz") == (200, {"ready": True})
            assert "coverage" in (await here.get("/readyz", **BEARER))[1]

    asyncio.run(story())


def test_what_is_known_can_be_looked_at() -> None:
    """Pods, engines, blocks, coverage, figures."""

    async def story() -> None:
        async with daemon(make_pod("a", ranks=2), make_pod("b", events=None)) as here:
            here.hold("a", PROMPT)
            pods = (await here.get("/v1/pods"))[1]["pods"]
            assert [(pod["pod"], pod["up"], len(pod["ranks"])) for pod in pods] == [("a", True, 2), ("b", False, 1)]
            assert "HTTP does not answer" in pods[1]["reason"]
            engines = (await here.get("/v1/engines"))[1]["engines"]
            assert [(e["pod"], e["rank"], e["trust"], e["blocks"]) for e in engines] == [
                ("a", 0, "exact", 10),
                ("a", 1, "unknown", 0),
            ]
            assert engines[0]["stream"]["connected"]
            assert engines[0]["stream"]["rebuilds"] == 0
            assert engines[0]["counters"]["stored"] == 10
            blocks = (await here.get("/v1/blocks?pod=a&rank=0"))[1]
            assert (blocks["sequence"], blocks["trust"], list(blocks["media"]["GPU"]["0"].values())) == (
                0,
                "exact",
                [1] * 10,
            )
            unheard = (await here.get("/v1/blocks?pod=a&rank=1"))[1]
            assert (unheard["sequence"], unheard["trust"], unheard["media"]) == (None, "unknown", {})
            assert (await here.get("/v1/blocks?pod=x"))[0] == 404
            assert (await here.get("/v1/blocks?pod=a&rank=x"))[0] == 400
            ready = (await here.get("/readyz"))[1]
            assert (ready["coverage"], ready["trust_least"]) == (0.5, "exact")
            assert ready["engines"]["trust"] == {"exact": 1, "partial": 0, "stale": 0, "unknown": 1}
            assert (engines[0]["media"]["GPU"]["reason"], engines[1]["reason"]) == ("none", "never heard")
            assert 0 <= engines[0]["since_s"] < 60
            stats = (await here.get("/v1/stats"))[1]
            assert stats["policy"] == "cost"
            assert stats["index"]["engines"] == 1

    asyncio.run(story())


def test_readiness_asks_for_as_much_as_is_set() -> None:
    """A share of engines, and a trust they must have at least; the answer says what is missing."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b"), ready_trust="partial", ready_coverage=0.9) as here:
            here.hold("a", PROMPT)
            status, ready = await here.get("/readyz")
            assert (status, ready["ready"], ready["coverage"], ready["coverage_least"]) == (503, False, 0.5, 0.9)
            assert ready["problems"] == [
                "0.5 of the engines are connected and at least partial; the setting ready_coverage asks for 0.9"
            ]
            here.hold("b", PROMPT)
            here.index.restart(B)
            here.index.apply(B, msgpack.packb([0.0, []]), model=MODEL, sequence=7)
            assert here.index.trust(B) is Trust.PARTIAL
            assert (await here.get("/readyz"))[0] == 200
            here.hold("b", PROMPT, sequence=9)
            here.index.doubt(B, "a test says so")
            assert (await here.get("/readyz"))[1]["coverage"] == 0.5
            engines = (await here.get("/v1/engines"))[1]["engines"]
            assert (engines[1]["trust"], engines[1]["reason"]) == ("stale", "a test says so")

    asyncio.run(story())


def test_an_engine_that_is_gone_is_not_covered() -> None:
    """Its record stays exact, as of the last event; that is no knowledge of now."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b")) as here:
            here.hold("a", PROMPT)
            here.hold("b", PROMPT)
            assert (await here.get("/readyz"))[1]["coverage"] == 1.0
            here.streams.statuses[B] = status_of(B, connected=False)
            ready = (await here.get("/readyz"))[1]
            assert (ready["coverage"], ready["engines"]["connected"]) == (0.5, 1)
            assert ready["engines"]["trust"] == {"exact": 1, "partial": 0, "stale": 0, "unknown": 0}
            engines = (await here.get("/v1/engines"))[1]["engines"]
            assert [(e["connected"], e["trust"]) for e in engines] == [(True, "exact"), (False, "exact")]

    asyncio.run(story())


@pytest.mark.parametrize("path", ["/v1/score", "/v1/route", "/v1/completions"])
def test_an_uncertain_match_is_told(path: str) -> None:
    """Where events cannot tell apart what is asked for, answers and header say so."""

    async def story() -> None:
        async with FakePod() as pod, daemon(make_pod("a", pod.url)) as here:
            asked = {"model": MODEL, "prompt": "x" * 160}
            match = Match(10, 160, {"GPU": 10}, certain=False, trust=Trust.EXACT)
            with patch.object(here.index, "match", lambda *_, **__: {A: match}):
                async with here.client.post(f"{here.url}{path}", json=asked) as response:
                    answer = await response.json()
            if path == "/v1/completions":
                assert response.headers["x-kvsync-certain"] == "false"
            else:
                assert answer["pods"][0]["certain"] is False

    asyncio.run(story())


def test_it_is_not_ready_before_pasts_are_read() -> None:
    """As long as a replay runs, but not for ever: an engine may never answer."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b")) as here:
            here.parts.started = here.parts.clock() + NEVER_S
            here.streams.statuses[B] = replace(status_of(B), state="replaying")
            status, answer = await here.get("/readyz")
            assert (status, answer["ready"], answer["warming"]) == (503, False, ["b/0"])
            here.parts.started = here.parts.clock() - WARM_UP_S
            assert (await here.get("/readyz"))[0] == 200

    asyncio.run(story())


def test_metrics_tell_of_engines_streams_and_requests() -> None:
    """Each with the engine it is about."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            here.hold("a", PROMPT)
            await here.post("/v1/route", {"model": MODEL, "token_ids": PROMPT})
            await here.get("/none")
            figures = await here.scrape()
            assert figures['kvsync_pod_up{pod="a"}'] == 1
            assert figures['kvsync_engine_trust{pod="a",rank="0",trust="exact"}'] == 1
            assert figures['kvsync_engine_entries{medium="GPU",pod="a",rank="0"}'] == 10
            assert figures['kvsync_medium_trust{medium="GPU",pod="a",rank="0",reason="none",trust="exact"}'] == 1
            assert figures['kvsync_medium_trust_since_seconds{medium="GPU",pod="a",rank="0"}'] > 1e9
            outcomes = sum(count for name, count in figures.items() if name.startswith("kvsync_frames_total{"))
            assert outcomes == figures['kvsync_frames_received_total{pod="a",rank="0"}'] == 3
            assert figures['kvsync_frames_total{outcome="dropped_late",pod="a",rank="0"}'] == 1
            assert figures['kvsync_picks_total{pod="a",policy="cost",rank="0"}'] == 1
            assert figures['kvsync_requests_total{path="/v1/route",status="200"}'] == 1
            assert figures['kvsync_requests_total{path="other",status="404"}'] == 1
            assert figures["kvsync_pick_seconds_count"] == 1

    asyncio.run(story())


def test_a_pod_that_goes_is_forgotten() -> None:
    """Streams, index, router and candidates know nothing of it; described anew, it begins anew."""

    async def story() -> None:
        async with daemon(make_pod("a"), make_pod("b")) as here:
            before, after = here.parts.pods["a"], make_pod("a", "http://127.0.0.1:10")
            here.hold("a", PROMPT)
            fleet.apply(here.parts, PodChange("a", before, after))
            await until(lambda: here.parts.health.is_up("a"))
            asked = {"model": MODEL, "token_ids": PROMPT}
            assert by_pod((await here.post("/v1/score", asked))[1])["a"]["trust"] == "unknown"
            fleet.apply(here.parts, PodChange("a", after, None))
            assert set(by_pod((await here.post("/v1/score", asked))[1])) == {"b"}
            assert set(here.streams.sources) == {Engine("b")}

    asyncio.run(story())


def test_a_restart_forgets_own_picks() -> None:
    """What was picked in the old life is not in the new cache."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            await here.post("/v1/route", {"model": MODEL, "token_ids": PROMPT})
            await until(lambda: here.parts.health.state("a").connected)
            assert "picks=1" in repr(here.parts.router.own_picks)
            here.streams.statuses[A] = status_of(A, restarts=1)
            await until(lambda: "picks=0" in repr(here.parts.router.own_picks))

    asyncio.run(story())
