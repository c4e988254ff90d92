"""`kvsync record` and `kvsync tail` at a live engine."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.engine_helpers import run, running_engine
from tests.patience import PATIENCE_S
from typer.testing import CliRunner

from kvsync.cli.main import app
from kvsync.engine.process import Addresses
from kvsync.stream.capture import open_capture


async def listening(*arguments: str) -> asyncio.subprocess.Process:
    """Start a command that listens until it is told to end."""
    command = [sys.executable, "-m", "kvsync", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return await asyncio.create_subprocess_exec(*command, **pipes)  # type: ignore[arg-type]  # names of pipes


def streams(addresses: Addresses) -> list[str]:
    """The flags that name an engine's streams."""
    return ["--events", addresses.events[0], "--replay", addresses.replay[0], "--pod", "ns/p"]


def records(path: Path) -> int:
    """How many records a capture has; none if it is not there yet."""
    return sum(1 for _ in open_capture(path)) if path.exists() and path.stat().st_size else 0


async def grown(path: Path, count: int) -> None:
    """Wait until a capture has at least so many records."""
    async with asyncio.timeout(PATIENCE_S):
        while records(path) < count:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)


async def told(process: asyncio.subprocess.Process, word: str) -> None:
    """Wait until it says something on stderr."""
    assert process.stderr is not None
    while word not in (line := (await process.stderr.readline()).decode()):
        assert line, f"it ended without a word of {word!r}"


async def interrupted(process: asyncio.subprocess.Process) -> str:
    """Send Ctrl-C to one that has heard nothing; what it says of that."""
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 1
    return err.decode()


async def ended(process: asyncio.subprocess.Process) -> tuple[str, str]:
    """Send Ctrl-C and give what was printed."""
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, err
    return out.decode(), err.decode()


def replayed(path: Path) -> Any:
    """The dump of a capture."""
    result = CliRunner().invoke(app, ["replay", str(path), "--dump"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("redact", [False, True])
def test_a_recording_replays_to_what_the_engine_holds(tmp_path: Path, redact: bool) -> None:
    """What happened before it began is in it too, Ctrl-C ends it in good order, and only its owner can read it."""
    path = tmp_path / "live.capture"

    async def scenario() -> None:
        async with running_engine() as client:
            await client.complete("once upon a time there was a block, and it was full")
            flags = [*streams(client.engine.addresses), "--model", "m", "--out", str(path), "--json"]
            process = await listening("record", *flags, *(["--redact"] if redact else []))
            await grown(path, 1)
            await client.complete("once upon a time there was a block, and another one")
            truth = (await client.truth())["0"]
            await grown(path, truth["sequence"] + 1)
            out, _ = await ended(process)
            summary = json.loads(out.splitlines()[-1])
            assert summary["engines"] == {"ns/p/0": summary["frames"]}
            assert summary["lost"] == 0
            dump = replayed(path)["engines"]["ns/p/0"]
            assert (dump["trust"], dump["lives"]) == ("exact", 1)
            if redact:  # as many blocks, under other hashes
                assert dump["media"]["GPU"]["0"].keys().isdisjoint(truth["media"]["GPU"]["0"])
                assert len(dump["media"]["GPU"]["0"]) == len(truth["media"]["GPU"]["0"])
            else:
                assert dump["media"] == truth["media"]

    run(scenario)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_capture(path) as capture:
        assert (capture.header["model"], capture.header["redacted"]) == ("m", redact)


def test_tail_shows_events_as_they_come() -> None:
    """Stored blocks with their number of tokens, as JSON lines that arrive while it runs."""

    async def scenario() -> None:
        async with running_engine() as client:
            process = await listening("tail", *streams(client.engine.addresses), "--json")
            assert process.stdout is not None
            await client.complete("a prompt that fills one block and a bit of the next")
            line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
            event = json.loads(line)
            assert (event["engine"], event["type"], event["sequence"]) == ("ns/p/0", "BlockStored", 0)
            assert event["tokens_count"] == 16 * len(event["block_hashes"])
            await ended(process)

    run(scenario)


def test_hearing_nothing_is_a_problem(tmp_path: Path) -> None:
    """Status 1, and why the address was silent; no file is left that were in the way of another try."""
    path = tmp_path / "silent.capture"
    arguments = ["--events", "tcp://127.0.0.1:9", "--model", "m", "--out", str(path), "--seconds", "1"]
    result = CliRunner().invoke(app, ["record", *arguments])
    assert result.exit_code == 1
    assert "nothing was heard from tcp://127.0.0.1:9: the connection is refused; check the port" in result.stderr
    assert not path.exists()


def test_another_kind_of_server_is_no_event_publisher(tmp_path: Path) -> None:
    """What an engine's HTTP port sends back is not recorded as a success, and no file is left."""
    path = tmp_path / "garbage.capture"

    async def scenario() -> None:
        async with running_engine() as client:
            endpoint = client.engine.addresses.http.replace("http://", "tcp://")
            process = await listening("record", "--events", endpoint, "--model", "m", "--out", str(path))
            # It is taken for an old engine or for none, as its bytes happen to come: junk is heard, or a word is said.
            signs = [asyncio.ensure_future(sign) for sign in (grown(path, 1), told(process, "trying again"))]
            await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
            for sign in signs:
                sign.cancel()
            await asyncio.gather(*signs, return_exceptions=True)
            assert f"what answers at {endpoint} is no event publisher" in await interrupted(process)

    run(scenario)
    assert not path.exists()


def test_an_idle_engine_is_told_from_a_dead_one(tmp_path: Path) -> None:
    """Where the connection stands and nothing comes, the remedy is a request."""
    path = tmp_path / "idle.capture"

    async def scenario() -> None:
        async with running_engine() as client:
            process = await listening("record", *streams(client.engine.addresses), "--model", "m", "--out", str(path))
            await grown(path, 1)  # the end of an empty replay is heard, and is no garbage
            assert "an idle engine publishes nothing, so send it a request" in await interrupted(process)

    run(scenario)


def test_an_endpoint_that_is_taken_cannot_be_bound(tmp_path: Path) -> None:
    """Said as such, and not as an engine that is silent."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
            arguments = ["--bind", "--events", endpoint, "--model", "m", "--out", str(tmp_path / "x")]
            process = await listening("record", *arguments)
            await told(process, "trying again")
            assert f"{endpoint} cannot be bound: Address already in use" in await interrupted(process)

    run(scenario)


def test_tail_of_a_dead_port_says_so() -> None:
    """Status 1, on stderr, while stdout stays empty."""
    result = CliRunner().invoke(app, ["tail", "--events", "tcp://127.0.0.1:9", "--seconds", "1"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the connection is refused" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["record", "--model", "m", "--out", "{new}"], "--events is missing"),
        (["record", "--model", "m", "--out", "{new}", "--events", "127.0.0.1:5557"], "127.0.0.1:5557"),
        (["record", "--model", "m", "--out", "{old}", "--events", "tcp://127.0.0.1:9"], "--overwrite to replace it"),
        (["record", "--model", "m", "--out", "/", "--events", "tcp://127.0.0.1:9"], "/ is a directory"),
        (["record", "--model", "m", "--out", "{new}/x", "--events", "tcp://127.0.0.1:9"], "cannot be written"),
        (["record", "--model", "m", "--out", "{new}", "--events", "tcp://127.0.0.1:9", "--pod", ""], "--pod is empty"),
        (["tail"], "either a capture file or --events"),
        (["tail", "{old}", "--events", "tcp://127.0.0.1:9"], "either a capture file or --events"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Status 2 and a line that names the setting, and no file is left or lost."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"\x80")
    result = CliRunner().invoke(app, [part.format(old=old, new=new) for part in arguments])
    assert result.exit_code == 2
    assert said in result.stderr
    assert old.read_bytes() == b"\x80"
    assert not new.exists()
