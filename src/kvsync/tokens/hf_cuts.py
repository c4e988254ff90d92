"""
Where texts may be cut for a tokenizer of the library `tokenizers`: what its file says, held against `cuts`.

    text -> added tokens taken out -> each rest: normalizer -> pre-tokenizers one after the other -> model, by pieces

A cut is proved where every stage gives the same for both halves: the added tokens and the normalizer leave the pair
alone, and some pre-tokenizer is sure to end a piece there, those before it not looking across. The model then sees the
same pieces. Everything that is not known here proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kvsync.tokens.cuts import CJK, CJK_STOPS, PAIRS, SPACE, Pair, without_those_in
from kvsync.tokens.pattern import Pattern
from kvsync.tokens.pattern_tree import Unprovable

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What the pre-tokenizer ByteLevel splits by where it splits."""

_SPLITS_BY_CLASS = {"Digits": r"\p{N}+", "Punctuation": r"\p{P}+"}


def pairs_of(document: Mapping[str, Any]) -> list[Pair]:
    """The pairs between which every text may be cut; none where nothing is proved."""
    model = document.get("model") or {}
    if model.get("type") != "BPE" or model.get("dropout"):
        return []
    pairs = _normalized(document.get("normalizer"), list(PAIRS))
    pairs = _added(document.get("added_tokens") or [], pairs)
    return _pre_tokenized(list(_flat(document.get("pre_tokenizer"), "pretokenizers")), pairs)


def ends_only(post_processor: Mapping[str, Any] | None) -> bool:
    """Whether all that a post-processor does to ids is to write some before and behind them."""
    parts = list(_flat(post_processor, "processors"))
    return all(part.get("type") in ("TemplateProcessing", "ByteLevel") for part in parts)


def _normalized(normalizer: Mapping[str, Any] | None, pairs: list[Pair]) -> list[Pair]:
    """
    NFC changes none of our characters, and what stands behind them begins anew; the others may take CJK ones apart.
    """
    for part in _flat(normalizer, "normalizers"):
        if part.get("type") in ("NFD", "NFKC", "NFKD"):
            pairs = [(left, right) for left, right in pairs if left is not CJK and right is not CJK_STOPS]
        elif part.get("type") != "NFC":
            return []
    return pairs


def _added(tokens: Iterable[Mapping[str, Any]], pairs: list[Pair]) -> list[Pair]:
    """
    No added token may hold a pair. One that swallows white space behind it could swallow what stands behind a cut, and
    one that counts only as a whole word looks at its neighbours: a tokenizer with such tokens is not reasoned about.
    """
    contents = []
    for token in tokens:
        if token.get("single_word") or token.get("rstrip"):
            return []
        contents.append(str(token.get("content", "")))
    return without_those_in(contents, pairs)


def _pre_tokenized(stages: Sequence[Mapping[str, Any]], pairs: list[Pair]) -> list[Pair]:
    return [pair for pair in pairs if _is_parted(stages, pair)]


def _is_parted(stages: Sequence[Mapping[str, Any]], pair: Pair) -> bool:
    """Whether some stage surely parts the pair, those before it not looking across and those behind going by pieces."""
    is_parted = False
    for stage in stages:
        if is_parted:
            if stage.get("type") not in ("ByteLevel", "Split", *_SPLITS_BY_CLASS):
                return False
            continue
        source, keeps_rest = _expression(stage)
        if source is None:
            return False
        try:
            pattern = Pattern(source)
        except Unprovable:
            return False
        if not pattern.parts(*pair):
            return False
        # What no match holds stays one piece, and a piece that lies across would be cut: a match must begin there.
        is_parted = not keeps_rest or pattern.begins(pair[1])
        if is_parted and stage.get("add_prefix_space") and pair[1] is not SPACE:
            return False
    return is_parted


def _expression(stage: Mapping[str, Any]) -> tuple[str | None, bool]:
    """
    What a stage splits by, and whether what it does not match is kept; None for one that is not known.
    """
    kind = stage.get("type")
    if kind == "ByteLevel" and stage.get("use_regex", True):
        return GPT2, True
    if kind in _SPLITS_BY_CLASS and stage.get("behavior", "Isolated") in ("Isolated", "Contiguous"):
        return _SPLITS_BY_CLASS[str(kind)], True
    source = (stage.get("pattern") or {}).get("Regex") if kind == "Split" else None
    form = (stage.get("behavior"), bool(stage.get("invert")))
    if isinstance(source, str) and form == ("Isolated", False):
        return source, True
    if isinstance(source, str) and form == ("Removed", True):  # what it matches are the pieces
        return source, False
    return None, True


def _flat(part: Mapping[str, Any] | None, key: str) -> Iterable[Mapping[str, Any]]:
    """A stage's own stages, where it is a sequence of them."""
    if part is None:
        return
    if part.get("type") != "Sequence":
        yield part
        return
    for inner in part.get(key) or []:
        yield from _flat(inner, key)
