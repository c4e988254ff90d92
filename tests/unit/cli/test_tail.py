"""How `kvsync tail` ends where nothing was heard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Self

import pytest
from tests.unit.cli.test_silence import STATUS
from typer.testing import CliRunner

from kvsync.cli.main import app
from kvsync.stream.endpoints import Source
from kvsync.stream.status import StreamStatus
from kvsync.types import Engine


class Silent:
    """In place of a listener: it hears nothing, and its streams are as a test says."""

    lost = 0
    is_connected = True

    def __init__(self, sources: Iterable[Source]) -> None:
        self._engines = [source.engine for source in sources]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stop(self) -> None:
        """It ends by itself."""

    def heard(self, seconds: float | None) -> Iterator[None]:
        """Nothing, a few times."""
        yield from [None] * 3

    def status(self) -> dict[Engine, StreamStatus]:
        """Its streams."""
        return {engine: replace(STATUS, engine=engine, connected=self.is_connected) for engine in self._engines}


@pytest.mark.parametrize(
    ("is_connected", "status", "said"),
    [(True, 0, "it is connected, and it was silent"), (False, 1, "the connection is refused; check the port")],
)
def test_an_idle_engine_is_no_problem_and_a_missing_one_is(
    monkeypatch: pytest.MonkeyPatch, is_connected: bool, status: int, said: str
) -> None:
    """Either way why nothing was shown is said on stderr."""
    monkeypatch.setattr("kvsync.cli.listen.Listener", Silent)
    monkeypatch.setattr("kvsync.cli.silence.unreachable", lambda endpoint: "the connection is refused; check the port")
    monkeypatch.setattr(Silent, "is_connected", is_connected)
    result = CliRunner().invoke(app, ["tail", "--events", "tcp://127.0.0.1:9", "--seconds", "1"])
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr
