"""The simulated engine's stream, fetched over real sockets, equals its own truth under load."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
import zmq
from tests.integration.engine_helpers import Client, number, replay, run, running_engine

from kvsync.engine.hashing import HashForm
from kvsync.testing.model import ModelIndex
from kvsync.types import Engine, EngineHash, Trust

REQUESTS = 60
TALKERS = 6


def shown(index: ModelIndex, engine: Engine) -> dict[str, dict[str, dict[str, int]]]:
    """Give the index' record as the engine shows its truth."""

    def text(value: EngineHash) -> str:
        return value.hex() if isinstance(value, bytes) else str(value)

    return {
        medium: {str(group): {text(one): copies for one, copies in held.items()} for group, held in groups.items()}
        for medium, groups in index.engine_hashes(engine).items()
    }


async def talk(client: Client, random: Random, ranks: int) -> None:
    """Hold short conversations with shared beginnings, on any rank, in any context; leave some early."""
    for _ in range(REQUESTS // TALKERS):
        prompt = "shared beginning " * random.randint(1, 12) + str(random.randrange(20)) * random.randint(1, 60)
        body: dict[str, Any] = {"prompt": prompt, "max_tokens": random.randint(1, 40)}
        if random.random() < 0.3:
            body["model"] = random.choice(("a", "b"))
        if random.random() < 0.2:
            body["cache_salt"] = "tenant"
        if random.random() < 0.2:
            body["vllm_xargs"] = {"kv_cache_report_mode": "full"}
        request = client.post("/v1/completions", body, headers={"X-data-parallel-rank": str(random.randrange(ranks))})
        if random.random() < 0.1:
            await asyncio.wait([task := asyncio.ensure_future(request)], timeout=0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            assert (await request)[0] == 200
        if random.random() < 0.05:
            await client.post("/reset_prefix_cache?reset_running_requests=true")


@pytest.mark.parametrize(
    ("wire", "form", "windows"),
    [
        ("vllm-0.33.0", HashForm.BYTES32, ()),
        ("vllm-0.23.0", None, ()),
        ("vllm-0.12.0", None, ()),
        ("vllm-0.33.0", None, (48,)),
    ],
)
def test_the_whole_stream_equals_the_truth(wire: str, form: HashForm | None, windows: tuple[int, ...]) -> None:
    """After a busy while with evictions, resets, adapters and aborts, index and engine agree rank by rank."""
    ranks = 2

    async def scenario() -> None:
        async with running_engine(
            wire=wire,
            hash_form=form,
            windows=windows,
            ranks=ranks,
            blocks=60,
            loras=("a", "b"),
            step_tokens=64,
        ) as client:
            await asyncio.gather(*(talk(client, Random(seed), ranks) for seed in range(TALKERS)))
            for rank in range(ranks):
                await client.post(
                    "/v1/completions",
                    {"prompt": "one last step each tells what is pending"},
                    headers={"X-data-parallel-rank": str(rank)},
                )
            truth = await client.truth()
            index = ModelIndex()
            for rank in range(ranks):
                dealer = client.socket(zmq.DEALER, client.engine.addresses.replay[rank])
                engine = Engine("pod", rank)
                for frames in (await replay(dealer, number(0)))[:-1]:
                    index.apply(engine, frames[-1], model="m", sequence=int.from_bytes(frames[-2], "big"))
                assert index.record(engine).sequence == truth[str(rank)]["sequence"]
                assert truth[str(rank)]["pending_events"] == 0
                assert shown(index, engine) == truth[str(rank)]["media"]
                assert index.trust(engine) is Trust.EXACT

    run(scenario)


def test_truth_and_number_belong_together_while_the_engine_works() -> None:
    """A truth asked for under load is what the index holds after exactly that number."""

    async def scenario() -> None:
        async with running_engine(blocks=60, step_tokens=64, loras=("a", "b"), decode_rate=400.0) as client:
            talking = asyncio.gather(*(talk(client, Random(100 + seed), 1) for seed in range(TALKERS)))
            truths: list[Any] = []
            while not talking.done():
                truths.append((await client.truth())["0"])
                await asyncio.sleep(0.01)
            await talking
            dealer = client.socket(zmq.DEALER, client.engine.addresses.replay[0])
            payloads = [frames[-1] for frames in (await replay(dealer, number(0)))[:-1]]
            index, engine, compared = ModelIndex(), Engine("pod"), 0
            asked = {truth["sequence"]: truth["media"] for truth in truths if not truth["pending_events"]}
            for sequence, payload in enumerate(payloads):
                index.apply(engine, payload, model="m", sequence=sequence)
                if sequence in asked:
                    assert shown(index, engine) == asked[sequence]
                    compared += 1
            assert compared > 3

    run(scenario)
