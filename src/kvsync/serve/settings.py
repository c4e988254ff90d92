"""
What the operator set: flags, then the environment (`KVSYNC_*`), then a TOML file; the first that says something counts.

This is the only place that reads the environment and the file. A key of the file that is not known is refused. A
variable that is not known is only told (`unknown_variables`): in Kubernetes, a service named kvsync puts variables
such as KVSYNC_PORT into every container.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from kvsync import files
from kvsync.errors import ConfigError
from kvsync.fleet import Pod, check_apart, check_pods, parse_pod, pod_of
from kvsync.fleet.address import check_http
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.written import spec_of_table

PREFIX = "KVSYNC_"
OTHERS = frozenset({"KVSYNC_CONFIG", "KVSYNC_DEBUG", "KVSYNC_ENGINE_TOKEN"})
"""Variables with our prefix that are no setting of the daemon."""

FILE_BYTES_MAX = 4 * 1024 * 1024

REPEATED = {
    "pods": "pod",
    "kubernetes_namespaces": "kubernetes_namespace",
    "kubernetes_selectors": "kubernetes_selector",
}
"""Settings that hold many, and the flags that are given once for each."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "kubernetes": (
        "kubeconfig",
        "kubernetes_namespaces",
        "kubernetes_selectors",
        "kubernetes_context",
        "kubernetes_bind_host",
    ),
    "bootstrap": ("bootstrap_token_file",),
}
"""Settings that mean something only beside another."""

_SERVICE_LINK = re.compile(r"KVSYNC_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_\d+_.*)")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the daemon listens; port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than localhost counts as reachable."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_listen(text: object) -> Listen:
    """Read HOST:PORT, with an IPv6 host in brackets."""
    if isinstance(text, Listen):
        return text
    if "/" in str(text):
        raise ConfigError(f"listen is {text!r}; give HOST:PORT without scheme or path, as in 127.0.0.1:8090")
    host, separator, port = str(text).rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"listen is {text!r}; give HOST:PORT, as in 127.0.0.1:8090, with port 0 for a free one")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ConfigError(f"listen is {text!r}; an IPv6 host needs brackets, as in [::1]:8090")
    return Listen(host.strip("[]"), int(port))


def parse_pods_setting(value: object) -> tuple[Pod, ...]:
    """
    Read pods as flags give them (texts), as the environment does (one text, white space between pods), or as a file
    does (texts or tables).
    """
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise ConfigError(f"pods is {value!r}; give a list of name=...,http=...,model=... texts or of tables")
    pods = check_pods(_pod(item, number) for number, item in enumerate(items))
    # Pods that code hands over may share an address, as stand-ins do; what an operator writes is a slip.
    return pods if all(isinstance(item, Pod) for item in items) else check_apart(pods)


def parse_tokenizers_setting(value: object) -> dict[str, ModelSpec]:
    """Read the tables of a file, or the JSON of a variable: by the model's name, how its prompts become tokens."""
    if not isinstance(value, dict):
        raise ConfigError(f"tokenizers is {value!r}; give a table for each model, as in [tokenizers.NAME]")
    return {str(model): spec_of_table(table, str(model)) for model, table in value.items()}


def _pod(item: object, number: int) -> Pod:
    if isinstance(item, Pod):
        return item
    if isinstance(item, str):
        return parse_pod(item)
    if isinstance(item, dict):
        return pod_of(item, f"pods[{number}]")
    raise ConfigError(f"pods[{number}] is {item!r}; give a name=...,http=...,model=... text or a table")


def parse_siblings(value: object) -> tuple[str, ...]:
    """Read the addresses of other daemons: a list of them, or one text with white space between them."""
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"bootstrap is {value!r}; give a list of addresses like http://10.0.0.1:8090")
    return tuple(check_http(item, "bootstrap") for item in items)


def parse_patterns(value: object) -> tuple[Pod, ...]:
    """Read the patterns of `--pods-dns`: written like pods, and many pods of one model may share a name's host."""
    return check_pods(parse_pods_setting(value))


def parse_words(value: object) -> tuple[str, ...]:
    """Read a list of texts: as it is, or with white space between them."""
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) and item for item in items):
        raise ValueError("no list of texts; give one or several, none of them empty")
    return tuple(items)


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_words)]


class Settings(BaseSettings):
    """
    The daemon's settings, checked. Every one is a key of the file and a variable `KVSYNC_<NAME>`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    pods: Annotated[tuple[Pod, ...], NoDecode, BeforeValidator(parse_pods_setting)] = ()
    listen: Annotated[Listen, NoDecode, BeforeValidator(parse_listen)] = Listen("127.0.0.1", 8090)
    policy: str = "cost"
    token: SecretStr | None = None
    token_file: Path | None = None
    max_bytes: Annotated[ByteSize, Field(ge=1_048_576, lt=2**63)] | None = None
    engine_entries_max: Annotated[int, Field(ge=1_024, lt=2**63)] | None = 4_194_304
    prefill_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    body_bytes_max: Annotated[ByteSize, Field(ge=1_024)] = ByteSize(16 * 1024 * 1024)
    prompt_tokens_max: Annotated[int, Field(ge=1)] = 1_048_576
    connect_seconds: Annotated[float, Field(gt=0)] = 2.0
    silence_seconds: Annotated[float, Field(gt=0)] = 600.0
    repair: bool = False
    frames_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 20_000.0
    replays_max: Annotated[int, Field(ge=1, le=4_096)] = 16
    replay_spread_s: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.5
    signals_seconds: Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False)] = 5.0
    ready_trust: Literal["exact", "partial", "stale"] = "exact"
    ready_coverage: Annotated[float, Field(ge=0, le=1)] = 0.0
    snapshot_dir: Path | None = None
    snapshot_interval: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 60.0
    bootstrap: Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_siblings)] = ()
    bootstrap_token_file: Path | None = None
    bootstrap_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    bootstrap_bytes_max: Annotated[ByteSize, Field(ge=1_048_576)] = ByteSize(8 * 1024 * 1024 * 1024)
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    curve_key: Path | None = None
    curve_server_key: Path | None = None
    pods_file: Path | None = None
    pods_dns: Annotated[tuple[Pod, ...], NoDecode, BeforeValidator(parse_patterns)] = ()
    kubernetes: bool = False
    kubernetes_namespaces: Words = ()
    kubernetes_selectors: Words = ()
    kubernetes_context: str | None = None
    kubernetes_bind_host: str | None = None
    kubeconfig: Path | None = None
    tokenizers: Annotated[dict[str, ModelSpec], BeforeValidator(parse_tokenizers_setting)] = Field(default_factory=dict)
    tokenizer_backends: Annotated[int, Field(ge=1, le=1_000)] = 8
    tokenize_seconds: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 1.0
    forward_token_ids: bool = False

    @property
    def index_limits(self) -> dict[str, int | None]:
        """What the index is made with, empty or from a file."""
        return {"max_bytes": self.max_bytes, "engine_entries_max": self.engine_entries_max}

    @field_validator("log_level", "ready_trust", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


def load_settings(
    flags: Mapping[str, Any], *, config: Path | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """
    Put the sources together. Raises `ConfigError`, also for an unreadable file.

    `flags` names every setting that has a flag, with None or nothing where it was not given. `environment` says where
    the file's name is looked for; the settings' own variables are always the process's.
    """
    environment = os.environ if environment is None else environment
    path = config or (Path(environment["KVSYNC_CONFIG"]) if environment.get("KVSYNC_CONFIG") else None)
    file = read_file(path) if path is not None else {}

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=file)

    try:
        settings = Sourced(**{name: value for name, value in flags.items() if value not in (None, [])})
    except ValidationError as error:
        raise ConfigError(_first_problem(error, flags)) from error
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    for of, names in PARTS.items():
        given = next((name for name in names if getattr(settings, name)), None)
        if given is not None and not getattr(settings, of):
            raise ConfigError(f"{given} means nothing without {of}: give both, as {flag_of(of)}, or neither")


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings; unknown keys, and the token itself, are refused."""
    try:
        document = tomllib.loads(
            files.read_file(path, f"--config {path}", FILE_BYTES_MAX, "give a TOML file of settings").decode()
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} is no TOML: {error}") from error
    if "token" in document:
        raise ConfigError(f"--config {path} holds the token itself; put it into a file of its own and give token_file")
    unknown = [key for key in document if key not in Settings.model_fields]
    if unknown:
        known = ", ".join(key for key in Settings.model_fields if key != "token")
        raise ConfigError(f"--config {path}: unknown key {unknown[0]!r}; keys are {known}")
    return document


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """The variables that begin like ours and mean nothing to us: most likely misspelt."""
    known = OTHERS | {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    ours = (name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)
    return sorted(name for name in ours if not _SERVICE_LINK.fullmatch(name.upper()))


def flag_of(name: str) -> str:
    """How the flag of a setting is written, if it has one."""
    return "--" + REPEATED.get(name, name).replace("_", "-")


def _first_problem(error: ValidationError, with_flag: Container[str]) -> str:
    problem = error.errors(include_url=False, include_input=True)[0]
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    met = "" if name == "token" else f" is {problem['input']!r}"
    flag = f"{flag_of(name)}, " if name in with_flag else ""
    is_size = problem["type"].startswith("byte_size")
    why = "give bytes, or a number and a unit, as 512MiB" if is_size else problem["msg"].removeprefix("Value error, ")
    return f"{name}{met}: {why} (set by {flag}{PREFIX}{name.upper()} or {name} in the file)"
