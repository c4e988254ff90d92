"""The limits, times and places of discovery in a cluster, as plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvsync.errors import ConfigError

ALL_NAMESPACES = "*"

AIBRIX = "model.aibrix.ai/name"
LLM_D = "llm-d.ai/inference-serving=true"

NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SELECTOR_MAX: Final = 4096
SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """
    Which cluster, and which of its pods.

    `namespaces` empty: the one we run in, or the kubeconfig's. `kubeconfig` None: from inside the cluster where there
    is an inside, else as kubectl does. A pod is found by any of the `selectors`. Without a `bind_host` no annotation
    can make us open a port. Names that no namespace can have are a `ConfigError`.

    A list comes in pages of `page_pods`. A watch is ended by the server after `watch_s` to twice that. After a failure
    the pause doubles from `pause_first_s` to `pause_max_s`, and a part of it is left out by lot. `open_s` is how long
    the first list is waited for at start.
    """

    namespaces: tuple[str, ...] = ()
    selectors: tuple[str, ...] = (AIBRIX, LLM_D)
    kubeconfig: Path | None = None
    context: str | None = None
    bind_host: str | None = None
    page_pods: int = 500
    watch_s: int = 240
    connect_s: float = 5.0
    answer_s: float = 30.0
    pause_first_s: float = 0.25
    pause_max_s: float = 10.0
    open_s: float = 5.0

    def __post_init__(self) -> None:
        for namespace in self.namespaces:
            if namespace != ALL_NAMESPACES and not NAMESPACE.fullmatch(namespace):
                raise ConfigError(
                    f"--kubernetes-namespace {namespace[:SHOWN]!r} is no namespace's name; give up to 63 of a-z, 0-9"
                    " and -, or '*' for all"
                )
        for selector in self.selectors:
            if not selector.isprintable() or not 0 < len(selector) <= SELECTOR_MAX:
                raise ConfigError(
                    f"--kubernetes-selector {selector[:SHOWN]!r} is no label selector; write one like {LLM_D}"
                )
