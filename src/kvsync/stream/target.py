"""
What this room asks of an index, and how its instructions are carried out on one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kvsync.stream.instructions import Apply, Confirm, Doubt, Drop, Empty, Instruction, Payload, RequestReplay, Reset
from kvsync.types import Applied, Engine


class Target(Protocol):
    """The writing half of `kvsync.index.Index`, and of the plain model that checks it."""

    def apply(self, engine: Engine, payload: Payload, *, model: str, sequence: int | None = None) -> Applied: ...

    def restart(self, engine: Engine) -> None: ...

    def clear(self, engine: Engine) -> object: ...

    def doubt(self, engine: Engine, reason: str) -> None: ...

    def confirm(self, engine: Engine) -> None: ...

    def remove(self, engine: Engine) -> None: ...


def carry_out(instruction: Instruction, target: Target, engine: Engine, model: str) -> None:
    """
    Do to an index what an instruction says; one that is not about the index does nothing.
    """
    match instruction:
        case Apply(sequence, payload):
            target.apply(engine, payload, model=model, sequence=sequence)
        case Reset():
            target.restart(engine)
        case Empty():
            target.clear(engine)
        case Doubt(reason):
            target.doubt(engine, reason)
        case Confirm():
            target.confirm(engine)
        case RequestReplay() | Drop():
            pass


def carry_out_all(instructions: Iterable[Instruction], target: Target, engine: Engine, model: str) -> None:
    """
    Carry out one after the other.
    """
    for instruction in instructions:
        carry_out(instruction, target, engine, model)
