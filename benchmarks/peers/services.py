"""
The two daemons, each in a process of its own on loopback: what an engine publishes until a query sees it, and a query.

    ours     kvsync serve            POST /v1/score, raw token ids or JSON
    dynamo   python -m dynamo.indexer  POST /query and /query_by_hash, JSON
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from benchmarks.frames import MODEL
from benchmarks.sizes import BLOCK_SIZE
from kvsync.testing.ports import hold_port, port_of

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0
POLL_S: Final = 0.005
TICKS_A_SECOND: Final = 100

Tokens = np.ndarray[Any, np.dtype[np.uint32]]


class DaemonError(Exception):
    """A daemon did not come up, or answered what it should not."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """
    A running one: where it answers, and its process.
    """

    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    @contextmanager
    def asked(self) -> Iterator[Callable[[str, bytes, str], Any]]:
        """A kept connection: (path, body, content type) -> what its JSON says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.connect()
        assert connection.sock is not None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask(path: str, body: bytes, kind: str) -> Any:
            connection.request("POST", path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise DaemonError(f"POST {path}: {answer.status} {text[:300]!r}")
            return json.loads(text)

        try:
            yield ask
        finally:
            connection.close()


class Service(Protocol):
    """
    One project's daemon: how it is started, asked and read.
    """

    @property
    def bodies(self) -> tuple[str, ...]:
        """The forms in which it takes a question."""

    def command(self, port: int, events: str) -> list[str]: ...

    def request(self, body: str, tokens: Tokens) -> tuple[str, bytes, str]:
        """(path, body, content type)."""

    def read(self, answer: Any) -> int:
        """The blocks that the one engine holds."""


class OurService:
    """
    `kvsync serve`.
    """

    bodies: Final = ("raw", "JSON")

    def command(self, port: int, events: str) -> list[str]:
        # Nobody answers on the pod's HTTP port: its events say that it lives.
        pod = f"name=bench,http=http://127.0.0.1:{free_port()},events={events},model={MODEL}"
        return [sys.executable, "-m", "kvsync", "serve", "--listen", f"127.0.0.1:{port}", "--pod", pod]

    def request(self, body: str, tokens: Tokens) -> tuple[str, bytes, str]:
        if body == "raw":
            return f"/v1/score?model={MODEL}", tokens.astype("<u4").tobytes(), "application/octet-stream"
        asked = {"model": MODEL, "token_ids": tokens.tolist()}
        return "/v1/score", json.dumps(asked).encode(), "application/json"

    def read(self, answer: Any) -> int:
        return int(answer["pods"][0]["matched_blocks"])


class DynamoService:
    """
    `python -m dynamo.indexer`, with the block size of the work; its answers count tokens.
    """

    bodies: Final = ("JSON",)

    def command(self, port: int, events: str) -> list[str]:
        served = ["--model-name", MODEL, "--block-size", str(BLOCK_SIZE), "--workers", f"1={events}"]
        return [sys.executable, "-m", "dynamo.indexer", "--port", str(port), *served]

    def request(self, body: str, tokens: Tokens) -> tuple[str, bytes, str]:
        asked = {"model_name": MODEL, "token_ids": tokens.tolist()}
        return "/query", json.dumps(asked).encode(), "application/json"

    def read(self, answer: Any) -> int:
        ranks: Mapping[str, int] = next(iter(answer["scores"].values()), {})
        return max(ranks.values(), default=0) // BLOCK_SIZE


_held: list[socket.socket] = []


def free_port() -> int:
    """A port of loopback that nobody has, nor is given while this process runs: a server may listen there."""
    _held.append(hold_port("127.0.0.1"))
    return port_of(_held[-1])


@contextmanager
def running(service: Service, events: str) -> Iterator[Daemon]:
    """The daemon, from when its port answers until the context ends."""
    port = free_port()
    with subprocess.Popen(
        service.command(port, events), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait(process, port, type(service).__name__)
            yield Daemon(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise DaemonError(f"{name} does not answer") from None
            time.sleep(0.02)
