"""`kvsync engine` as a process: it says when it is ready, and ends when it is told to."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S

FREE_PORTS = ("--listen", "127.0.0.1:0", "--events", "tcp://127.0.0.1:0")
COMMAND = "from kvsync.cli.main import main; main()"


def command(*flags: str) -> list[str]:
    """Give the command line of an engine."""
    return [sys.executable, "-c", COMMAND, "engine", *flags]


@contextmanager
def engine(*flags: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Start an engine and give it with its ready line; kill it if the test did not end it."""
    process = subprocess.Popen(
        command(*FREE_PORTS, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def post(url: str, body: Any) -> Any:
    """Post a JSON body and give the answer's document."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


def test_the_ready_line_says_where_everything_really_is(tmp_path: Path) -> None:
    """Free ports are reported per rank, on standard output and in the file, once the engine answers."""
    ready_file = tmp_path / "ready.json"
    with engine("--ranks", "2", "--ready-file", str(ready_file)) as (_, ready):
        assert ready["ready"] is True
        assert (len(ready["events"]), len(ready["replay"])) == (2, 2)
        assert all(re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d*", one) for one in ready["events"] + ready["replay"])
        assert json.loads(ready_file.read_text(encoding="utf-8")) == ready
        answer = post(f"{ready['http']}/v1/completions", {"prompt": "hi", "max_tokens": 2})
        assert answer["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_a_request_under_way(number: signal.Signals) -> None:
    """Exit status 0, soon, and nothing on standard error."""
    with engine("--decode-rate", "1", "--no-replay") as (process, ready):
        assert ready["replay"] == []
        host, port = ready["http"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
            body = b'{"prompt": "hi", "max_tokens": 50, "stream": true}'
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            process.send_signal(number)
            assert process.wait(timeout=PATIENCE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--blocks", "1"), "--blocks"),
        (("--wire", "vllm-0.1.0"), "vllm-0.1.0"),
        (("--hash", "md5"), "--hash"),
        (("--reset-events", "later"), "--reset-events"),
        (("--listen", "8000"), "--listen"),
        (("--listen", "0.0.0.0:0"), "--token-file"),
        (("--token-file", "/nonexistent"), "--token-file"),
        (("--events-connect",), "--events-connect"),
        (("--ranks", "2000"), "--ranks"),
        (("--ready-file", "/nonexistent/x"), "--ready-file /nonexistent/x"),
        (("--ready-file", "/tmp"), "--ready-file /tmp is a directory"),
        (("--events", "tcp://*:0"), "--insecure"),
    ],
)
def test_a_wrong_flag_is_named_and_exits_2(flags: tuple[str, ...], named: str) -> None:
    """One line on standard error, and nothing was started."""
    done = subprocess.run(command(*FREE_PORTS, *flags), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_a_token_in_a_file_guards_the_engine(tmp_path: Path) -> None:
    """Requests without it are refused."""
    token_file = tmp_path / "token"
    token_file.write_text("secret\n", encoding="utf-8")
    with engine("--token-file", str(token_file)) as (_, ready):
        with pytest.raises(urllib.error.HTTPError, match="401") as caught:
            post(f"{ready['http']}/v1/completions", {"prompt": "hi"})
        caught.value.close()
