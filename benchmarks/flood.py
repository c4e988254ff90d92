"""
What one engine gone mad costs the others: it floods without end from a process of its own, `kvsync serve` follows both.

    python -m benchmarks.flood [--kinds blocks,orphans,small,large,junk] [--seconds 8] [--json]

Beside the mad engine a calm one publishes fifty batches a second, and a client asks `/healthz` and `/v1/score` in
turn. Each figure is given twice, of a quiet time and of the flood. The lag is from the calm engine's word to send until
its batch is in the index; of it and of the answers, the slowest of a hundred says more than the middle. The flood takes
a processor and the daemon another: with fewer than three, answers wait for a processor as well.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.flood_publish import KINDS, SIZE
from benchmarks.scale_receivers import LINE, child, lag, line_of, memory, processor
from kvsync.index import LAG_BOUNDS_S
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.testing.wire import Cleared, Event, Stored, encode_batch

MODEL: Final = "m"
CALM_S: Final = 0.02
BETWEEN_QUESTIONS_S: Final = 0.01
PROMPT: Final = tuple(range(32 * SIZE))
ENTRIES_MAX: Final = 200_000
CONNECT_S: Final = 20.0


class Client:
    """Asks the daemon over a kept connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def ask(self, path: str, body: Any = None) -> tuple[bytes, float]:
        """The answer, and the seconds that it took."""
        began = time.perf_counter()
        self._connection.request("POST" if body else "GET", path, body and json.dumps(body))
        answer = self._connection.getresponse().read()
        return answer, time.perf_counter() - began

    def samples(self, pod: str) -> list[tuple[str, dict[str, str], float]]:
        """The metrics of a pod."""
        page, _ = self.ask("/metrics")
        read = [
            (
                name.decode(),
                dict(label.split("=", 1) for label in labels.decode().replace('"', "").split(",") if label),
                n,
            )
            for name, labels, n in LINE.findall(page)
        ]
        return [(name, labels, float(n)) for name, labels, n in read if labels.get("pod") == pod]


class Calm(threading.Thread):
    """The engine that is well: a block each time, and a clear when the prompt is whole."""

    def __init__(self, publisher: ScriptedPublisher) -> None:
        super().__init__(daemon=True)
        self._publisher = publisher
        self.over = threading.Event()

    def run(self) -> None:
        """Publish until it is over."""
        while not self.over.wait(CALM_S):
            place = (self._publisher.number + 1) % (len(PROMPT) // SIZE)
            tokens = PROMPT[place * SIZE : (place + 1) * SIZE]
            events: list[Event] = [] if place else [Cleared()]
            events.append(Stored((place + 1,), place or None, tokens, SIZE))
            self._publisher.publish(encode_batch(events, ts=time.time()))


def phase(client: Client, daemon: int, seconds: float) -> dict[str, Any]:
    """Ask for so long; what came of it."""
    before, cpu, began = lag_counts(client), processor(daemon), time.perf_counter()
    times: dict[str, list[float]] = {"healthz": [], "score": []}
    while time.perf_counter() < began + seconds:
        times["healthz"].append(client.ask("/healthz")[1])
        times["score"].append(client.ask("/v1/score", {"model": MODEL, "token_ids": PROMPT})[1])
        time.sleep(BETWEEN_QUESTIONS_S)
    wall = time.perf_counter() - began
    figures: dict[str, Any] = {}
    for name, taken in times.items():
        taken.sort()
        for word, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            figures[f"{name}_{word}_ms"] = round(1e3 * taken[min(len(taken) - 1, int(share * len(taken)))], 1)
    figures |= lag([after - had for had, after in zip(before, lag_counts(client), strict=True)])
    return {**figures, "cpu_cores": round((processor(daemon) - cpu) / wall, 2)}


def lag_counts(client: Client) -> list[int]:
    """How many batches of the calm engine fell into each bucket so far."""
    bounds = [*map(str, LAG_BOUNDS_S), "+Inf"]
    below = {labels["le"]: n for name, labels, n in client.samples("calm") if name == "event_lag_seconds_bucket"}
    counts = [int(below.get(bound, 0)) for bound in bounds]
    return [count - had for had, count in zip([0, *counts], counts, strict=False)]


def total(client: Client, pod: str, metric: str, **labels: str) -> float:
    """The sum of a metric's samples."""
    return sum(n for name, has, n in client.samples(pod) if name == metric and labels.items() <= has.items())


def run(kind: str, seconds: float) -> dict[str, Any]:
    """One kind of flood: the figures of a quiet time, and of as long a flood."""
    os.environ |= {"KVSYNC_SIGNALS_SECONDS": "0", "KVSYNC_ENGINE_ENTRIES_MAX": str(ENTRIES_MAX)}
    with ExitStack() as stack:
        publisher = stack.enter_context(ScriptedPublisher())
        flooder = stack.enter_context(child("benchmarks.flood_publish", kind))
        mad = json.loads(line_of(flooder))["events"]
        served = stack.enter_context(child("kvsync", *flags(calm=publisher, mad=mad)))
        client = Client(json.loads(line_of(served))["http"])
        publisher.wait_for_subscriber()
        wait_connected(client)
        calm = Calm(publisher)
        calm.start()
        stack.callback(calm.over.set)
        quiet = phase(client, served.pid, seconds)
        tell(flooder, "go")
        flood = phase(client, served.pid, seconds)
        applied = total(client, "mad", "frames_total", outcome="applied")
        tell(flooder, "stop")
        sent = json.loads(line_of(flooder))["sent"]
        trusted = json.loads(client.ask("/v1/engines?pod=calm")[0])["engines"]
        return {
            "kind": kind,
            **{name: [quiet[name], flood[name]] for name in quiet},
            "mad_sent_per_s": round(sent / seconds),
            "mad_applied_per_s": round(applied / seconds),
            "calm_trust": next(view["trust"] for view in trusted if view["pod"] == "calm"),
            "rss_mib": round(memory(served.pid) / 2**20),
            "load": [round(load, 1) for load in os.getloadavg()],
        }


def flags(*, calm: ScriptedPublisher, mad: str) -> Sequence[str]:
    """How the daemon is started."""
    pods = [f"name=calm,http=http://127.0.0.1:9/calm,model={MODEL},events={calm.events},replay={calm.replay}"]
    pods.append(f"name=mad,http=http://127.0.0.1:9/mad,model={MODEL},events={mad}")
    return ["serve", "--listen", "127.0.0.1:0", "--log-level", "error", "--pod", pods[0], "--pod", pods[1]]


def tell(process: Any, word: str) -> None:
    """Say something to a child."""
    process.stdin.write(word + "\n")
    process.stdin.flush()


def wait_connected(client: Client) -> None:
    """Return once both streams are connected."""
    end = time.monotonic() + CONNECT_S
    while json.loads(client.ask("/v1/stats")[0])["engines"]["connected"] < 2:
        if time.monotonic() > end:
            raise TimeoutError(f"the daemon did not connect to both engines within {CONNECT_S:g} s")
        time.sleep(0.05)


def main() -> None:
    """Run the floods that are asked for, and print each one's figures: of the quiet time, and of the flood."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=__doc__.split("\n\n")[0])
    parser.add_argument("--kinds", default=",".join(KINDS), help="%(default)s")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for kind in asked.kinds.split(","):
        figures = run(kind, asked.seconds)
        print(json.dumps(figures) if asked.json else "  ".join(f"{k}={v}" for k, v in figures.items()), flush=True)


if __name__ == "__main__":
    main()
