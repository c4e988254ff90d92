"""`kvsync demo`, as somebody who has just installed it runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S

SHORT = ("--seconds", "6", "--pods", "3")
UNTIL_STOPPED = ("--seconds", "3600", "--pods", "3")
FIGURES = {"hit_rate", "requests_max_over_mean", "ttft_mean_s", "ttft_p99_s"}


def demo(*flags: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "kvsync", "demo", *flags]


def children_of(pid: int) -> set[int]:
    """The processes that a process has started and that live."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.add(int(stat.parent.name))
    return found


def wait_for_children(process: subprocess.Popen[bytes], count: int) -> set[int]:
    """Wait until a demo has started so many processes."""
    end = time.monotonic() + PATIENCE_S
    while len(children_of(process.pid)) < count:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    return children_of(process.pid)


def assert_gone(pids: set[int]) -> None:
    """None of these processes runs any more, soon."""
    end = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_short_demo_is_true_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Status 0, a document on the last line, the index equal to what the engines hold, and no file left."""
    done = subprocess.run(demo(*SHORT, "--json"), capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    document = json.loads(line)
    assert document.keys() == {"policies", "ideal_hit_rate", "index_equals_truth", "events", "requests"}
    assert list(document["policies"]) == ["cost", "round-robin"]
    assert document["index_equals_truth"] is True
    assert document["events"] > 0
    assert document["requests"] == sum(policy["requests"] for policy in document["policies"].values()) > 60
    for policy in document["policies"].values():
        assert policy.keys() >= FIGURES
        assert 0 < policy["hit_rate"] <= document["ideal_hit_rate"] < 1
    assert document["policies"]["cost"]["hit_rate"] > document["policies"]["round-robin"]["hit_rate"]
    assert "equals what the engines hold" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "status", "processes"),
    [
        pytest.param(signal.SIGINT, 130, 1, id="Ctrl-C while engines start"),
        pytest.param(signal.SIGINT, 130, 4, id="Ctrl-C once the daemon is there"),
        pytest.param(signal.SIGTERM, 143, 4, id="told to end"),
        pytest.param(signal.SIGKILL, -9, 4, id="killed"),
    ],
)
def test_stopping_leaves_no_process(number: signal.Signals, status: int, processes: int) -> None:
    """However and whenever a demo is stopped, its engines and its daemon end with it."""
    process = subprocess.Popen(
        demo(*UNTIL_STOPPED), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    children = wait_for_children(process, processes)
    process.send_signal(number)
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=PATIENCE_S) == status
    assert "Traceback" not in said
    assert_gone(children)


def test_an_engine_that_dies_ends_the_demo_with_a_sentence() -> None:
    """A pod that is killed is named, with status 1, and the others are ended."""
    process = subprocess.Popen(demo(*UNTIL_STOPPED), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    children = wait_for_children(process, 4)
    os.kill(min(children), signal.SIGKILL)
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=PATIENCE_S) == 1
    assert said.startswith("kvsync: pod-"), said
    assert "ended with status -9" in said
    assert_gone(children)


def test_in_a_terminal_there_is_a_live_table() -> None:
    """A real terminal shows a table that is redrawn in place, and Ctrl-C typed there ends it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(demo("--seconds", "3600", "--pods", "2"), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while seen.count(b"pod-1") < 3:
        seen += os.read(ours, 65536)
    children = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    try:
        while seen := os.read(ours, 65536):
            pass
    except OSError:  # the other end is closed: how a terminal says end of file
        pass
    os.close(ours)
    assert process.wait(timeout=PATIENCE_S) == 130
    assert_gone(children)


def test_a_kept_fleet_answers_until_ctrl_c() -> None:
    """`--keep` prints the result and the addresses, and leaves everything running; Ctrl-C then is a good end."""
    flags = ("--seconds", "2", "--pods", "1", "--policy", "cost", "--keep", "--json")
    process = subprocess.Popen(demo(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    document = json.loads(process.stdout.readline())
    assert document["index_equals_truth"] is True
    while b"daemon http://" not in process.stderr.readline():
        assert process.poll() is None
    children = children_of(process.pid)
    assert len(children) == 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert_gone(children)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_demo_keeps_its_promises() -> None:
    """Twenty seconds a policy on eight engines: hits, balance, enough requests, and the truth."""
    done = subprocess.run(demo("--seconds", "20", "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    cost, other = document["policies"]["cost"], document["policies"]["round-robin"]
    assert document["index_equals_truth"] is True
    assert cost["hit_rate"] >= 0.9 * document["ideal_hit_rate"]
    assert cost["hit_rate"] > other["hit_rate"]
    assert cost["requests_max_over_mean"] <= 1.3
    assert min(cost["requests"], other["requests"]) >= 200
