"""`kvsync serve` as a process."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.integration.engine_helpers import ENVIRONMENT, engine_beside

POD = "name=a,http=http://127.0.0.1:9,model=m"
WITHIN_S = 40.0


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
        command(*arguments), capture_output=True, text=True, timeout=WITHIN_S, check=False, env=ENVIRONMENT | variables
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
        with urllib.request.urlopen(f"{ready['http']}/healthz", timeout=WITHIN_S) as response:
            assert response.status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=WITHIN_S)
        assert (process.returncode, out) == (0, "")
        assert all(json.loads(line)["level"] in ("info", "warning") for line in err.splitlines())


@contextmanager
def slow_answer(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A daemon in the middle of a streamed answer of about two seconds, and that answer."""
    with engine_beside("--decode-rate", "20", "--answer-tokens", "40") as (_, there):
        pod = f"name=a,http={there['http']},model=simulated"
        with serving("--pod", pod, "--listen", "127.0.0.1:0", *arguments) as (daemon, ready):
            asked = {"model": "simulated", "prompt": "hi", "max_tokens": 40, "stream": True}
            request = urllib.request.Request(
                f"{ready['http']}/v1/completions",
                data=json.dumps(asked).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
                answer.readline()
                yield daemon, answer


def test_a_running_answer_is_let_end() -> None:
    """The daemon says how many it waits for, and ends with the last of them."""
    with slow_answer() as (process, answer):
        process.terminate()
        assert b"[DONE]" in answer.read()
        _, err = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0
        assert "waiting up to 30 s for 1 request;" in err
        assert "cut short" not in err


def test_a_second_signal_ends_it_at_once() -> None:
    """And it says what was cut."""
    with slow_answer() as (process, answer):
        process.terminate()
        assert process.stderr is not None
        assert any("waiting up to" in line for line in process.stderr)
        process.terminate()
        with suppress(http.client.IncompleteRead, ConnectionError):
            assert b"[DONE]" not in answer.read()
        _, err = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0
        assert "1 request cut short" in err


def test_a_misspelt_variable_is_told() -> None:
    """It would do nothing in silence."""
    with serving("--pod", POD, "--listen", "127.0.0.1:0", KVSYNC_POLICI="cost") as (process, _):
        process.terminate()
        _, err = process.communicate(timeout=WITHIN_S)
        assert "KVSYNC_POLICI" in err


def test_everything_may_come_from_environment_and_file(tmp_path: Path) -> None:
    """No flag is needed."""
    path = tmp_path / "kvsync.toml"
    path.write_text('listen = "127.0.0.1:0"\npolicy = "random"\n', encoding="utf-8")
    with (
        serving(KVSYNC_PODS=POD, KVSYNC_CONFIG=str(path)) as (_, ready),
        urllib.request.urlopen(f"{ready['http']}/v1/stats", timeout=WITHIN_S) as response,
    ):
        assert json.load(response)["policy"] == "random"


def test_off_loopback_it_wants_a_token(tmp_path: Path) -> None:
    """It refuses to start without, asks for it once started, and never shows it."""
    assert "--token-file" in refused("--pod", POD, "--listen", "0.0.0.0:0")
    token = tmp_path / "token"
    token.write_text("correct-horse\n", encoding="ascii")
    with serving("--pod", POD, "--listen", "0.0.0.0:0", "--token-file", str(token)) as (process, ready):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{ready['http']}/v1/pods", timeout=WITHIN_S)
        assert caught.value.code == 401
        caught.value.close()
        request = urllib.request.Request(f"{ready['http']}/v1/pods", headers={"Authorization": "Bearer correct-horse"})
        with urllib.request.urlopen(request, timeout=WITHIN_S) as response:
            assert response.status == 200
        process.terminate()
        _, err = process.communicate(timeout=WITHIN_S)
        assert "correct-horse" not in err


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    """In one line that names flag and value, with status 2."""
    assert "there are no pods" in refused()
    assert "'model' is missing" in refused("--pod", "name=a,http=http://h")
    assert "two pods are named 'a'" in refused("--pod", POD, "--pod", POD)
    assert "policy 'none' is not known" in refused("--pod", POD, "--policy", "none", "--listen", "127.0.0.1:0")
    assert "prefill_rate is 0" in refused("--pod", POD, "--prefill-rate", "0")
    assert "cannot be read" in refused("--pod", POD, "--config", str(tmp_path / "none"))


def test_a_taken_port_is_named() -> None:
    """With what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "is taken" in refused("--pod", POD, "--listen", f"127.0.0.1:{port}")
