"""
The `kvsync` command: which commands there are, and how they fail.

A command is a module of this room with a function `command`; it is imported when its name is typed (or listed in
help), so that `kvsync version` does not wait for what `kvsync serve` needs. Exit status: 0 fine, 1 a problem was
found, 2 wrong usage or settings. What kvsync raises on purpose is one line on stderr; `KVSYNC_DEBUG=1` shows the
whole traceback.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command as click_command

from kvsync.errors import ConfigError, KvsyncError

DEBUG_VARIABLE = "KVSYNC_DEBUG"
EXIT_PROBLEM = 1
EXIT_USAGE = 2


class Entry(NamedTuple):
    """Where a command is written, and under which heading help shows it."""

    module: str
    heading: str


# In the order of help: first what a newcomer runs.
COMMANDS: dict[str, Entry] = {
    "demo": Entry("kvsync.cli.demo", "See it work"),
    "serve": Entry("kvsync.cli.serve", "Run it"),
    "engine": Entry("kvsync.cli.engine", "Run it"),
    "tail": Entry("kvsync.cli.tail", "Look at streams"),
    "record": Entry("kvsync.cli.record", "Look at streams"),
    "replay": Entry("kvsync.cli.replay", "Look at streams"),
    "match": Entry("kvsync.cli.match", "Look at streams"),
    "version": Entry("kvsync.cli.version", "About"),
}


class LazyGroup(TyperGroup):
    """The commands of `COMMANDS`, each imported when first asked for."""

    # Contexts and commands are typer's own copies of click's classes in some releases and click's in others.
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        single.command(cmd_name, rich_help_panel=entry.heading)(import_module(entry.module).command)
        return click_command(single)

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except KvsyncError as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            print(f"kvsync: {error}", file=sys.stderr)
            sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_PROBLEM)


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from kvsync import __version__

        print(f"kvsync {__version__}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """
    Follow the KV caches of a fleet of LLM engines, exactly, and send each request where its prefix lies.

    Start with **kvsync demo**: eight simulated engines, a daemon that follows their caches, and the same
    chat traffic under two routing policies, side by side. It needs no GPU and no network.

    Exit status: 0 fine, 1 a problem was found, 2 wrong usage. Where a result is printed, --json makes it one JSON
    document on the last line of stdout.
    """


def main() -> NoReturn:
    """The console script: run the command that `sys.argv` names, and exit."""
    app(prog_name="kvsync")
    sys.exit(0)
