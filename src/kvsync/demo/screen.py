"""
What the demo shows while it runs: plain values, and who wants them.

How they look is the command line's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kvsync.demo.measure import Outcome
from kvsync.demo.stage import PodStatus


@dataclass(frozen=True, slots=True)
class PodRow:
    """One pod at one moment; `blocks`, `events_per_s` and `trust` as the daemon has them."""

    pod: str
    requests: int
    hit_rate: float
    blocks: int
    events_per_s: float
    trust: str


@dataclass(frozen=True, slots=True)
class Progress:
    """One policy's run at one moment."""

    policy: str
    elapsed_s: float
    requests: int
    planned: int
    hit_rate: float
    ttft_mean_s: float
    rows: Sequence[PodRow]


class Screen(Protocol):
    """Whoever shows the demo."""

    def say(self, sentence: str) -> None:
        """Something happened."""

    def show(self, progress: Progress) -> None:
        """The run goes on: replaces what was shown before."""


class Tally:
    """
    Outcomes as they come in, by pod.
    """

    def __init__(self, pods: Iterable[str]) -> None:
        self._of_pod: dict[str, list[int]] = {pod: [0, 0, 0] for pod in pods}
        self._ttft_s = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one answered request."""
        numbers = self._of_pod.setdefault(outcome.pod, [0, 0, 0])
        numbers[0] += 1
        numbers[1] += outcome.cached_tokens
        numbers[2] += len(outcome.prompt)
        self._ttft_s += outcome.ttft_s

    def progress(
        self, policy: str, elapsed_s: float, planned: int, status: dict[str, PodStatus], rates: dict[str, float]
    ) -> Progress:
        """Put together what is to be seen now."""
        requests, cached, asked = (sum(column) for column in zip(*self._of_pod.values(), strict=True))
        rows = [
            PodRow(
                pod,
                numbers[0],
                _share(numbers[1], numbers[2]),
                status[pod].blocks if pod in status else 0,
                rates.get(pod, 0.0),
                status[pod].trust if pod in status else "unknown",
            )
            for pod, numbers in self._of_pod.items()
        ]
        return Progress(
            policy, elapsed_s, requests, planned, _share(cached, asked), _share(self._ttft_s, requests), rows
        )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
