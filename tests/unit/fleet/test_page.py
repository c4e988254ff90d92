"""docs/kubernetes.md names all that can be said about a pod, all flags, and all that can be wrong with a fleet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvsync.fleet.kubernetes import labels

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
SOURCES = [*(ROOT / "src/kvsync/fleet").rglob("*.py"), *(ROOT / "src/kvsync/serve").glob("*.py")]
TOLD = re.findall(
    r'Finding\(\s*(?:[\w"]+), [^,]+, "(\w+)"|^\s+\d{3}: \("(\w+)", |remedies\.get\(failure\.status, \("(\w+)"',
    "\n".join(path.read_text(encoding="utf-8") for path in SOURCES),
    flags=re.MULTILINE,
)
REASONS = sorted({reason for groups in TOLD for reason in groups if reason})


def test_the_reasons_are_found() -> None:
    """Else nothing would be looked for on the page."""
    assert {"forbidden", "failing", "config", "unknown_annotation", "endpoint_taken", "not_followed"} <= set(REASONS)


@pytest.mark.parametrize("reason", REASONS)
def test_the_page_names_reasons(reason: str) -> None:
    """Every reason that a finding of a fleet can have."""
    assert f"`{reason}`" in PAGE


@pytest.mark.parametrize("key", labels.KNOWN)
def test_the_page_names_annotations(key: str) -> None:
    """Every annotation that means something."""
    assert f"`{labels.PREFIX}{key}`" in PAGE


def test_the_page_names_no_annotation_that_means_nothing() -> None:
    """What it tells to write is known."""
    named = set(re.findall(rf"`{labels.PREFIX}([\w-]+)`", PAGE))
    assert named == set(labels.KNOWN)
