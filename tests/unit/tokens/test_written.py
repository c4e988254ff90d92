"""Tokenizers as operators write them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvsync.errors import ConfigError
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.written import spec_of_annotations, spec_of_table


def test_a_table_is_read() -> None:
    """The base is the model's own name where the table has none."""
    assert spec_of_table({"kind": "mistral"}, "org/m") == ModelSpec(base="org/m", kind="mistral")
    table = {"base": "/models/m", "kind": "tiktoken", "pattern": "qwen", "chat_template": "/t.jinja"}
    expected = ModelSpec(base="/models/m", kind="tiktoken", pattern="qwen", chat_template=Path("/t.jinja"))
    assert spec_of_table(table, "m") == expected
    assert spec_of_table(expected, "m") is expected


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("hf", r"tokenizers\.'m' is 'hf'; give a table"),
        ({"knid": "hf"}, "'knid' is not known; a tokenizer has base, kind"),
        ({"kind": "bpe"}, "kind is 'bpe'"),
        ({"base": ""}, "base is ''"),
        ({"kind": "remote", "endpoints": ["127.0.0.1:8000"]}, "endpoint '127.0.0.1:8000' is no address"),
    ],
)
def test_a_wrong_table_is_named(table: Any, named: str) -> None:
    """The model, the field and the value."""
    with pytest.raises(ConfigError, match=named):
        spec_of_table(table, "m")


def test_annotations_are_read() -> None:
    """Names without our prefix, with dashes; others' are not looked at, and none is no tokenizer."""
    texts = [
        ("tokenizer", "org/t"),
        ("tokenizer-content-format", "openai"),
        ("model", "x"),
        ("tokenizer-revision", "r"),
    ]
    expected = ModelSpec(base="org/t", content_format="openai", revision="r")
    assert spec_of_annotations(texts, "m", "pod p") == expected
    assert spec_of_annotations([("tokenizer-kind", "remote")], "m", "pod p") == ModelSpec(base="m", kind="remote")
    assert spec_of_annotations([("model", "x")], "m", "pod p") is None


@pytest.mark.parametrize("name", ["token-file", "endpoints", "chat-template", "adapter", "knid", "x-y"])
def test_who_annotates_pods_names_no_files_and_no_addresses(name: str) -> None:
    """A secret's file or an address that prompts would be sent to is the configuration file's alone."""
    with pytest.raises(ConfigError, match=rf"pod p: annotation kvsync.io/tokenizer-{name} is not taken from a pod"):
        spec_of_annotations([(f"tokenizer-{name}", "x")], "m", "pod p")


def test_a_wrong_annotation_is_named() -> None:
    """With its pod and its value."""
    with pytest.raises(ConfigError, match="pod p: kind is 'x'"):
        spec_of_annotations([("tokenizer-kind", "x")], "m", "pod p")
