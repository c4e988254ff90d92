"""The `kvsync` command: what there is, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import kvsync
from kvsync._core import lib
from kvsync.cli import main
from kvsync.cli.output import plural
from kvsync.cli.texts import TEXT_BYTES_MAX
from kvsync.errors import CapacityError, ConfigError, FrameError, KvsyncError

RUNNER = CliRunner()


def run_failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> tuple[int, str]:
    """The exit status and stderr of a command that raises `error`."""

    def command() -> None:
        """Fail."""
        raise error

    monkeypatch.setattr(main, "import_module", lambda name: SimpleNamespace(command=command))
    result = RUNNER.invoke(main.app, ["version"])
    return result.exit_code, result.stderr


def test_help_lists_every_command() -> None:
    """Every command can be imported, and has a line that says what it does."""
    result = RUNNER.invoke(main.app, ["--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    for name in main.COMMANDS:
        assert any(line.strip("│ ").startswith(f"{name} ") for line in result.stdout.splitlines()), name


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """`kvsync COMMAND --help` works and shows its usage."""
    result = RUNNER.invoke(main.app, [name, "--help"], prog_name="kvsync")
    assert result.exit_code == 0
    assert f"Usage: kvsync {name}" in result.stdout


def test_the_version_is_an_option_too() -> None:
    """`kvsync --version` is what most people type."""
    result = RUNNER.invoke(main.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"kvsync {kvsync.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [["fly"], ["version", "--loud"], ["version", "surplus"], ["replay"], ["match"], ["demo", "--pods", "many"]],
)
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    """An unknown command or flag, a missing argument, a value of the wrong kind: status 2 and a word on stderr."""
    result = RUNNER.invoke(main.app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage" in result.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError("--x is 3"), 2), (FrameError("byte 7"), 1), (CapacityError("full"), 1), (KvsyncError("so"), 1)],
)
def test_what_we_raise_is_a_line(monkeypatch: pytest.MonkeyPatch, error: KvsyncError, status: int) -> None:
    """One line on stderr without a traceback; 2 for a wrong setting, 1 for a problem that was found."""
    monkeypatch.delenv(main.DEBUG_VARIABLE, raising=False)
    assert run_failing(monkeypatch, error) == (status, f"kvsync: {error}\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("x is\n3"), "ValueError: x is 3"),
        (OSError(24, "Too many open files"), "OSError: [Errno 24] Too many open files"),
        (MemoryError(), "MemoryError: no reason was given"),
    ],
)
def test_what_nobody_foresaw_is_a_line_too(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    """One line that says how to see more, and status 1."""
    monkeypatch.delenv(main.DEBUG_VARIABLE, raising=False)
    assert run_failing(monkeypatch, error) == (1, f"kvsync: {said}; KVSYNC_DEBUG=1 shows where\n")


def test_a_terminal_of_little_encoding_shows_what_it_can() -> None:
    """What it has no character for is written as an escape."""
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    code = "import kvsync.cli.main as m; m.sentence = lambda e: print('\\u2026') or 'x'; m.app(['replay', '/none'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stdout) == (2, "\\u2026\n")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_full_disk_behind_standard_output_is_named(flags: list[str]) -> None:
    """One line that says it is standard output, and status 1."""
    command = [sys.executable, "-m", "kvsync", "tokenize", "--model", "m", "--kind", "dummy", "--prompt", "x", *flags]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "kvsync: standard output cannot be written: No space left on device; make room, or send it on\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize(
    ("arguments", "value"), [(["demo", "--seconds", "abc"], "'abc'"), (["tail", "--ranks", "-7"], "'-7'")]
)
def test_a_value_of_the_wrong_kind_is_named(arguments: list[str], value: str) -> None:
    """Beside its option."""
    result = RUNNER.invoke(main.app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert value in result.stderr
    assert arguments[1] in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["match", "--capture", "c", "--tokens", "t", "--model", "\udcff"],
        ["match", "--capture", "c", "--tokens", "t", "--model", "m", "--lora", "x" * 100_000],
        ["match", "--capture", "c", "--tokens", "t", "--model", "m", "--salt", "x" * 100_000],
        ["record", "--model", "\udcff", "--out", "c", "--events", "tcp://127.0.0.1:9"],
        ["record", "--model", "m", "--out", "c", "--events", "tcp://127.0.0.1:9", "--topic", "\udcff"],
        ["record", "--model", "m", "--out", "c", "--events", "tcp://127.0.0.1:9", "--pod", "\udcff"],
        ["serve", "--pod", "\udcff"],
        ["replay", "c", "--model", "\udcff"],
    ],
)
def test_texts_that_cannot_be_used_are_refused(arguments: list[str]) -> None:
    """Bytes that are no UTF-8, and more than the index takes: a line that names the option, before anything is done."""
    result = RUNNER.invoke(main.app, arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "not UTF-8" in line or "has 100,000 bytes" in line


def test_the_limit_of_texts_is_the_core_s() -> None:
    """Which the commands know without loading it."""
    assert lib.KVS_TEXT_BYTES_MAX == TEXT_BYTES_MAX


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable set, the error goes on to Python."""
    monkeypatch.setenv(main.DEBUG_VARIABLE, "1")

    def command() -> None:
        """Fail."""
        raise ConfigError("--x is 3")

    monkeypatch.setattr(main, "import_module", lambda name: SimpleNamespace(command=command))
    assert isinstance(RUNNER.invoke(main.app, ["version"]).exception, ConfigError)


def test_version_as_json_is_one_line() -> None:
    """A document with every part that a bug report needs."""
    result = RUNNER.invoke(main.app, ["version", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document.keys() == {"kvsync", "core", "python", "pyzmq", "platform"}
    assert document["kvsync"] == document["core"] == kvsync.__version__


def test_version_imports_nothing_heavy() -> None:
    """Asking for the version waits for no server, no sockets and no index."""
    code = "import sys; from kvsync.cli.main import app; app(['version'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert not modules & {"aiohttp", "zmq", "asyncio", "prometheus_client", "kvsync.index", "kvsync.engine.options"}


def test_python_m_kvsync_is_the_same_command() -> None:
    """For where scripts are not on the path."""
    done = subprocess.run([sys.executable, "-m", "kvsync", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"kvsync {kvsync.__version__}\n"


@pytest.mark.parametrize(("count", "said"), [(0, "0 engines"), (1, "1 engine"), (1_234, "1,234 engines")])
def test_counts_agree_with_their_nouns(count: int, said: str) -> None:
    """One is one."""
    assert plural(count, "engine") == said


def test_the_exit_statuses_are_in_help() -> None:
    """Also that of an interruption."""
    result = RUNNER.invoke(main.app, ["--help"], env={"COLUMNS": "200"})
    assert all(word in result.stdout for word in ("0 fine", "1 a problem", "2 wrong usage", "130 interrupted"))
