"""How the demo says that a process cannot be started."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from kvsync.demo.processes import Children
from kvsync.errors import KvsyncError


def test_a_child_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason that the system gives, and the limits to raise."""

    async def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def scenario() -> None:
        async with Children() as children:
            await children.start("pod-0", "engine")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    with pytest.raises(KvsyncError, match=r"pod-0 cannot be started: Too many open files; .*ulimit -n"):
        asyncio.run(scenario())
