"""The scheduler: who computes how much in a step, how long it takes, and what came of it."""

from __future__ import annotations

from array import array

import pytest
from tests.unit.engine.load import make_request, run_step

from kvsync.engine.cache import PrefixCache
from kvsync.engine.events import BlockStored
from kvsync.engine.hashing import BlockHasher
from kvsync.engine.pool import BlockPool
from kvsync.engine.request import Finish, Produced, Request
from kvsync.engine.scheduler import Limits, Scheduler
from kvsync.engine.timing import TimeModel

SIZE = 4
PREFILL_RATE = 1_000.0
DECODE_RATE = 10.0


def tokens(count: int, first: int = 0) -> array[int]:
    """Give so many consecutive token ids."""
    return array("I", range(first, first + count))


def make_scheduler(blocks: int = 64, **limits: int | bool) -> Scheduler:
    """Make a scheduler of 1 ms a prompt token and 100 ms an answer token."""
    cache = PrefixCache(BlockPool(blocks), block_size=SIZE, hasher=BlockHasher(1))
    return Scheduler(cache, Limits(**limits), TimeModel(PREFILL_RATE, DECODE_RATE))  # type: ignore[arg-type]


def heard(request: Request) -> list[Produced]:
    """Listen to what a request produces."""
    produced: list[Produced] = []
    request.sink = produced.append
    return produced


def run_all(scheduler: Scheduler, steps_max: int = 1_000) -> float:
    """Run until nothing is left, and give the time it took."""
    now_s = 0.0
    for _ in range(steps_max):
        step = scheduler.schedule()
        if step is None:
            return now_s
        now_s += step.duration_s
        scheduler.finish(step)
        scheduler.deliver(step, now_s)
    raise AssertionError(f"{scheduler!r} still has work after {steps_max} steps")


def test_an_idle_scheduler_has_no_step() -> None:
    """Nothing to do is None, not an empty step."""
    assert make_scheduler().schedule() is None


def test_prefills_take_their_tokens_time_one_after_the_other() -> None:
    """Two prompts in one step take the time of both."""
    scheduler = make_scheduler()
    scheduler.add(make_request(tokens(30)))
    scheduler.add(make_request(tokens(20, first=100)))
    step = scheduler.schedule()
    assert step is not None
    assert step.duration_s == pytest.approx(50 / PREFILL_RATE)


def test_decodes_run_side_by_side() -> None:
    """A step of three decodes takes the time of one."""
    scheduler = make_scheduler()
    for number in range(3):
        scheduler.add(make_request(tokens(5, first=number * 10)))
    run_step(scheduler)
    step = scheduler.schedule()
    assert step is not None
    assert len(step.parts) == 3
    assert step.duration_s == pytest.approx(1 / DECODE_RATE)


def test_a_prefill_beside_decodes_adds_its_time() -> None:
    """Chunks of a prompt slow the answers beside it down."""
    scheduler = make_scheduler()
    scheduler.add(make_request(tokens(5)))
    run_step(scheduler)
    scheduler.add(make_request(tokens(40, first=50)))
    step = scheduler.schedule()
    assert step is not None
    assert step.duration_s == pytest.approx(1 / DECODE_RATE + 40 / PREFILL_RATE)


def test_the_first_token_comes_with_the_prefill_and_the_rest_one_a_step() -> None:
    """An answer of n tokens takes the prefill and n - 1 decode steps."""
    scheduler = make_scheduler()
    request = make_request(tokens(20), max_tokens=4)
    produced = heard(request)
    scheduler.add(request)
    assert run_all(scheduler) == pytest.approx(20 / PREFILL_RATE + 3 / DECODE_RATE)
    assert [one.finish for one in produced] == [None, None, None, Finish.LENGTH]


def test_cached_blocks_take_no_time() -> None:
    """The second turn pays only for what the cache does not hold, and says what it was spared."""
    scheduler = make_scheduler()
    scheduler.add(make_request(tokens(41), max_tokens=1))
    run_all(scheduler)
    again = make_request(tokens(41), max_tokens=1)
    scheduler.add(again)
    assert run_all(scheduler) == pytest.approx(1 / PREFILL_RATE)
    assert again.cached_tokens == 40
    assert (scheduler.stats.prefix_queries, scheduler.stats.prefix_hits) == (82, 40)


def test_a_long_prompt_is_spread_over_steps() -> None:
    """With chunked prefill a step takes as many tokens as its budget; only the last chunk gives a token."""
    scheduler = make_scheduler(step_tokens=16)
    request = make_request(tokens(40), max_tokens=1)
    produced = heard(request)
    scheduler.add(request)
    counts = []
    while (step := scheduler.schedule()) is not None:
        counts.append(step.parts[0][1])
        scheduler.finish(step)
        scheduler.deliver(step, 0.0)
    assert counts == [16, 16, 8]
    assert len(produced) == 1


def test_without_chunks_a_prompt_waits_for_a_step_that_holds_it() -> None:
    """A prompt that does not fit beside the others is not begun, and nobody overtakes it."""
    scheduler = make_scheduler(step_tokens=40, chunked_prefill=False)
    for number, length in enumerate((30, 20, 5)):
        scheduler.add(make_request(tokens(length, first=number * 50), max_tokens=2))
    step = scheduler.schedule()
    assert step is not None
    assert [count for _, count in step.parts] == [30]


def test_no_more_requests_run_than_allowed() -> None:
    """The rest wait, first come first served."""
    scheduler = make_scheduler(running_max=2)
    requests = [make_request(tokens(5, first=10 * number), name=f"r{number}") for number in range(4)]
    for request in requests:
        scheduler.add(request)
    run_step(scheduler)
    assert scheduler.running == requests[:2]
    assert list(scheduler.waiting) == requests[2:]


def test_a_request_hits_what_the_one_before_it_is_about_to_compute() -> None:
    """Blocks are named when they are given out, so the second of two equal prompts in one step reuses them."""
    scheduler = make_scheduler()
    first, second = make_request(tokens(21), max_tokens=2), make_request(tokens(21), max_tokens=2)
    scheduler.add(first)
    scheduler.add(second)
    step = scheduler.schedule()
    assert step is not None
    assert [count for _, count in step.parts] == [21, 1]


def test_equal_requests_that_decode_together_store_each_block_twice() -> None:
    """Both fill the same block at once and each announces its copy."""
    scheduler = make_scheduler()
    for _ in range(2):
        scheduler.add(make_request(tokens(5), max_tokens=5))
    stores: dict[bytes, int] = {}
    while (done := run_step(scheduler)) is not None:
        for event in done[1]:
            assert isinstance(event, BlockStored)
            for digest in event.hashes:
                stores[digest] = stores.get(digest, 0) + 1
    assert sorted(stores.values()) == [1, 2]


def test_the_youngest_is_preempted_when_blocks_run_out_and_starts_over_first() -> None:
    """Its blocks go to the older one; it heads the queue, keeps its answer so far, and ends as if undisturbed."""
    undisturbed = make_scheduler()
    alone = make_request(tokens(8, first=50), max_tokens=12)
    wanted = heard(alone)
    undisturbed.add(alone)
    run_all(undisturbed)

    scheduler = make_scheduler(blocks=8)
    old, young = make_request(tokens(8), max_tokens=12), make_request(tokens(8, first=50), max_tokens=12)
    got = heard(young)
    scheduler.add(old)
    scheduler.add(young)
    run_all(scheduler)
    assert (old.preemptions, young.preemptions) == (0, 1)
    assert scheduler.stats.preemptions == 1
    assert got == wanted


def test_nobody_is_admitted_in_a_step_that_preempted() -> None:
    """A freed block is not given to a newcomer at once."""
    scheduler = make_scheduler(blocks=6)
    for number in range(3):
        scheduler.add(make_request(tokens(7, first=10 * number), max_tokens=6, name=f"r{number}"))
    parts: list[int] = []
    while not scheduler.stats.preemptions:
        done = run_step(scheduler)
        assert done is not None
        parts.append(len(done[0].parts))
    assert parts[-1] == parts[-2] - 1


@pytest.mark.parametrize("steps", [0, 1])
def test_an_aborted_request_gives_its_blocks_back_and_says_so(steps: int) -> None:
    """Waiting or running, it ends with abort, and nothing of it stays in use."""
    scheduler = make_scheduler()
    request = make_request(tokens(20))
    produced = heard(request)
    scheduler.add(request)
    for _ in range(steps):
        run_step(scheduler)
    assert scheduler.abort(request)
    assert produced[-1] == Produced(None, Finish.ABORT)
    assert (scheduler.cache.pool.used_count, scheduler.has_work) == (0, False)
    assert not scheduler.abort(request)


def test_a_reset_with_preemption_succeeds_while_requests_run() -> None:
    """Running requests start over, in their order, and the cache is empty."""
    scheduler = make_scheduler()
    requests = [make_request(tokens(9, first=20 * number), name=f"r{number}") for number in range(2)]
    for request in requests:
        scheduler.add(request)
    run_step(scheduler)
    assert not scheduler.reset()
    assert scheduler.reset(preempt=True)
    assert list(scheduler.waiting) == requests
    assert scheduler.cache.pool.held() == {}


def test_what_a_step_announced_is_taken_once() -> None:
    """Events belong to the step that made them; a step of quiet decodes has none."""
    scheduler = make_scheduler()
    scheduler.add(make_request(tokens(9)))
    first, second = run_step(scheduler), run_step(scheduler)
    assert first is not None
    assert second is not None
    assert (len(first[1]), second[1]) == (1, [])


def test_first_token_and_whole_request_are_timed_from_arrival() -> None:
    """Latencies are counted once a request, in the clock the caller passes."""
    scheduler = make_scheduler()
    scheduler.add(make_request(tokens(9), max_tokens=2))
    run_step(scheduler, now_s=0.03)
    run_step(scheduler, now_s=0.5)
    stats = scheduler.stats
    assert (stats.first_token_s.total, stats.whole_request_s.total) == (0.03, 0.5)
    assert stats.first_token_s.cumulative()[-1] == ("+Inf", 1)
    assert (stats.prompt_tokens, stats.generation_tokens, stats.ends[Finish.LENGTH]) == (9, 2, 1)
