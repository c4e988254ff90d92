"""`kvsync demo`: flags to options, and the demo on the terminal."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kvsync.demo.report import Report
    from kvsync.demo.run import Demo

SIGNALLED = 128


def command(
    seconds: Annotated[
        float, typer.Option(metavar="S", help="Planned length of each policy's run; queues make it longer.")
    ] = 20.0,
    pods: Annotated[int, typer.Option(metavar="N", help="Simulated engines, each a process.")] = 8,
    policy: Annotated[
        str, typer.Option(metavar="NAMES", help="Policies to compare, with commas between them.")
    ] = "cost,round-robin",
    seed: Annotated[int, typer.Option(help="Seed of the traffic, and of the engines' answers and hashes.")] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave engines and daemon running afterwards, until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the result as one JSON document, the last line of stdout; its `events` counts block changes"
            " that events told of.",
        ),
    ] = False,
) -> None:
    """
    See it work: a simulated fleet, the daemon that follows its caches, and the same chat traffic under two policies.

    Starts simulated engines and the daemon on free ports of this machine, lets people chat with them through the
    daemon, and shows per pod what the index knows. Then the same traffic runs again under the next policy, with empty
    caches. After each run every block that every engine really holds is compared with the index. No GPU, no network,
    nothing left behind.

    The exit status is 1 when the index differs from the truth, or when, with 200 requests or more, `cost` has less
    than 0.9 of the hit rate of one infinite cache, no better hits than round-robin, or a pod with more than 1.3 times
    its share of requests. Ctrl-C ends everything, and the exit status is 130.
    """
    from kvsync.cli.demo_view import TerminalScreen, comparison
    from kvsync.cli.output import console, print_json
    from kvsync.demo.run import Demo, DemoOptions

    names = tuple(name.strip() for name in policy.split(",") if name.strip())
    options = DemoOptions(seconds=seconds, pods=pods, seed=seed, policies=names)
    # With --json the document has stdout to itself.
    out = console(stderr=as_json)
    told: list[Report] = []

    def tell(report: Report) -> None:
        told.append(report)
        out.print(comparison(report))
        if as_json:
            print_json(report.to_json())

    try:
        run_until_signal(story(Demo(options, TerminalScreen(out)), tell, keep=keep))
    except typer.Exit:
        if not (keep and told):
            raise
    broken = list(told[0].broken_promises())
    for sentence in broken:
        print(f"kvsync demo: {sentence}", file=sys.stderr)
    if broken:
        raise typer.Exit(1)


async def story(demo: Demo, tell: Callable[[Report], None], *, keep: bool) -> None:
    """Run the demo and tell its report; with `keep`, leave everything running until cancelled."""
    async with demo:
        tell(await demo.run())
        if keep:
            pods = "\n".join(f"  {pod.name}  {pod.http}" for pod in demo.stage.pods)
            print(f"Left running until Ctrl-C:\n  daemon {demo.stage.url}\n{pods}", file=sys.stderr)
            await demo.keep()


def run_until_signal(main: Coroutine[Any, Any, None]) -> None:
    """
    Run a coroutine; the first signal to stop cancels it, and its end is waited for, however often one is sent.

    Raises `typer.Exit` with the status that shells give a command stopped by that signal.
    """
    stopped_by: list[int] = []

    async def guarded() -> None:
        task = asyncio.current_task()
        assert task is not None

        def stop(number: int) -> None:
            if not stopped_by:
                stopped_by.append(number)
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        await main

    try:
        asyncio.run(guarded())
    except asyncio.CancelledError:
        raise typer.Exit(SIGNALLED + stopped_by[0]) from None
