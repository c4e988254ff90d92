"""`kvsync serve` as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.engine_helpers import ENVIRONMENT, run
from tests.patience import PATIENCE_S

from kvsync.testing.fake_pod import FakePod

POD = "name=a,http=http://127.0.0.1:9,model=m"


def command(*arguments: str) -> list[str]:
    """`kvsync serve` with these arguments."""
    return [sys.executable, "-m", "kvsync", "serve", *arguments]


@contextmanager
def serving(*arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running daemon and what it printed when it was ready."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | variables
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def refused(*arguments: str, **variables: str) -> str:
    """What a daemon that must not start says."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=ENVIRONMENT | variables,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_when_told(number: signal.Signals) -> None:
    """One line of JSON on stdout, JSON lines on stderr, status 0."""
    with serving("--pod", POD, "--listen", "127.0.0.1:0") as (process, ready):
        assert ready["ready"] is True
        with urllib.request.urlopen(f"{ready['http']}/healthz", timeout=PATIENCE_S) as response:
            assert response.status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (0, "")
        assert all(json.loads(line)["level"] in ("info", "warning") for line in err.splitlines())


@asynccontextmanager
async def slow_answer() -> AsyncIterator[tuple[asyncio.subprocess.Process, aiohttp.ClientResponse, asyncio.Semaphore]]:
    """A daemon in the middle of a streamed answer, that answer, and what lets it go on, piece by piece."""
    gate = asyncio.Semaphore(0)
    async with FakePod(gate=gate) as pod:
        flags = ("--pod", f"name=a,http={pod.url},model=m", "--listen", "127.0.0.1:0", "--drain-seconds", "1000")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(*command(*flags), env=ENVIRONMENT, **pipes)  # type: ignore[arg-type]  # names of pipes
        try:
            assert process.stdout is not None
            ready = json.loads(await process.stdout.readline())
            asked = {"model": "m", "prompt": "hi", "max_tokens": 3, "stream": True}
            async with aiohttp.ClientSession(ready["http"]) as client:
                await is_up(client)
                async with client.post("/v1/completions", json=asked) as answer:
                    await answer.content.readline()
                    yield process, answer, gate
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def is_up(client: aiohttp.ClientSession) -> None:
    """Wait until the only pod gets requests: a busy machine may have answered too late when it was first asked."""
    while True:
        async with client.get("/readyz") as answer:
            if (await answer.json())["pods"]["up"] == 1:
                return
        await asyncio.sleep(0.02)


async def told(process: asyncio.subprocess.Process, words: str) -> None:
    """Wait until it says something on stderr."""
    assert process.stderr is not None
    while words not in (line := (await process.stderr.readline()).decode()):
        assert line, f"it ended without a word of {words!r}"


async def last_words(process: asyncio.subprocess.Process) -> str:
    """What it says until it has ended, with status 0."""
    _, err = await process.communicate()
    assert process.returncode == 0
    return err.decode()


def test_a_running_answer_is_let_end() -> None:
    """The daemon says how many it waits for, and ends with the last of them."""

    async def story() -> None:
        async with slow_answer() as (process, answer, gate):
            process.terminate()
            await told(process, "waiting up to 1000 s for 1 request;")
            for _ in range(3):
                gate.release()
            assert b"[DONE]" in await answer.read()
            assert "cut short" not in await last_words(process)

    run(story)


def test_a_second_signal_ends_it_at_once() -> None:
    """And it says what was cut."""

    async def story() -> None:
        async with slow_answer() as (process, answer, _):
            process.terminate()
            await told(process, "waiting up to")
            process.terminate()
            with suppress(aiohttp.ClientError):
                assert b"[DONE]" not in await answer.read()
            assert "1 request cut short" in await last_words(process)

    run(story)


def test_a_misspelt_variable_is_told() -> None:
    """It would do nothing in silence."""
    with serving("--pod", POD, "--listen", "127.0.0.1:0", KVSYNC_POLICI="cost") as (process, _):
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE_S)
        assert "KVSYNC_POLICI" in err


def test_everything_may_come_from_environment_and_file(tmp_path: Path) -> None:
    """No flag is needed."""
    path = tmp_path / "kvsync.toml"
    path.write_text('listen = "127.0.0.1:0"\npolicy = "random"\n', encoding="utf-8")
    with (
        serving(KVSYNC_PODS=POD, KVSYNC_CONFIG=str(path)) as (_, ready),
        urllib.request.urlopen(f"{ready['http']}/v1/stats", timeout=PATIENCE_S) as response,
    ):
        assert json.load(response)["policy"] == "random"


def test_off_loopback_it_wants_a_token(tmp_path: Path) -> None:
    """It refuses to start without, asks for it once started, and never shows it."""
    assert "--token-file" in refused("--pod", POD, "--listen", "0.0.0.0:0")
    token = tmp_path / "token"
    token.write_text("correct-horse\n", encoding="ascii")
    with serving("--pod", POD, "--listen", "0.0.0.0:0", "--token-file", str(token)) as (process, ready):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{ready['http']}/v1/pods", timeout=PATIENCE_S)
        assert caught.value.code == 401
        caught.value.close()
        request = urllib.request.Request(f"{ready['http']}/v1/pods", headers={"Authorization": "Bearer correct-horse"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            assert response.status == 200
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE_S)
        assert "correct-horse" not in err


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    """In one line that names flag and value, with status 2."""
    assert "there are no pods" in refused()
    assert "'model' is missing" in refused("--pod", "name=a,http=http://h")
    assert "two pods are named 'a'" in refused("--pod", POD, "--pod", POD)
    assert "policy 'none' is not known" in refused("--pod", POD, "--policy", "none", "--listen", "127.0.0.1:0")
    assert "prefill_rate is 0" in refused("--pod", POD, "--prefill-rate", "0")
    assert "cannot be read" in refused("--pod", POD, "--config", str(tmp_path / "none"))


def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    """So is a kubeconfig that is not there; both end the start."""
    token = tmp_path / "token"
    token.write_text("secret-token-of-a-test")
    token.chmod(0o600)
    said = refused("--pod", POD, "--listen", "192.0.2.1:8099", "--token-file", str(token))
    assert "listen 192.0.2.1:8099 cannot be listened at (" in said
    assert "give an address of this machine" in said
    missing = refused("--kubernetes", "--kubeconfig", str(tmp_path / "none"))
    assert f"--kubeconfig {tmp_path / 'none'} is not there" in missing


def test_a_taken_port_is_named() -> None:
    """With what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "is taken" in refused("--pod", POD, "--listen", f"127.0.0.1:{port}")
