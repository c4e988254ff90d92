"""
Instructions a block, counted by valgrind: the same to the last digit on a busy machine as on an idle one.

They say nothing of memory's latency, which is most of what a block costs: read them beside the times.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.checks import WrongAnswerError, expect
from benchmarks.frames import Prompt, batches, generator, hashes_of, prompt, remove_events, store_events, tokens_of
from benchmarks.sizes import PROMPT_BLOCKS, SIZES

DRIVERS: Final = Path(__file__).parent / "driver"
HOLDERS: Final = 8
COLLECTED: Final = re.compile(r"Collected : (\d+)")

Step = tuple[bytes, int, bytes]


def core() -> Path:
    """The C sources of what is being measured: the commit that asv built, or else this tree."""
    built = os.environ.get("ASV_BUILD_DIR")
    return Path(built or Path(__file__).parents[1]) / "csrc"


def need(*programs: str) -> None:
    """Raise NotImplementedError, which asv takes for "skip", where a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise NotImplementedError(f"not found: {', '.join(missing)}; Debian: apt-get install valgrind gcc")


def need_compiler() -> None:
    """Skip without a compiler."""
    need("cc")


def need_programs() -> None:
    """Skip without valgrind or a compiler."""
    need("valgrind", "cc")


@cache
def compiled(name: str) -> str:
    """A program of `driver/`, compiled once with the core as the extension is; removed at exit."""
    folder = tempfile.mkdtemp(prefix="kvsync-driver-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = f"{folder}/driver"
    sources = sorted(str(path) for path in (core() / "src").glob("*.c"))
    options = ["-std=gnu11", "-O3", "-flto=auto", f"-I{core() / 'include'}", "-pthread", "-o", made]
    subprocess.run(["cc", *options, str(DRIVERS / name), *sources], check=True)
    return made


def write_script(script: Path, steps: Iterable[Step]) -> None:
    """Steps as the drivers read them."""
    with script.open("wb") as file:
        for kind, engine, data in steps:
            file.write(kind + struct.pack("=II", engine, len(data)) + data)


def count(steps: Iterable[Step], matched: int) -> int:
    """Instructions of the counted steps of a script; `matched` engines hold what was asked for last."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script")
        write_script(script, steps)
        valgrind = ["valgrind", "--tool=callgrind", "--toggle-collect=measured", "--callgrind-out-file=/dev/null"]
        ran = subprocess.run([*valgrind, compiled("driver.c"), str(script)], check=True, capture_output=True, text=True)
    expect("engines matched", int(ran.stdout), matched)
    found = COLLECTED.search(ran.stderr)
    if found is None:
        raise WrongAnswerError(f"valgrind does not say what it counted: {ran.stderr[-500:]!r}")
    return int(found[1])


def entries(number: int) -> Step:
    """A step that checks how many entries there are."""
    return b"e", 0, struct.pack("=Q", number)


def prompts() -> list[Prompt]:
    """What one engine holds."""
    random = generator(12)
    return [prompt(random, PROMPT_BLOCKS) for _ in range(SIZES.instructions_blocks // PROMPT_BLOCKS)]


class Store:
    """
    Instructions to store a block in an empty index, from its bytes on the wire.
    """

    params = ([32, 8, 1],)
    param_names = ("blocks an event",)
    unit = "instructions/block"
    timeout = 600.0

    def setup(self, an_event: int) -> None:
        """Skip without valgrind."""
        need_programs()

    def track_store(self, an_event: int) -> float:
        """One engine."""
        frames = batches(store_events(prompts(), an_event), 32)
        steps = [*((b"m", 0, frame) for frame in frames), entries(SIZES.instructions_blocks)]
        return count(steps, 0) / SIZES.instructions_blocks


class Remove:
    """
    Instructions to remove a block, the tail of each prompt first.
    """

    params = ([32, 1],)
    param_names = ("hashes an event",)
    unit = "instructions/block"
    timeout = 600.0

    def setup(self, an_event: int) -> None:
        """Skip without valgrind."""
        need_programs()

    def track_remove(self, an_event: int) -> float:
        """One engine."""
        stored = [(b"p", 0, frame) for frame in batches(store_events(prompts(), 32), 32)]
        removed = [(b"m", 0, frame) for frame in batches(remove_events(prompts(), an_event), 32)]
        steps = [*stored, entries(SIZES.instructions_blocks), *removed, entries(0)]
        return count(steps, 0) / SIZES.instructions_blocks


class Match:
    """
    Instructions to hash a block of a prompt and walk over it, held by some engines.
    """

    unit = "instructions/block"
    timeout = 600.0

    def setup(self) -> None:
        """Skip without valgrind."""
        need_programs()

    def track_match(self) -> float:
        """The whole prompt, from tokens."""
        blocks = SIZES.instructions_blocks
        tokens = tokens_of(generator(13), blocks)
        steps = [*_held(blocks), entries(HOLDERS * blocks), (b"q", 0, tokens.tobytes())]
        return count(steps, HOLDERS) / blocks


def _held(blocks: int) -> Iterator[Step]:
    """Several engines store the same prompt."""
    for holder in range(HOLDERS):
        own = Prompt(tokens_of(generator(13), blocks), hashes_of(generator(14, holder), blocks))
        for frame in batches(store_events([own], 32), 32):
            yield b"p", holder, frame
