"""docs/tokenization.md names all that can be set, and all that can go wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from kvsync.tokens.model import Kind, ModelSpec
from kvsync.tokens.vocabulary import PATTERNS
from kvsync.tokens.written import ANNOTATED

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "tokenization.md").read_text(encoding="utf-8")
REASONS = re.findall(r'NoTokens\("(\w+)"', (ROOT / "src/kvsync/serve/tokenizing.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [*get_args(Kind), *ModelSpec.model_fields, *PATTERNS, *sorted(set(REASONS))])
def test_the_page_names_it(name: str) -> None:
    """Every kind, key, known expression and reason of degrading."""
    assert f"`{name}`" in PAGE or f"| `{name}" in PAGE


@pytest.mark.parametrize("field", [field for field in ANNOTATED if field not in ("base", "trust_remote_code")])
def test_the_page_names_annotations(field: str) -> None:
    """Those that a pod may bring."""
    assert f"-{field.replace('_', '-')}`" in PAGE
