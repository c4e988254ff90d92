"""
A pod: what a request is sent to, and where its engines publish; and how an operator writes one down.

    name=a,http=http://127.0.0.1:8000,events=tcp://127.0.0.1:5557,replay=tcp://127.0.0.1:5558,model=m

`name`, `http` and `model` are needed. `events` may be absent: such a pod is routed to by a record of our own picks.
The rest: `replay`, `ranks` (rank r is found at the ports plus r), `topic`, `bind=1` (the engine connects to us),
`loras=a1+a2` (adapters that are loaded there).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kvsync.errors import ConfigError
from kvsync.fleet.address import check_http
from kvsync.stream.endpoints import Source, sources_of_pod
from kvsync.types import Engine

KEYS = ("name", "http", "model", "events", "replay", "ranks", "topic", "bind", "loras")
NEEDED = ("name", "http", "model")
RANKS_MAX = 1024
SHOWN = 40

NAME_MAX = 1024
"""Characters of a model's or an adapter's name."""

_NAME = re.compile(r"[!-+\--<>-~]{1,253}")  # visible ASCII but for , and =: it goes into flags, headers and labels


@dataclass(frozen=True, slots=True)
class Pod:
    """
    A name and an HTTP address that serves `model`, on `ranks` engines, with the adapters `loras`.

    `events` and `replay` are rank 0's endpoints; the others' are found by adding the rank to the port. `model` is empty
    where only the pod itself can tell; it is not listened to, and gets no requests, until it has been asked.

    The rest is what a cluster knows: `ready` false keeps requests away, `leaving` says that the pod is being ended,
    `uid` is another for another pod of the same name, `life` another after its containers began anew, and `tokenizer`
    is how its prompts become tokens. `loras_known` says that `loras` are all there are.
    """

    name: str
    http: str
    model: str
    events: str | None = None
    replay: str | None = None
    ranks: int = 1
    topic: str = ""
    bind: bool = False
    loras: tuple[str, ...] = ()
    loras_known: bool = False
    ready: bool = True
    leaving: bool = False
    uid: str = ""
    life: str = ""
    tokenizer: tuple[tuple[str, str], ...] = ()

    @property
    def engines(self) -> tuple[Engine, ...]:
        return tuple(Engine(self.name, rank) for rank in range(self.ranks))

    @property
    def sources(self) -> list[Source]:
        """
        Where each rank publishes; none without events or a model. Raises `ConfigError` for endpoints of no use.
        """
        if self.events is None or not self.model:
            return []
        return sources_of_pod(self.name, self.model, self.events, self.replay, self.ranks, self.topic, self.bind)

    @property
    def endpoints(self) -> list[str]:
        """Every address that is this pod's alone."""
        if self.events is None:
            return [self.http]
        sources = sources_of_pod(
            self.name, self.model or "-", self.events, self.replay, self.ranks, self.topic, self.bind
        )
        replays = [source.replay for source in sources if source.replay is not None]
        return [self.http, *(source.events for source in sources), *replays]

    def serves(self, model: str, lora: str | None) -> bool:
        """
        Whether a request for `model`, with this adapter, can be sent here.

        A pod that lists no adapters says nothing about them: it is believed to have the one that is asked for.
        """
        any_lora = not self.loras and not self.loras_known
        return model == self.model and (lora is None or any_lora or lora in self.loras)


def parse_pod(text: str) -> Pod:
    """
    Read one `--pod` value; raises `ConfigError` naming the key, the value met and what to write.
    """
    where = f"pod {text!r}"
    fields: dict[str, str] = {}
    for item in text.split(","):
        key, separator, value = item.partition("=")
        if not separator:
            raise ConfigError(f"{where}: {item!r} is not key=value; keys are {', '.join(KEYS)}")
        if key in fields:
            raise ConfigError(f"{where}: {key!r} is given twice; give it once")
        fields[key] = value
    return pod_of(fields, where)


def parse_pods(texts: Iterable[str]) -> tuple[Pod, ...]:
    """Read several `--pod` values; see `check_pods` and `check_apart`."""
    return check_apart(check_pods(map(parse_pod, texts)))


def check_pods(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """
    Give the pods back as a tuple; two of one name are a `ConfigError`.
    """
    known: dict[str, Pod] = {}
    for pod in pods:
        if pod.name in known:
            raise ConfigError(f"two pods are named {pod.name!r}; give each its own name")
        known[pod.name] = pod
    return tuple(known.values())


def check_apart(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """
    Give the pods back; two that share an address are a `ConfigError`: one would be counted and sent to as two.
    """
    owners: dict[str, str] = {}
    for pod in pods:
        endpoints = [("http", pod.http)]
        for source in pod.sources:
            endpoints.append(("events", source.events))
            endpoints += [] if source.replay is None else [("replay", source.replay)]
        for key, endpoint in endpoints:
            owner = owners.setdefault(endpoint, pod.name)
            if owner != pod.name:
                raise ConfigError(
                    f"pods {owner!r} and {pod.name!r} share the address {endpoint} ({key} of {pod.name!r});"
                    " give each its own, or name the pod once"
                )
    return pods


def pod_of(fields: Mapping[str, object], where: str, *, needs_model: bool = True) -> Pod:
    """
    Make a pod of its fields, as texts or as a configuration file types them; `where` begins every error.
    """
    unknown = [key for key in fields if key not in KEYS]
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; keys are {', '.join(KEYS)}")
    missing = [key for key in NEEDED if not fields.get(key) and (needs_model or key != "model")]
    if missing:
        raise ConfigError(f"{where}: {missing[0]!r} is missing; name, http and model are needed")
    ranks, bind = _ranks(fields.get("ranks", 1), where), _flag(fields.get("bind", False), where)
    pod = Pod(
        name=_name(fields["name"], where),
        http=check_http(_text(fields, "http", where), f"{where}: http"),
        model=_model(fields, where),
        events=_text(fields, "events", where) if "events" in fields else None,
        replay=_text(fields, "replay", where) if "replay" in fields else None,
        ranks=ranks,
        topic=_text(fields, "topic", where),
        bind=bind,
        loras=_loras(fields.get("loras", ()), where),
    )
    _check_together(pod, where)
    return pod


def _check_together(pod: Pod, where: str) -> None:
    if pod.events is None:
        for key, given in (("replay", pod.replay), ("topic", pod.topic), ("bind", pod.bind)):
            if given:
                raise ConfigError(f"{where}: {key!r} is of no use without events; add events=tcp://HOST:PORT")
    try:
        _ = pod.endpoints
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if pod.model in pod.loras:
        raise ConfigError(f"{where}: {pod.model!r} is the model and cannot be one of its adapters; drop it from loras")


def _text(fields: Mapping[str, object], key: str, where: str) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {key} is {value!r}; give a text")
    return value


def is_visible(name: str) -> bool:
    """Whether a model or an adapter may be called so: it stands in logs, pages and requests."""
    return 0 < len(name) <= NAME_MAX and name.isprintable()


def _model(fields: Mapping[str, object], where: str) -> str:
    model = _text(fields, "model", where)
    if model and not is_visible(model):
        raise ConfigError(f"{where}: model is {model[:SHOWN]!r}; give up to {NAME_MAX} visible characters")
    return model


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(
            f"{where}: name is {value!r}; give visible ASCII without spaces, ',' or '=', up to 253 characters"
        )
    return value


def _ranks(value: object, where: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= RANKS_MAX:
        raise ConfigError(f"{where}: ranks is {value!r}; give a number from 1 to {RANKS_MAX}")
    return value


def _flag(value: object, where: str) -> bool:
    flags: dict[object, bool] = {"0": False, "1": True, "false": False, "true": True, False: False, True: True}
    if not isinstance(value, (str, bool)) or value not in flags:
        raise ConfigError(f"{where}: bind is {value!r}; give 1 (the engine connects to us) or 0")
    return flags[value]


def _loras(value: object, where: str) -> tuple[str, ...]:
    names = value.split("+") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{where}: loras is {value!r}; give adapter names joined by +, as in loras=a1+a2")
    for name in names:
        if not is_visible(name):
            raise ConfigError(f"{where}: adapter {name[:SHOWN]!r} is no name; give up to {NAME_MAX} visible characters")
    if len(set(names)) != len(names):
        raise ConfigError(f"{where}: loras {value!r} names an adapter twice; name it once")
    return tuple(names)
