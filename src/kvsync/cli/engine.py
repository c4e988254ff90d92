"""
`kvsync engine`: one simulated engine, flags to options to a running process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kvsync.engine.options import EngineOptions

_TOKEN_VARIABLE = "KVSYNC_ENGINE_TOKEN"

_WHERE = "Where it listens"
_SIZE = "How large it is"
_SPEED = "How fast it is"
_LIKE = "How it behaves"


def command(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="HTTP address; port 0 takes a free one.", rich_help_panel=_WHERE)
    ] = "127.0.0.1:8000",
    events: Annotated[
        str,
        typer.Option(
            metavar="ENDPOINT",
            help="Event stream of rank 0, tcp://HOST:PORT; rank r has the r-th port after it, port 0 a free one each. "
            "Events carry token ids, and whoever can reach them can read them: off loopback needs --insecure.",
            rich_help_panel=_WHERE,
        ),
    ] = "tcp://127.0.0.1:5557",
    events_bind: Annotated[
        bool,
        typer.Option(
            "--events-bind/--events-connect",
            help="Whether the event stream binds or connects to a bound subscriber. "
            "Said outright here; a real vLLM binds only where the endpoint holds * or ::.",
            rich_help_panel=_WHERE,
        ),
    ] = True,
    replay: Annotated[
        str,
        typer.Option(
            metavar="ENDPOINT",
            help="Replay of rank 0, likewise; 'auto' is the port after the last event stream.",
            rich_help_panel=_WHERE,
        ),
    ] = "auto",
    no_replay: Annotated[
        bool, typer.Option("--no-replay", help="Offer no replay, as engines do by default.", rich_help_panel=_WHERE)
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"File with the token that HTTP clients must send; or set {_TOKEN_VARIABLE}. Needed off loopback.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Listen off loopback without a token, also for events and replays, which no token guards.",
            rich_help_panel=_WHERE,
        ),
    ] = False,
    curve_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with a secret CURVE key, mode 0600: events and replays are served to those who know its public"
            " half, and encrypted.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the line that says where everything is into this file too, once it answers.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="Served model.", rich_help_panel=_LIKE)] = "simulated",
    lora: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A loaded adapter; repeatable.", rich_help_panel=_LIKE)
    ] = None,
    topic: Annotated[str, typer.Option(metavar="TEXT", help="Topic of the events.", rich_help_panel=_LIKE)] = "",
    wire: Annotated[
        str,
        typer.Option(
            metavar="RELEASE",
            help="Write events as this release: vllm-0.9.0 and later, sglang-0.5.10 and later.",
            rich_help_panel=_LIKE,
        ),
    ] = "vllm-0.33.0",
    hash_form: Annotated[
        str | None,
        typer.Option(
            "--hash",
            metavar="FORM",
            help="Block hashes as u64, i64, bytes32 or bytes16; by default as the release has them.",
            rich_help_panel=_LIKE,
        ),
    ] = None,
    reset_events: Annotated[
        str,
        typer.Option(
            metavar="WHEN",
            help="Announce a reset or sleep with the next 'step' (as vLLM: silent while idle), 'now' or 'never'.",
            rich_help_panel=_LIKE,
        ),
    ] = "step",
    seed: Annotated[int, typer.Option(help="Seed of hashes and answers.", rich_help_panel=_LIKE)] = 0,
    answer_tokens: Annotated[
        int, typer.Option(help="Mean length of an answer that is not cut short.", rich_help_panel=_LIKE)
    ] = 128,
    image_tokens: Annotated[int, typer.Option(help="Tokens that an image takes.", rich_help_panel=_LIKE)] = 64,
    ranks: Annotated[
        int, typer.Option(help="Data-parallel ranks, each with a cache; 64 at most.", rich_help_panel=_SIZE)
    ] = 1,
    blocks: Annotated[int, typer.Option(help="Blocks of a rank; one stands for none.", rich_help_panel=_SIZE)] = 4_096,
    block_size: Annotated[int, typer.Option(help="Tokens of a block.", rich_help_panel=_SIZE)] = 16,
    window: Annotated[
        list[int] | None,
        typer.Option(
            metavar="TOKENS", help="Add a sliding-window group of this width; repeatable.", rich_help_panel=_SIZE
        ),
    ] = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            help="Longest prompt and answer; by default what the blocks hold, at most 8192.",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    buffer_steps: Annotated[int, typer.Option(help="Batches kept for replay.", rich_help_panel=_SIZE)] = 10_000,
    hwm: Annotated[
        int, typer.Option(help="Batches kept for a slow subscriber; the rest it loses.", rich_help_panel=_SIZE)
    ] = 100_000,
    prefill_rate: Annotated[
        float, typer.Option(metavar="TOKENS/S", help="Prompt tokens a second, of a rank.", rich_help_panel=_SPEED)
    ] = 20_000.0,
    decode_rate: Annotated[
        float, typer.Option(metavar="TOKENS/S", help="Answer tokens a second, of each request.", rich_help_panel=_SPEED)
    ] = 50.0,
    max_running: Annotated[int, typer.Option(help="Requests computed side by side.", rich_help_panel=_SPEED)] = 256,
    step_tokens: Annotated[int, typer.Option(help="Tokens computed in one step.", rich_help_panel=_SPEED)] = 2_048,
    chunked_prefill: Annotated[
        bool,
        typer.Option(
            "--chunked-prefill/--no-chunked-prefill",
            help="Whether a prompt may be spread over steps.",
            rich_help_panel=_SPEED,
        ),
    ] = True,
) -> None:
    """
    Run a simulated engine: OpenAI-compatible HTTP, KV-cache events and their replay, and no GPU.

    It schedules, caches and evicts as vLLM does and takes its time over it; its answers are printable
    nonsense, the same for the same prompt. What it truly holds stands at /debug/blocks.

    Once everything answers, one line of JSON on standard output says where:
    {"ready": true, "http": "http://...", "events": ["tcp://..."], "replay": ["tcp://..."]}
    """
    from kvsync.engine.process import run
    from kvsync.keys import read_secret_key

    host, port = _host_and_port(listen)
    options = _options(
        host=host,
        port=port,
        events=events,
        events_bind=events_bind,
        replay=None if no_replay else replay,
        token=_token(token_file),
        insecure=insecure,
        curve_key=None if curve_key is None else read_secret_key(curve_key, "--curve-key"),
        model=model,
        loras=tuple(lora or ()),
        topic=topic,
        wire=wire,
        hash_form=hash_form,
        reset_events=reset_events,
        seed=seed,
        answer_tokens=answer_tokens,
        image_tokens=image_tokens,
        ranks=ranks,
        blocks=blocks,
        block_size=block_size,
        windows=tuple(window or ()),
        max_model_len=max_model_len,
        buffer_steps=buffer_steps,
        hwm=hwm,
        prefill_rate=prefill_rate,
        decode_rate=decode_rate,
        running_max=max_running,
        step_tokens=step_tokens,
        chunked_prefill=chunked_prefill,
    )
    run(options, ready_file)


def _options(*, hash_form: str | None, reset_events: str, **others: Any) -> EngineOptions:
    from kvsync.engine.hashing import HashForm
    from kvsync.engine.options import EngineOptions, ResetEvents
    from kvsync.errors import ConfigError

    forms, moments = [form.value for form in HashForm], [moment.value for moment in ResetEvents]
    if hash_form is not None and hash_form not in forms:
        raise ConfigError(f"--hash is {hash_form!r}; give one of {', '.join(forms)}")
    if reset_events not in moments:
        raise ConfigError(f"--reset-events is {reset_events!r}; give one of {', '.join(moments)}")
    return EngineOptions(
        hash_form=HashForm(hash_form) if hash_form else None,
        reset_events=ResetEvents(reset_events),
        **others,
    )


def _host_and_port(listen: str) -> tuple[str, int]:
    from kvsync.errors import ConfigError

    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--listen is {listen!r}; give HOST:PORT, such as 127.0.0.1:8000")
    return host, int(port)


def _token(token_file: Path | None) -> str | None:
    from kvsync.errors import ConfigError
    from kvsync.files import read_secret

    if token_file is None:
        return os.environ.get(_TOKEN_VARIABLE) or None
    try:
        return read_secret(token_file, "--token-file", "give a file with one line").decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"--token-file {token_file} is no UTF-8 text; give a file with one line") from error
