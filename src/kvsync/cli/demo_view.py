"""
How the demo looks: a live table in a terminal, a line now and then elsewhere, and the comparison at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kvsync.cli.output import TRUST_STYLE
from kvsync.demo.measure import PolicyResult
from kvsync.demo.report import COST, IDEAL_SHARE_MIN, MAX_OVER_MEAN_MAX, REQUESTS_MIN, Report
from kvsync.demo.screen import Progress

LINE_EVERY_S = 5.0
"""Where nothing can be redrawn, a run says how it goes this often."""


class TerminalScreen:
    """
    Shows the demo on a console; `close` leaves what was shown last standing.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._next_line_at = float("-inf")

    def say(self, sentence: str) -> None:
        """Print a sentence below what stands there."""
        self.close()
        self._console.print(sentence, soft_wrap=True)

    def show(self, progress: Progress) -> None:
        """Redraw the table; without a terminal, print a line if the last one is old enough."""
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(
                    console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
                )
                self._live.start()
            self._live.update(progress_table(progress), refresh=True)
        elif self._clock() >= self._next_line_at:
            self._next_line_at = self._clock() + LINE_EVERY_S
            self._console.print(progress_line(progress), soft_wrap=True)

    def close(self) -> None:
        """Stop redrawing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def progress_line(progress: Progress) -> str:
    """A run at one moment, in a line."""
    return (
        f"{progress.policy}: {progress.elapsed_s:.0f} s, {progress.requests} of {progress.planned} requests,"
        f" hit rate {progress.hit_rate:.3f}, TTFT mean {progress.ttft_mean_s * 1e3:.0f} ms,"
        f" {sum(row.events_per_s for row in progress.rows):,.0f} events/s"
    )


def progress_table(progress: Progress) -> Table:
    """A run at one moment, pod by pod."""
    table = Table(title=Text(progress_line(progress)), title_justify="left", min_width=90)
    table.add_column("pod")
    for title in ("requests", "hit rate", "blocks", "events/s"):
        table.add_column(title, justify="right")
    table.add_column("trust")
    for row in progress.rows:
        table.add_row(
            Text(row.pod),
            f"{row.requests:,}",
            f"{row.hit_rate:.3f}",
            f"{row.blocks:,}",
            f"{row.events_per_s:,.0f}",
            Text(row.trust, style=TRUST_STYLE.get(row.trust, "")),
        )
    return table


def comparison(report: Report) -> Group:
    """The policies side by side, with what the traffic allowed and whether the index was right."""
    verdict = "equals" if report.index_equals_truth else "DIFFERS FROM"
    return Group(
        comparison_table(report),
        f"One infinite cache would have a hit rate of {report.ideal_hit_rate:.3f}."
        f" The index {verdict} what the engines hold; events told of {report.events:,} blocks.",
    )


def comparison_table(report: Report) -> Table:
    """A column for each policy."""
    table = Table(title=Text("The same traffic under each policy"), title_justify="left")
    table.add_column("")
    for name in report.policies:
        table.add_column(Text(name), justify="right")
    promises = COST in report.policies
    if promises:
        table.add_column("kvsync's promise for cost", style="dim")
    floor = f"at least {IDEAL_SHARE_MIN * report.ideal_hit_rate:.3f}"
    for title, show, promise in (
        ("hit rate", lambda result: f"{result.hit_rate:.3f}", floor),
        ("TTFT mean", lambda result: f"{result.ttft_mean_s * 1e3:,.0f} ms", ""),
        ("TTFT p99", lambda result: f"{result.ttft_p99_s * 1e3:,.0f} ms", ""),
        ("busiest pod, times its share", _balance, f"at most {MAX_OVER_MEAN_MAX}"),
        ("requests", lambda result: f"{result.requests:,}", f"judged from {REQUESTS_MIN} on"),
        ("time it took", lambda result: f"{result.seconds:.1f} s", ""),
    ):
        figures = [show(result) for result in report.policies.values()]
        table.add_row(title, *figures, *([promise] if promises else []))
    return table


def _balance(result: PolicyResult) -> str:
    return f"{result.requests_max_over_mean:.2f}"
