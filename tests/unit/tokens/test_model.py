"""What a model's tokenizer is found by."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from kvsync.tokens.model import ModelSpec


def test_a_spec_is_frozen_and_hashable() -> None:
    """A spec does not change, and two that say the same are one."""
    spec = ModelSpec(base="m", kind="dummy")
    with pytest.raises(ValidationError, match="frozen"):
        spec.base = "n"
    assert spec == ModelSpec(base="m", kind="dummy")
    assert len({spec, ModelSpec(base="m", kind="dummy")}) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"base": "m", "tokenizer": "x"},
        {"base": ""},
        {},
        {"base": "m", "kind": "bpe"},
        {"base": "m", "timeout_seconds": 0},
        {"base": "m", "timeout_seconds": float("inf")},
    ],
)
def test_what_is_unknown_or_impossible_is_refused(fields: dict[str, object]) -> None:
    """An unknown field, an empty base, an unknown kind and a timeout of nothing or of ever are refused."""
    with pytest.raises(ValidationError):
        ModelSpec.model_validate(fields)


def test_an_adapter_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative adapter is taken from the current folder, and stays there when that changes."""
    monkeypatch.chdir(tmp_path)
    spec = ModelSpec(base="m", adapter=Path("sub/../adapter"))
    assert spec.adapter == tmp_path / "adapter"
    monkeypatch.chdir("/")
    assert spec.adapter == tmp_path / "adapter"


def test_an_adapter_is_absent_by_default() -> None:
    """Without an adapter, a revision or leave to run code, a spec has none of them."""
    spec = ModelSpec(base="m")
    assert (spec.adapter, spec.revision, spec.trust_remote_code) == (None, None, False)
