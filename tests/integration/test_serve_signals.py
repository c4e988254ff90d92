"""The daemon and what engines say of themselves over HTTP: sleep, resets, and pods that say nothing."""

from __future__ import annotations

import asyncio

import pytest
from tests.integration.serve_helpers import MODEL, daemon, make_pod, until
from tests.integration.test_serve_engine import Daemon, engine, following
from tests.patience import PATIENCE_S

from kvsync.engine.metrics import exposition
from kvsync.engine.options import EngineOptions
from kvsync.engine.process import SimulatedEngine
from kvsync.fleet import Pod
from kvsync.serve.engine_metrics import Reading, Sleep, read_metrics, with_sleep
from kvsync.serve.reconcile import Cause
from kvsync.serve.signals import PAGE_BYTES_MAX
from kvsync.testing.fake_pod import FakePod
from kvsync.types import Engine, Trust

A = Engine("a")
ASK = [{"role": "user", "content": "Why is the sky blue? " * 20}]
PROMPT = list(range(1_000, 1_160))
SOON = 0.05
"""So often the pods of these tests are asked, in seconds."""


async def asks_anew(here: Daemon, pod: Pod) -> None:
    """Ask what the engine had in its cache before: it has not, and then the record is what it holds, exactly."""
    _, _, cached = await here.chat(ASK)
    assert cached == 0
    truth = await here.truth(pod)
    record = await here.get(f"{here.url}/v1/blocks?pod={pod.name}&rank=0")
    assert (record["media"], record["trust"]) == (truth["media"], "exact")


def test_the_simulated_engine_speaks_as_vllm() -> None:
    """Its page is read like vLLM's, rank by rank."""

    async def story() -> None:
        options = EngineOptions(port=0, events="tcp://127.0.0.1:0", ranks=2, blocks=64)
        async with SimulatedEngine(options) as simulated:
            await simulated.ranks[1].sleep(1, keep=False)
            readings = read_metrics(exposition("m", simulated.ranks))
        awake = Reading(Sleep.AWAKE, usage=0.0, blocks_total=64, lookups=0.0, running=0, waiting=0)
        assert readings == {"0": awake, "1": with_sleep(awake, True)}

    asyncio.run(story())


def test_a_sleeping_engine_is_doubted_and_gets_no_requests() -> None:
    """Nothing on its event stream said so; after waking and one request the record is its truth again."""

    async def story() -> None:
        async with engine("a") as (_, a), following(a, signals_seconds=SOON) as here:
            index, health = here.parts.index, here.parts.health
            await here.chat(ASK)
            await here.truth(a)
            assert index.trust(A) is Trust.EXACT
            async with here.client.post(f"{a.http}/sleep") as response:
                assert response.status == 200
            await until(lambda: not health.is_up("a"))
            assert index.record(A).media["GPU"].reason == Cause.ASLEEP
            assert index.trust(A) is Trust.STALE
            pods = (await here.get(f"{here.url}/v1/pods"))["pods"]
            assert "sleeps" in pods[0]["reason"]
            assert pods[0]["signals"]["ranks"][0]["sleep"] == "asleep"
            async with here.client.post(f"{a.http}/wake_up") as response:
                assert response.status == 200
            await until(lambda: health.is_up("a"))
            await asks_anew(here, a)

    asyncio.run(story())


def test_a_reset_that_nobody_announced_heals_with_the_next_request() -> None:
    """Its signals cannot show it; the request after it finds nothing, and brings the news."""

    async def story() -> None:
        async with engine("a") as (_, a), following(a, signals_seconds=SOON) as here:
            await here.chat(ASK)
            await here.truth(a)
            async with here.client.post(f"{a.http}/reset_prefix_cache") as response:
                assert (await response.json())["success"]
            await asks_anew(here, a)

    asyncio.run(story())


def test_an_engine_that_never_announces_resets_is_found_out() -> None:
    """In time its record holds more blocks than it has."""

    async def story() -> None:
        flags = ("--reset-events", "never", "--blocks", "64")
        async with engine("a", *flags) as (_, a), following(a, signals_seconds=SOON) as here:
            for number in range(6):
                await here.chat([{"role": "user", "content": f"{number} " * 200}])
                async with here.client.post(f"{a.http}/reset_prefix_cache") as response:
                    assert (await response.json())["success"]
            await until(lambda: here.parts.index.trust(A) is Trust.STALE)
            assert here.parts.index.record(A).media["GPU"].reason == Cause.TOO_MANY

    asyncio.run(story())


def test_http_that_is_silent_lowers_no_trust(caplog: pytest.LogCaptureFixture) -> None:
    """While the events are connected it is reported: for the pod, in the log once, in the metrics."""

    async def story() -> None:
        async with daemon(make_pod("a"), signals_seconds=SOON) as here:
            here.hold("a", PROMPT)
            name = 'kvsync_signals_total{outcome="unreadable",pod="a"}'
            await until(lambda: "its signals cannot be read" in caplog.text)
            assert (await here.scrape())[name] >= 1
            pod = (await here.get("/v1/pods"))[1]["pods"][0]
            assert "GET /metrics got no answer" in pod["signals"]["problem"]
            assert (pod["up"], here.index.trust(A)) == (True, Trust.EXACT)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (None, "GET /metrics answered 404"),
        (b"nothing of an engine", "names no rank"),
        (b"x" * (PAGE_BYTES_MAX + 1), "answered more than"),
    ],
)
def test_a_page_that_says_nothing_is_told(page: bytes | None, problem: str) -> None:
    """What is missing, wrong or too large; the pod stays up."""

    async def story() -> None:
        pages = {} if page is None else {"/metrics": page}
        async with FakePod(pages=pages) as pod, daemon(make_pod("a", pod.url), signals_seconds=SOON) as here:

            async def told() -> str:
                signals = (await here.get("/v1/pods"))[1]["pods"][0]["signals"]
                return str(signals and signals["problem"])

            async with asyncio.timeout(PATIENCE_S):
                while problem not in await told():  # noqa: ASYNC110  (nobody tells when it has been asked)
                    await asyncio.sleep(0.02)
            assert here.parts.health.is_up("a")

    asyncio.run(story())


def test_sglang_that_holds_less_than_its_record_is_doubted() -> None:
    """Its gauges count what is cached and free: two looks that agree, and no event between."""
    page = 'sglang:kv_used_tokens{tp_rank="0"} 0\nsglang:kv_evictable_tokens{tp_rank="0"} 0\n'

    async def story() -> None:
        pages = {"/metrics": page.encode()}
        async with FakePod(pages=pages) as pod, daemon(make_pod("a", pod.url), signals_seconds=SOON) as here:
            here.hold("a", range(16 * 1_024))
            await until(lambda: here.index.trust(A) is Trust.STALE)
            assert here.index.record(A).media["GPU"].reason == Cause.TOO_FEW
            name = 'kvsync_signal_doubts_total{cause="too_few",pod="a",rank="0"}'
            assert (await here.scrape())[name] == 1

    asyncio.run(story())


def test_sleep_may_be_told_by_its_own_page_alone() -> None:
    """Of engines whose metrics do not say it; one without that page is not asked again."""
    metrics = b"vllm:num_requests_running 0\n"

    async def story() -> None:
        pages = {"/metrics": metrics, "/is_sleeping": b'{"is_sleeping": true}'}
        async with FakePod(pages=pages) as pod, daemon(make_pod("a", pod.url), signals_seconds=SOON) as here:
            here.hold("a", PROMPT)
            await until(lambda: not here.parts.health.is_up("a"))
            assert here.index.trust(A) is Trust.STALE
            status, answer = await here.post("/v1/route", {"model": MODEL, "token_ids": PROMPT})
            assert (status, "sleeps" in answer["error"]["message"]) == (503, True)
            pod.pages["/is_sleeping"] = b'{"is_sleeping": false}'
            await until(lambda: here.parts.health.is_up("a"))

    asyncio.run(story())


def test_signals_can_be_switched_off() -> None:
    """Then no pod is asked."""

    async def story() -> None:
        pages = {"/metrics": b"vllm:num_requests_running 0\n", "/is_sleeping": b'{"is_sleeping": true}'}
        async with FakePod(pages=pages) as pod, daemon(make_pod("a", pod.url), signals_seconds=0) as here:
            await asyncio.sleep(5 * SOON)
            assert (await here.get("/v1/pods"))[1]["pods"][0]["signals"] is None
            assert here.parts.health.is_up("a")

    asyncio.run(story())
