"""An answer: a read-only mapping that stays what it was, whatever becomes of the index."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from kvsync.index import Index, Matches
from kvsync.testing.wire import Event, Removed, Stored, encode_batch
from kvsync.types import Engine, Match, Trust

MODEL = "model"
SIZE = 4
TOKENS = tuple(range(100, 140))
POD_A, POD_B, POD_B1, POD_C = Engine("a"), Engine("b"), Engine("b", 1), Engine("c")


def stored(blocks: int, **fields: Any) -> Stored:
    """The first blocks of TOKENS, whose engine hashes count from 1."""
    return Stored(tuple(range(1, blocks + 1)), tokens=TOKENS[: blocks * SIZE], block_size=SIZE, **fields)


@pytest.fixture
def index() -> Iterator[Index]:
    """Engine a holds ten blocks, b/0 three, b/1 one in each of two places; c serves another model."""
    with Index(seed=1) as made:
        made.apply(POD_A, encode_batch([stored(10)]), model=MODEL, sequence=0)
        made.apply(POD_B, encode_batch([stored(3)], form="vllm-0.14"), model=MODEL)
        events: list[Event] = [stored(2), Stored((2,), medium="CPU"), Removed((2,))]
        made.apply(POD_B1, encode_batch(events), model=MODEL, sequence=0)
        made.apply(POD_C, encode_batch([stored(10)]), model="other", sequence=0)
        yield made


def test_an_answer_is_a_mapping_of_holders(index: Index) -> None:
    """Engines that hold nothing are absent, and every way of looking agrees."""
    matches = index.match(TOKENS, model=MODEL)
    assert isinstance(matches, Mapping)
    assert isinstance(matches, Matches)
    assert len(matches) == 3
    assert set(matches) == {POD_A, POD_B, POD_B1}
    assert POD_A in matches
    assert POD_C not in matches
    assert matches.get(POD_C) is None
    assert dict(matches.items()) == {engine: matches[engine] for engine in matches}
    with pytest.raises(KeyError):
        matches[POD_C]


def test_a_match_says_how_much_where_and_how_surely(index: Index) -> None:
    """Blocks, tokens, media, dialect and trust arrive as plain values."""
    matches = index.match(TOKENS, model=MODEL)
    assert matches[POD_A] == Match(10, 40, {"GPU": 10}, certain=True, trust=Trust.EXACT)
    assert matches[POD_B] == Match(3, 12, {"GPU": 3}, certain=False, trust=Trust.PARTIAL)
    assert matches[POD_B1] == Match(2, 8, {"GPU": 1, "CPU": 1}, certain=True, trust=Trust.EXACT)
    assert isinstance(matches[POD_A].blocks, int)
    assert matches[POD_A].certain is True


def test_an_answer_stays_what_it_was(index: Index) -> None:
    """Changes after it, engines that leave and the end of the index do not reach into an answer."""
    matches = index.match(TOKENS, model=MODEL)
    index.clear(POD_A)
    index.remove(POD_B)
    index.register(Engine("late"), model=MODEL)
    index.close()
    assert matches[POD_A].blocks == 10
    assert matches[POD_B].blocks == 3
    assert matches[POD_B1].by_medium == {"GPU": 1, "CPU": 1}
    assert len(matches) == 3


def test_an_answer_cannot_be_changed(index: Index) -> None:
    """It is a mapping to read, and to be shown in a line."""
    matches: Any = index.match(TOKENS, model=MODEL)
    with pytest.raises(TypeError):
        matches[POD_A] = None
    with pytest.raises(TypeError):
        del matches[POD_A]
    assert repr(matches) == "<Matches of 3 engines>"


def test_nobody_holds_an_unknown_prompt(index: Index) -> None:
    """An empty answer is a mapping too."""
    prompts: list[Any] = [[], TOKENS[:3], array("I", [7] * 40)]
    for tokens in prompts:
        matches = index.match(tokens, model=MODEL)
        assert len(matches) == 0
        assert list(matches) == []
        assert matches == {}
