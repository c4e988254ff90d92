"""When a request also asks its engine to tell its prefix again."""

from __future__ import annotations

import json

import pytest

from kvsync.serve.repair import BURST_S, TOKENS_PER_S, Allowance, Known, knows_option, with_option, would_mend
from kvsync.types import Trust

STALE, PARTIAL = Known(Trust.STALE, 1, 16), Known(Trust.PARTIAL, 1, 16)


@pytest.mark.parametrize(
    ("known", "prompt", "matched", "mends"),
    [
        (STALE, 100, 96, True),
        (STALE, 100, 0, True),
        (STALE, 16, 0, False),  # its last token is computed anew, so no block of it is looked up
        (PARTIAL, 100, 80, True),
        (PARTIAL, 100, 96, False),
        (PARTIAL, 97, 96, False),
        (Known(Trust.EXACT, 1, 16), 100, 0, False),
        (Known(Trust.UNKNOWN, 1, 16), 100, 0, False),
        (Known(Trust.STALE, 2, 16), 100, 0, False),
        (Known(Trust.STALE, 1, 0), 100, 0, False),
    ],
)
def test_only_where_it_would_mend(known: Known, prompt: int, matched: int, mends: bool) -> None:
    """A record that is stale, or knows less of the prompt than could be held; never of a hybrid."""
    assert would_mend(known, prompt_tokens=prompt, matched_tokens=matched) is mends


@pytest.mark.parametrize("body", [b'{"model":"m"}', b' \n{"model": "m", "x": 1e400, "model": "m"}', b'{ "model":"m"}'])
def test_the_option_is_put_in_front(body: bytes) -> None:
    """All else stays byte by byte as the client wrote it."""
    changed = with_option(body)
    assert changed is not None
    assert json.loads(changed)["vllm_xargs"] == {"kv_cache_report_mode": "full"}
    assert changed.replace(b'"vllm_xargs":{"kv_cache_report_mode":"full"},', b"") == body


@pytest.mark.parametrize("body", [b"", b"[1]", '{"model":"m"}'.encode("utf-16-le"), b"\xef\xbb\xbf{}"])
def test_what_is_no_plain_object_is_left(body: bytes) -> None:
    """Another encoding cannot be changed by bytes."""
    assert with_option(body) is None


@pytest.mark.parametrize(
    ("version", "knows"),
    [
        ("0.26.0", True),
        ("0.33.0rc1+cpu", True),
        ("1.0", True),
        ("vllm-0.33.0", True),
        ("0.25.1", False),
        ("sglang-0.5.22", False),
        ("dev", False),
        (None, False),
    ],
)
def test_releases_that_know_the_option(version: object, knows: bool) -> None:
    """Since 0.26."""
    assert knows_option(version) is knows


def test_an_engine_is_asked_about_so_many_tokens() -> None:
    """What was not used is kept for a while; a prompt longer than all that is allowed once it is full."""
    allowance = Allowance(TOKENS_PER_S * BURST_S, 0.0)
    whole = round(TOKENS_PER_S * BURST_S)
    assert allowance.take(whole + 10, 0.0)
    assert not allowance.take(1_000, 0.01)
    assert allowance.take(1_000, 0.1)
    assert not allowance.take(whole, 1.0)
    assert allowance.take(whole, 100.0)
