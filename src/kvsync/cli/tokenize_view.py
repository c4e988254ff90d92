"""What `kvsync tokenize` prints for people: ids and hashes, cut where there are many, and how a comparison ended."""

from __future__ import annotations

from typing import Any

IDS_SHOWN = 64
HASHES_SHOWN = 16


def show(document: dict[str, Any]) -> None:
    """Print the ids and hashes, cut where there are many, and how the comparison ended."""
    ids, hashes, size = document["tokens"], document["block_hashes"], document["block_size"]
    loaded = f"{document['base']} ({document['kind']}), loaded in {document['load_seconds']:g} s"
    print(f"{document['count']:,} tokens by {loaded}")
    print(f"ids: {' '.join(map(str, ids[:IDS_SHOWN]))}{_more(len(ids), IDS_SHOWN)}")
    print(f"{len(hashes):,} whole blocks of {size} tokens")
    for number, block_hash in enumerate(hashes[:HASHES_SHOWN]):
        print(f"  block {number}, tokens {number * size}-{(number + 1) * size - 1}: {block_hash:016x}")
    if len(hashes) > HASHES_SHOWN:
        print(f" {_more(len(hashes), HASHES_SHOWN)}")
    if (found := document.get("compare")) is not None:
        show_comparison(found)


def show_comparison(found: dict[str, Any]) -> None:
    """Print how it ended; where the two part, what each has there."""
    if found["equal"]:
        print(f"{found['url']} makes the same {found['count']:,} tokens of it")
        return
    differs = found["first_difference"]
    print(
        f"{found['url']} makes {found['count']:,} tokens of it; the first that differs is token {differs['position']:,}"
    )
    print(f"  behind {differs['before']!r}")
    for whose in ("ours", "theirs"):
        side = differs[whose]
        print(f"  {whose}: {'nothing more' if side is None else _side_text(side)}")


def _side_text(side: dict[str, Any]) -> str:
    return f"{side['id']} {side['text']!r}, then {side['then']!r}"


def _more(count: int, shown: int) -> str:
    return f" ... {count - shown:,} more (--json has all)" if count > shown else ""
