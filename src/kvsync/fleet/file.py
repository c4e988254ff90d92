"""
Pods in a TOML or YAML file that may be changed at any time (`--pods-file`).

    pods:                                        [[pods]]
      - name: a                                  name = "a"
        http: http://10.0.0.1:8000               http = "http://10.0.0.1:8000"
        model: m                                 model = "m"

An entry is a table, or a text as behind `--pod`. The file is read every second and compared as bytes: that sees every
way of changing it, a mounted ConfigMap's links and a file system with coarse times included. What cannot be read
leaves everything as it was, with a finding; a single bad entry leaves only its own pod as it was.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from kvsync.errors import ConfigError
from kvsync.files import read_file
from kvsync.fleet.finding import Finding
from kvsync.fleet.live import LivePods
from kvsync.fleet.pod import Pod, parse_pod, pod_of

SOURCE: Final = "file"
EVERY_S: Final = 1.0
BYTES_MAX: Final = 4 * 1024 * 1024


class FilePods(LivePods):
    """The pods of a file. `open` raises `ConfigError` for a file that cannot be read at all."""

    def __init__(self, path: Path, every_s: float = EVERY_S) -> None:
        super().__init__(every_s)
        self._path = path
        self._content: bytes | None = None

    async def open(self) -> None:
        await asyncio.to_thread(read_entries, self._path)
        await super().open()

    async def _look(self) -> None:
        try:
            content, entries = await asyncio.to_thread(read_entries, self._path, self._content)
        except ConfigError as error:
            self._content = None
            self._set(self._pods.values(), [Finding(SOURCE, str(self._path), "unreadable", f"{error}; {KEPT}")])
            return
        if entries is not None:
            self._content = content
            pods, findings = read_pods(entries, str(self._path), self._pods)
            if not entries:
                text = "it lists no pods; add an entry below pods"
                findings.append(Finding(SOURCE, str(self._path), "no_pods", text))
            self._set(pods, findings)


KEPT: Final = "the pods that were read before stay"


def read_entries(path: Path, known: bytes | None = None) -> tuple[bytes, list[Any] | None]:
    """Read the file's bytes and its list of pods: None for the bytes that are known. Raises `ConfigError`."""
    # No pipe: the file is read again and again.
    content = read_file(path, f"--pods-file {path}", BYTES_MAX, "give a file that lists pods", pipe=False)
    return content, None if content == known else parse_entries(content, path)


def parse_entries(content: bytes, path: Path) -> list[Any]:
    """Read the list `pods` of a document, YAML or TOML by the file's name. Raises `ConfigError`."""
    kinds = {".yaml": "YAML", ".yml": "YAML", ".toml": "TOML"}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"--pods-file {path} is named neither .toml nor .yaml; name it by what it holds")
    try:
        text = content.decode()
        document = tomllib.loads(text) if kind == "TOML" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"--pods-file {path} is no {kind}: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not isinstance(document.get("pods"), list):
        raise ConfigError(f"--pods-file {path} has no list named pods; begin it with pods: (YAML) or [[pods]] (TOML)")
    unknown = [key for key in document if key != "pods"]
    if unknown:
        raise ConfigError(f"--pods-file {path}: unknown key {unknown[0]!r}; the only key is pods")
    return list(document["pods"])


def read_pods(entries: list[Any], path: str, known: Mapping[str, Pod]) -> tuple[list[Pod], list[Finding]]:
    """Read each entry; a bad one is a finding, and its pod stays what it was, if it was one."""
    pods: dict[str, Pod] = {}
    findings = []
    for number, entry in enumerate(entries):
        where = f"{path}: pods[{number}]"
        try:
            pod = parse_pod(entry) if isinstance(entry, str) else pod_of(_table(entry, where), where)
            if pod.name in pods:
                raise ConfigError(f"{where}: a pod before it is named {pod.name!r} too; give each its own name")
            pods[pod.name] = pod
        except ConfigError as error:
            kept = known.get(str(entry.get("name"))) if isinstance(entry, dict) else None
            if kept is not None and kept.name not in pods:
                pods[kept.name] = kept
            text = str(error).removeprefix(where).lstrip(": ")
            findings.append(Finding(SOURCE, where, "bad_entry", text))
    return list(pods.values()), findings


def _table(entry: object, where: str) -> dict[str, object]:
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise ConfigError(f"{where} is {entry!r}; give a table with name, http and model, or a text as behind --pod")
    return entry
