"""
What every test shares: how hypothesis chooses its examples, and what AddressSanitizer leaves out.

The default profile is the same on every machine and in every run, so a red test stays red until mended.
`HYPOTHESIS_PROFILE=explore` looks for new examples and prints the blob that replays a failure.
"""

from __future__ import annotations

import ctypes
import os

import pytest
from hypothesis import HealthCheck, settings

# A shared CI core is slow in bursts: a time limit per example would fail at random. pytest-timeout stops what hangs.
COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("default", COMMON, derandomize=True)
settings.register_profile("explore", COMMON, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SANITIZED = hasattr(ctypes.CDLL(None), "__asan_init")
WEIGHS = pytest.mark.skip(reason="measures the memory of a process, most of which is AddressSanitizer's here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, in a process that AddressSanitizer is loaded into (`nox -s sanitize`), what cannot hold there."""
    for item in items if SANITIZED else []:
        if item.get_closest_marker("weighs"):
            item.add_marker(WEIGHS)
