"""The prefix-token cache: never other ids than a fresh run's, within its bytes, and counted."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.tokens.samples import WITH_CUTS, hf_tokenizers, random_texts, tekken, write_hf, write_vocabulary

from kvsync.tokens.cuts import LOWER, NO_CUTS, PAIRS, SPACE, Cuts, Pair, cuts
from kvsync.tokens.hf import HfBackend
from kvsync.tokens.mistral import MistralBackend
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.segments import SegmentCache
from kvsync.tokens.vocabulary import PATTERNS, VocabularyBackend

SEED = 6
SPLITS = 2_000
"""How many cuts of random texts each tokenizer is held to."""

WORDS = cuts([(LOWER, SPACE)])


def letters(text: str) -> array[int]:
    """A tokenizer that is safe to cut anywhere."""
    return array("I", map(ord, text))


def listening() -> tuple[list[str], Callable[[str], array[int]]]:
    """That tokenizer, and the texts that it was given."""
    asked: list[str] = []

    def encode(text: str) -> array[int]:
        asked.append(text)
        return letters(text)

    return asked, encode


def make_backend(name: str, folder: Path) -> HfBackend | VocabularyBackend | MistralBackend:
    """A backend by the name of its tokenizer."""
    if name in hf_tokenizers():
        return HfBackend(ModelSpec(base=str(write_hf(folder, name))))
    if name == "tekken":
        return tekken()
    return VocabularyBackend(ModelSpec(base=str(write_vocabulary(folder)), kind="tiktoken", pattern=name))


def first_difference(backend: HfBackend | VocabularyBackend | MistralBackend, found: Cuts, splits: int) -> str | None:
    """Cut random texts wherever they may be cut; the first whose halves give other ids than the whole."""
    fresh, count = backend._segments._encode, 0
    for text in random_texts(SEED, 100_000):
        whole, start = fresh(text), 0
        while (end := found.next(text, start)) is not None:
            if fresh(text[:end]) + fresh(text[end:]) != whole:
                return f"{text[:end]!r} | {text[end:]!r}"
            start, count = end, count + 1
            if count >= splits:
                return None
    pytest.fail(f"only {count} cuts were found")


@pytest.mark.parametrize("name", [*WITH_CUTS, "tekken", *PATTERNS])
def test_halves_of_a_text_give_the_ids_of_the_whole(name: str, tmp_path: Path) -> None:
    """2,000 proved cuts of random texts, over all that may stand beside them, change no id."""
    backend = make_backend(name, tmp_path)
    assert first_difference(backend, backend._segments._cuts, SPLITS) is None


@pytest.mark.parametrize("name", ["gpt2", "tekken", "cl100k_base"])
@pytest.mark.parametrize("pair", [(LOWER, LOWER), (SPACE, LOWER)], ids=["inside words", "behind spaces"])
def test_a_cut_that_is_not_proved_is_seen_to_fail(name: str, pair: Pair, tmp_path: Path) -> None:
    """The same check finds the difference where one cuts inside words, or behind the space before one."""
    assert first_difference(make_backend(name, tmp_path), cuts([pair]), SPLITS) is not None


@pytest.mark.parametrize("name", [*hf_tokenizers(), "tekken", *PATTERNS])
def test_a_cache_gives_a_fresh_runs_ids(name: str, tmp_path: Path) -> None:
    """Texts that share beginnings, asked in any order with segments of a few characters, get fresh ids."""
    backend = make_backend(name, tmp_path)
    fresh = backend._segments._encode
    cache = SegmentCache(fresh, backend._segments._cuts, span=5, last_max=10, bytes_max=60_000)
    texts = list(random_texts(SEED + 1, 60))
    for number, text in enumerate(texts):
        longer = text + texts[number - 1]
        for asked in (text, longer, text[: len(text) // 2], longer):
            assert cache.encode(asked) == fresh(asked)
    assert cache.stats()["segment_bytes"] <= 60_000
    assert (cache.stats()["segment_hits"] > 0) == (name != "llama2")


def test_what_is_shared_is_tokenized_once() -> None:
    """The next turn costs its own text, and the segment before it where that has grown; all is counted."""
    asked, encode = listening()
    cache = SegmentCache(encode, WORDS, span=10)
    turn = "the quick brown fox jumps over the lazy dog"
    assert cache.encode(turn) == letters(turn)
    assert asked == ["the", " quick brown", " fox jumps over", " the lazy dog"]
    asked.clear()
    assert cache.encode(turn + " and sleeps") == letters(turn + " and sleeps")
    assert asked == [" and sleeps"]
    asked.clear()
    assert cache.encode(turn + "s and sleeps") == letters(turn + "s and sleeps")
    assert asked == [" the lazy dogs"]
    stats = cache.stats()
    assert (stats["segment_hits"], stats["segment_misses"], stats["segments"]) == (8, 6, 6)
    assert stats["chars_reused"] == len(turn) + len("the quick brown fox jumps over and sleeps")


def test_a_segment_that_comes_twice_in_a_text_is_tokenized_once() -> None:
    """Text that repeats itself costs its segments once, also the first time."""
    asked, encode = listening()
    text = "aa" + " aa" * 7 + " "
    assert SegmentCache(encode, WORDS, span=2).encode(text) == letters(text)
    assert asked == ["aa", " aa", " "]


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    """Beyond its bytes the cache drops what was not used for longest, and says how much."""
    cache = SegmentCache(letters, WORDS, span=50, bytes_max=20_000)
    for number in range(200):
        cache.encode(f"{'abc ' * 10}{number} {'xyz ' * 20}")
    stats = cache.stats()
    assert 0 < stats["segment_bytes"] <= 20_000
    assert stats["segment_evictions"] > 0
    assert stats["segments"] + stats["segment_evictions"] == stats["segment_misses"]


def test_without_cuts_no_long_text_is_kept() -> None:
    """Long texts of a tokenizer of which nothing is proved are tokenized every time, short ones once."""
    cache = SegmentCache(letters, NO_CUTS, last_max=6)
    assert cache.encode("a b c d") == cache.encode("a b c d") == letters("a b c d")
    assert (cache.stats()["segments"], cache.stats()["chars_tokenized"]) == (0, 14)
    assert cache.encode("a b c") == cache.encode("a b c") == letters("a b c")
    assert (cache.stats()["segments"], cache.stats()["chars_tokenized"]) == (1, 19)


def test_the_end_of_a_text_is_kept() -> None:
    """A text that comes again costs nothing, also behind its last cut."""
    asked, encode = listening()
    cache = SegmentCache(encode, WORDS, span=10)
    text = "the quick brown fox jumps"
    assert cache.encode(text) == cache.encode(text) == letters(text)
    assert asked == ["the", " quick brown", " fox jumps"]


def test_a_text_behind_an_empty_line_is_known_from_when_it_stood_alone() -> None:
    """A question with a system prompt before it costs nothing more without, nor the other way round."""
    asked, encode = listening()
    question, system = "the quick brown fox jumps over the lazy dog again", "be brief and kind\n\n"
    cache = SegmentCache(encode, WORDS, span=16)
    cache.encode(system + question)
    asked.clear()
    assert cache.encode(question) == letters(question)
    assert asked == ["the"]


def test_clearing_forgets_all() -> None:
    """Afterwards no text is held."""
    cache = SegmentCache(letters, WORDS, span=2)
    cache.encode("aa bb cc dd")
    cache.clear()
    assert (cache.stats()["segments"], cache.stats()["segment_bytes"]) == (0, 0)


def test_threads_share_it() -> None:
    """16 threads over the same texts, with a cache far too small, get right ids and leave right sums."""
    cache = SegmentCache(letters, cuts(PAIRS), span=3, bytes_max=3_000)
    texts, begin = list(random_texts(SEED + 2, 40)), threading.Barrier(16)

    def work(shift: int) -> bool:
        begin.wait(20)
        return all(cache.encode(text) == letters(text) for text in texts[shift:] + texts[:shift])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))
    with cache._lock:
        kept = sum(len(segment) for segment in cache._kept)
    assert (cache.stats()["segment_bytes"] <= 3_000, kept > 0) == (True, True)
