"""How much engines are asked for."""

from __future__ import annotations

import pytest

from kvsync.routing.interest import HALF_S, Interest
from kvsync.types import Engine

A, B, C = Engine("a"), Engine("b"), Engine("c")


def asked() -> Interest:
    """
    Three requests for a model, two of them to A, and one for another model, to C.
    """
    interest = Interest()
    for engine in (A, A, None):
        interest.add("m", 0.0)
        if engine is not None:
            interest.add(engine, 0.0)
    interest.add("other", 0.0)
    interest.add(C, 0.0)
    return interest


def test_models_come_first_and_engines_by_their_picks() -> None:
    """One never picked, of a model much asked for, weighs more than the only one of a model hardly asked for."""
    interest = asked()
    assert [interest.weight(*who, 0.0) for who in ((A, "m"), (B, "m"), (C, "other"))] == [5.0, 3.0, 2.0]
    assert interest.weight(B, "unheard", 0.0) == 0.0


def test_what_was_long_ago_counts_for_less() -> None:
    """Half after so many seconds; a clock that goes back makes nothing more."""
    interest = asked()
    assert interest.weight(A, "m", HALF_S) == pytest.approx(2.5)
    interest.add(A, HALF_S)
    assert interest.weight(A, "m", HALF_S) == pytest.approx(3.5)
    assert interest.weight(A, "m", 0.0) == pytest.approx(3.0 + 2.0)


def test_an_engine_that_is_gone_is_forgotten() -> None:
    """Only its model's requests still count for one of its name."""
    interest = asked()
    interest.forget(A)
    interest.forget(A)
    assert interest.weight(A, "m", 0.0) == 3.0
