"""The engine's options: defaults that work, and refusals that say what to change."""

from __future__ import annotations

from typing import Any

import pytest

from kvsync.engine.options import EngineOptions, is_loopback
from kvsync.errors import ConfigError


def test_replay_follows_the_last_events_port() -> None:
    """Left alone, replay of rank 0 has the port after the events of the last rank."""
    sockets = EngineOptions(ranks=3).publishers()
    assert [one.events[-4:] for one in sockets] == ["5557", "5558", "5559"]
    assert [(one.replay or "")[-4:] for one in sockets] == ["5560", "5561", "5562"]


def test_free_ports_for_events_are_free_ports_for_replay() -> None:
    """Port 0 carries over."""
    (sockets,) = EngineOptions(events="tcp://127.0.0.1:0").publishers()
    assert sockets.replay == "tcp://127.0.0.1:0"


def test_replay_can_be_left_out() -> None:
    """Engines offer none by default, and so can this one."""
    assert EngineOptions(replay=None).publishers()[0].replay is None


def test_the_longest_request_is_what_the_pool_holds() -> None:
    """Unasked, the length is the pool's, block 0 and the other groups taken off, and at most 8,192."""
    assert EngineOptions(blocks=101, block_size=16).model_tokens_max == 1_600
    assert EngineOptions(blocks=101, block_size=16, windows=(64,)).model_tokens_max == 800
    assert EngineOptions().model_tokens_max == 8_192


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"ranks": 0}, "--ranks"),
        ({"blocks": 1}, "--blocks"),
        ({"block_size": 0}, "--block-size"),
        ({"prefill_rate": 0.0}, "--prefill-rate"),
        ({"decode_rate": float("nan")}, "--decode-rate"),
        ({"running_max": 0}, "--max-running"),
        ({"buffer_steps": 0}, "--buffer-steps"),
        ({"model": ""}, "--model"),
        ({"loras": ("a", "a")}, "--lora"),
        ({"loras": ("simulated",)}, "--lora"),
        ({"windows": (1,)}, "--window"),
        ({"blocks": 10, "max_model_len": 145}, "--max-model-len"),
        ({"blocks": 2, "windows": (8,)}, "--max-model-len"),
        ({"max_model_len": 0}, "--max-model-len"),
        ({"chunked_prefill": False}, "--step-tokens"),
        ({"port": 70_000}, "--listen"),
        ({"host": "0.0.0.0"}, "--token-file"),
        ({"events_bind": False}, "--replay"),
        ({"events_bind": False, "events": "tcp://*:5557", "replay": None}, "--events-connect"),
        ({"ranks": 2, "replay": "tcp://127.0.0.1:5558"}, "wanted twice"),
        ({"wire": "vllm-0.1.0"}, "wire"),
        ({"token": ""}, "token"),
        ({"ranks": 65}, "--ranks is 65; give 64 at most"),
        ({"blocks": 2**24 + 1}, "--blocks"),
        ({"block_size": 2**20 + 1}, "--block-size"),
        ({"buffer_steps": 10**9}, "--buffer-steps"),
        ({"hwm": 2**31}, "--hwm"),
        ({"model": "\udcff"}, "--model .* not UTF-8"),
        ({"topic": "\udcff"}, "--topic .* not UTF-8"),
        ({"loras": ("\udcff",)}, "--lora .* not UTF-8"),
        ({"model": "x" * 5_000}, "--model has 5,000 bytes"),
        ({"events": "tcp://*:0"}, "--events .* --insecure"),
        ({"events": "tcp://10.0.0.1:5557", "token": "secret"}, "--events .* --insecure"),
        ({"events": "tcp://[::]:5557", "replay": None}, "--events .* --insecure"),
        ({"replay": "tcp://0.0.0.0:5558"}, "--replay .* --insecure"),
    ],
)
def test_what_cannot_work_is_refused_when_made(options: dict[str, Any], flag: str) -> None:
    """The message names the flag to change."""
    with pytest.raises(ConfigError, match=flag):
        EngineOptions(**options)


@pytest.mark.parametrize("options", [{"token": "secret"}, {"insecure": True}])
def test_other_machines_may_reach_it_when_that_is_said(options: dict[str, Any]) -> None:
    """A token or an outspoken wish opens a listener off loopback."""
    assert EngineOptions(host="0.0.0.0", **options).host == "0.0.0.0"


@pytest.mark.parametrize(
    "options",
    [
        {"events": "tcp://*:5557", "insecure": True},
        {"events": "tcp://10.0.0.1:5557", "events_bind": False, "replay": None},
        {"events": "ipc:///run/events", "replay": None},
        {"events": "tcp://localhost:5557"},
        {"events": "tcp://[::1]:5557"},
    ],
)
def test_events_are_open_to_this_machine_only_unless_that_is_said(options: dict[str, Any]) -> None:
    """An outspoken wish opens them, and whom the engine connects to was chosen."""
    assert EngineOptions(**options).events == options["events"]


def test_the_token_is_not_shown() -> None:
    """Options are logged; secrets are not."""
    assert "secret" not in repr(EngineOptions(token="secret"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")),
        *((host, False) for host in ("0.0.0.0", "10.0.0.1", "::", "engine.local", "")),
    ],
)
def test_only_this_machines_addresses_are_loopback(host: str, loopback: bool) -> None:
    """A name that would have to be resolved counts as reachable."""
    assert is_loopback(host) is loopback
