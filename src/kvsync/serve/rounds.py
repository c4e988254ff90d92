"""
When each pod of a fleet is asked for its models: few at a time, so that a thousand are no burst. No clock, no sockets.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from math import inf
from random import Random

from kvsync.fleet import Pod

ASK_AGAIN_S = 5.0
"""After no answer."""

ASK_ANEW_S = 15.0
"""After an answer, a fifth more or less by lot; longer in large fleets, to ask about `ASKED_PER_S` in all."""

ASKED_PER_S = 10.0
ASKED_AT_ONCE = 20
"""Of many that are due at one time, as when all are new."""

_Key = tuple[str, str, str, str]


class Rounds:
    """Remembers when each pod is to be asked; one that began anew is asked anew. Times are in seconds."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._ask_at: dict[_Key, float] = {}

    def __repr__(self) -> str:
        return f"<Rounds of {len(self._ask_at)} pods>"

    def due(self, pods: list[Pod], now: float) -> list[Pod]:
        """Those of the pods to be asked now, the longest due first; they count as asked from here on."""
        due = [pod for pod in pods if now >= self._due_at(pod)]
        if len(due) > ASKED_AT_ONCE:
            due = nsmallest(ASKED_AT_ONCE, due, key=self._due_at)
        for pod in due:
            self._ask_at[_key(pod)] = now + ASK_AGAIN_S
        return due

    def answered(self, pod: Pod, now: float) -> bool:
        """Take note of an answer; False where it concerns nobody any more: the pod has gone, or is another by now."""
        if _key(pod) not in self._ask_at:
            return False
        pause_s = max(ASK_ANEW_S, len(self._ask_at) / ASKED_PER_S)
        self._ask_at[_key(pod)] = now + pause_s * self._random.uniform(0.8, 1.2)
        return True

    def keep_only(self, pods: Iterable[Pod]) -> None:
        """Forget every other pod."""
        for key in self._ask_at.keys() - set(map(_key, pods)):
            del self._ask_at[key]

    def _due_at(self, pod: Pod) -> float:
        return self._ask_at.get(_key(pod), -inf)


def _key(pod: Pod) -> _Key:
    return pod.name, pod.http, pod.uid, pod.life
