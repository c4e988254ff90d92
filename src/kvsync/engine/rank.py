"""
One rank at work: a scheduler, its publisher, and the task that lets steps take their time.

The task repeats: errands, a step's decision, its duration, its events out, its tokens out. Whatever else
wants to touch the scheduler (aborts, resets, sleep, the ground truth) is an errand and runs between two
steps, when the cache is exactly what has been published; an idle rank runs it at once. Only new requests
are queued directly.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from kvsync.engine.hashing import HashForm
from kvsync.engine.options import ResetEvents
from kvsync.engine.publisher import Publisher
from kvsync.engine.request import Request
from kvsync.engine.scheduler import Scheduler, Step
from kvsync.engine.wire import MEDIUM

T = TypeVar("T")

# A step that was late may make up for it, so that rates hold on average; but not for more than this.
_CATCH_UP_S = 0.05


class Rank:
    """
    A scheduler that runs in real time.

    State: the scheduler's, the publisher's, `sleep_level` (0 awake; at 1 and 2 no step runs), and errands
    that wait for the end of the step under way.
    """

    def __init__(
        self, number: int, *, scheduler: Scheduler, publisher: Publisher, hash_form: HashForm, reset_events: ResetEvents
    ) -> None:
        self.number = number
        self.scheduler = scheduler
        self.publisher = publisher
        self.sleep_level = 0
        self._hash_form = hash_form
        self._reset_events = reset_events
        self._errands: deque[Callable[[], None]] = deque()
        self._woken = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Rank {self.number} {self.scheduler!r} sequence={self.publisher.sequence}>"

    @property
    def load(self) -> int:
        """How busy it is, a waiting request counting four times a running one, as engines weigh it."""
        return 4 * len(self.scheduler.waiting) + len(self.scheduler.running)

    @staticmethod
    def clock() -> float:
        """The seconds that steps and latencies are measured in."""
        return asyncio.get_running_loop().time()

    def add(self, request: Request) -> None:
        self.scheduler.add(request)
        self._woken.set()

    def abort(self, request: Request) -> None:
        """Drop a request between two steps; one that has ended is left alone."""
        self._post(lambda: self.scheduler.abort(request))

    async def reset(self, *, preempt: bool = False) -> bool:
        """Empty the cache if no block is in use, or with `preempt` in any case; say whether it was done."""
        return await self._errand(lambda: self._reset(preempt))

    async def sleep(self, level: int, *, keep: bool) -> None:
        """Stop running steps and empty the cache; requests are ended, or with `keep` start over later."""
        await self._errand(lambda: self._fall_asleep(level, keep))

    def wake_up(self) -> None:
        self.sleep_level = 0
        self._woken.set()

    async def truth(self) -> dict[str, Any]:
        """Say what the rank holds, together with the number of the last batch that told of it."""
        return await self._errand(self._truth)

    async def run(self) -> None:
        """Work until cancelled."""
        clock = self.clock
        ends_s = 0.0
        while True:
            self._run_errands()
            step = None if self.sleep_level else self.scheduler.schedule()
            if step is None:
                await self._woken.wait()
                self._woken.clear()
                # Idle time is not lateness: the next step starts when its request comes.
                ends_s = clock()
                continue
            ends_s = max(ends_s, clock() - _CATCH_UP_S) + step.duration_s
            await asyncio.sleep(max(0.0, ends_s - clock()))
            self._complete(step, clock())

    def _complete(self, step: Step, now_s: float) -> None:
        events = self.scheduler.finish(step)
        if events:
            self.publisher.publish(time.time(), events)
        self.scheduler.deliver(step, now_s)

    def _post(self, errand: Callable[[], object]) -> None:
        self._errands.append(lambda: (errand(), None)[1])
        self._woken.set()

    async def _errand(self, errand: Callable[[], T]) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def run() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(errand())
            except Exception as error:  # noqa: BLE001 - whoever asked for it is told
                done.set_exception(error)

        self._post(run)
        return await done

    def _run_errands(self) -> None:
        while self._errands:
            self._errands.popleft()()

    def _reset(self, preempt: bool) -> bool:
        if not self.scheduler.reset(preempt=preempt):
            return False
        pool = self.scheduler.cache.pool
        if self._reset_events == ResetEvents.NEVER:
            pool.events.pop()
        elif self._reset_events == ResetEvents.NOW:
            self.publisher.publish(time.time(), pool.take_events())
        return True

    def _fall_asleep(self, level: int, keep: bool) -> None:
        if not keep:
            self.scheduler.abort_all()
        self._reset(preempt=True)
        self.sleep_level = level

    def _truth(self) -> dict[str, Any]:
        pool = self.scheduler.cache.pool
        show = self._hash_form.show
        groups = {
            str(group): {show(digest): copies for digest, copies in held.items()}
            for group, held in sorted(pool.held().items())
        }
        return {
            "sequence": self.publisher.sequence,
            "pending_events": len(pool.events),
            "media": {MEDIUM: groups} if groups else {},
        }
