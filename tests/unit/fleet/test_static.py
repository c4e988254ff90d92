"""Pods that never change."""

from __future__ import annotations

import pytest

from kvsync.errors import ConfigError
from kvsync.fleet import Pod, StaticPods

A, B = Pod("a", "http://h", "m"), Pod("b", "http://h", "m")


def test_it_has_the_pods_it_was_given() -> None:
    """They are known by name, nothing is wrong with them, and the set cannot be changed from outside."""
    source = StaticPods([A, B])
    assert source.current() == {"a": A, "b": B}
    assert source.findings() == ()
    with pytest.raises(TypeError):
        source.current()["c"] = A  # type: ignore[index]


def test_two_of_one_name_are_refused() -> None:
    """As on the command line."""
    with pytest.raises(ConfigError, match="two pods"):
        StaticPods([A, A])
