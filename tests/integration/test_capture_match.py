"""
Prompts cut from recorded streams, asked of the C index and of the model, with the streams heard whole, from the middle
on, and with frames missing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kvsync.index import Index
from kvsync.testing.compare import AnyIndex, compare_answers, compare_records
from kvsync.testing.history import Question
from kvsync.testing.model import ModelIndex
from kvsync.testing.prompts import Prompt, books_of
from kvsync.testing.truth import LiveFrame, live_frames
from kvsync.types import Engine, EngineHash, Trust

CAPTURES = sorted((Path(__file__).parents[1] / "data" / "captures").glob("*.msgpack"))
NAMES = [capture.stem for capture in CAPTURES]
LEAVES_MAX = 40
FILLER = 151_999  # the recordings' tokens are below 151,000
LOOK_EVERY = 25


@pytest.fixture(params=CAPTURES, ids=NAMES)
def capture(request: pytest.FixtureRequest) -> Path:
    """Each recording."""
    path = request.param
    assert isinstance(path, Path)
    return path


@contextmanager
def three() -> Iterator[tuple[Index, ModelIndex, ModelIndex]]:
    """The C index, the model, and a model that hears everything: the truth (test_capture_truth)."""
    with Index(seed=3) as index, ModelIndex() as model, ModelIndex() as truth:
        yield index, model, truth


def apply(indexes: tuple[AnyIndex, ...], frame: LiveFrame, last: dict[int, int]) -> None:
    """Apply a frame to all, after a restart where its number says so."""
    engine = Engine("pod", frame.rank)
    for index in indexes:
        if frame.sequence <= last.get(frame.rank, -1):
            index.restart(engine)
        index.apply(engine, frame.payload, model="m", sequence=frame.sequence)


def questions(capture: Path) -> list[Question]:
    """Prompts of the recording: whole, cut, gone on with, parted, and asked with another adapter, salt or image."""
    rng = random.Random(capture.stem)
    asked: list[Prompt] = []
    for book in books_of(capture).values():
        leaves = book.leaves()
        for leaf in rng.sample(leaves, min(len(leaves), LEAVES_MAX)):
            prompt = book.prompt(leaf)
            at = rng.randrange(len(prompt.tokens))
            parted = (*prompt.tokens[:at], FILLER, *prompt.tokens[at + 1 :])
            asked += [
                prompt,
                prompt.first(rng.randrange(len(prompt.tokens))),
                prompt.then([FILLER] * 40),
                replace(prompt, tokens=parted),
                replace(prompt, lora="adapter-1" if prompt.lora is None else None),
                replace(prompt, cache_salt="tenant-1" if prompt.cache_salt is None else None),
                replace(prompt, extra_keys=(("image", at, 24),) if not prompt.extra_keys else ()),
            ]
    return [Question("m", prompt) for prompt in asked]


def test_prompts_of_a_whole_stream(capture: Path) -> None:
    """After half of the stream and after all of it both answer every prompt alike, and many are found."""
    frames = list(live_frames(capture))
    asked = questions(capture)
    last: dict[int, int] = {}
    found = 0
    with three() as (index, model, _):
        for heard, frame in enumerate(frames, start=1):
            apply((index, model), frame, last)
            last[frame.rank] = frame.sequence
            if heard in (len(frames) // 2, len(frames)):
                compare_answers(index, model, asked, f"{capture.stem} after {heard} frames")
                compare_records(index, model, f"{capture.stem} after {heard} frames")
                found += sum(bool(index.match(list(each.prompt.tokens), model="m")) for each in asked)
    assert found > len(asked) / 10


def test_a_late_listener_knows_a_lower_bound(capture: Path) -> None:
    """Heard from the middle on, a stream gives nothing that is not held, and both say the same of it."""
    frames = list(live_frames(capture))
    asked = questions(capture)
    last: dict[int, int] = {}
    joined = len(frames) // 3
    with three() as (index, model, truth):
        for heard, frame in enumerate(frames):
            late: tuple[AnyIndex, ...] = (index, model) if heard >= joined else ()
            apply((truth, *late), frame, last)
            last[frame.rank] = frame.sequence
            if late and heard % LOOK_EVERY == 0:
                check_lower_bound(index, truth)
        compare_records(index, model, capture.stem)
        compare_answers(index, model, asked, capture.stem)
        check_matches_lower(index, truth, asked)


@pytest.mark.parametrize("seed", range(2))
def test_with_frames_missing_only_the_doubtful_may_be_untrue(capture: Path, seed: int) -> None:
    """After holes both say the same, and what was told since the last hole is held."""
    rng = random.Random(seed)
    last: dict[int, int] = {}
    with three() as (index, model, truth):
        for heard, frame in enumerate(live_frames(capture)):
            is_new_life = frame.sequence <= last.get(frame.rank, -1)
            is_lost = rng.random() < 0.02 and frame.sequence > 0 and not is_new_life
            apply((truth, index, model) if not is_lost else (truth,), frame, last)
            last[frame.rank] = frame.sequence
            if heard % LOOK_EVERY == 0:
                compare_records(index, model, f"{capture.stem} seed {seed} frame {heard}")
                for engine in index.engines():
                    record = index.record(engine)
                    assert record.trust is Trust.EXACT or record.counters["gaps"] > 0
                if not is_lost:
                    check_lower_bound(model, truth)
        compare_answers(index, model, questions(capture)[::5], capture.stem)


def certain_hashes(index: AnyIndex, engine: Engine) -> Mapping[tuple[int, EngineHash], int]:
    """What is held on the GPU and not doubtful; all of it where the index does not tell which is doubtful."""
    doubtful: set[tuple[int, EngineHash]] = set()
    if isinstance(index, ModelIndex):
        doubtful = index.doubtful_hashes(engine)
    return {
        (group, engine_hash): copies
        for group, hashes in index.engine_hashes(engine).get("GPU", {}).items()
        for engine_hash, copies in hashes.items()
        if (group, engine_hash) not in doubtful
    }


def check_lower_bound(index: AnyIndex, truth: ModelIndex) -> None:
    """Nothing is believed that is not so, and no more copies than there are."""
    for engine in index.engines():
        held = certain_hashes(truth, engine)
        for key, copies in certain_hashes(index, engine).items():
            assert copies <= held.get(key, 0), (engine, key)


def check_matches_lower(index: Index, truth: ModelIndex, asked: list[Question]) -> None:
    """No prompt matches more than the truth does."""
    for question in asked:
        prompt = question.prompt
        with_what = {
            "lora": prompt.lora,
            "cache_salt": prompt.cache_salt,
            "extra_keys": list(prompt.extra_keys) or None,
        }
        mine = index.match(list(prompt.tokens), model="m", **with_what)  # type: ignore[arg-type]
        its = truth.match(prompt.tokens, model="m", **with_what)  # type: ignore[arg-type]
        for engine, match in mine.items():
            assert match.blocks <= its[engine].blocks
