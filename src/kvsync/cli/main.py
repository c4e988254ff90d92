"""
The `kvsync` command: which commands there are, and how they fail.

A command is a module of this room with a function `command`, or with an `app` of several; it is imported when its name
is typed (or listed in help), so that `kvsync version` does not wait for what `kvsync serve` needs. Exit status: 0 fine,
1 a problem was found, 2 wrong usage or settings, 130 interrupted. What kvsync raises on purpose is one line on stderr,
and so is what the system or a library refuses without our having foreseen it; `KVSYNC_DEBUG=1` shows the whole
traceback.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command as click_command

from kvsync.errors import ConfigError, KvsyncError

DEBUG_VARIABLE = "KVSYNC_DEBUG"
EXIT_PROBLEM = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class Entry(NamedTuple):
    """Where a command is written, and under which heading help shows it."""

    module: str
    heading: str


# In the order of help: first what a newcomer runs.
COMMANDS: dict[str, Entry] = {
    "demo": Entry("kvsync.cli.demo", "See it work"),
    "serve": Entry("kvsync.cli.serve", "Run it"),
    "snapshot": Entry("kvsync.cli.snapshot", "Run it"),
    "engine": Entry("kvsync.cli.engine", "Run it"),
    "tail": Entry("kvsync.cli.tail", "Look at streams"),
    "record": Entry("kvsync.cli.record", "Look at streams"),
    "replay": Entry("kvsync.cli.replay", "Look at streams"),
    "match": Entry("kvsync.cli.match", "Look at streams"),
    "tokenize": Entry("kvsync.cli.tokenize", "Look at prompts"),
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
        module = import_module(entry.module)
        if hasattr(module, "app"):
            several: Any = click_command(module.app)
            several.name, several.rich_help_panel = cmd_name, entry.heading
            return several
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        single.command(cmd_name, rich_help_panel=entry.heading)(module.command)
        return click_command(single)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            name_value(error)
            raise

    def main(self, *args: Any, **extra: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                # A terminal that cannot show a character is no reason to stop.
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **extra)
        except SystemExit as ending:
            if ending.code == EXIT_INTERRUPTED and sys.stderr.isatty():
                print(file=sys.stderr)  # the shell's prompt would stand behind ^C
            raise
        except (KvsyncError, ValueError, OverflowError, OSError, MemoryError) as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            print(f"kvsync: {sentence(error)}", file=sys.stderr)
            sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_PROBLEM)


def sentence(error: Exception) -> str:
    """What went wrong, for a person: our own errors say it all, others say where to read more."""
    if isinstance(error, KvsyncError):
        return str(error)
    said = " ".join(str(error).split()) or "no reason was given"
    return f"{type(error).__name__}: {said}; {DEBUG_VARIABLE}=1 shows where"


def name_value(error: Exception) -> None:
    """Put the value into a usage error that names the option alone."""
    cause = error.__cause__ or error.__context__
    message = getattr(error, "message", None)
    if not isinstance(message, str) or not callable(find := getattr(cause, "errors", None)):
        return
    given = [problem["input"] for problem in find() if isinstance(problem, dict) and "input" in problem]
    if given:
        error.message = f"it is {given[0]!r}; {message[:1].lower()}{message[1:]}"  # type: ignore[attr-defined]


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

    Exit status: 0 fine, 1 a problem was found, 2 wrong usage, 130 interrupted by Ctrl-C. Where a result
    is printed, --json makes it one JSON document on the last line of stdout.
    """


def main() -> NoReturn:
    """The console script: run the command that `sys.argv` names, and exit."""
    app(prog_name="kvsync")
    sys.exit(0)
