"""
The rows that need a daemon: frames over a socket until a query sees them, and a question over HTTP.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, Final

from benchmarks.checks import WrongAnswerError, expect
from benchmarks.peers.inside import Figure, asked
from benchmarks.peers.services import POLL_S, ROOT, DaemonError, Service, free_port, running
from benchmarks.publish import prompts
from benchmarks.sizes import BLOCK_SIZE, PROMPT_BLOCKS, SIZES

SHAPES: Final = {
    "8-block events": (SIZES.zmq_blocks, 8, 32),
    "1-block events": (SIZES.zmq_single_blocks, 1, 64),
}
PATIENCE_S: Final = 120.0
QUESTION_BLOCKS: Final = (SIZES.walk_blocks // 4, SIZES.walk_blocks)


@contextmanager
def publishing(endpoint: str, *numbers: int) -> Iterator[tuple[IO[str], IO[str]]]:
    """An engine that waits for its subscriber, then for a word; gives what to write to, and to read from."""
    command = [sys.executable, "-m", "benchmarks.publish", endpoint, *map(str, numbers)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdin is not None
        assert sender.stdout is not None
        try:
            yield sender.stdin, sender.stdout
        finally:
            sender.stdin.close()


def visible(service: Service) -> Iterator[Figure]:
    """Frames of an engine in another process, until a query sees the last block."""
    for shape, (blocks, an_event, a_batch) in SHAPES.items():
        events = f"tcp://127.0.0.1:{free_port()}"
        sent = prompts(blocks)
        last, first = (service.request(service.bodies[0], one.tokens) for one in (sent[-1], sent[0]))
        with (
            publishing(events, blocks, an_event, a_batch) as (word, said),
            running(service, events) as daemon,
            daemon.asked() as ask,
        ):
            expect("the sender", said.readline(), "ready\n")
            blocks_of_last = partial(_blocks, service, ask, last)
            _settle(blocks_of_last)
            cpu, wall = daemon.cpu_s(), time.perf_counter()
            word.write("go\n")
            word.flush()
            _poll(blocks_of_last)
            seconds = time.perf_counter() - wall
            # The system counts CPU time by hundredths of a second.
            cpu_us = 1e6 * (daemon.cpu_s() - cpu) / blocks
            expect("blocks of the first prompt", service.read(ask(*first)), PROMPT_BLOCKS)
            yield Figure(f"zmq -> visible, {shape}", blocks / seconds / 1e6, cpu_us)


def _blocks(service: Service, ask: Callable[..., Any], question: tuple[str, bytes, str]) -> int:
    return service.read(ask(*question))


def _settle(blocks: Callable[[], int]) -> None:
    """A daemon may refuse as long as it knows of no pod that lives; then it knows of no block."""
    until = time.perf_counter() + PATIENCE_S
    while True:
        try:
            return expect("blocks before the first frame", blocks(), 0)
        except DaemonError:
            if time.perf_counter() > until:
                raise
            time.sleep(POLL_S)


def _poll(blocks: Callable[[], int]) -> None:
    until = time.perf_counter() + PATIENCE_S
    while (seen := blocks()) < PROMPT_BLOCKS:
        if time.perf_counter() > until:
            raise WrongAnswerError(f"{seen} of {PROMPT_BLOCKS} blocks are visible after {PATIENCE_S} s")
        time.sleep(POLL_S)


def questions(service: Service) -> Iterator[Figure]:
    """A question over a kept connection; the daemon follows one engine that holds all of it."""
    events = f"tcp://127.0.0.1:{free_port()}"
    blocks = max(QUESTION_BLOCKS)
    with (
        publishing(events, blocks, 32, 32, blocks) as (word, said),
        running(service, events) as daemon,
        daemon.asked() as ask,
    ):
        one = prompts(blocks, blocks)[0]
        expect("the sender", said.readline(), "ready\n")
        _settle(partial(_blocks, service, ask, service.request(service.bodies[0], one.tokens)))
        word.write("go\n")
        word.flush()
        yield from _ask(service, ask, one.tokens)


def _ask(service: Service, ask: Callable[..., Any], tokens: Any) -> Iterator[Figure]:
    whole = service.request(service.bodies[0], tokens)
    until = time.perf_counter() + PATIENCE_S
    while service.read(ask(*whole)) < len(tokens) // BLOCK_SIZE and time.perf_counter() < until:
        time.sleep(POLL_S)
    for body in service.bodies:
        for blocks in QUESTION_BLOCKS:
            question = service.request(body, tokens[: blocks * BLOCK_SIZE])
            expect("blocks matched", service.read(ask(*question)), blocks)
            yield asked(f"HTTP query, {blocks:,} blocks, {body}", partial(ask, *question))


def measure(service: Service) -> Iterator[Figure]:
    """Both."""
    yield from visible(service)
    yield from questions(service)
