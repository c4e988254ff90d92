"""The last batch applied is recognised, as it came and as it was noted."""

from __future__ import annotations

import pytest

from kvsync.stream.bookmark import Bookmark, Last, bookmark_of, digest, is_same, number_of

PAYLOAD = b"a batch"


@pytest.mark.parametrize("last", [(7, PAYLOAD), (7, memoryview(PAYLOAD)), Bookmark(7, digest(PAYLOAD))])
def test_a_batch_is_recognised_by_its_bytes(last: Last) -> None:
    """Whichever way it is remembered."""
    assert number_of(last) == 7
    assert is_same(last, PAYLOAD)
    assert not is_same(last, b"another")
    assert bookmark_of(last) == Bookmark(7, digest(PAYLOAD))


def test_nothing_applied_is_nothing_to_note() -> None:
    """A later process then begins anew."""
    assert bookmark_of(None) is None


def test_the_digest_is_the_same_in_every_release() -> None:
    """A snapshot of an earlier process is compared with it; made with hashlib.blake2b(b"a batch", digest_size=8)."""
    assert digest(PAYLOAD).hex() == "92fe3bb2b42c5c3c"
