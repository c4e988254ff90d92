"""
What each figure must reach, and what it is held against.

Peers' figures were measured with `ai-dynamo-runtime` 1.6.1 on a machine with two 2.5 GHz Xeon cores and Python 3.11, or
published by their projects; the targets were set from them and from a throw-away prototype on the same machine. Two
identical runs differ by a fifth there: trust ratios, and of several runs the median.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.sizes import SIZES


@dataclass(frozen=True, slots=True)
class Target:
    """
    One row: `benchmark` and `params` find asv's value, `convert` turns it into `unit`.

    `at_least` says on which side of `target` the good values are; a row without one is only reported. `dynamo` is the
    best figure of NVIDIA Dynamo's indexer in the same unit, None where it has none; `others` what further projects
    publish.
    """

    row: str
    benchmark: str
    params: tuple[str, ...]
    convert: Callable[[float], float]
    unit: str
    at_least: bool
    target: float | None
    dynamo: float | None = None
    others: str = ""

    def times_as_good(self, measured: float, as_what: float) -> float:
        """How many times as good as another figure: 1 and more has reached it."""
        return measured / as_what if self.at_least else as_what / measured


def rate(blocks: int) -> Callable[[float], float]:
    """Seconds for so many blocks, as millions of blocks a second."""
    return lambda seconds: blocks / seconds / 1e6


def times(factor: float) -> Callable[[float], float]:
    """A value in another unit."""
    return lambda value: value * factor


BLOCKS: Final = "M blocks/s"


def _steady(event: str, row: str, target: float, dynamo: float, others: str = "") -> Target:
    where = "bench_ingest.Turnover.track_store"
    return Target(f"store, {row}, steady", where, (event,), times(1e-6), BLOCKS, True, target, dynamo, others)


def _growing(event: str, row: str, target: float, dynamo: float, others: str = "") -> Target:
    where, convert = "bench_ingest.Store.time_store", rate(SIZES.ingest_blocks)
    return Target(f"store, {row}, growing", where, (event, "growing"), convert, BLOCKS, True, target, dynamo, others)


def _remove(row: str, event: str, target: float, dynamo: float) -> Target:
    convert = rate(SIZES.ingest_blocks)
    return Target(f"remove, {row}", "bench_ingest.Remove.time_remove", (event,), convert, BLOCKS, True, target, dynamo)


def _socket(row: str, track: str, event: str, unit: str, target: float, dynamo: float) -> Target:
    at_least = track == "track_rate"
    convert = times(1e-6) if at_least else times(1)
    where = f"bench_zmq.Visible.{track}"
    return Target(f"zmq -> visible, {row}", where, (event,), convert, unit, at_least, target, dynamo)


def _query(
    row: str, where: str, of: str | None, target: float, dynamo: float | None = None, others: str = ""
) -> Target:
    params = () if of is None else (of,)
    return Target(row, f"bench_match.{where}", params, times(1e6), "us", False, target, dynamo, others)


def _http(body: str, blocks: int, target: float | None = None, dynamo: float | None = None) -> Target:
    row, params = f"HTTP query, {blocks:,} blocks, {body}, p50", (body, str(blocks))
    return Target(row, "bench_http.Query.track_p50", params, times(1), "us", False, target, dynamo)


def _reader(row: str, who: str, where: str, writer: str, unit: str = "us") -> Target:
    return Target(row, f"bench_readers.{who}.{where}", (writer,), times(1), unit, unit != "us", None)


def _memory(row: str, where: str, of: str, unit: str, target: float | None, others: str = "") -> Target:
    return Target(row, f"bench_memory.{where}", (of,), times(1), unit, False, target, None, others)


def _gone(row: str, where: str, blocks: int, target: float, dynamo: float | None = None) -> Target:
    convert = times(1e3)
    return Target(
        f"{row} of {blocks:,}", f"bench_clear.Clear.{where}", (str(blocks),), convert, "ms", False, target, dynamo
    )


def _snapshot(row: str, track: str, unit: str, target: float | None) -> Target:
    return Target(f"snapshot, {row}", f"bench_snapshot.Snapshot.{track}", (), times(1), unit, False, target)


def _turn(row: str, track: str, kind: str, target: float | None) -> Target:
    return Target(row, f"bench_tokens.Turn.{track}", (kind,), times(1e3), "ms", False, target)


WALKERS: Final = str(SIZES.walk_engines)
EIGHT: Final = "8 blocks, 32 a batch"
ONE: Final = "1 block, 64 a batch"
BUFFER: Final = "uint32 buffer"
QUESTIONS: Final = (SIZES.walk_blocks // 4, SIZES.walk_blocks)
LARGE: Final = (
    f"{SIZES.fleet_engines:,} engines, {SIZES.fill_entries / 1e6:g}M entries, {SIZES.fleet_blocks:,} blocks asked, p99"
)
FEW, MANY = SIZES.clear_blocks
FILL: Final = f"store, filling {SIZES.fill_entries / 1e6:g}M in random order"

TARGETS: Final = (
    _socket("8-block events", "track_rate", EIGHT, BLOCKS, 2.0, 0.32),
    _socket("8-block events, CPU", "track_cpu", EIGHT, "us/block", 0.4, 2.5),
    _socket("1-block events", "track_rate", ONE, "M events/s", 1.0, 0.13),
    _steady("32 blocks", "32 blocks an event", 5.0, 1.2, "smg 4.6"),
    _growing("32 blocks", "32 blocks an event", 3.0, 1.2, "smg 4.6"),
    Target(FILL, "bench_ingest.Fill.track_random_order", (), times(1e-6), BLOCKS, True, 2.0),
    _steady("8 blocks", "8 blocks an event", 3.5, 0.3),
    _steady("1 block", "1 block an event", 1.5, 0.076),
    _steady("1 block, prompts in turn", "1 block, prompts in turn", 1.5, 0.076),
    _remove("32 hashes an event", "32 hashes", 5.0, 2.1),
    _remove("1 hash an event", "1 hash", 4.0, 2.1),
    _query("walk, hashes given, hot", "WalkHot.time_walk", WALKERS, 15, 20, "smg 7.6 for 78 blocks"),
    _query("walk, hashes given, cold", "WalkCold.time_walk", WALKERS, 60, 51),
    _query("query, uint32 buffer, hot", "QueryHot.time_query", BUFFER, 80, 14_000),
    _query("query, uint32 buffer, cold", "QueryCold.time_query", BUFFER, 130, 14_000),
    _query("query, list", "QueryHot.time_query", "list", 5_000, 14_000),
    _query("a miss, a block of tokens", "Miss.time_tokens", None, 2, 10.3),
    _query("a miss, a hash", "Miss.time_hashes", None, 2, 10.3),
    _query("score 3,750 keys x 96 pods", "Score.time_score", None, 50, None, "llm-d 84,000"),
    Target(LARGE, "bench_fleet.Fleet.track_p99", (), times(1), "us", False, 60),
    *(
        _reader(f"a reader in {name}, {writer}, {which}", who, f"track_{which}", writer)
        for name, who in (("C", "Core"), ("Python", "Threads"))
        for which in ("p50", "p99")
        for writer in ("idle", "under ingest")
    ),
    _reader("the writer meanwhile, C", "Core", "track_written", "under ingest", BLOCKS),
    _http("raw", QUESTIONS[1], 1_000),
    _http("raw", QUESTIONS[0]),
    _http("JSON", QUESTIONS[0], None, 3_300),
    _http("JSON", QUESTIONS[1]),
    Target("parsing of this JSON alone", "bench_http.Parse.time_parse", ("JSON",), times(1e6), "us", False, None),
    _memory("memory by RSS, 64-bit hashes", "Entry.track_rss", "64 bits", "bytes/entry", 24, "Dynamo 72, smg 26.9"),
    _memory("memory by RSS, 16-byte hashes", "Entry.track_rss", "16 bytes", "bytes/entry", None),
    _memory("memory by RSS, 32-byte hashes", "Entry.track_rss", "32 bytes", "bytes/entry", None),
    _memory("memory by RSS, two copies of each", "Entry.track_rss", "64 bits, two copies", "bytes/entry", None),
    _memory("memory by RSS, half of them on CPU", "Entry.track_rss", "64 bits, on CPU too", "bytes/entry", None),
    _memory("memory left with 10 %, tails gone", "Remains.track_rss", "tail", "%", 25),
    _memory("memory left with 10 %, any gone", "Remains.track_rss", "random", "%", 25),
    _gone("clear an engine", "time_clear", FEW, 0.35, 3),
    _gone("clear an engine", "time_clear", MANY, 8),
    _gone("remove an engine", "time_remove", FEW, 0.35, 3),
    _gone("remove an engine", "time_remove", MANY, 8),
    _snapshot("longest pause of a reader", "track_reader_pause", "ms", 20),
    _snapshot("longest pause of a writer", "track_writer_pause", "ms", None),
    _snapshot("memory beside the index", "track_peak", "bytes/entry", None),
    _snapshot("save", "track_save", "s", None),
    _snapshot("load", "track_load", "s", None),
    _turn("100 KB chat to tokens, tekken", "time_fresh", "tekken", None),
    _turn("its next turn, tekken", "time_next", "tekken", 2),
    _turn("100 KB chat to tokens, tiktoken", "time_fresh", "tiktoken", None),
    _turn("its next turn, tiktoken", "time_next", "tiktoken", 2),
    _turn("100 KB chat to tokens, tokenizer.json", "time_fresh", "tokenizer.json", None),
    _turn("its next turn, tokenizer.json", "time_next", "tokenizer.json", None),
)
