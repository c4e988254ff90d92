"""Requests that mend a record: the simulated engine tells its cached prefix again."""

from __future__ import annotations

import asyncio
from itertools import count
from random import random
from typing import Any

import pytest
from tests.integration.serve_helpers import until
from tests.integration.test_serve_engine import CHAT, MODEL, Daemon, engine, following
from tests.patience import PATIENCE_S

from kvsync.serve import repair
from kvsync.types import Engine, Trust

A = Engine("a")
ASK = [{"role": "user", "content": "Why is the sky blue? " * 40}]
SHORT = [{"role": "user", "content": "Why?"}]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine may take its time to tell its release: one that takes too long is not asked again for a minute."""
    monkeypatch.setattr(repair, "ASK_TIMEOUT_S", PATIENCE_S)


async def repairs(here: Daemon) -> float:
    """How many requests asked for their prefix."""
    value = here.parts.metrics.registry.get_sample_value("kvsync_repairs_total", {"pod": "a", "rank": "0"})
    return value or 0.0


async def able(here: Daemon) -> None:
    """Ask something new until the pod's release is known, which the first request that could mend sets off."""
    async with asyncio.timeout(PATIENCE_S):
        for number in count():
            if await repairs(here):
                return
            await here.chat([{"role": "user", "content": f"{number} and again. " * 10}])


def reannounced(here: Daemon) -> int:
    """Blocks told again so far."""
    return here.parts.index.record(A).counters["reannounced"]


def test_a_stale_record_mends_with_the_requests_that_come() -> None:
    """Doubt goes with each prefix told again; all blocks are there, with no more copies than there are."""

    async def story() -> None:
        async with engine("a") as (_, a), following(a, repair=True) as here:
            await here.chat(ASK)
            await here.truth(a)
            here.parts.index.doubt(A, "a test says so")
            await able(here)
            await here.chat(ASK)
            truth = await here.truth(a)
            gpu = here.parts.index.record(A).media["GPU"]
            assert gpu.doubtful < gpu.entries / 4
            assert reannounced(here) > 20
            record = await here.get(f"{here.url}/v1/blocks?pod=a&rank=0")
            known, all_held = record["media"]["GPU"]["0"], truth["media"]["GPU"]["0"]
            assert known.keys() == all_held.keys()
            assert all(all_held[block] >= copies for block, copies in known.items())

    asyncio.run(story())


def test_a_late_daemon_learns_of_a_prefix_it_never_heard() -> None:
    """Without replay the beginning is unseen; a request that goes there brings what is cached of it, once."""

    async def story() -> None:
        async with engine("a", "--no-replay") as (_, a):
            async with following(a) as early:
                await early.chat(ASK)
                await early.chat(SHORT)
            async with following(a, repair=True) as here:
                # Connected is not yet subscribed: what an engine publishes before that is lost here.
                while here.parts.index.trust(A) is not Trust.PARTIAL:
                    await here.chat([{"role": "user", "content": f"Something else {random()}. " * 30}])
                await able(here)
                before = here.parts.index.record(A).media["GPU"].entries
                await here.chat(ASK)
                truth = await held(here, a.http)
                await until(lambda: here.applied(A) == truth["sequence"])
                record = await here.get(f"{here.url}/v1/blocks?pod=a&rank=0")
                known, all_held = record["media"]["GPU"]["0"], truth["media"]["GPU"]["0"]
                assert len(known) > before + 20
                assert all(all_held.get(block, 0) >= copies for block, copies in known.items())
                asked = await repairs(here)
                await here.chat(ASK)
                assert await repairs(here) == asked

    asyncio.run(story())


async def held(here: Daemon, http: str) -> Any:
    """What the engine holds, as of its last batch."""
    return (await here.get(f"{http}/debug/blocks"))["ranks"]["0"]


def test_nothing_is_asked_of_an_exact_engine_nor_without_the_setting() -> None:
    """Nor where the client says something in the same place."""

    async def story() -> None:
        async with engine("a") as (_, a):
            async with following(a, repair=True) as here:
                for _ in range(3):
                    await here.chat(ASK)
                await here.truth(a)
                assert await repairs(here) == 0
                here.parts.index.doubt(A, "a test says so")
                await able(here)
                asked = await repairs(here)
                body = {"model": MODEL, "messages": ASK, "max_tokens": 5, "vllm_xargs": {"other": 1}}
                async with here.client.post(f"{here.url}{CHAT}", json=body) as response:
                    assert response.status == 200
                assert await repairs(here) == asked
            async with following(a) as here:
                await here.chat(ASK)
                here.parts.index.doubt(A, "a test says so")
                for _ in range(3):
                    await here.chat(ASK)
                assert await repairs(here) == 0
                assert reannounced(here) == 0

    asyncio.run(story())
