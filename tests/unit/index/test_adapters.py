"""LoRA adapters that engines' events named."""

from __future__ import annotations

from kvsync.index import Index
from kvsync.testing.wire import Cleared, Removed, Stored, encode_batch
from kvsync.types import Engine

A, B = Engine("a"), Engine("b")
KEPT = 256
NAME_BYTES_MAX = 256


def _tell(index: Index, engine: Engine, lora: str | None, first: int = 1, *, tokens: bool = True) -> None:
    told = Stored((first,), None, (first, 2, 3, 4) if tokens else (), 4 if tokens else 0, lora_name=lora)
    index.apply(engine, encode_batch([told]), model="m")


def test_an_adapter_is_known_where_its_blocks_were_stored() -> None:
    """An engine that stores blocks for an adapter has it; another, or one of the base model, has not."""
    with Index(seed=1) as index:
        _tell(index, A, "sql")
        _tell(index, B, None)
        assert (list(index.adapters(A)), list(index.adapters(B))) == (["sql"], [])
        assert list(index.adapter_engines("sql")) == [A]
        assert not index.adapter_engines("other")
        assert index.adapters(Engine("nobody")) == {}


def test_the_latest_is_first_and_has_the_highest_number() -> None:
    """Each event that names an adapter counts, so that what came after a moment is told from what came before."""
    with Index(seed=1) as index:
        _tell(index, A, "sql", 1)
        _tell(index, B, "law", 2)
        then = index.adapter_stores
        _tell(index, B, "sql", 3)
        _tell(index, B, "law", 4)
        assert list(index.adapters(B)) == ["law", "sql"]
        assert {engine for engine, at in index.adapter_engines("sql").items() if at > then} == {B}
        assert index.adapters(B)["law"] == index.adapter_stores == then + 2


def test_an_adapter_outlives_its_blocks_but_not_the_life() -> None:
    """Evicted blocks say nothing of the adapter; a new life, or a removed engine, has none."""
    with Index(seed=1) as index:
        _tell(index, A, "sql")
        index.apply(A, encode_batch([Removed((1,)), Cleared()]), model="m")
        assert list(index.adapters(A)) == ["sql"]
        index.restart(A)
        assert index.adapters(A) == {}
        _tell(index, A, "law")
        index.remove(A)
        assert not index.adapter_engines("law")


def test_what_a_stranger_names_is_bounded() -> None:
    """Of very many names the latest are known, and one that is no name or too long is not noted."""
    with Index(seed=1) as index:
        for number in range(KEPT + 10):
            _tell(index, A, f"adapter-{number}", number + 1)
        assert list(index.adapters(A)) == [f"adapter-{number}" for number in range(KEPT + 9, 9, -1)]
        _tell(index, B, "")
        _tell(index, B, "x" * (NAME_BYTES_MAX + 1), 2)
        _tell(index, B, "ü" * (NAME_BYTES_MAX // 2), 3)
        assert list(index.adapters(B)) == ["ü" * (NAME_BYTES_MAX // 2)]


def test_a_placeholder_names_no_adapter() -> None:
    """What says nothing of tokens says nothing of what is loaded."""
    with Index(seed=1) as index:
        _tell(index, A, "sql", tokens=False)
        assert index.adapters(A) == {}


def test_its_memory_is_given_back() -> None:
    """Names take memory of the index's, and leave none behind."""
    with Index(seed=1) as index:
        _tell(index, A, None)
        before = index.stats()["bytes"]
        for number in range(100):
            _tell(index, B, f"adapter-{number}", number + 1)
        assert index.stats()["bytes"] > before
        index.remove(B)
        index.remove(A)
        _tell(index, A, None)
        assert index.stats()["bytes"] <= before + 4096
