"""Pods that never change."""

from __future__ import annotations

import asyncio

import pytest

from kvsync.errors import ConfigError
from kvsync.fleet import Pod, StaticPods

A, B = Pod("a", "http://h", "m"), Pod("b", "http://h", "m")


def test_it_has_the_pods_it_was_given() -> None:
    """They are known by name, and the set cannot be changed from outside."""
    source = StaticPods([A, B])
    assert source.current() == {"a": A, "b": B}
    with pytest.raises(TypeError):
        source.current()["c"] = A  # type: ignore[index]


def test_two_of_one_name_are_refused() -> None:
    """As on the command line."""
    with pytest.raises(ConfigError, match="two pods"):
        StaticPods([A, A])


def test_nothing_ever_changes() -> None:
    """Waiting for a change goes on until it is cancelled."""

    async def first_change() -> None:
        async for change in StaticPods([A]).changes():
            pytest.fail(f"{change} came from nowhere")

    async def story() -> None:
        task = asyncio.create_task(first_change())
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
