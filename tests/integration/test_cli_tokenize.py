"""`kvsync tokenize` with real tokenizers, and beside engines that agree or do not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.unit.tokens.samples import CHATS, TEXTS, TOOLS, write_hf
from typer.testing import CliRunner, Result

from kvsync.cli.main import app
from kvsync.cli.tokenize import spec_for
from kvsync.index import Index
from kvsync.tokens.backends import open_backend
from kvsync.tokens.chat import Chat
from kvsync.tokens.model import ModelSpec

MODEL = "org/m"
PODS_OF_FILE = [("a", 9, MODEL), ("b", 8, "other"), ("c", 7, MODEL)]
PROMPT = "The quick brown fox jumps over the lazy dog, again and again and again."


def run(*arguments: str, given: str | None = None) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, ["tokenize", "--model", MODEL, *arguments], input=given)


def document(result: Result, status: int = 0) -> dict[str, Any]:
    """What it printed."""
    assert result.exit_code == status, result.output
    printed: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return printed


async def beside(tokens: list[int], *arguments: str) -> tuple[Result, list[dict[str, Any]]]:
    """The command beside an engine that answers with these tokens; and what it was asked."""
    seen: list[dict[str, Any]] = []

    async def tokenize(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return web.json_response({"count": len(tokens), "tokens": tokens})

    application = web.Application()
    application.router.add_post("/tokenize", tokenize)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return await asyncio.to_thread(run, *arguments, "--compare", url), seen
    finally:
        await runner.cleanup()


def test_a_prompt_is_printed_as_ids_and_block_hashes(tmp_path: Path) -> None:
    """Those of the tokenizer and of an index with the same seed, from a flag, a file and standard input alike."""
    folder = str(write_hf(tmp_path))
    ids = open_backend(ModelSpec(base=folder)).encode(PROMPT)
    with Index(seed=7) as index:
        hashes = index.block_hashes(ids, model=MODEL, lora="l", cache_salt="s", block_size=4).tolist()
    flags = ["--base", folder, "--seed", "7", "--block-size", "4", "--lora", "l", "--salt", "s", "--json"]
    (tmp_path / "prompt").write_text(PROMPT)
    printed = document(run("--prompt", PROMPT, *flags))
    assert (printed["tokens"], printed["count"], printed["block_hashes"]) == (ids.tolist(), len(ids), hashes)
    for other in (run("--file", str(tmp_path / "prompt"), *flags), run("--file", "-", *flags, given=PROMPT)):
        assert document(other)["tokens"] == ids.tolist()
    plain = document(run("--prompt", PROMPT, "--no-special-tokens", *flags))["tokens"]
    assert plain == ids.tolist()[1:]


def test_a_chat_is_read_from_messages_or_a_body(tmp_path: Path) -> None:
    """With tools where the body has some; the tokenizer may come from the daemon's own file."""
    (tmp_path / "kvsync.toml").write_text(f'[tokenizers."{MODEL}"]\nbase = "{write_hf(tmp_path)}"\n')
    backend, messages = open_backend(ModelSpec(base=str(tmp_path))), CHATS["tool call"]
    (tmp_path / "chat.json").write_text(json.dumps(messages))
    (tmp_path / "body.json").write_text(json.dumps({"model": "other", "messages": messages, "tools": TOOLS}))
    for name, tools in (("chat.json", None), ("body.json", TOOLS)):
        printed = document(run("--chat", str(tmp_path / name), "--config", str(tmp_path / "kvsync.toml"), "--json"))
        assert printed["tokens"] == backend.encode_chat(Chat(messages, tools)).tolist()


def test_an_engine_that_agrees_is_told(tmp_path: Path) -> None:
    """Exit status 0, with the same request sent to the engine."""
    folder = str(write_hf(tmp_path))
    ids = open_backend(ModelSpec(base=folder)).encode(PROMPT).tolist()
    result, seen = asyncio.run(beside(ids, "--base", folder, "--prompt", PROMPT))
    assert result.exit_code == 0
    assert f"makes the same {len(ids)} tokens" in result.output
    assert seen == [{"model": MODEL, "prompt": PROMPT, "add_special_tokens": True}]


@pytest.mark.parametrize(("kept", "behind"), [(5, [9, 9]), (0, [1]), (3, [])])
def test_the_first_difference_is_shown_with_position_and_text(kept: int, behind: list[int], tmp_path: Path) -> None:
    """Where the ids part, what stands before, and what each side has there; exit status 1."""
    folder = str(write_hf(tmp_path))
    backend = open_backend(ModelSpec(base=folder))
    ids = backend.encode(PROMPT)
    theirs = [*ids[:kept], *behind]
    result, _ = asyncio.run(beside(theirs, "--base", folder, "--prompt", PROMPT, "--json"))
    found = document(result, 1)["compare"]
    differs = found["first_difference"]
    assert (found["equal"], found["count"], differs["position"]) == (False, len(theirs), kept)
    assert differs["before"] == backend.decode(ids[:kept])
    assert (differs["ours"]["id"], differs["ours"]["text"]) == (ids[kept], backend.decode(ids[kept : kept + 1]))
    assert (differs["theirs"] or {}).get("id") == (behind[0] if behind else None)
    result, _ = asyncio.run(beside(theirs, "--base", folder, "--prompt", PROMPT))
    assert (result.exit_code, f"the first that differs is token {kept}" in result.output) == (1, True)


def test_a_remote_tokenizer_is_by_default_that_of_the_files_pods(tmp_path: Path) -> None:
    """As in the daemon, the engines of the model are asked; those of other models are not."""
    pods = [f"name={name},http=http://127.0.0.1:{port},model={model}" for name, port, model in PODS_OF_FILE]
    config = tmp_path / "kvsync.toml"
    config.write_text(f"pods = {json.dumps(pods)}\n[tokenizers.'{MODEL}']\nkind = 'remote'\n")
    assert spec_for(MODEL, config, {}).endpoints == ("http://127.0.0.1:7", "http://127.0.0.1:9")


def test_bytes_need_no_library() -> None:
    """`--kind dummy` is what simulated engines do, for any text."""
    for text in TEXTS.values():
        if text:
            assert document(run("--kind", "dummy", "--prompt", text, "--json"))["tokens"] == list(text.encode())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--kind", "dummy"], "nothing is given; give one of --prompt, --file and --chat"),
        (["--kind", "dummy", "--prompt", "x", "--file", "y"], "--prompt and --file is given"),
        (["--prompt", "x"], "no tokenizer is named"),
        (["--prompt", "x", "--kind", "bpe"], "kind is 'bpe'"),
        (["--prompt", "x", "--base", "/gone"], "'/gone' is not there"),
        (["--kind", "dummy", "--file", "/gone"], "--file /gone cannot be read"),
        (["--kind", "dummy", "--chat", "bad.json"], "is no JSON"),
        (["--kind", "dummy", "--chat", "none.json"], "has no messages"),
        (["--kind", "dummy", "--chat", "tools.json"], "tools.json: tools is [5]; give an array of objects"),
        (["--kind", "dummy", "--chat", "kwargs.json"], "kwargs.json: chat_template_kwargs is 'x'; give an object"),
        (
            ["--kind", "dummy", "--chat", "role.json"],
            "kvsync: --chat role.json: messages[0].role is 5; give a text such",
        ),
        (["--kind", "remote", "--prompt", "x"], "kind 'remote' needs endpoints"),
        (["--kind", "dummy", "--file", "latin1"], "is no UTF-8 text"),
        (["--prompt", "x", "--config", "kvsync.toml"], "has no [tokenizers.'org/m']; it has other"),
        (["--kind", "dummy", "--prompt", "x", "--compare", "127.0.0.1:1"], "is no address; give http://HOST:PORT"),
    ],
)
def test_wrong_usage_is_named(
    arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line on stderr and exit status 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("[{")
    (tmp_path / "none.json").write_text("{}")
    (tmp_path / "tools.json").write_text('{"messages": [], "tools": [5]}')
    (tmp_path / "kwargs.json").write_text('{"messages": [], "chat_template_kwargs": "x"}')
    (tmp_path / "role.json").write_text('[{"role": 5}]')
    (tmp_path / "latin1").write_bytes(b"\xfc")
    (tmp_path / "kvsync.toml").write_text("[tokenizers.other]\nkind = 'dummy'\n")
    result = run(*arguments)
    assert (result.exit_code, named in result.stderr) == (2, True), result.output


def test_an_engine_that_is_not_there_is_a_problem() -> None:
    """Exit status 1, and the address is named."""
    result = run("--kind", "dummy", "--prompt", "x", "--compare", "http://127.0.0.1:1")
    assert (result.exit_code, "http://127.0.0.1:1" in result.stderr) == (1, True)
