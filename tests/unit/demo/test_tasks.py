"""Work side by side."""

from __future__ import annotations

import asyncio

import pytest

from kvsync.demo.tasks import beside, together
from kvsync.errors import KvsyncError


async def give(value: int) -> int:
    """A result, a turn of the loop later."""
    await asyncio.sleep(0)
    return value


async def fail() -> None:
    """An error, a turn of the loop later."""
    await asyncio.sleep(0)
    raise KvsyncError("it failed")


async def last(ended: list[str]) -> None:
    """Something that never ends by itself."""
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("cancelled")


def test_results_come_in_order() -> None:
    """All results, in the order of the work."""
    assert asyncio.run(together(give(n) for n in range(5))) == [0, 1, 2, 3, 4]


def test_the_first_error_ends_the_rest_and_comes_out_as_itself() -> None:
    """No group of errors, and nothing goes on behind it."""
    ended: list[str] = []
    with pytest.raises(KvsyncError, match="it failed"):
        asyncio.run(together([last(ended), fail()]))
    assert ended == ["cancelled"]


def test_work_beside_something_endless_gives_its_result() -> None:
    """When the work is done, what went on beside it is cancelled."""
    ended: list[str] = []
    assert asyncio.run(beside(give(3), last(ended))) == 3
    assert ended == ["cancelled"]


def test_a_failure_beside_ends_the_work() -> None:
    """The error of what goes on beside is raised, and the work is cancelled."""
    ended: list[str] = []
    with pytest.raises(KvsyncError, match="it failed"):
        asyncio.run(beside(last(ended), fail()))
    assert ended == ["cancelled"]


def test_cancelling_cancels_both() -> None:
    """Ctrl-C leaves neither running."""
    ended: list[str] = []

    async def story() -> None:
        task = asyncio.create_task(beside(last(ended), last(ended)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert ended == ["cancelled", "cancelled"]
