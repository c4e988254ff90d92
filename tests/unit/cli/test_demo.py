"""`kvsync demo` on the terminal: flags, and how things look."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from io import StringIO

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from kvsync.cli.demo import run_until_signal
from kvsync.cli.demo_view import LINE_EVERY_S, TerminalScreen, comparison, progress_table
from kvsync.cli.main import app
from kvsync.demo.measure import PolicyResult
from kvsync.demo.report import Report
from kvsync.demo.screen import PodRow, Progress

ROWS = [PodRow("pod-0", 12, 0.5, 1_234, 67.8, "exact"), PodRow("pod-1", 3, 0.25, 99, 0.0, "stale")]
PROGRESS = Progress("cost", 4.2, 15, 60, 0.45, 0.123, ROWS)
RESULT = PolicyResult(
    requests=300, hit_rate=0.7, requests_max_over_mean=1.1, ttft_mean_s=0.3, ttft_p99_s=0.8, seconds=21.0
)
REPORT = Report({"cost": RESULT, "random": replace(RESULT, hit_rate=0.4)}, 0.75, (), 4_000)


def drawn(*renderables: object) -> str:
    """What a console without a terminal shows."""
    console = Console(file=StringIO(), width=120)
    console.print(*renderables)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [["--seconds", "0"], ["--pods", "0"], ["--policy", "fastest"], ["--policy", ","], ["--policy", "cost,cost"]],
)
def test_wrong_flags_are_refused_before_anything_starts(arguments: list[str]) -> None:
    """Status 2, and the flag is named."""
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"kvsync: {arguments[0]}") or arguments[1] in result.stderr


def test_the_table_has_a_row_for_each_pod() -> None:
    """Requests, hit rate, blocks, events a second and trust of every pod."""
    lines = drawn(progress_table(PROGRESS)).splitlines()
    assert "15 of 60 requests" in lines[0]
    [row] = [line for line in lines if "pod-0" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["pod-0", "12", "0.500", "1,234", "68", "exact"]


def test_the_comparison_has_a_column_for_each_policy() -> None:
    """With what the traffic allowed, and whether the index was right."""
    text = drawn(comparison(REPORT))
    assert all(word in text for word in ("cost", "random", "0.700", "0.400", "at least 0.675", "hit rate of 0.750"))
    assert "DIFFERS" in drawn(comparison(replace(REPORT, differences=("pod-0: ...",))))


def test_a_promise_is_shown_beside_what_it_is_about() -> None:
    """Without a run of cost there is none to compare with."""
    assert "promise for cost" in drawn(comparison(REPORT))
    text = drawn(comparison(replace(REPORT, policies={"random": RESULT})))
    assert "random" in text
    assert "promise" not in text


def test_without_a_terminal_a_run_says_a_line_now_and_then() -> None:
    """One at the start, and the next when it is due."""
    now = 100.0
    console = Console(file=StringIO(), width=120)
    screen = TerminalScreen(console, clock=lambda: now)
    screen.show(PROGRESS)
    screen.show(PROGRESS)
    now += LINE_EVERY_S
    screen.show(replace(PROGRESS, requests=30))
    screen.close()
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line.split(", ")[1] for line in lines] == ["15 of 60 requests", "30 of 60 requests"]


def test_in_a_terminal_the_table_is_redrawn() -> None:
    """Every look replaces the one before, and sentences come below it."""
    console = Console(file=StringIO(), width=120, force_terminal=True)
    screen = TerminalScreen(console)
    screen.show(PROGRESS)
    screen.show(PROGRESS)
    screen.say("All is well.")
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "\x1b[1A" in text  # up, over the table before
    assert text.rstrip().endswith("All is well.")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_once_and_the_end_is_waited_for(number: signal.Signals) -> None:
    """Also when it is sent again while things end; the status is the shell's for that signal."""
    ended: list[str] = []

    async def story() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
            ended.append("in order")

    with pytest.raises(typer.Exit) as stopped:
        run_until_signal(story())
    assert stopped.value.exit_code == 128 + number
    assert ended == ["in order"]
