"""
Makes a history that fails as short as it can be, failing still.

Operations are left out in ever smaller runs, as long as that helps; then engines that nothing happens to any more
are gone as well. What remains need not fail for the same reason: whatever it shows is a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from kvsync.testing.faults.history import History, Operation

Fails: TypeAlias = Callable[[History], bool]

TRIES_MAX = 4_000


def shrink(history: History, fails: Fails) -> History:
    """
    The shortest history found that fails, given one that does.
    """
    tries = 0

    def fails_still(candidate: History) -> bool:
        nonlocal tries
        tries += 1
        return tries <= TRIES_MAX and fails(candidate)

    shorter = _without_runs(history, fails_still)
    return _with_one_engine(shorter, fails_still)


def _without_runs(history: History, fails: Fails) -> History:
    size = max(1, len(history.operations) // 2)
    while True:
        before = len(history.operations)
        at = 0
        while at < len(history.operations):
            kept = history.operations[:at] + history.operations[at + size :]
            candidate = replace(history, operations=kept)
            if fails(candidate):
                history = candidate
            else:
                at += size
        if size == 1 and len(history.operations) == before:
            return history
        size = max(1, size // 2)


def _with_one_engine(history: History, fails: Fails) -> History:
    engines = history.setup.engines
    for place in range(len(engines)) if len(engines) > 1 else ():
        operations = tuple(Operation(each.kind, 0, each.dice) for each in history.operations if each.engine == place)
        candidate = replace(history, setup=replace(history.setup, engines=(engines[place],)), operations=operations)
        if fails(candidate):
            return candidate
    return history
