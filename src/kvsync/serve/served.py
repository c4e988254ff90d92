"""
Whether pods serve what they are configured with: each is asked once for its list of models, when it is first up.

A wrong name would otherwise show late: as a refusal of every request, or as cached blocks that nothing ever matches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from kvsync.fleet import Pod

ASK_TIMEOUT_S = 2.0
ASK_AGAIN_S = 5.0
NAMES_SHOWN = 8

_logger = logging.getLogger(__name__)


class ServedModels:
    """Remembers which pods have answered; one that is described anew is asked anew."""

    def __init__(self, session: ClientSession, clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock
        self._ask_at: dict[Pod, float] = {}

    def due(self, pods: list[Pod]) -> list[Pod]:
        """Those of the pods, all up, that are to be asked now; they count as asked from here on."""
        now = self._clock()
        due = [pod for pod in pods if now >= self._ask_at.get(pod, -inf)]
        for pod in due:
            self._ask_at[pod] = now + ASK_AGAIN_S
        return due

    def keep_only(self, pods: set[Pod]) -> None:
        """Forget every other pod."""
        for pod in self._ask_at.keys() - pods:
            del self._ask_at[pod]

    async def ask(self, pod: Pod) -> None:
        """Compare what the pod lists with what it is configured with; warn of a difference."""
        try:
            async with self._session.get(
                f"{pod.http}/v1/models", timeout=ClientTimeout(total=ASK_TIMEOUT_S), allow_redirects=False
            ) as response:
                if response.status >= 500:
                    return
                document = await response.json(content_type=None) if response.status == 200 else None
        except (ClientError, OSError, TimeoutError):
            return
        except ValueError:
            document = None
        if pod in self._ask_at:
            self._ask_at[pod] = inf
        missing = missing_of(pod, listed(document))
        if missing is not None:
            _logger.warning("%s", missing, extra={"pod": pod.name})


def listed(document: Any) -> list[str]:
    """The names in an answer of `/v1/models`; none where it is no such list, as where a token is asked for."""
    data = document.get("data") if isinstance(document, dict) else None
    names = [model.get("id") for model in data if isinstance(model, dict)] if isinstance(data, list) else []
    return [name for name in names if isinstance(name, str)]


def missing_of(pod: Pod, names: list[str]) -> str | None:
    """What to say of a pod that lists these names; None where nothing is wrong or nothing was said."""
    missing = [name for name in (pod.model, *pod.loras) if name not in names]
    if not names or not missing:
        return None
    met = ", ".join(map(repr, names[:NAMES_SHOWN]))
    return (
        f"pod {pod.name} is configured with the model or adapter {missing[0]!r}, but its /v1/models lists {met};"
        f" requests for {missing[0]!r} will fail there: correct the name at --pod, or start the engine with it"
    )
