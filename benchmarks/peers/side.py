"""
What is asked of each side: a thin coat over its own calls, so that `rows` can put all through the same.

What a side is given is made by `stores`, `removals`, `tokens` and `hashes` outside the clock, in the form in which it
takes it. What it answers is turned into `{engine: blocks}` by `read`, outside the clock as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from benchmarks.frames import Prompt

Tokens = np.ndarray[Any, np.dtype[np.uint32]]


class Side(Protocol):
    """
    An index of one project's. `open` makes it empty, also a second time.
    """

    reads: str
    """What its `apply` is given."""

    agreed: bool
    """Whether equal blocks must have equal engine hashes with all engines, or it loses them."""

    def stores(self, prompts: Iterable[Prompt], an_event: int, a_batch: int) -> list[bytes]: ...

    def removals(self, prompts: Iterable[Prompt], an_event: int, a_batch: int) -> list[bytes]: ...

    def tokens(self, tokens: Tokens) -> Any: ...

    def hashes(self, tokens: Any) -> Any:
        """The block hashes of a prompt, from what `tokens` gave."""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def apply(self, engine: int, events: Sequence[bytes]) -> None: ...

    def match(self, tokens: Any) -> Any:
        """Ask for a prompt, from what `tokens` gave."""

    def walk(self, hashes: Any) -> Any:
        """Ask for a prompt, from what `hashes` gave."""

    def read(self, answer: Any) -> Mapping[int, int]: ...

    def forget(self, engine: int) -> None:
        """Take away all that an engine holds."""
