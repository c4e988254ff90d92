"""
The double in a process of its own: `python -m kvsync.testing.apiserver FOLDER`, and the handle that a test has on it.

Orders go in by standard input, a JSON list a line: a method of `ApiServer` and its arguments. Each is answered by a
line on standard output. The process ends when its standard input does, so that none is left behind.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kvsync.testing.apiserver.access import ADMIN
from kvsync.testing.apiserver.server import ApiServer

END_S = 60.0

ORDERS = (
    "go_away",
    "come_back",
    "cut_watches",
    "expire_watches",
    "fail_watches",
    "compact",
    "sabotage",
    "kubeconfig",
    "renew_token",
)


class ApiServerProcess:
    """A running double. Any thread may give orders; they are carried out one after the other."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kvsync.testing.apiserver", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = str(self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def kubeconfig(self, user: str = ADMIN, *, token: str | None = None, namespace: str = "default") -> Path:
        """A kubeconfig for a user, see `ApiServer.kubeconfig`."""
        return Path(self.do("kubeconfig", user, token=token, namespace=namespace))

    def grant(self, user: str, namespace: str, resources: list[str], verbs: list[str]) -> None:
        """Allow the user the verbs on the resources in the namespace."""
        self.do("grant", user, namespace, resources, verbs)

    def do(self, order: str, *arguments: Any, **options: Any) -> Any:
        """Give an order, and wait until it is carried out."""
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([order, arguments, options]) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def close(self) -> None:
        """End the process; a second call does nothing."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait(END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the API server's double ended with {self._process.wait(END_S)}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]


async def run(folder: Path) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with ApiServer(folder) as server:
        _say({"result": server.url})
        while line := await reader.readline():
            try:
                order, arguments, options = json.loads(line)
                _say({"result": await _carry_out(server, order, arguments, options)})
            except Exception as error:  # noqa: BLE001  (whoever gave the order is told)
                _say({"error": repr(error)})


async def _carry_out(server: ApiServer, order: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    if order == "set":
        setattr(server.faults, arguments[0], arguments[1])
        return None
    if order == "watches":
        return len(server.handlers.watches)
    if order in ("grant", "revoke"):
        getattr(server.access, order)(*arguments, **options)
        return None
    if order not in ORDERS:
        raise ValueError(f"order {order!r} is not known")
    result = getattr(server, order)(*arguments, **options)
    result = await result if inspect.isawaitable(result) else result
    return None if result is None else str(result)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
