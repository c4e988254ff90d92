"""
What every engine has to do for requests that we sent it.

Per engine, a queue of prefills in the order they were sent, drained from the head at the prefill rate as time passes,
and put right by what is seen: a first token says that this prefill and all before it are done, an end that the request
is gone. A queue that only ever shrank at the end of requests would make a busy engine look busier than it is.

A request that is only advised about (`observed=False`: the caller sends it, we never hear of it) leaves the queue when
its prefill has drained. Any request is forgotten when it expires, so that what nobody reports cannot stay for ever.

The state: `_queues[engine]` holds every live request of that engine by ticket, oldest first; `_tickets` says in which
queue one is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvsync.routing.candidate import IDLE, Load
from kvsync.types import Engine

EXPIRY_OBSERVED = 1_800.0
EXPIRY_ADVISED = 10.0


@dataclass(slots=True)
class _Work:
    remaining: float
    began: float
    expires: float
    observed: bool
    first_token: float | None = None
    service_seconds: float = 0.0


@dataclass(slots=True)
class _Queue:
    as_of: float
    works: dict[int, _Work] = field(default_factory=dict)
    last_first_token: float = 0.0


class Loads:
    """
    The queues of all engines. Not thread-safe; time is an argument and is never expected to go back.
    """

    def __init__(self) -> None:
        self._queues: dict[Engine, _Queue] = {}
        self._tickets: dict[int, Engine] = {}
        self._next = 0

    def __repr__(self) -> str:
        return f"<Loads engines={len(self._queues)} requests={len(self._tickets)}>"

    def begin(self, engine: Engine, prefill_tokens: int, now: float, *, rate: float, observed: bool = True) -> int:
        """A request with so many tokens to compute goes to `engine`; gives its ticket."""
        queue = self._queues.get(engine)
        if queue is None:
            queue = self._queues[engine] = _Queue(as_of=now)
        self._drain(queue, now, rate)
        ticket, self._next = self._next, self._next + 1
        expires = now + (EXPIRY_OBSERVED if observed else EXPIRY_ADVISED)
        queue.works[ticket] = _Work(float(prefill_tokens), now, expires, observed)
        self._tickets[ticket] = engine
        return ticket

    def first_token(self, ticket: int, now: float) -> None:
        """The request's first token came: its prefill is done, and so are those sent before it."""
        queue = self._queue_of(ticket)
        if queue is None or queue.works[ticket].first_token is not None:
            return
        work = queue.works[ticket]
        work.first_token = now
        # Its prefill began when it was sent, or when the engine was done with the one before.
        work.service_seconds = now - max(work.began, queue.last_first_token)
        queue.last_first_token = now
        # Until now the engine was busy with this one; what comes after it has not begun.
        queue.as_of = max(queue.as_of, now)
        for earlier, other in queue.works.items():
            other.remaining = 0.0
            if earlier == ticket:
                break

    def service_seconds(self, ticket: int) -> float | None:
        """How long the prefill took by itself; None before the first token, and when the ticket is gone."""
        queue = self._queue_of(ticket)
        if queue is None or queue.works[ticket].first_token is None:
            return None
        return queue.works[ticket].service_seconds

    def finish(self, ticket: int) -> None:
        """The request is over, whichever way; a ticket that has expired is no error."""
        queue = self._queue_of(ticket)
        if queue is not None:
            self._drop(queue, ticket)

    def forget(self, engine: Engine) -> None:
        """The engine is gone, with everything it had to do."""
        queue = self._queues.pop(engine, None)
        for ticket in queue.works if queue is not None else ():
            del self._tickets[ticket]

    def load(self, engine: Engine, now: float, *, rate: float) -> Load:
        """What the engine has to do now."""
        queue = self._queues.get(engine)
        if queue is None or not queue.works:
            return IDLE
        self._drain(queue, now, rate)
        waiting = [work for work in queue.works.values() if work.first_token is None]
        return Load(sum(work.remaining for work in waiting), len(waiting), len(queue.works) - len(waiting))

    def _drain(self, queue: _Queue, now: float, rate: float) -> None:
        """Let the time since the last look pass: the head of the queue is computed, the expired is dropped."""
        elapsed, queue.as_of = max(now - queue.as_of, 0.0), max(now, queue.as_of)
        budget = elapsed * rate
        for work in queue.works.values():
            done = min(work.remaining, budget)
            work.remaining -= done
            budget -= done
            if not work.observed and not work.remaining and work.first_token is None:
                work.first_token = now
        for ticket in [ticket for ticket, work in queue.works.items() if work.expires <= now]:
            self._drop(queue, ticket)

    def _drop(self, queue: _Queue, ticket: int) -> None:
        del queue.works[ticket]
        del self._tickets[ticket]

    def _queue_of(self, ticket: int) -> _Queue | None:
        engine = self._tickets.get(ticket)
        return None if engine is None else self._queues[engine]
