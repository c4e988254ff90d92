"""
What an engine's own HTTP signals prove against our record of it: the whole policy, as plain functions.

A cache can be emptied without an event: an engine that is reset or put to sleep while idle announces that with its
next step, which may be hours away. What the engine says of itself over HTTP shows some of these cases.

    says                                         proves                                  verdict
    it sleeps, its memory given away             nothing of the record is there          doubt all media
    it is paused                                 nothing: the cache stays                none (it gets no requests)
    a counter that only grows went back,         the process began anew                  doubt all media
      and the stream saw no restart meanwhile
    the record has more than twice the blocks    some are not there (a block may have    doubt the GPU
      of the engine's pool                         a second hash, for a part of it)
    SGLang: the GPU holds far fewer tokens than  most of the record is not there         doubt the GPU
      the record, twice in a row, no event between
    few blocks are in use (vLLM's usage)         nothing: cached blocks that are free    none
                                                 are not in it, and an idle engine
                                                 with a full cache says 0
    nothing: HTTP is refused, late or wrong      nothing, while the event connection     none (reported)
                                                 lives

So a reset of an idle vLLM that stays awake cannot be seen from outside. It costs at most one request that finds less
than predicted: the step that serves it announces the reset first.

A verdict is only ever doubt, never a clear: events from before the moment of the reading may still be on their way.
Doubt is safe: what is stored again, or cleared by the engine, is believed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kvsync.serve.engine_metrics import Reading, Sleep
from kvsync.types import GPU

BLOCKS_SHARE_MAX = 2.0
"""A record may hold so many times the engine's blocks."""

TOKENS_SHARE_MIN = 0.5
"""An engine that holds less than this share of the record's tokens has lost them."""

TOKENS_SLACK = 4_096
"""Tokens that a gauge, refreshed once a step, may be behind."""


class Cause(StrEnum):
    """Why a record is doubted; the value is what the record's `reason` says."""

    ASLEEP = "the engine sleeps"
    ANEW = "the engine's counters began anew"
    TOO_MANY = "more blocks than the engine has"
    TOO_FEW = "the engine holds far fewer blocks"


@dataclass(frozen=True, slots=True)
class Known:
    """
    What we know of the engine, read after its answer came: GPU `entries`, how many of all media's are `certain`,
    tokens in a block (0: not learned), the last number applied, and the life that the record is of.
    """

    entries: int
    certain: int
    block_size: int
    sequence: int | None
    lives: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """The verdict: doubt what the record holds on `medium`, None for all."""

    cause: Cause
    medium: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """One look at an engine: what it said, and what we knew then."""

    reading: Reading
    known: Known


def judge(before: Look | None, now: Look) -> Doubt | None:
    """What a look proves, given the one before; None where nothing is proved, or nothing is left to doubt."""
    if not now.known.certain:
        return None
    if now.reading.sleep is Sleep.ASLEEP:
        return Doubt(Cause.ASLEEP, None)
    if before is not None and _began_anew(before, now):
        return Doubt(Cause.ANEW, None)
    total = now.reading.blocks_total
    if total and now.known.entries > BLOCKS_SHARE_MAX * total:
        return Doubt(Cause.TOO_MANY, GPU)
    if before is not None and _is_idle(before, now) and _holds_too_few(before) and _holds_too_few(now):
        return Doubt(Cause.TOO_FEW, GPU)
    return None


def is_serving(readings: list[Reading]) -> bool:
    """Whether requests sent to a pod of these ranks would be computed."""
    return not any(reading.sleep in (Sleep.PAUSED, Sleep.ASLEEP) for reading in readings)


def _began_anew(before: Look, now: Look) -> bool:
    was, is_ = before.reading.lookups, now.reading.lookups
    return was is not None and is_ is not None and is_ < was and before.known.lives == now.known.lives


def _is_idle(before: Look, now: Look) -> bool:
    return before.known.sequence == now.known.sequence


def _holds_too_few(look: Look) -> bool:
    held, ours = look.reading.cached_tokens, look.known.entries * look.known.block_size
    return held is not None and held + TOKENS_SLACK < TOKENS_SHARE_MIN * ours
