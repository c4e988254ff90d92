"""
The demo's child processes: started, waited for, and never left behind.

Every child has a session of its own, so a Ctrl-C in the terminal reaches the demo alone and the demo stops the
children in its own order; and every child is on a leash (`leash.py`), so that they end even where the demo cannot
say goodbye. A child says that it is ready with one JSON object on a line of stdout, which is how it tells the ports
the system gave it. What children print is read for as long as they live, and the last lines are kept for the error
message when one dies.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from kvsync.errors import KvsyncError

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 4.0
LINES_KEPT = 20


class Child:
    """
    One running process, and what it said when it was ready.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.ready: Mapping[str, Any] = {}
        self.last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._readers: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.process.pid} exit={self.process.returncode}>"

    async def wait_ready(self) -> None:
        """
        Read stdout up to the line with a JSON object; raises `KvsyncError` when the process ends before.
        """
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers.append(asyncio.create_task(self._keep_lines(self.process.stderr)))
        while line := await self.process.stdout.readline():
            if (ready := _json_object(line)) is not None:
                self.ready = ready
                self._readers.append(asyncio.create_task(self._keep_lines(self.process.stdout)))
                return
            self.last_lines.append(line.decode(errors="replace").rstrip())
        await self.process.wait()
        await asyncio.wait(self._readers, timeout=1)
        raise self.ended()

    def ended(self) -> KvsyncError:
        """The error that says how this process ended, with the last it printed."""
        said = "\n  ".join(self.last_lines) or "(it printed nothing)"
        return KvsyncError(f"{self.name} ended with status {self.process.returncode}; its last lines:\n  {said}")

    async def stop(self) -> None:
        """Ask it to stop, and end it and whatever it started when it does not."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), STOP_WITHIN_S)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                await self.process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _keep_lines(self, stream: asyncio.StreamReader) -> None:
        # A line longer than the reader's limit is a ValueError; it is cut out, and reading goes on.
        while not stream.at_eof():
            try:
                line = await stream.readline()
            except ValueError:
                continue
            if line:
                self.last_lines.append(line.decode(errors="replace").rstrip())


class Children:
    """
    All processes of one demo; leaving the context ends them.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self, name: str, *arguments: str) -> Child:
        """
        Start `kvsync ARGUMENTS...` and wait until it is ready; raises `KvsyncError` when it does not get there.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "kvsync.demo.leash", "kvsync", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env=_environment(),
            )
        except OSError as error:
            raise KvsyncError(
                f"{name} cannot be started: {error.strerror}; give fewer --pods, or raise the limits of open files and"
                " processes (ulimit -n, ulimit -u)"
            ) from error
        child = Child(name, process)
        self._children.append(child)
        try:
            await asyncio.wait_for(child.wait_ready(), READY_WITHIN_S)
        except TimeoutError:
            raise KvsyncError(
                f"{name} was not ready after {READY_WITHIN_S:.0f} s; try again on a machine with less to do"
            ) from None
        return child

    async def stop(self, child: Child) -> None:
        """End one of them before the others."""
        if child in self._children:
            self._children.remove(child)
            await child.stop()

    async def watch(self) -> None:
        """Wait until any of them ends by itself, and raise the `KvsyncError` that says so."""
        while True:
            for child in self._children:
                if child.process.returncode is not None:
                    raise child.ended()
            await asyncio.sleep(0.2)

    async def close(self) -> None:
        """End all that still run; safe to call twice."""
        children, self._children = self._children, []
        await asyncio.gather(*(child.stop() for child in children))


def _environment() -> dict[str, str]:
    """Ours, without the settings of another daemon: the demo's children are told everything by flags."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KVSYNC_")}


def _json_object(line: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
