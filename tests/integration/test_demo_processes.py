"""The demo's child processes, and the leash they are on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S

from kvsync.demo.processes import Child, Children
from kvsync.errors import KvsyncError

STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("here", flush=True)
time.sleep(600)
"""

PARENT = """
import subprocess, time
child = subprocess.Popen({command!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""
ENGINE = ("engine", "--listen", "127.0.0.1:0", "--events", "tcp://127.0.0.1:0")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    """Wait for a process that is not our child."""
    end = time.monotonic() + PATIENCE_S
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(pid)


def environment_of(pid: int) -> str:
    """The variables that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_text()


def test_a_child_says_where_it_is_and_ends_with_the_context() -> None:
    """Its ready line gives the addresses; leaving the context ends it with status 0, in good order."""

    async def scenario() -> Child:
        async with Children() as children:
            child = await children.start("one", *ENGINE)
            assert child.ready["http"].startswith("http://127.0.0.1:")
            assert os.getpgid(child.process.pid) != os.getpgid(0)
        return child

    child = asyncio.run(scenario())
    assert child.process.returncode == 0
    assert not is_alive(child.process.pid)


def test_a_child_that_does_not_get_ready_says_why() -> None:
    """The error has the name, the status and the last lines that it printed."""

    async def scenario() -> None:
        async with Children() as children:
            await children.start("two", "engine", "--blocks", "1")

    with pytest.raises(KvsyncError, match=r"two ended with status 2.*\n.*--blocks is 1"):
        asyncio.run(scenario())


def test_a_child_that_ends_by_itself_is_noticed() -> None:
    """Whoever watches gets the error."""

    async def scenario() -> None:
        async with Children() as children:
            child = await children.start("three", *ENGINE)
            child.process.kill()
            await asyncio.wait_for(children.watch(), PATIENCE_S)

    with pytest.raises(KvsyncError, match="three ended with status -9"):
        asyncio.run(scenario())


def test_settings_of_another_daemon_do_not_reach_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KVSYNC_ variable of the user's shell would change what the demo shows."""
    monkeypatch.setenv("KVSYNC_ENGINE_TOKEN", "secret")

    async def scenario() -> str:
        async with Children() as children:
            child = await children.start("four", *ENGINE)
            return environment_of(child.process.pid)

    assert "KVSYNC_" not in asyncio.run(scenario())


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, is_stubborn: bool) -> None:
    """Even a parent that is killed outright takes its children along, also one that ignores being told to end."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    module = ["stubborn"] if is_stubborn else ["kvsync", *ENGINE]
    command = [sys.executable, "-m", "kvsync.demo.leash", *module]
    script = PARENT.format(command=command)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=tmp_path)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until_gone(pid)


def test_the_leash_needs_something_to_hold() -> None:
    """Without a module there is a word on how it is used."""
    done = subprocess.run([sys.executable, "-m", "kvsync.demo.leash"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "usage" in done.stderr
