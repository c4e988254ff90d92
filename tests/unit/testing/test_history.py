"""Made-up histories are the same for the same seed, true where they should be, and leave no path untrodden."""

from __future__ import annotations

from collections import Counter

from kvsync.testing.compare import COUNTERS, play
from kvsync.testing.history import CALM, Apply, Clear, Doubt, History, Remove, Restart
from kvsync.testing.model import ModelIndex
from kvsync.types import Trust

SEEDS = range(20)
STEPS = 60
NOT_IN_SHORT_ONES = {"orphans_dropped"}  # takes 16,384 orphans


def test_the_same_seed_is_the_same_history() -> None:
    """Operations and questions come again, as often as one asks; another seed has others."""
    history = History(5, steps=40)
    assert list(history) == list(history) == list(History(5, steps=40))
    assert history.questions(9, 3) == History(5).questions(9, 3)
    assert list(History(6, steps=40)) != list(history)
    assert history.questions(9, 4) != history.questions(9, 3)


def test_histories_tread_every_path() -> None:
    """Over a few seeds every kind of operation comes, every counter moves, every trust and dialect is seen."""
    operations: Counter[type] = Counter()
    counters: Counter[str] = Counter()
    seen: set[object] = set()
    for seed in SEEDS:
        with ModelIndex() as model:
            for operation in History(seed, steps=STEPS):
                play(model, operation)
                operations[type(operation)] += 1
            for engine in model.engines():
                record = model.record(engine)
                counters.update(record.counters)
                seen |= {record.trust, record.dialect, record.lives > 1, record.orphans > 0}
                seen |= {("media", len(record.media) > 2), ("media", len(record.media) > 4)}
    assert set(operations) == {Apply, Clear, Doubt, Restart, Remove}
    assert {name for name in COUNTERS if not counters[name]} <= NOT_IN_SHORT_ONES
    assert seen >= {Trust.EXACT, Trust.PARTIAL, Trust.STALE, "absent", "untagged", "tagged", True, False}


def test_questions_find_something() -> None:
    """Enough questions are answered, some by several blocks, media and engines, for answers to mean something."""
    blocks: Counter[int] = Counter()
    media, engines = 0, 0
    for seed in SEEDS[:10]:
        history = History(seed, steps=STEPS)
        with ModelIndex() as model:
            for operation in history:
                play(model, operation)
            for question in history.questions(20, 0):
                prompt = question.prompt
                found = model.match(
                    prompt.tokens,
                    model=question.model,
                    lora=prompt.lora,
                    cache_salt=prompt.cache_salt,
                    extra_keys=prompt.extra_keys,
                )
                blocks.update(match.blocks for match in found.values())
                media += any(len(match.by_medium) > 1 for match in found.values())
                engines += len(found) > 1
    assert sum(blocks.values()) > 100
    assert len(blocks) > 10
    assert media > 10
    assert engines > 10


def test_calm_engines_tell_the_truth() -> None:
    """An engine that leaves nothing out ends exact, or partial if its beginning was not heard."""
    seen = set()
    for seed in SEEDS[10:]:
        history = History(seed, steps=STEPS)
        with ModelIndex() as model:
            for operation in history:
                play(model, operation)
            for actor in history.actors():
                if actor.temper is CALM and actor.engine in model.engines():
                    record = model.record(actor.engine)
                    seen.add(record.media["GPU"].trust)
                    assert record.orphans == 0
                    assert not any(record.counters[name] for name in COUNTERS if name.startswith("skipped"))
    assert Trust.EXACT in seen
    assert seen <= {Trust.EXACT, Trust.PARTIAL}
