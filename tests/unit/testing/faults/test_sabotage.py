"""A checker is worth what it catches: each world that is broken on purpose is caught."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from kvsync.testing.faults.campaign import first_failure
from kvsync.testing.faults.sabotage import PATCHES, SABOTAGES
from kvsync.testing.faults.world import World

SEEDS = 600


@pytest.mark.parametrize("broken", SABOTAGES.values(), ids=list(SABOTAGES))
def test_a_broken_world_is_caught(broken: type[World]) -> None:
    """Within a few hundred seeds the checker finds what was broken on purpose."""
    assert first_failure(0, SEEDS, make_world=broken) is not None


@pytest.mark.parametrize("broken", PATCHES.values(), ids=list(PATCHES))
def test_broken_code_is_caught(broken: Callable[[], AbstractContextManager[None]]) -> None:
    """The same for a line of the code under test that is switched off."""
    with broken():
        assert first_failure(0, SEEDS) is not None
