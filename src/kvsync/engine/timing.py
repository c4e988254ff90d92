"""
How long a step takes: prefill tokens one after the other, decodes side by side.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeModel:
    """
    Rates of one rank: prompt tokens per second for all requests together, answer tokens per second for each.

    A step that decodes takes one decode interval however many requests take part, and the time of its
    prompt tokens on top. `step_overhead_s` is added to every step.
    """

    prefill_rate: float = 20_000.0
    decode_rate: float = 50.0
    step_overhead_s: float = 0.0

    def step_s(self, prefill_tokens: int, decodes: int) -> float:
        seconds = self.step_overhead_s + prefill_tokens / self.prefill_rate
        return seconds + 1.0 / self.decode_rate if decodes else seconds
