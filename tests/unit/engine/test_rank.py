"""A rank in real time: what waits for the end of a step, and what a step's end brings in which order."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterable
from typing import cast

import pytest
from tests.patience import PATIENCE_S
from tests.unit.engine.load import make_request

from kvsync.engine.events import AllBlocksCleared, CacheEvent
from kvsync.engine.hashing import HashForm
from kvsync.engine.options import EngineOptions, ResetEvents
from kvsync.engine.process import make_scheduler
from kvsync.engine.publisher import Publisher
from kvsync.engine.rank import Rank
from kvsync.engine.request import Produced

PROMPT = array("I", range(40))


class Recorder:
    """A publisher without sockets: remembers what it was given."""

    def __init__(self) -> None:
        self.sequence: int | None = None
        self.batches: list[list[CacheEvent]] = []

    def publish(self, time_s: float, events: Iterable[CacheEvent]) -> int:
        """Number a batch and keep it."""
        self.batches.append(list(events))
        self.sequence = len(self.batches) - 1
        return self.sequence


def run(
    scenario: Callable[[Rank, Recorder], Awaitable[None]], *, when: ResetEvents = ResetEvents.STEP, rate: float = 1e6
) -> None:
    """Run a scenario beside a rank that works."""

    async def life() -> None:
        recorder = Recorder()
        rank = Rank(
            0,
            scheduler=make_scheduler(EngineOptions(blocks=20, prefill_rate=rate, decode_rate=rate)),
            publisher=cast("Publisher", recorder),
            hash_form=HashForm.U64,
            reset_events=when,
        )
        work = asyncio.create_task(rank.run())
        await asyncio.wait_for(scenario(rank, recorder), PATIENCE_S)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(life())


def test_events_are_out_before_a_client_hears_of_its_token() -> None:
    """Who has an answer and asks the index next finds the blocks there."""

    async def scenario(rank: Rank, recorder: Recorder) -> None:
        heard: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        request = make_request(PROMPT, max_tokens=1)
        request.sink = lambda _: heard.set_result(len(recorder.batches))
        rank.add(request)
        assert await heard == 1

    run(scenario)


def test_whatever_touches_the_cache_waits_for_the_step_to_end() -> None:
    """A truth asked for in the middle of a step tells of its end, with its number; an abort acts after it."""

    async def scenario(rank: Rank, recorder: Recorder) -> None:
        produced: list[Produced] = []
        request = make_request(PROMPT, max_tokens=1)
        request.sink = produced.append
        rank.add(request)
        await asyncio.sleep(0.01)
        assert (rank.scheduler.running, recorder.batches) == ([request], [])
        rank.abort(request)
        truth = await rank.truth()
        assert (truth["sequence"], truth["pending_events"], len(truth["media"]["GPU"]["0"])) == (0, 0, 2)
        assert [one.token is not None for one in produced] == [True]

    run(scenario, rate=len(PROMPT) / 0.1)


@pytest.mark.parametrize(
    ("when", "batches", "pending"), [(ResetEvents.STEP, 0, 1), (ResetEvents.NOW, 1, 0), (ResetEvents.NEVER, 0, 0)]
)
def test_an_idle_reset_is_told_when_asked_for(when: ResetEvents, batches: int, pending: int) -> None:
    """With the next step, at once, or never."""

    async def scenario(rank: Rank, recorder: Recorder) -> None:
        assert await rank.reset()
        assert (len(recorder.batches), (await rank.truth())["pending_events"]) == (batches, pending)
        assert all(batch == [AllBlocksCleared()] for batch in recorder.batches)

    run(scenario, when=when)


def test_a_sleeping_rank_keeps_requests_until_it_wakes() -> None:
    """With keep, what ran starts over when the rank is woken, and no step runs before."""

    async def scenario(rank: Rank, recorder: Recorder) -> None:
        await rank.sleep(1, keep=True)
        done: asyncio.Future[Produced] = asyncio.get_running_loop().create_future()
        request = make_request(PROMPT, max_tokens=1)
        request.sink = done.set_result
        rank.add(request)
        await rank.truth()
        assert (rank.load, recorder.batches) == (4, [])
        rank.wake_up()
        assert (await done).finish is not None
        assert rank.load == 0

    run(scenario)


def test_a_failed_errand_is_told_to_who_asked_for_it() -> None:
    """The error reaches the caller, and the rank works on."""

    async def scenario(rank: Rank, recorder: Recorder) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await rank._errand(fail)
        assert await rank.reset()

    run(scenario)
