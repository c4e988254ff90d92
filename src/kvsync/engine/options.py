"""
The options of a simulated engine, checked when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address

from kvsync.engine.endpoints import check_apart, rank_endpoints
from kvsync.engine.events import GroupSpec, Lora
from kvsync.engine.hashing import HashForm
from kvsync.engine.publisher import PublisherOptions
from kvsync.engine.scheduler import Limits
from kvsync.engine.timing import TimeModel
from kvsync.engine.wire import DEFAULT_WIRE, Wire
from kvsync.errors import ConfigError

_MODEL_TOKENS_MAX = 8_192
_TEXT_BYTES_MAX = 4_096
_AUTO = "auto"


class ResetEvents(StrEnum):
    """When a reset of an idle engine's cache is announced."""

    STEP = "step"
    """With the next step that runs, as real engines do: until then subscribers believe what is gone."""

    NOW = "now"
    """At once."""

    NEVER = "never"
    """Not at all: a fault to test subscribers with."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """
    Everything a simulated engine can be told; raises `ConfigError` for what cannot work.

    Lengths are tokens, rates tokens per second. `replay` is an address, "auto" (the port after the last
    events port, or a free one) or None (no replay). `max_model_len` None means as much as the pool holds,
    at most 8,192. `windows` adds a sliding-window group of that many tokens each. `token` is asked of every
    HTTP client but those of `/health`.
    """

    model: str = "simulated"
    host: str = "127.0.0.1"
    port: int = 8000
    events: str = "tcp://127.0.0.1:5557"
    events_bind: bool = True
    replay: str | None = _AUTO
    topic: str = ""
    ranks: int = 1
    blocks: int = 4_096
    block_size: int = 16
    windows: tuple[int, ...] = ()
    prefill_rate: float = 20_000.0
    decode_rate: float = 50.0
    running_max: int = 256
    step_tokens: int = 2_048
    chunked_prefill: bool = True
    max_model_len: int | None = None
    answer_tokens: int = 128
    image_tokens: int = 64
    wire: str = DEFAULT_WIRE
    hash_form: HashForm | None = None
    loras: tuple[str, ...] = ()
    seed: int = 0
    buffer_steps: int = 10_000
    hwm: int = 100_000
    reset_events: ResetEvents = ResetEvents.STEP
    body_bytes_max: int = 16 * 1024 * 1024
    token: str | None = field(default=None, repr=False)
    insecure: bool = False
    curve_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, (least, why) in _LEAST.items():
            value = getattr(self, name)
            if not value >= least:  # so that NaN is refused too
                raise ConfigError(f"{_flag(name)} is {value}; {why}")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ConfigError(f"{_flag(name)} is {getattr(self, name)}; give {most} at most")
        self._check_texts()
        if not self.model:
            raise ConfigError("--model is empty; give the name that requests will ask for")
        self._check_loras()
        self._check_lengths()
        self._check_endpoints()
        self._check_exposure()
        self.make_wire()

    @property
    def model_tokens_max(self) -> int:
        """The longest prompt and answer together."""
        if self.max_model_len is not None:
            return self.max_model_len
        return min(_MODEL_TOKENS_MAX, self._pool_tokens)

    @property
    def groups(self) -> tuple[GroupSpec, ...]:
        return (GroupSpec(), *(GroupSpec(window) for window in self.windows))

    @property
    def adapters(self) -> dict[str, Lora]:
        return {name: Lora(name, number) for number, name in enumerate(self.loras, start=1)}

    @property
    def limits(self) -> Limits:
        return Limits(self.running_max, self.step_tokens, self.chunked_prefill)

    @property
    def time_model(self) -> TimeModel:
        return TimeModel(self.prefill_rate, self.decode_rate)

    def make_wire(self) -> Wire:
        return Wire.named(self.wire, self.hash_form)

    def publishers(self) -> list[PublisherOptions]:
        """Give each rank's sockets, in order."""
        events, replays = self._events(), self._replays()
        return [
            PublisherOptions(
                events=events[rank],
                replay=replays[rank] if replays else None,
                topic=self.topic,
                bind=self.events_bind,
                buffer_steps=self.buffer_steps,
                hwm=self.hwm,
                curve_key=self.curve_key,
            )
            for rank in range(self.ranks)
        ]

    @property
    def _pool_tokens(self) -> int:
        """Tokens that the pool of one rank holds when one request has it alone; block 0 holds none."""
        return (self.blocks - 1) // len(self.groups) * self.block_size

    def _events(self) -> tuple[str, ...]:
        return rank_endpoints(self.events, self.ranks)

    def _replays(self) -> tuple[str, ...]:
        if self.replay is None:
            return ()
        if self.replay != _AUTO:
            return rank_endpoints(self.replay, self.ranks)
        if not self.events.startswith("tcp://") or not self.events_bind:
            raise ConfigError(
                f"--replay auto follows the events port, and events are at {self.events}"
                f"{'' if self.events_bind else ' (connecting)'}; give --replay tcp://HOST:PORT or --no-replay"
            )
        host, _, port = self.events.rpartition(":")
        return rank_endpoints(self.events if port == "0" else f"{host}:{int(port) + self.ranks}", self.ranks)

    def _check_texts(self) -> None:
        # What a command line or a file gives may hold bytes that are no text, and no message could carry them.
        texts = (
            ("--model", self.model),
            ("--topic", self.topic),
            ("--events", self.events),
            ("--replay", self.replay or ""),
            ("--listen", self.host),
            *(("--lora", name) for name in self.loras),
        )
        for flag, text in texts:
            try:
                size = len(text.encode())
            except UnicodeEncodeError:
                raise ConfigError(f"{flag} is {text!r}, which is not UTF-8; write it in UTF-8") from None
            if size > _TEXT_BYTES_MAX:
                raise ConfigError(f"{flag} has {size:,} bytes; give {_TEXT_BYTES_MAX:,} at most")

    def _check_loras(self) -> None:
        for name in self.loras:
            if not name or name == self.model or self.loras.count(name) > 1:
                raise ConfigError(f"--lora {name!r} is empty or taken; every adapter and the model need their own name")

    def _check_lengths(self) -> None:
        for window in self.windows:
            if window < 2:
                raise ConfigError(f"--window is {window}; a sliding window has at least 2 tokens")
        if self.model_tokens_max < 2:
            raise ConfigError(
                f"--max-model-len is {self.model_tokens_max}; a prompt and its answer are at least 2 tokens, so give "
                "a longer one, or more --blocks"
            )
        if self._pool_tokens < self.model_tokens_max:
            raise ConfigError(
                f"--max-model-len is {self.model_tokens_max}, and of one request {self.blocks} blocks of "
                f"{self.block_size} tokens hold {self._pool_tokens}; give more --blocks or a shorter --max-model-len"
            )
        if not self.chunked_prefill and self.step_tokens < self.model_tokens_max:
            raise ConfigError(
                f"--step-tokens is {self.step_tokens}, and without chunked prefill a step must hold the longest "
                f"prompt, {self.model_tokens_max} tokens; raise it, or lower --max-model-len"
            )

    def _check_endpoints(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"--listen port is {self.port}; give 0 (a free one) to 65535")
        if not self.events_bind and ("*" in self.events or self.events.endswith(":0")):
            raise ConfigError(f"--events-connect cannot connect to {self.events}; give the subscriber's address")
        check_apart(self._events(), self._replays())

    def _check_exposure(self) -> None:
        if self.token is not None and not self.token:
            raise ConfigError("the HTTP token is empty; put one line of text into the token file")
        if self.token is None and not self.insecure and not is_loopback(self.host):
            raise ConfigError(
                f"--listen {self.host} can be reached from other machines; give --token-file or KVSYNC_ENGINE_TOKEN, "
                "or --insecure if that is meant"
            )
        if self.insecure:
            return
        # Whom an engine connects to was chosen; a port that it opens is for whoever finds it.
        opened = [("--replay", replay) for replay in self._replays()[:1]]
        if self.events_bind:
            opened.insert(0, ("--events", self._events()[0]))
        for flag, endpoint in opened:
            transport, _, address = endpoint.partition("://")
            if transport == "tcp" and not is_loopback(address.rpartition(":")[0]):
                raise ConfigError(
                    f"{flag} {endpoint} can be read from other machines, token ids and all, and no token guards it;"
                    " give a loopback address, or --insecure if that is meant"
                )


_LEAST: dict[str, tuple[float, str]] = {
    "ranks": (1, "an engine has at least one rank"),
    "blocks": (2, "a pool has at least 2 blocks, one of which stands for none"),
    "block_size": (1, "a block has at least one token"),
    "prefill_rate": (1e-9, "it must be above 0"),
    "decode_rate": (1e-9, "it must be above 0"),
    "running_max": (1, "at least one request must be able to run"),
    "step_tokens": (1, "a step has at least one token"),
    "answer_tokens": (1, "an answer has at least one token"),
    "image_tokens": (1, "an image has at least one token"),
    "buffer_steps": (1, "at least one batch must stay replayable"),
    "hwm": (1, "at least one batch must be kept for a slow subscriber"),
    "body_bytes_max": (1, "a request body has at least one byte"),
}


_MOST: dict[str, int] = {
    "ranks": 64,
    "blocks": 1 << 24,  # each is an object in memory
    "block_size": 1 << 20,  # as the index has it
    "buffer_steps": 100_000_000,
    "hwm": (1 << 31) - 1,  # a C int
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _flag(name: str) -> str:
    return "--" + {"running_max": "max-running"}.get(name, name).replace("_", "-")
