"""
What pods really serve: each is asked for its list of models when it is first up, and again from time to time.

The list completes what a source knows: the model, where it names none, and the adapters, which come and go while an
engine runs. Where a source names a model or an adapter that the pod does not list, that is told: it would otherwise
show late, as a refusal of every request, or as cached blocks that nothing ever matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from kvsync.fleet import Finding, Pod
from kvsync.fleet.pod import NAME_MAX, is_visible
from kvsync.serve.roster import Learned
from kvsync.serve.rounds import Rounds

ASK_TIMEOUT_S = 2.0
NAMES_SHOWN = 8
NAME_SHOWN = 40
LORAS_MAX = 10_000
"""Names that are taken of one pod's list: what it says is a stranger's word."""

Learn = Callable[[Pod, Learned | None, Finding | None], None]


class ServedModels:
    """Asks each pod when it is its turn; `learn` is told what came out."""

    def __init__(
        self, session: ClientSession, clock: Callable[[], float], learn: Learn, *, seed: int | None = None
    ) -> None:
        self._session = session
        self._clock = clock
        self._learn = learn
        self._rounds = Rounds(Random(seed))

    def due(self, pods: list[Pod]) -> list[Pod]:
        """Those of the pods, all up, that are to be asked now."""
        return self._rounds.due(pods, self._clock())

    def keep_only(self, pods: Iterable[Pod]) -> None:
        """Forget every other pod."""
        self._rounds.keep_only(pods)

    async def ask(self, pod: Pod) -> None:
        """Ask for the list, and say what it means for the pod."""
        try:
            async with self._session.get(
                f"{pod.http}/v1/models", timeout=ClientTimeout(total=ASK_TIMEOUT_S), allow_redirects=False
            ) as response:
                if response.status >= 500:
                    return
                status = response.status
                document = await response.json(content_type=None) if status == 200 else None
        except (ClientError, OSError, TimeoutError):
            return
        except ValueError:
            status, document = 200, None
        if self._rounds.answered(pod, self._clock()):
            learned = listed(document)
            self._learn(pod, learned, finding_of(pod, learned, status))


def listed(document: Any) -> Learned | None:
    """
    The names in an answer of `/v1/models`; None where it is no such list, as where a token is asked for.

    An adapter is an entry with a parent: so vLLM and SGLang list them.
    """
    data = document.get("data") if isinstance(document, dict) else None
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    named = [entry for entry in entries if isinstance(entry.get("id"), str) and entry["id"]][:LORAS_MAX]
    if not named:
        return None
    odd = tuple(entry["id"] for entry in named if not is_visible(entry["id"]))
    sound = [entry for entry in named if is_visible(entry["id"])]
    models = tuple(entry["id"] for entry in sound if not entry.get("parent"))
    return Learned(models, tuple(entry["id"] for entry in sound if entry.get("parent")), odd=odd)


def finding_of(pod: Pod, learned: Learned | None, status: int) -> Finding | None:
    """What is wrong with a pod of this description that lists these; None where nothing is, or nothing was said."""
    if learned is not None and learned.odd:
        text = (
            f"its /v1/models lists {len(learned.odd)} names that are none, such as {learned.odd[0][:NAME_SHOWN]!r};"
            f" they are passed over: give the engine names of up to {NAME_MAX} visible characters"
        )
        return Finding("models", pod.name, "odd_name", text)
    if learned is None or not learned.models:
        if pod.model:
            return None
        text = f"its /v1/models names no model (status {status}), and nothing else does; name it (kvsync.io/model)"
        return Finding("models", pod.name, "no_model", text)
    names = (*learned.models, *learned.loras)
    missing = [name for name in (pod.model, *pod.loras) if name and name not in names]
    if not missing:
        return None
    met = ", ".join(map(repr, names[:NAMES_SHOWN]))
    text = (
        f"is configured with the model or adapter {missing[0]!r}, but its /v1/models lists {met};"
        f" requests for {missing[0]!r} will fail there: correct the name, or start the engine with it"
    )
    return Finding("models", pod.name, "not_listed", text)
