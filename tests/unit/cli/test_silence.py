"""What is said where nothing is heard."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace
from typing import Any

import pytest

from kvsync.cli.silence import Troubles, unreachable, why_silent
from kvsync.stream.endpoints import Source
from kvsync.stream.status import StreamStatus
from kvsync.types import Engine

ENGINE = Engine("pod", 0)
SOURCE = Source(ENGINE, "m", "tcp://engine.example:5557")
STATUS = StreamStatus(
    engine=ENGINE, connected=False, state="connecting", applied=None, live_last=None, received=0, applied_frames=0,
    duplicate=0, dropped={}, waiting=0, gaps=0, unfilled=0, replays=0, restarts=0, oversize=0, reconnects=0,
    index_errors=0, last_event_age_s=None, error=None, replay_available=None,
)  # fmt: skip


def said(source: Source = SOURCE, messages: int = 0, **status: Any) -> str:
    """The sentence for one engine."""
    return why_silent([source], {ENGINE: replace(STATUS, **status)}, messages)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "no host has the name engine.example"),
        (ConnectionRefusedError(), "the connection is refused"),
        (OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), "Network is unreachable"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_why_no_connection_can_be_made(monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str) -> None:
    """Each reason that the system tells apart is said as such, with the endpoint."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert reason in (unreachable(SOURCE.events) or "")
    assert said().startswith(f"nothing was heard from {SOURCE.events}: ")


def test_a_silent_connection_is_an_idle_engine() -> None:
    """Unless a topic may be what keeps it silent."""
    assert "send it a request" in said(connected=True)
    assert "--topic" not in said(connected=True)
    assert "topic 'kv'" in said(replace(SOURCE, topic="kv"), connected=True)


def test_a_bound_endpoint_waits_for_engines() -> None:
    """It says so, or why it could not be bound."""
    bound = replace(SOURCE, bind=True)
    assert "no engine has connected" in said(bound)
    assert said(bound, error="it is taken").endswith("it is taken")


def test_messages_that_are_no_batches_are_another_server() -> None:
    """With how many there were."""
    assert "of 1 message none is an event batch" in said(messages=1)
    assert "of 5 messages none is an event batch" in said(messages=5)


def test_a_trouble_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """And again when it has come back."""
    troubles = Troubles("tail")
    for error in (None, "refused", "refused", None, "refused"):
        troubles.tell({ENGINE: replace(STATUS, error=error)})
    assert capsys.readouterr().err == "kvsync tail: refused\n" * 2
