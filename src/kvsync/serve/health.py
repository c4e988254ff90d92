"""
Which pods may get requests: a pure record of what was seen of each; `monitor` does the seeing.

A pod is taken to be down until something shows that it lives:

    it was just added                    down; a probe of its HTTP port is due at once
    its event connection came (back)     up
    a probe of its HTTP port succeeded   up, while no event connection says more
    its event connection was lost        down at once; while it stays lost, what a probe says counts
    a request could not connect to it    down; a probe that is answered brings it back

One that lives and says that it sleeps or is paused gets no requests either, until it says that it is awake. Nor
does one that its cluster does not call ready, whatever else is seen of it.

While the event connection stands and no request was refused, the pod is not probed: the connection would tell. Of a
pod without events, or whose events never connected, the probes decide alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PROBE_EVERY = 0.5

FAILURES_MAX = 3
"""Probes in a row that may fail before a pod that probes alone speak for is down: a busy one may answer late."""

NOT_SEEN = "not seen alive yet"
EVENTS_LOST = "event connection lost"
NOT_READY = "the cluster says that it is not ready"
EVENTS_LOST_ALIVE = "HTTP answers, though the event connection is lost"
NOT_SERVING = "the engine says that it sleeps or is paused"


@dataclass(slots=True)
class PodState:
    """
    What is known of one pod: up while it lives, is ready and serves; `reason` says why it is not, or what else is odd.
    """

    lives: bool = False
    serves: bool = True
    trouble: str | None = NOT_SEEN
    ready: bool = True
    since: float = 0.0
    connected: bool = False
    events_lost: bool = False
    probed: float = float("-inf")
    failures: int = 0

    @property
    def up(self) -> bool:
        return self.lives and self.serves and self.ready

    @property
    def reason(self) -> str | None:
        if not self.ready:
            return NOT_READY
        return NOT_SERVING if self.lives and not self.serves else self.trouble


class Health:
    """The pods by name. Not thread-safe; time is an argument."""

    def __init__(self) -> None:
        self._pods: dict[str, PodState] = {}

    def __repr__(self) -> str:
        return f"<Health up={sum(state.up for state in self._pods.values())} of {len(self._pods)}>"

    def add(self, pod: str, now: float) -> None:
        self._pods[pod] = PodState(since=now)

    def remove(self, pod: str) -> None:
        self._pods.pop(pod, None)

    def is_up(self, pod: str) -> bool:
        state = self._pods.get(pod)
        return state is not None and state.up

    def state(self, pod: str) -> PodState:
        """What is known of a pod; `KeyError` for one that was not added."""
        return self._pods[pod]

    def events(self, pod: str, connected: Iterable[bool], now: float) -> None:
        """Whether each rank's event connection stands at this moment."""
        state, all_connected = self._pods[pod], all(connected)
        if all_connected and not state.connected:
            state.events_lost = False
            self._set(state, now, up=True, reason=None)
        elif state.connected and not all_connected:
            state.events_lost = True
            state.probed = float("-inf")
            self._set(state, now, up=False, reason=EVENTS_LOST)
        state.connected = all_connected

    def serves(self, pod: str, *, is_serving: bool, now: float) -> None:
        """Whether the pod computes requests, as it says itself."""
        state = self._pods.get(pod)
        if state is not None and state.serves != is_serving:
            state.serves, state.since = is_serving, now

    def set_ready(self, pod: str, *, is_ready: bool, now: float) -> None:
        """Whether the cluster calls the pod ready; one that is not is not up, whatever else was seen of it."""
        state = self._pods[pod]
        if state.ready != is_ready:
            state.ready, state.since = is_ready, now

    def refused(self, pod: str, reason: str, now: float) -> None:
        """A request could not be brought to the pod."""
        state = self._pods.get(pod)
        if state is not None:
            # It has just been tried: the next try is the next probe's.
            state.probed = now
            self._set(state, now, up=False, reason=reason)

    def due(self, now: float) -> list[str]:
        """The pods to probe now; they count as probed from here on."""
        doubted = [
            (name, state)
            for name, state in self._pods.items()
            if self._is_doubted(state) and now - state.probed >= PROBE_EVERY
        ]
        for _, state in doubted:
            state.probed = now
        return [name for name, _ in doubted]

    def answered(self, pod: str, problem: str | None, now: float) -> None:
        """A probe came back: None if the pod answered, else what was wrong."""
        state = self._pods.get(pod)
        if state is None or not self._is_doubted(state):
            return
        state.failures = 0 if problem is None else state.failures + 1
        if problem is None:
            self._set(state, now, up=True, reason=EVENTS_LOST_ALIVE if state.events_lost else None)
        elif state.events_lost or not state.lives or state.failures >= FAILURES_MAX:
            self._set(state, now, up=False, reason=f"{EVENTS_LOST}, {problem}" if state.events_lost else problem)

    @staticmethod
    def _is_doubted(state: PodState) -> bool:
        return not (state.lives and state.connected)

    def _set(self, state: PodState, now: float, *, up: bool, reason: str | None) -> None:
        if state.lives != up:
            state.since = now
        state.lives, state.trouble = up, reason
