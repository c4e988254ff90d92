"""Waiting for requests to end."""

from __future__ import annotations

import asyncio

import pytest
from tests.patience import PATIENCE_S

from kvsync.serve.inflight import InFlight

NEVER_S = 10_000.0


def test_the_wait_ends_with_the_last_request() -> None:
    """Not with the first, and at once where there is none."""

    async def story() -> None:
        flight, hurry = InFlight(), asyncio.Event()
        await flight.wait_none(seconds=NEVER_S, hurry=hurry)
        with flight.one():
            with flight.one():
                assert flight.count == 2
                waiting = asyncio.create_task(flight.wait_none(seconds=NEVER_S, hurry=hurry))
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, PATIENCE_S)
        assert flight.count == 0

    asyncio.run(story())


@pytest.mark.parametrize(("seconds", "in_a_hurry"), [(0.0, False), (NEVER_S, True)])
def test_the_wait_has_an_end(seconds: float, in_a_hurry: bool) -> None:
    """When its time is up, or when told to hurry."""

    async def story() -> None:
        flight, hurry = InFlight(), asyncio.Event()
        if in_a_hurry:
            hurry.set()
        with flight.one():
            await asyncio.wait_for(flight.wait_none(seconds=seconds, hurry=hurry), PATIENCE_S)
            assert flight.count == 1

    asyncio.run(story())
