"""The daemon over real sockets, fed what engines send: recorded streams, other dialects, lower media, a flood."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.integration.ports import free_ports
from tests.integration.serve_helpers import until
from tests.integration.stream_helpers import in_time
from tests.integration.test_serve_engine import Daemon, following

from kvsync.fleet import Pod
from kvsync.testing.model import ModelIndex
from kvsync.testing.prompts import Prompt, books_of
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.testing.truth import Moment, follow, live_frames, load_truth
from kvsync.testing.wire import Cleared, Event, Removed, Stored, encode_batch
from kvsync.types import Engine

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
MODEL = "m"
LORAS = ("adapter-1", "adapter-2", "adapter-3")
PROMPTS = 25
SIZE = 16
TOKENS = tuple(range(500, 500 + 12 * SIZE))


@dataclass(slots=True)
class Published:
    """A pod whose ranks publish what a test says."""

    pod: Pod
    ranks: list[ScriptedPublisher]
    last: dict[int, int] = field(default_factory=dict)

    def play(self, capture: Path) -> None:
        """Publish a recorded stream, restarts included, once somebody listens."""
        for publisher in self.ranks:
            publisher.wait_for_subscriber()
        for frame in live_frames(capture):
            publisher = self.ranks[frame.rank]
            if frame.sequence <= publisher.number:
                publisher.restart()
                publisher.wait_for_subscriber()
            assert publisher.publish(frame.payload) == frame.sequence
            self.last[frame.rank] = frame.sequence


@contextmanager
def publishing(name: str, ranks: int = 1, topic: bytes = b"kv-events") -> Iterator[Published]:
    """The sockets of one pod's ranks on ports in a row, as engines have them."""
    base = free_ports(2 * ranks)
    with ExitStack() as stack:
        publishers = [
            stack.enter_context(
                ScriptedPublisher(
                    events=f"tcp://127.0.0.1:{base + rank}",
                    replay=f"tcp://127.0.0.1:{base + ranks + rank}",
                    topic=topic,
                )
            )
            for rank in range(ranks)
        ]
        events, replay = publishers[0].events, publishers[0].replay
        pod = Pod(name, f"http://127.0.0.1:9/{name}", MODEL, events=events, replay=replay, ranks=ranks, loras=LORAS)
        yield Published(pod, publishers)


async def caught_up(here: Daemon, published: Published, number: int, rank: int = 0) -> Any:
    """The dump of a rank once the number is applied."""
    engine = Engine(published.pod.name, rank)
    await until(lambda: here.applied(engine) == number)
    await until(lambda: here.parts.health.is_up(engine.pod))
    return await here.get(f"{here.url}/v1/blocks?pod={engine.pod}&rank={rank}")


async def score(here: Daemon, prompt: Prompt) -> dict[int, Any]:
    """What `/v1/score` says of each rank."""
    asked = {
        "model": MODEL,
        "token_ids": list(prompt.tokens),
        "lora": prompt.lora,
        "cache_salt": prompt.cache_salt,
        "extra_keys": [list(key) for key in prompt.extra_keys],
    }
    async with here.client.post(f"{here.url}/v1/score", json=asked) as response:
        answer = await response.json()
        assert response.status == 200, answer
    return {candidate["rank"]: candidate for candidate in answer["pods"]}


@pytest.mark.parametrize(("name", "ranks"), [("s3_hybrid_swa", 1), ("s2_lora_dp_bytes", 3), ("s4_restart", 1)])
def test_a_recorded_fleet_served_live(name: str, ranks: int) -> None:
    """
    Every rank's dump is the engine's own table, every frame is accounted for, and every prompt matches as the truth.

    Groups, adapters, salts, images, byte hashes, ranks and restarts, through sockets, daemon and HTTP.
    """
    capture = CAPTURES / f"{name}.msgpack"
    ends = {m.rank: point for m, point in sorted(load_truth(capture).items(), key=_life) if point.blocks is not None}

    async def story() -> None:
        topic = next(live_frames(capture)).topic
        with publishing("a", ranks, topic) as published, ModelIndex() as truth:
            for _ in follow(truth, capture, pod="a"):
                pass
            async with following(published.pod, signals_seconds=0) as here:
                await asyncio.to_thread(published.play, capture)
                since = time.monotonic()
                for rank in range(ranks):
                    dump = await caught_up(here, published, published.last[rank], rank)
                    assert dump["media"] == {"GPU": ends[rank].blocks}
                    assert dump["trust"] == "exact"
                in_time(f"{name}, after its last batch", since)
                for view in (await here.get(f"{here.url}/v1/engines"))["engines"]:
                    stream = view["stream"]
                    became = stream["applied_frames"] + stream["duplicate"] + sum(stream["dropped"].values())
                    assert stream["received"] == became + stream["waiting"]
                for prompt in some_prompts(capture):
                    scored = await score(here, prompt)
                    known = truth.match(
                        prompt.tokens,
                        model=MODEL,
                        lora=prompt.lora,
                        cache_salt=prompt.cache_salt,
                        extra_keys=list(prompt.extra_keys) or None,
                    )
                    blocks = {engine.rank: match.blocks for engine, match in known.items()}
                    assert {r: c["matched_blocks"] for r, c in scored.items() if c["matched_blocks"]} == blocks

    asyncio.run(story())


def _life(item: tuple[Moment, Any]) -> tuple[int, int, int]:
    return item[0].life, item[0].rank, item[0].sequence


def some_prompts(capture: Path) -> list[Prompt]:
    """Prompts of the recording; of those with an adapter, a salt or an image more than of others."""
    prompts = [book.prompt(leaf) for book in books_of(capture).values() for leaf in book.leaves()]
    chance = random.Random(capture.stem)
    special = [prompt for prompt in prompts if prompt.lora or prompt.cache_salt or prompt.extra_keys]
    return chance.sample(special, min(len(special), PROMPTS)) + chance.sample(prompts, PROMPTS)


def told(first: int, last: int, **fields: Any) -> Stored:
    """Blocks first .. last-1 of TOKENS; their hashes have the topmost bit set, which signed dialects write below 0."""
    hashes = tuple(2**63 + place for place in range(first, last))
    parent = 2**63 + first - 1 if first else None
    return Stored(hashes, parent, TOKENS[first * SIZE : last * SIZE], SIZE, **fields)


def shown(*places: int) -> dict[str, int]:
    """Those blocks in a dump, each once."""
    return {str(2**63 + place): 1 for place in places}


Step = tuple[tuple[Event, ...], dict[str, Any], int]
"""Events; the media that are held after them; and how many blocks of TOKENS match then."""

GPU_SIX = shown(*range(6))

SGLANG: tuple[Step, ...] = (
    ((told(0, 4), told(4, 6)), {"GPU": {"0": GPU_SIX}}, 6),
    # The last page of a prompt is shorter: held, and no match.
    (
        (Stored((7,), 2**63 + 5, TOKENS[6 * SIZE : 6 * SIZE + 5], 5),),
        {"GPU": {"0": {**GPU_SIX, "7": 1}}},
        6,
    ),
    # Written through to the host, then evicted from the GPU: several hashes in one event, in any order.
    (
        (told(0, 6, medium="CPU_PINNED"), Removed((2**63 + 5, 2**63 + 4, 7))),
        {"GPU": {"0": shown(0, 1, 2, 3)}, "CPU_PINNED": {"0": GPU_SIX}},
        6,
    ),
    (
        (Removed((2**63 + 5,), medium="CPU_PINNED"),),
        {"GPU": {"0": shown(0, 1, 2, 3)}, "CPU_PINNED": {"0": shown(0, 1, 2, 3, 4)}},
        5,
    ),
)


@pytest.mark.parametrize("pairs", [False, True], ids=["tokens", "pairs"])
@pytest.mark.parametrize("form", ["sglang-0.5.10", "sglang-0.5.17", "sglang-0.5.20", "sglang-0.5.22"])
def test_sglang_is_followed(form: str, pairs: bool) -> None:
    """Signed hashes, arrays and maps, EAGLE's pairs, short last pages, tiers of its own names."""

    async def story() -> None:
        with publishing("a") as published:
            async with following(published.pod, signals_seconds=0) as here:
                published.ranks[0].wait_for_subscriber()
                for events, media, blocks in SGLANG:
                    written = [with_pairs(event) if pairs else event for event in events]
                    number = published.ranks[0].publish(encode_batch(written, form=form))
                    dump = await caught_up(here, published, number)
                    assert (dump["media"], dump["trust"]) == (media, "exact")
                    assert (await score(here, Prompt(TOKENS)))[0]["matched_blocks"] == blocks

    asyncio.run(story())


def with_pairs(event: Event) -> Event:
    """The same event as EAGLE writes it."""
    return (
        Stored(event.hashes, event.parent, event.tokens, event.block_size, medium=event.medium, pairs=True)
        if isinstance(event, Stored)
        else event
    )


def test_offloaded_blocks_match_where_they_lie() -> None:
    """A placeholder says only where a hash lies; a clear empties the GPU and leaves the tier below in doubt."""
    placeholder = Stored(tuple(2**63 + place for place in range(4)), medium="CPU")

    async def story() -> None:
        with publishing("a") as published:
            async with following(published.pod, signals_seconds=0) as here:
                publisher = published.ranks[0]
                publisher.wait_for_subscriber()

                async def then(*events: Event) -> dict[str, Any]:
                    await caught_up(here, published, publisher.publish(encode_batch(events)))
                    scored: dict[str, Any] = (await score(here, Prompt(TOKENS)))[0]
                    return scored

                assert (await then(told(0, 6), placeholder))["by_medium"] == {"GPU": 6}
                # The removal and the note that follows it may share a batch, in this order.
                moved = await then(
                    *(Removed((2**63 + place,)) for place in (5, 4, 3, 2)),
                    Stored((2**63 + 4,), medium="cpu"),
                )
                assert (moved["by_medium"], moved["trust"]) == ({"GPU": 2, "CPU": 3}, "exact")
                cleared = await then(Cleared())
                assert (cleared["by_medium"], cleared["trust_by_medium"]) == ({"CPU": 5}, {"CPU": "stale"})
                engines = (await here.get(f"{here.url}/v1/engines"))["engines"]
                media = engines[0]["media"]
                assert {name: (m["trust"], m["entries"], m["doubtful"]) for name, m in media.items()} == {
                    "GPU": ("exact", 0, 0),
                    "CPU": ("stale", 5, 5),
                }
                assert media["CPU"]["reason"] == "a faster medium was cleared"
                # What is stored anew is believed again; with the last doubtful one gone, the tier is a lower bound.
                again = await then(Removed((2**63 + 4,), medium="CPU"), placeholder)
                assert (again["by_medium"], again["trust"]) == ({"CPU": 4}, "partial")

    asyncio.run(story())


FLOOD_BLOCKS = 64
FLOOD_BURST = 10
ENTRIES_MAX = 20_000
HONEST_FRAMES = 300


def flood(publisher: ScriptedPublisher, chance: random.Random) -> None:
    """A burst of blocks that nobody has seen, whose parents do not exist, and of bytes that mean nothing."""
    for _ in range(FLOOD_BURST):
        tokens = tuple(chance.randrange(2**31) for _ in range(FLOOD_BLOCKS * SIZE))
        hashes = tuple(chance.getrandbits(64) for _ in range(FLOOD_BLOCKS))
        parent = chance.getrandbits(64) if publisher.number % 3 == 0 else None
        payload = encode_batch([Stored(hashes, parent, tokens, SIZE), Removed((chance.getrandbits(64),))])
        publisher.publish(payload if publisher.number % 5 else chance.randbytes(4_000))


def test_a_mad_publisher_hurts_only_itself() -> None:
    """
    While one floods the daemon with nonsense, another's record stays exact and current, and is answered from.

    The mad one keeps within its share of memory, loses its trust, and every frame of both is accounted for.
    """
    limits: dict[str, Any] = {"engine_entries_max": ENTRIES_MAX, "max_bytes": 64 * 1024 * 1024, "signals_seconds": 0}

    async def story() -> None:
        chance = random.Random(1)
        with publishing("mad") as mad, publishing("honest") as honest:
            async with following(mad.pod, honest.pod, **limits) as here:
                for published in (mad, honest):
                    published.ranks[0].wait_for_subscriber()
                for number in range(HONEST_FRAMES):
                    await asyncio.to_thread(flood, mad.ranks[0], chance)
                    place = number % (len(TOKENS) // SIZE)
                    begun: list[Event] = [Cleared()] if not place and number else []
                    honest.ranks[0].publish(encode_batch([*begun, told(place, place + 1)]))
                dump = await caught_up(here, honest, HONEST_FRAMES - 1)
                assert dump["trust"] == "exact"
                assert dump["media"] == {"GPU": {"0": shown(*range(12))}}
                async with here.client.post(
                    f"{here.url}/v1/score", json={"model": MODEL, "token_ids": list(TOKENS)}
                ) as response:
                    pods = {candidate["pod"]: candidate for candidate in (await response.json())["pods"]}
                assert (pods["honest"]["matched_blocks"], pods["honest"]["trust"]) == (12, "exact")
                assert pods["mad"]["matched_blocks"] == 0
                await until(lambda: here.applied(Engine("mad")) == mad.ranks[0].number)
                views = {view["pod"]: view for view in (await here.get(f"{here.url}/v1/engines"))["engines"]}
                assert views["mad"]["blocks"] <= ENTRIES_MAX
                assert views["mad"]["trust"] == "stale"
                assert views["mad"]["orphans"] <= 16_384
                for view in views.values():
                    stream = view["stream"]
                    became = stream["applied_frames"] + stream["duplicate"] + sum(stream["dropped"].values())
                    assert stream["received"] == became + stream["waiting"]
                assert here.parts.index.stats()["bytes"] <= 64 * 1024 * 1024

    asyncio.run(story())
