"""The simulated engine's sockets: live batches and their replay, frame by frame."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import zmq
import zmq.asyncio
from tests.integration.engine_helpers import FAST, Client, number, replay, run, running_engine

from kvsync.engine.events import AllBlocksCleared
from kvsync.engine.options import EngineOptions
from kvsync.engine.process import SimulatedEngine
from kvsync.engine.publisher import Publisher
from kvsync.errors import ConfigError

END = b"\xff" * 8
SHORT_S = 0.2


def publisher(client: Client, rank: int = 0) -> Publisher:
    """Give a rank's publisher."""
    return client.engine.ranks[rank].publisher


def publish(client: Client, count: int) -> list[bytes]:
    """Publish so many batches, and give their payloads."""
    sender = publisher(client)
    for _ in range(count):
        sender.publish(1.0 + (sender.sequence or 0), [AllBlocksCleared()])
    return [payload for _, payload in sender._kept]


@pytest.mark.parametrize(
    ("wire", "before", "end"),
    [
        ("vllm-0.25.1", [b""], [b"", END, b""]),
        ("sglang-0.5.20", [b""], [b"", END, b""]),
        ("vllm-0.26.0", [b"", b"kv@pod"], [b"", b"", END, b""]),
        ("sglang-0.5.22", [b"", b"kv@pod"], [b"", b"", END, b""]),
    ],
)
def test_a_replay_gives_every_kept_batch_from_the_start_and_an_end(
    wire: str, before: list[bytes], end: list[bytes]
) -> None:
    """Frames are the release's; the numbers are contiguous and the payloads those of the live stream."""

    async def scenario() -> None:
        async with running_engine(wire=wire, topic="kv@pod") as client:
            payloads = publish(client, 5)
            answer = await replay(client.socket(zmq.DEALER, client.engine.addresses.replay[0]), number(2))
            assert answer[:-1] == [[*before, number(sequence), payloads[sequence]] for sequence in (2, 3, 4)]
            assert answer[-1] == end

    run(scenario)


def test_live_batches_are_three_frames_numbered_from_0() -> None:
    """Topic, number, payload; the same payload that a replay gives."""

    async def scenario() -> None:
        async with running_engine(topic="kv") as client:
            sub = client.socket(zmq.SUB, client.engine.addresses.events[0])
            await subscribed(client, sub)
            first = publisher(client).sequence
            assert first is not None
            await client.complete("a prompt that fills at least one block of sixteen")
            topic, sequence, payload = await sub.recv_multipart()
            assert (topic, sequence) == (b"kv", number(first + 1))
            dealer = client.socket(zmq.DEALER, client.engine.addresses.replay[0])
            assert (await replay(dealer, sequence))[0][-1] == payload

    run(scenario)


async def subscribed(client: Client, sub: zmq.asyncio.Socket) -> None:
    """Publish until the subscriber hears, then until it has heard all: PUB drops what comes before."""
    heard = -1
    while heard < 0:
        publish(client, 1)
        if await sub.poll(50):
            heard = int.from_bytes((await sub.recv_multipart())[1], "big")
    while heard != publisher(client).sequence:
        heard = int.from_bytes((await sub.recv_multipart())[1], "big")


@pytest.mark.parametrize(
    ("start", "first"),
    [(number(0), 4), (number(4), 4), (number(6), 6), (number(7), None), (number(10**9), None), (b"\x05", 5), (b"", 4)],
)
def test_a_replay_begins_where_it_can(start: bytes, first: int | None) -> None:
    """Older than the buffer: the oldest kept; past the end: the end at once; a short number counts as well."""

    async def scenario() -> None:
        async with running_engine(buffer_steps=3) as client:
            publish(client, 7)
            answer = await replay(client.socket(zmq.DEALER, client.engine.addresses.replay[0]), start)
            numbers = [int.from_bytes(frames[-2], "big") for frames in answer[:-1]]
            assert numbers == ([] if first is None else list(range(first, 7)))

    run(scenario)


def test_an_engine_that_published_nothing_answers_with_the_end() -> None:
    """An empty buffer is a bare end marker."""

    async def scenario() -> None:
        async with running_engine() as client:
            dealer = client.socket(zmq.DEALER, client.engine.addresses.replay[0])
            assert await replay(dealer, number(0)) == [[b"", b"", END, b""]]

    run(scenario)


@pytest.mark.parametrize("frames", [[number(0)], [b"", b"", number(0)], [b"", number(0), b"", b""]])
def test_a_request_of_another_frame_count_gets_no_answer(frames: list[bytes]) -> None:
    """It is dropped; the next good request on the same socket is answered."""

    async def scenario() -> None:
        async with running_engine() as client:
            publish(client, 1)
            dealer = client.socket(zmq.DEALER, client.engine.addresses.replay[0])
            await dealer.send_multipart(frames)
            assert not await dealer.poll(SHORT_S * 1000)
            assert len(await replay(dealer, number(0))) == 2

    run(scenario)


def test_a_replay_longer_than_zeromqs_default_loses_nothing() -> None:
    """Three thousand batches, three times the default high-water mark, arrive contiguous with their end."""

    async def scenario() -> None:
        async with running_engine() as client:
            publish(client, 3_000)
            dealer = client.socket(zmq.DEALER, client.engine.addresses.replay[0])
            answer = await replay(dealer, number(0))
            assert [int.from_bytes(frames[-2], "big") for frames in answer[:-1]] == list(range(3_000))

    run(scenario)


def test_a_live_batch_passes_a_long_replay() -> None:
    """Publishing goes on while a replay is sent; what came meanwhile is in neither more nor less than one of them."""

    async def scenario() -> None:
        async with running_engine() as client:
            publish(client, 2_000)
            dealer = client.socket(zmq.DEALER, client.engine.addresses.replay[0])
            asking = asyncio.create_task(replay(dealer, number(0)))
            while not asking.done():
                publish(client, 1)
                await asyncio.sleep(0)
            numbers = [int.from_bytes(frames[-2], "big") for frames in (await asking)[:-1]]
            assert numbers == list(range(len(numbers)))
            assert 2_000 <= len(numbers) < (publisher(client).sequence or 0) + 1

    run(scenario)


def test_every_rank_has_its_own_sockets_and_numbers() -> None:
    """Work on rank 1 moves rank 1's number alone."""

    async def scenario() -> None:
        async with running_engine(ranks=3) as client:
            assert len({*client.engine.addresses.events, *client.engine.addresses.replay}) == 6
            await client.complete("a prompt long enough for a block", headers=None)
            status, _ = await client.post(
                "/v1/completions",
                {"prompt": "a prompt long enough for a block", "max_tokens": 2},
                headers={"X-data-parallel-rank": "2"},
            )
            assert status == 200
            truth = await client.truth()
            assert [truth[str(rank)]["sequence"] for rank in range(3)] == [0, None, 0]

    run(scenario)


def test_events_can_connect_to_a_bound_subscriber() -> None:
    """With connecting asked for, the subscriber binds and hears; replay still binds."""

    async def scenario() -> None:
        context = zmq.asyncio.Context()
        sub = context.socket(zmq.SUB)
        sub.setsockopt(zmq.SUBSCRIBE, b"")
        port = sub.bind_to_random_port("tcp://127.0.0.1")
        try:
            async with running_engine(
                events=f"tcp://127.0.0.1:{port}", events_bind=False, replay="tcp://127.0.0.1:0"
            ) as client:
                while not await sub.poll(50):
                    publish(client, 1)
                assert len(await sub.recv_multipart()) == 3
        finally:
            sub.close(0)
            context.term()

    run(scenario)


def test_addresses_may_be_ipv6() -> None:
    """The loopback of IPv6 serves HTTP, events and replay like that of IPv4."""

    async def scenario() -> None:
        async with running_engine(host="::1", events="tcp://[::1]:0") as client:
            addresses = client.engine.addresses
            assert all("[::1]:" in one for one in (addresses.http, *addresses.events, *addresses.replay))
            await client.complete("hello")
            dealer = client.context.socket(zmq.DEALER)
            client.sockets.append(dealer)
            dealer.setsockopt(zmq.IPV6, 1)
            dealer.connect(addresses.replay[0])
            assert len(await replay(dealer, number(0))) == 1

    run(scenario)


@pytest.mark.parametrize("what", ["events", "replay", "port"])
def test_a_taken_port_is_named_and_nothing_stays_open(what: str) -> None:
    """The second engine on one port fails with its address, and leaves no task behind."""

    async def scenario() -> None:
        async with running_engine() as client:
            addresses = client.engine.addresses
            others: dict[str, dict[str, Any]] = {
                "events": {"events": addresses.events[0], "replay": None},
                "replay": {"replay": addresses.replay[0]},
                "port": {"port": int(addresses.http.rpartition(":")[2])},
            }
            before = asyncio.all_tasks()
            with pytest.raises(ConfigError, match="cannot be bound"):
                async with SimulatedEngine(EngineOptions(**(FAST | others[what]))):
                    pass
            assert asyncio.all_tasks() == before

    run(scenario)
