"""Comparing what is held with what is recorded."""

from __future__ import annotations

from kvsync.demo.truth import Listing, differences

HELD = {"sequence": 7, "media": {"GPU": {"0": {"11": 1, "12": 2}, "1": {"11": 1}}}}


def listing(document: dict[str, object]) -> Listing:
    """What a document lists."""
    return Listing.from_json(document)


def test_equal_listings_have_no_differences() -> None:
    """The same blocks with the same copies are the truth, whatever the order and whatever the medium's case."""
    recorded = {"sequence": 7, "media": {"gpu": {"1": {"11": 1}, "0": {"12": 2, "11": 1}}, "CPU": {}}}
    assert list(differences(listing(HELD), listing(recorded))) == []


def test_every_kind_of_difference_is_told() -> None:
    """A block missing, one too many, and another count of copies each give a sentence."""
    recorded = {"sequence": 7, "media": {"GPU": {"0": {"12": 1, "13": 1}, "1": {"11": 1}}}}
    assert list(differences(listing(HELD), listing(recorded))) == [
        "GPU group 0 hash 11: the engine holds 1, the index says 0",
        "GPU group 0 hash 12: the engine holds 2, the index says 1",
        "GPU group 0 hash 13: the engine holds 0, the index says 1",
    ]


def test_groups_and_media_are_told_apart() -> None:
    """The same hash in another group or on another medium is another block."""
    recorded = {"sequence": 7, "media": {"CPU": {"0": {"11": 1}}, "GPU": {"0": {"12": 2}, "1": {"11": 1}}}}
    assert len(list(differences(listing(HELD), listing(recorded)))) == 2


def test_no_copies_are_nothing_held() -> None:
    """A count of zero equals absence."""
    assert listing({"sequence": 1, "media": {"GPU": {"0": {"5": 0}}}}).blocks == 0


def test_an_engine_that_never_published_has_no_number() -> None:
    """Absent and null mean the same: nothing yet."""
    assert listing({}).sequence is None
    assert listing({"sequence": None, "media": {}}).sequence is None
