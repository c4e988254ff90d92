"""
What is said of the pods, from two sides: the sources describe them, and the pods themselves list what they serve.

    described + learned -> the pod as everybody else sees it (`Parts.pods`)

A pod's own word completes the description and never contradicts it: a name that the operator gave stays. Pure; `fleet`
carries out what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kvsync.fleet import Finding, Pod
from kvsync.types import Engine


@dataclass(frozen=True, slots=True)
class Learned:
    """
    What a pod's `/v1/models` lists: base models, and the adapters that are loaded.

    `odd` are names that it lists and that are none: nobody is sent there for them. `adapter_stores` is what the index's
    count was then: what events named before has been said better since.
    """

    models: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    adapter_stores: int = 0
    odd: tuple[str, ...] = ()


@dataclass(slots=True)
class Roster:
    """
    The pods by name, as described and as asked; and what is wrong with them, by who found it.

    `refused` are the engines that should be followed and are not; each is tried again.
    """

    described: dict[str, Pod] = field(default_factory=dict)
    learned: dict[str, Learned] = field(default_factory=dict)
    of_sources: tuple[Finding, ...] = ()
    refused: dict[Engine, Finding] = field(default_factory=dict)
    served: dict[str, Finding] = field(default_factory=dict)

    def findings(self) -> Sequence[Finding]:
        """All that is wrong now."""
        return (*self.of_sources, *self.refused.values(), *self.served.values())

    def pod(self, name: str) -> Pod | None:
        """The pod as everybody shall see it; None for one that no source knows."""
        pod = self.described.get(name)
        return None if pod is None else completed(pod, self.learned.get(name))

    def listed_at(self, name: str) -> int:
        """What the index's `adapter_stores` was when the pod last listed its models; 0 for one that has not."""
        learned = self.learned.get(name)
        return learned.adapter_stores if learned is not None and learned.models else 0

    def forget(self, name: str) -> None:
        """The pod has gone, or is another."""
        self.learned.pop(name, None)
        self.served.pop(name, None)


def completed(pod: Pod, learned: Learned | None) -> Pod:
    """The description, with what the pod says of itself."""
    if learned is None:
        return pod
    model = pod.model or next(iter(learned.models), "")
    loras = tuple(name for name in dict.fromkeys((*pod.loras, *learned.loras)) if name != model)
    return replace(pod, model=model, loras=loras, loras_known=bool(learned.models))


def is_same(before: Pod, after: Pod) -> bool:
    """Whether what is known of the one still holds for the other: the same pod at the same address."""
    return before.uid == after.uid and before.http == after.http
