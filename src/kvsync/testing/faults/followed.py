"""
One engine in the simulation, from both sides: what it truly does, and what the daemon has of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvsync.stream.sequence import Sequence
from kvsync.testing.faults.engine import Batch, TrueEngine
from kvsync.testing.faults.wires import Asking, Line
from kvsync.types import Engine


@dataclass(slots=True)
class Followed:
    """
    One engine, as it is and as the daemon has it.

    `connected_to` is the life that the daemon was last told of, `recorded` the life whose batches the record holds
    (None: nothing was applied yet), `met` all lives that the sequence has heard of for this record. It was told `told`
    frames, and asked `asked` questions; `published` says what a payload was.
    """

    engine: Engine
    truth: TrueEngine
    sequence: Sequence
    line: Line = field(default_factory=Line)
    asking: Asking = field(default_factory=Asking)
    connected_to: int = 0
    recorded: int | None = None
    told: int = 0
    asked: int = 0
    met: set[int] = field(default_factory=set)
    published: dict[bytes, Batch] = field(default_factory=dict)
