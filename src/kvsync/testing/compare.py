"""
Hold two indexes against each other: the same operations, and everything that can be seen must be the same.

One is the plain model, the other what is to be trusted. The first difference is told in a sentence that names
the seed and the step, so that it can be had again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from kvsync.errors import KvsyncError
from kvsync.testing.history import Apply, Clear, Doubt, History, Operation, Question, Remove, Restart
from kvsync.types import Applied, Engine, EngineHash, ExtraKeys, Match, Trust

COUNTERS = (
    "frames",
    "duplicate",
    "gaps",
    "stored",
    "removed",
    "cleared",
    "reannounced",
    "skipped_type",
    "skipped_range",
    "skipped_hash",
    "skipped_depth",
    "skipped_truncated",
    "skipped_limit",
    "skipped_batch",
    "unknown_tag",
    "unknown_field",
    "trailing",
    "removed_unknown",
    "parent_missing",
    "placeholders",
    "masked",
    "retied",
    "orphans_dropped",
)
"""The counters whose meaning docs/design/index.md fixes."""

RECORD = ("model", "trust", "sequence", "lives", "block_size", "dialect", "orphans")


class AnyIndex(Protocol):
    """What is compared of an index."""

    def apply(self, engine: Engine, payload: bytes, *, model: str, sequence: int | None = None) -> Applied: ...
    def match(
        self,
        tokens: Any,
        *,
        model: str,
        lora: str | None = None,
        cache_salt: str | None = None,
        extra_keys: ExtraKeys | None = None,
        engines: Iterable[Engine] | None = None,
    ) -> Mapping[Engine, Match]: ...
    def clear(self, engine: Engine, medium: str | None = None) -> None: ...
    def restart(self, engine: Engine) -> None: ...
    def doubt(self, engine: Engine, reason: str, medium: str | None = None) -> None: ...
    def remove(self, engine: Engine) -> None: ...
    def trust(self, engine: Engine, medium: str | None = None) -> Trust: ...
    def engines(self) -> list[Engine]: ...
    def record(self, engine: Engine) -> Any: ...
    def engine_hashes(self, engine: Engine) -> Mapping[str, Mapping[int, Mapping[EngineHash, int]]]: ...


class Differs(AssertionError):
    """The two indexes do not agree."""


def play(index: AnyIndex, operation: Operation) -> Applied | None:
    """
    Do one operation; what it says it did, if it says anything.

    Telling an index about an engine or a medium it never heard of is no difference, whatever it answers.
    """
    try:
        match operation:
            case Apply(engine, model, payload, sequence):
                return index.apply(engine, payload, model=model, sequence=sequence)
            case Clear(engine, medium):
                index.clear(engine, medium)
            case Restart(engine):
                index.restart(engine)
            case Doubt(engine, medium):
                index.doubt(engine, "told", medium)
            case Remove(engine):
                index.remove(engine)
    except (KvsyncError, KeyError):
        if isinstance(operation, Apply):
            raise
    return None


def compare_history(index: AnyIndex, model: AnyIndex, history: History, *, questions: int = 4, every: int = 1) -> None:
    """
    Play a history to both and compare after each operation; Differs tells the first difference.

    `questions` are asked after every operation; the record and hashes of the engine it was about are looked at after
    every `every`-th, those of all engines at the end.
    """
    for step, operation in enumerate(history, start=1):
        where = f"seed {history.seed}, step {step}, {_told(operation)}"
        _check(f"{where}: applied", play(index, operation), play(model, operation))
        compare_answers(index, model, history.questions(questions, step), where)
        if step % every == 0 and operation.engine in model.engines():
            compare_record(index, model, operation.engine, where)
    compare_records(index, model, f"seed {history.seed}, at the end")


def compare_lower(index: AnyIndex, model: AnyIndex, history: History, *, questions: int = 2) -> Iterator[int]:
    """
    Play a history to both; Differs where the index believes more than the model, which it may not.

    For an index with a ceiling on its memory: what it gave up is missing, and nothing else is wrong. Stops after each
    operation and says its number. Only for engines that tell the whole truth: what a lie does depends on trust.
    """
    for step, operation in enumerate(history, start=1):
        where = f"seed {history.seed}, step {step}, {_told(operation)}"
        play(index, operation)
        play(model, operation)
        _check_less(where, _flat(index, operation.engine), _flat(model, operation.engine))
        for question in history.questions(questions, step):
            mine, its = (
                {engine: answer[0] for engine, answer in _ask(each, question).items()} for each in (index, model)
            )
            _check_less(f"{where}: match of {question}", mine, its)
        yield step


def _flat(index: AnyIndex, engine: Engine) -> dict[tuple[str, int, EngineHash], int]:
    return {
        (medium, group, engine_hash): copies
        for medium, groups in index.engine_hashes(engine).items()
        for group, hashes in groups.items()
        for engine_hash, copies in hashes.items()
    }


def _check_less(where: str, mine: Mapping[Any, Any], its: Mapping[Any, Any]) -> None:
    for key, value in mine.items():
        if value > its.get(key, 0):
            raise Differs(f"{where}: {key}: {value!r}, the model says {its.get(key, 0)!r}")


def compare_answers(index: AnyIndex, model: AnyIndex, questions: Iterable[Question], where: str = "") -> None:
    """Ask both the same; Differs for the first answer that is not the same."""
    for question in questions:
        answers = [_ask(each, question) for each in (index, model)]
        _check(f"{where}: match of {question}", *answers)


def compare_records(index: AnyIndex, model: AnyIndex, where: str = "") -> None:
    """Look at everything both know of every engine; Differs for the first thing that is not the same."""
    _check(f"{where}: engines", sorted(index.engines()), sorted(model.engines()))
    for engine in model.engines():
        compare_record(index, model, engine, where)
        for medium in (None, "gpu", "never named"):
            _check(f"{where}: {engine} trust on {medium}", index.trust(engine, medium), model.trust(engine, medium))


def compare_record(index: AnyIndex, model: AnyIndex, engine: Engine, where: str = "") -> None:
    """Look at everything both know of one engine; Differs for the first thing that is not the same."""
    mine, its = dict(_seen(index, engine)), dict(_seen(model, engine))
    for name in {**its, **mine}:
        _check(f"{where}: {engine} {name}", mine.get(name), its.get(name))


def _ask(index: AnyIndex, question: Question) -> dict[Engine, tuple[object, ...]]:
    prompt = question.prompt
    found = index.match(
        list(prompt.tokens),
        model=question.model,
        lora=prompt.lora,
        cache_salt=prompt.cache_salt,
        extra_keys=list(prompt.extra_keys) or None,
    )
    return {
        engine: (match.blocks, match.tokens, dict(match.by_medium), match.certain, match.trust)
        for engine, match in found.items()
    }


def _seen(index: AnyIndex, engine: Engine) -> Iterator[tuple[str, object]]:
    """Everything there is to see of one engine, by name."""
    record = index.record(engine)
    for medium, groups in sorted(index.engine_hashes(engine).items()):
        for group, hashes in sorted(groups.items()):
            yield f"hashes on {_shown(medium)} of group {group}", dict(hashes)
    yield (
        "media",
        {_shown(name): (medium.trust, medium.entries, medium.doubtful) for name, medium in record.media.items()},
    )
    for name in RECORD:
        yield name, getattr(record, name)
    yield "counters", {name: record.counters.get(name, 0) for name in COUNTERS}


def _shown(medium: str) -> str:
    """A medium's name with whatever is not text in it escaped: the model keeps it as it came."""
    return medium.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _check(what: str, mine: object, its: object) -> None:
    if mine == its:
        return
    if isinstance(mine, dict) and isinstance(its, dict):
        keys = [key for key in {**mine, **its} if mine.get(key) != its.get(key)]
        some = "; ".join(f"{key}: {mine.get(key)!r}, the model says {its.get(key)!r}" for key in keys[:4])
        raise Differs(f"{what}: {len(keys)} differ: {some}")
    raise Differs(f"{what}: {mine!r}, the model says {its!r}")


def _told(operation: Operation) -> str:
    if isinstance(operation, Apply):
        return f"frame {operation.sequence} of {operation.engine} ({len(operation.payload)} bytes)"
    return repr(operation)
