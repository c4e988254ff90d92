"""
An engine in a process of its own, which makes all its frames first and sends them when told.

    python -m benchmarks.publish ENDPOINT BLOCKS AN_EVENT A_BATCH [A_PROMPT]

A line on standard output says it is subscribed to and ready; a line on standard input lets it send; the end of
standard input ends it.
"""

from __future__ import annotations

import sys

import zmq

from benchmarks.frames import Prompt, batches, generator, prompt, store_events
from benchmarks.sizes import PROMPT_BLOCKS
from kvsync.testing.publisher import number_bytes


def prompts(blocks: int, a_prompt: int = PROMPT_BLOCKS) -> list[Prompt]:
    """What the engine stores; whoever listens makes the same from the same seed."""
    random = generator(11)
    return [prompt(random, a_prompt) for _ in range(blocks // a_prompt)]


def publish(endpoint: str, blocks: int, an_event: int, a_batch: int, a_prompt: int = PROMPT_BLOCKS) -> None:
    """Wait for the subscriber, then for the word, then send as fast as it goes."""
    frames = list(batches(store_events(prompts(blocks, a_prompt), an_event), a_batch))
    with zmq.Context() as context, context.socket(zmq.XPUB) as sender:
        # No limit and no lingering: nothing is lost on the way, and nothing holds up the end.
        sender.setsockopt(zmq.SNDHWM, 0)
        sender.setsockopt(zmq.LINGER, 0)
        sender.bind(endpoint)
        sender.recv()
        print("ready", flush=True)
        sys.stdin.readline()
        for number, frame in enumerate(frames):
            sender.send_multipart([b"", number_bytes(number), frame])
        sys.stdin.read()


if __name__ == "__main__":
    publish(sys.argv[1], *map(int, sys.argv[2:]))
