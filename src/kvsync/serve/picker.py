"""
The readers' stair, joined: a prompt -> its matches -> candidates -> a pick.

A model name is resolved here: it is a base model, or an adapter that some pods have, and then only those are
candidates. A pod has the adapters that it lists, and those that its engines' events named since it last did: what an
engine stores blocks for is loaded there, whether or not it can be asked. Everything is a plain call on the event loop:
a match takes microseconds and releases the GIL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from kvsync.fleet import Pod
from kvsync.routing import Ask, Candidate, Considered, Pick, Router
from kvsync.serve.health import Health
from kvsync.serve.ports import PrefixIndex
from kvsync.serve.problems import Problem
from kvsync.serve.requests import Prompt
from kvsync.types import Engine, Match, Trust

BLOCK_SIZE_DEFAULT = 16
"""Of engines that have not told theirs; only our own picks are compared by it."""

REASONS_SHOWN = 8
"""Pods of which a refusal says why they are down."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request's model name means: a base model, perhaps an adapter, and the pods that have it."""

    model: str
    lora: str | None
    pods: tuple[Pod, ...]

    @property
    def name(self) -> str:
        """The model as a message calls it."""
        return repr(self.model) if self.lora is None else f"{self.model!r} with the adapter {self.lora!r}"


class Picker:
    """
    Answers where prompts should go; begins nothing. `pods` is the fleet's live mapping; `listed_at` says what the
    index's `adapter_stores` was when a pod last listed its adapters, 0 for one that has not.
    """

    def __init__(
        self,
        index: PrefixIndex,
        router: Router,
        health: Health,
        pods: Mapping[str, Pod],
        listed_at: Callable[[str], int] = lambda pod: 0,
    ) -> None:
        self._listed_at = listed_at
        self._index = index
        self._router = router
        self._health = health
        self._pods = pods
        self.block_sizes: dict[Engine, int] = {}

    def resolve(self, model: str, lora: str | None) -> Target:
        """Find out what the name means; `Problem` 404 for a name that no pod has."""
        base = tuple(pod for pod in self._pods.values() if pod.model == model)
        if base:
            heard = self._heard(lora) if lora is not None else ()
            fitting = tuple(pod for pod in base if pod.serves(model, lora) or pod.name in heard)
            if not fitting:
                raise Problem(
                    404, f"no pod of {model!r} has the adapter {lora!r} loaded", code="lora_not_found", param="lora"
                )
            return Target(model, lora, fitting)
        heard = self._heard(model)
        listing = tuple(pod for pod in self._pods.values() if model in pod.loras or pod.name in heard)
        if not listing:
            known = ", ".join(sorted(self.model_names())) or "none"
            raise Problem(
                404, f"no pod serves the model {model!r}; known: {known}", code="model_not_found", param="model"
            )
        if lora not in (None, model):
            raise Problem(400, f"model {model!r} is an adapter; drop lora {lora!r}", code="lora_twice", param="lora")
        # Adapters of two base models may share a name; the blocks would not, so the first pod that is up decides.
        base_model = next((pod for pod in listing if self._health.is_up(pod.name)), listing[0]).model
        return Target(base_model, model, tuple(pod for pod in listing if pod.model == base_model))

    def model_names(self) -> dict[str, str | None]:
        """Every name that can be asked for, with the base model of an adapter."""
        names: dict[str, str | None] = {}
        for pod in self._pods.values():
            names |= {lora: pod.model for lora in self.loras(pod) if lora not in names}
        return names | {pod.model: None for pod in self._pods.values() if pod.model}

    def loras(self, pod: Pod) -> tuple[str, ...]:
        """The adapters that a pod has: those it lists, and those that its events named since."""
        since = self._listed_at(pod.name)
        named = (self._index.adapters(engine) for engine in pod.engines)
        return tuple(dict.fromkeys((*pod.loras, *(lora for seen in named for lora, at in seen.items() if at > since))))

    def _heard(self, lora: str) -> Collection[str]:
        """The pods whose events named an adapter since they last listed theirs."""
        try:
            engines = self._index.adapter_engines(lora)
        except ValueError:  # a name that no engine can have sent
            return ()
        return {engine.pod for engine, at in engines.items() if at > self._listed_at(engine.pod)}

    def ask(self, prompt: Prompt, target: Target, *, prompt_tokens: int | None = None) -> Ask:
        """Put the prompt as routing sees it; `prompt_tokens` where the ids are not to be had."""
        tokens, model, lora = prompt.tokens, target.model, target.lora
        salt, extra_keys = prompt.cache_salt, prompt.extra_keys

        def block_hashes(block_size: int) -> Sequence[int]:
            return self._index.block_hashes(
                tokens, model=model, lora=lora, cache_salt=salt, extra_keys=extra_keys, block_size=block_size
            )

        count = len(tokens) if prompt_tokens is None else prompt_tokens
        return Ask(model, count, block_hashes)

    def candidates(
        self, prompt: Prompt, target: Target, ask: Ask, now: float, *, without: Collection[Engine] = ()
    ) -> tuple[Candidate, ...]:
        """The engines that could take it, with what each holds; `Problem` 503 when none is up."""
        pods = {
            engine: pod
            for pod in target.pods
            if self._health.is_up(pod.name)
            for engine in pod.engines
            if engine not in without
        }
        if not pods:
            raise self._nobody(target)
        matches = self._matches(prompt, target, pods)
        considered = [
            Considered(engine, matches[engine], self._block_size(engine, matches[engine]), pod.events is not None)
            for engine, pod in pods.items()
        ]
        return self._router.consider(ask, considered, now)

    def pick(
        self,
        prompt: Prompt,
        target: Target,
        ask: Ask,
        now: float,
        *,
        policy: str | None = None,
        without: Collection[Engine] = (),
    ) -> Pick:
        """Where the prompt should go."""
        return self._router.choose(ask, self.candidates(prompt, target, ask, now, without=without), policy)

    def check_policy(self, name: str | None, param: str) -> str | None:
        """Give the name back; `Problem` 400 when there is no such policy."""
        if name is not None and name not in self._router.policies:
            known = ", ".join(self._router.policies)
            raise Problem(
                400, f"policy {name!r} is not known; choose one of {known}", code="unknown_policy", param=param
            )
        return name

    def _matches(self, prompt: Prompt, target: Target, engines: Mapping[Engine, Pod]) -> dict[Engine, Match]:
        held: Mapping[Engine, Match] = {}
        if len(prompt.tokens):
            held = self._index.match(
                prompt.tokens,
                model=target.model,
                lora=target.lora,
                cache_salt=prompt.cache_salt,
                extra_keys=prompt.extra_keys,
                engines=[engine for engine, pod in engines.items() if pod.events is not None],
            )
        return {engine: held.get(engine) or self._nothing(engine, pod) for engine, pod in engines.items()}

    def _nothing(self, engine: Engine, pod: Pod) -> Match:
        return Match(0, 0, trust=Trust.UNKNOWN if pod.events is None else self._index.trust(engine))

    def _block_size(self, engine: Engine, match: Match) -> int:
        if match.blocks:
            self.block_sizes[engine] = match.tokens // match.blocks
        return self.block_sizes.get(engine, BLOCK_SIZE_DEFAULT)

    def _nobody(self, target: Target) -> Problem:
        count = len(target.pods)
        reasons = [
            f"{pod.name}: {self._health.state(pod.name).reason or 'tried in vain'}"
            for pod in target.pods[:REASONS_SHOWN]
        ]
        if count > REASONS_SHOWN:
            reasons.append(f"{count - REASONS_SHOWN} more: see /v1/pods")
        who = f"the only pod of {target.name} is not" if count == 1 else f"none of the {count} pods of {target.name} is"
        return Problem(503, f"{who} up ({'; '.join(reasons)})", code="no_candidates")
