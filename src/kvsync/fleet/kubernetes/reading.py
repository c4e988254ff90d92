"""
A pod as the API has it -> a `Pod`, or what is wrong with it. Pure: a dictionary in, values out.

A pod is there once it runs and has an address, and until it has ended; before and after it is simply not there. Whether
it is ready is a part of its description. An annotation that cannot be used is a finding and no pod: to guess would be
to read a stranger's port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kvsync.errors import ConfigError
from kvsync.fleet.finding import Finding
from kvsync.fleet.kubernetes import labels
from kvsync.fleet.pod import NAME_MAX, SHOWN, Pod, is_visible, pod_of

SOURCE: Final = "kubernetes"
PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What one pod's object says. `pod` is None for a pod that is not there, and for one with a fault in `findings`.

    `name` is `namespace/name`; `address`, `ready`, `leaving` and `life` hold even where the rest cannot be used.
    `created` is the time at which the pod was made, as the API writes it.
    """

    name: str
    uid: str
    is_there: bool
    pod: Pod | None = None
    findings: tuple[Finding, ...] = ()
    ready: bool = False
    leaving: bool = False
    life: str = ""
    address: str = ""
    created: str = ""


def read_pod(item: Mapping[str, Any], *, bind_host: str | None = None) -> Reading:
    """
    Read a v1 Pod. `bind_host` is where a pod that connects to us would find us; None where none may.
    """
    metadata, status = _mapping(item, "metadata"), _mapping(item, "status")
    name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    uid, address = str(metadata.get("uid", "")), status.get("podIP")
    if status.get("phase") != "Running" or not isinstance(address, str) or not address:
        return Reading(name, uid, is_there=False)
    leaving = metadata.get("deletionTimestamp") is not None
    ready, life = _is_ready(status) and not leaving, _life(status)
    said = _Said(name, _texts(metadata, "labels"), _texts(metadata, "annotations"))
    findings = said.unknown()
    pod: Pod | None = None
    try:
        pod = pod_of(said.fields(address, bind_host), name, needs_model=False)
    except ConfigError as error:
        findings.append(Finding(SOURCE, name, "bad_pod", str(error).removeprefix(f"{name}: ")))
    if pod is not None:
        pod = replace(pod, tokenizer=said.tokenizer(), uid=uid, ready=ready, leaving=leaving, life=life)
    created = str(metadata.get("creationTimestamp", ""))
    return Reading(name, uid, True, pod, tuple(findings), ready, leaving, life, address, created)


@dataclass(frozen=True, slots=True)
class _Said:
    """A pod's labels and annotations, asked by meaning."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    def unknown(self) -> list[Finding]:
        """Annotations with our prefix that mean nothing: most likely misspelt."""
        ours = [key.removeprefix(labels.PREFIX) for key in self.annotations if key.startswith(labels.PREFIX)]
        odd = [key for key in ours if key not in labels.KNOWN and not key.startswith(labels.TOKENIZER_PREFIX)]
        known = ", ".join(labels.KNOWN)
        return [
            Finding(
                SOURCE, self.name, "unknown_annotation", f"annotation kvsync.io/{key} means nothing; known: {known}"
            )
            for key in sorted(odd)
        ]

    def tokenizer(self) -> tuple[tuple[str, str], ...]:
        """How its prompts become tokens, for the room that does that."""
        ours = ((key.removeprefix(labels.PREFIX), value) for key, value in self.annotations.items())
        return tuple(sorted((k, v) for k, v in ours if k == labels.TOKENIZER or k.startswith(labels.TOKENIZER_PREFIX)))

    def fields(self, address: str, bind_host: str | None) -> dict[str, object]:
        """The pod as an operator would write it down; `ConfigError` for a value that cannot be used."""
        host = f"[{address}]" if ":" in address else address
        scheme = self._ours(labels.SCHEME) or "http"
        if scheme not in ("http", "https"):
            raise ConfigError(f"{self._where(labels.SCHEME)} is {scheme!r}; give http or https")
        fields: dict[str, object] = {
            "name": self.name,
            "http": f"{scheme}://{host}:{self._http_port()}",
            "model": self._model(),
            "loras": self._loras(),
            "ranks": self._ours(labels.RANKS) or 1,
        }
        if self._has_events():
            fields |= self._streams(host, bind_host)
        return fields

    def _streams(self, host: str, bind_host: str | None) -> dict[str, object]:
        port = self._port(labels.EVENTS_PORT, labels.EVENTS_PORT_DEFAULT)
        ranks = self._ours(labels.RANKS) or "1"
        after_events = (port or 0) + int(ranks) if ranks.isascii() and ranks.isdecimal() and len(ranks) < 5 else 0
        replay = self._port(labels.REPLAY_PORT, after_events, may_be_none=True)
        streams: dict[str, object] = {"topic": self._ours(labels.TOPIC) or "", "events": f"tcp://{host}:{port}"}
        if replay is not None:
            streams["replay"] = f"tcp://{host}:{replay}"
        if self._flag(labels.BIND, default=False):
            if bind_host is None:
                raise ConfigError(
                    f"{self._where(labels.BIND)} asks us to open port {port}, which no setting allows;"
                    " set kubernetes_bind_host to the address to open it on"
                )
            streams |= {"bind": True, "events": f"tcp://{bind_host}:{port}"}
        return streams

    def _model(self) -> str:
        model = self._ours(labels.MODEL)
        if model and not is_visible(model):
            raise ConfigError(
                f"{self._where(labels.MODEL)} is {model[:SHOWN]!r}; give up to {NAME_MAX} visible characters"
            )
        return model or self.labels.get(labels.AIBRIX_MODEL, "")

    def _loras(self) -> tuple[str, ...]:
        text = self._ours(labels.LORAS)
        named = text.split("+") if text else []
        if not all(named):
            raise ConfigError(f"{self._where(labels.LORAS)} is {text!r}; give adapter names joined by +, as in a1+a2")
        label = self.labels.get(labels.AIBRIX_LORA)
        return tuple(dict.fromkeys([*named, *([label] if label else [])]))

    def _has_events(self) -> bool:
        is_aibrix = labels.AIBRIX_MODEL in self.labels
        by_label = self.labels.get(labels.AIBRIX_EVENTS, "").lower() == "true" if is_aibrix else True
        return self._flag(labels.EVENTS, default=by_label)

    def _http_port(self) -> int:
        label = self.labels.get(labels.AIBRIX_PORT)
        if labels.PREFIX + labels.HTTP_PORT not in self.annotations and label is not None:
            return _port_number(label, f"label {labels.AIBRIX_PORT}")
        return self._port(labels.HTTP_PORT, labels.HTTP_PORT_DEFAULT) or 0

    def _port(self, key: str, default: int, *, may_be_none: bool = False) -> int | None:
        text = self._ours(key)
        if text is None:
            return default
        if may_be_none and text.lower() == "none":
            return None
        return _port_number(text, self._where(key))

    def _flag(self, key: str, *, default: bool) -> bool:
        text = self._ours(key)
        if text is None:
            return default
        if text.lower() not in ("true", "false"):
            raise ConfigError(f'{self._where(key)} is {text!r}; give "true" or "false"')
        return text.lower() == "true"

    def _ours(self, key: str) -> str | None:
        return self.annotations.get(labels.PREFIX + key)

    def _where(self, key: str) -> str:
        return f"{self.name}: annotation {labels.PREFIX}{key}"


def _port_number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 5 or not 1 <= int(text) <= PORT_MAX:
        raise ConfigError(f"{where} is {text[:40]!r}; give a port from 1 to {PORT_MAX}")
    return int(text)


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions")
    return isinstance(conditions, list) and any(
        isinstance(condition, dict) and condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in conditions
    )


def _life(status: Mapping[str, Any]) -> str:
    """Another text after any container began anew."""
    containers = status.get("containerStatuses")
    known = [one for one in containers if isinstance(one, dict)] if isinstance(containers, list) else []
    return " ".join(sorted(f"{one.get('name')}:{one.get('restartCount')}:{one.get('containerID')}" for one in known))


def _mapping(item: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = item.get(key)
    return value if isinstance(value, dict) else {}


def _texts(metadata: Mapping[str, Any], key: str) -> dict[str, str]:
    return {name: text for name, text in _mapping(metadata, key).items() if isinstance(text, str)}
