"""
What is wrong with a pod or with a source of pods: told in the log and at `/v1/engines`, while all others go on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """
    One trouble: `source` is what met it, `about` the pod or place, `text` what is wrong, the value met and the remedy.

    `reason` is one short word of a fixed set, to count and to filter by.
    """

    source: str
    about: str
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"
