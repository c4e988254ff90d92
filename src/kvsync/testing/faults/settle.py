"""
Lets faults cease, and says who is not well again in the stated time.

Every connection comes back, nobody is wedged, nothing more is lost. From then on an engine that can become exact does:

    1 s      where frames flow, 10 s where the engine is silent
    + the time-out of a replay, if an answer that is still waited for has been lost
    + 10 s   if a hole was given up before, because nobody answered: it is tried again that often
    + 10 s   for every 16 numbers below an over-size frame with which the buffer begins: its number is guessed, upwards

Who can: an engine with a replay port whose buffer reaches back to the beginning of its life, in which nothing is
damaged; or nothing since it last cleared its cache, for the GPU. All others are at least followed to their last number.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from kvsync.stream.answers import OVERSIZE_ROW_MAX
from kvsync.testing.faults.checker import Violation, check
from kvsync.testing.faults.engine import CPU
from kvsync.testing.faults.followed import Followed
from kvsync.testing.faults.world import MODEL, World
from kvsync.types import GPU, Trust

TICK_S = 0.1
FLOWING_S = 1.0
SILENT_S = 10.0
AGAIN_S = 10.0
SLACK_S = 0.35
"""A tick each way, and the quarter second after which a line is known to be given up."""

SPECS = ("vllm-0.24.0", "vllm-0.33.0")
"""Releases that say which group is a sliding window."""

REPLAYS_MAX = 60
"""More questions than that from one engine, in so short a time and without a fault, are a storm."""


def settle(world: World) -> None:
    """
    Let faults cease; Violation for an engine that is not well again in time, or for whatever is untrue meanwhile.
    """
    random = Random(0)
    _heal(world)
    asked_max = {
        followed.engine: followed.asked + REPLAYS_MAX + 2 * OVERSIZE_ROW_MAX * guesses(followed)
        for followed in world.followed
    }
    until = world.now + limit_s(world)
    owed = False
    while True:
        _let_all_arrive(world, random)
        ailing = next(_ailing(world), None)
        if ailing is None:
            break
        if world.now >= until:
            raise Violation(f"convergence: {ailing}")
        if not owed and any(followed.sequence.owes_rebuild for followed in world.followed):
            owed, until = True, max(until, world.now + AGAIN_S + SLACK_S)
        world.pass_time(TICK_S)
    for followed in world.followed:
        if followed.asked > (most := asked_max[followed.engine]):
            raise Violation(f"convergence: {followed.engine} was asked {followed.asked} times, {most} are too many")
    _match(world, random)


def limit_s(world: World) -> float:
    """How long it may take until all are well again, if nothing was given up."""
    limit = SLACK_S + (FLOWING_S if world.setup.flows else SILENT_S)
    if any(followed.sequence.asked is not None for followed in world.followed):
        limit += world.options.replay_timeout_s
    return limit + AGAIN_S * max(map(guesses, world.followed))


def guesses(followed: Followed) -> int:
    """How many probes it may take to find out which number an over-size frame has that begins the buffer."""
    kept = followed.truth.kept
    return kept[0].number // OVERSIZE_ROW_MAX if kept and kept[0].oversize else 0


def _heal(world: World) -> None:
    world.say("faults cease")
    for followed in world.followed:
        followed.truth.wedged_until = 0.0


def _let_all_arrive(world: World, random: Random) -> None:
    for followed in world.followed:
        followed.line.connect(followed.truth.number)
        if world.setup.flows and (batch := followed.truth.serve(random)):
            followed.published[batch.payload] = batch
            followed.line.send(batch)
        world.pump(followed, len(followed.line.messages))
        for _ in range(REPLAYS_MAX):
            followed.asking.serve(followed.truth.kept, followed.truth.number)
            if not followed.asking.answer:
                break
            world.read_answer(followed, len(followed.asking.answer))
        check(followed, world.index, world.options)


def _ailing(world: World) -> Iterator[str]:
    for followed in world.followed:
        life, sequence = followed.truth.life, followed.sequence
        who = f"{followed.engine} in life {followed.truth.number} at {life.last}"
        if not sequence.connected:
            yield f"{who} is not connected"
        has_to = followed.truth.setup.replay or (world.setup.flows and life.last is not None)
        if has_to and sequence.applied != life.last and life.last not in life.damaged:
            yield f"{who} is followed to {sequence.applied}; {sequence!r}"
        if has_to and followed.recorded not in (None, followed.truth.number):
            yield f"{who} is followed in life {followed.recorded}; {sequence!r}"
        for medium in can_be_exact(followed):
            if life.last is not None and (trust := world.index.trust(followed.engine, medium)) is not Trust.EXACT:
                known = world.index.record(followed.engine).media if followed.engine in world.index.engines() else {}
                if medium in known or medium == GPU:
                    yield f"{who} is {trust} on {medium}; {sequence!r}"


def can_be_exact(followed: Followed) -> list[str]:
    """
    The media of an engine on which it can be exact.

    Where its buffer begins with a frame that is too large to receive, an answer that was lost is not made up for: a
    record that is true as far as it goes is not dropped for a beginning that cannot be had.
    """
    truth, life = followed.truth, followed.truth.life
    if not truth.setup.replay or not truth.keeps_the_beginning or (truth.kept and truth.kept[0].oversize):
        return []
    if life.is_whole_since(0):
        return [GPU] if life.cleared is not None else [GPU, CPU]
    return [GPU] if life.cleared is not None and life.is_whole_since(life.cleared) else []


def _match(world: World, random: Random) -> None:
    """A prompt is matched as far as the engine itself would find it."""
    for followed in world.followed:
        setup = followed.truth.setup
        told = setup.extras and (setup.window is None or setup.wire in SPECS)
        if GPU not in can_be_exact(followed) or setup.tier or not told or followed.truth.life.last is None:
            continue
        for _ in range(4):
            request = followed.truth.request(random)
            request.tokens.append(0)
            found = world.index.match(
                request.tokens[:-1],  # an engine computes at least one token
                model=MODEL,
                lora=None if request.asked.lora is None else request.asked.lora.name,
                cache_salt=request.asked.cache_salt,
            ).get(followed.engine)
            truly, mine = followed.truth.cache.look_up(request).tokens, 0 if found is None else found.tokens
            followed.truth.cache.pool.events.clear()
            if truly != mine:
                raise Violation(f"match: {followed.engine} would spare {truly} tokens of {request!r}, matched {mine}")
