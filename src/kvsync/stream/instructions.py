"""
What the order of a stream leads to: the orders that `Sequence` gives and a subscriber obeys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Payload: TypeAlias = bytes | memoryview
"""One event batch as it came. A view belongs to the frame it was cut from and keeps it alive."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Give this batch to the index. Within one life the numbers of these only rise."""

    sequence: int
    payload: Payload


@dataclass(frozen=True, slots=True)
class RequestReplay:
    """
    Ask for every buffered batch from `start` on, on a socket that has not been used before.

    An answer still under way is void: its socket is closed first, so that nothing late can be taken for new.
    """

    start: int


@dataclass(frozen=True, slots=True)
class Reset:
    """A new life of the engine, or its record built anew: what is recorded is dropped, number 0 is expected."""

    reason: str


@dataclass(frozen=True, slots=True)
class Empty:
    """The engine has published nothing in this life: the empty record is all there is."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is recorded may no longer be true, though no number is missing to show it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """The life that an earlier process followed goes on: what it recorded may be believed again."""


@dataclass(frozen=True, slots=True)
class Drop:
    """A frame that is not applied, and why. It has been counted."""

    reason: str


Instruction: TypeAlias = Apply | RequestReplay | Reset | Empty | Doubt | Confirm | Drop
