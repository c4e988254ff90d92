"""
kvsync beside NVIDIA Dynamo and a plain dict, on the same work in one run.

    python -m benchmarks.peers [--rounds N] [--json [FILE]] [--only inside|outside]

Sides take turns, each in processes of its own; of several rounds the median counts. `KVSYNC_BENCH_SIZE` is the size.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import outside, report
from benchmarks.peers.inside import SIDES, Figure
from benchmarks.peers.services import ROOT, DynamoService, OurService, Service

SERVICES: Final[Mapping[str, Service]] = {"ours": OurService(), "dynamo": DynamoService()}
PEER: Final = "ai-dynamo-runtime"


def inside(name: str) -> tuple[str, list[Figure]]:
    """One side's rows without sockets, from a process of its own; what it reads comes first."""
    command = [sys.executable, "-m", "benchmarks.peers.inside", name]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    # A library may talk on standard output too; ours is the last line.
    said = json.loads(ran.stdout.splitlines()[-1])
    return said["reads"], [Figure(*figure) for figure in said["figures"]]


def one_round(sides: list[str], only: str | None, reads: dict[str, str]) -> Iterator[tuple[str, list[Figure]]]:
    """All sides once, in turn."""
    if only != "outside":
        for side in sides:
            reads[side], figures = inside(side)
            if side == "lists":  # ours as well, asked in the form that the others take
                asked = ("tokens to hashes", "query from tokens")
                figures = [Figure(f"{f.row}, list", f.value) for f in figures if f.row in asked]
            yield ("ours" if side == "lists" else side), figures
    if only != "inside":
        for side, service in SERVICES.items():
            if side in sides:
                yield side, list(outside.measure(service))


def about(reads: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """What was compared, and where."""
    packages = ["kvsync", PEER] if importlib.util.find_spec("dynamo") else ["kvsync"]
    return {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "size": os.environ.get("KVSYNC_BENCH_SIZE", "full"),
        "rounds": rounds,
        "reads": dict(reads),
    }


def main(arguments: list[str]) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="kvsync beside its peers.")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (default: %(default)s)")
    parser.add_argument("--only", choices=("inside", "outside"), help="in one process, or through the daemons")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="one document, not the table; or both, it in FILE",
    )
    asked = parser.parse_args(arguments)
    sides = [side for side in SIDES if side != "dynamo" or importlib.util.find_spec("dynamo") is not None]
    if "dynamo" not in sides:
        print(f"{PEER} is not installed: its column stays empty", file=sys.stderr)
    found: dict[str, list[list[Figure]]] = {}
    reads: dict[str, str] = {}
    for nth in range(asked.rounds):
        print(f"round {nth + 1} of {asked.rounds}", file=sys.stderr)
        for side, figures in one_round(sides, asked.only, reads):
            found.setdefault(side, []).append(figures)
    lines = report.rows(report.medians(found))
    facts = about(reads, asked.rounds)
    document = json.dumps(report.document(lines, facts))
    if asked.json == "-":
        print(document)
        return
    if asked.json is not None:
        Path(asked.json).write_text(document + "\n", encoding="utf-8")
    print(report.rendered(lines))
    print(f"\n{facts['size']} size, median of {asked.rounds}, {facts['machine']}, Python {facts['python']}")
    for side, what in reads.items():
        print(f"{side} reads {what}")


if __name__ == "__main__":
    main(sys.argv[1:])
