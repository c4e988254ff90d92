"""Whether pods serve what they are configured with."""

from __future__ import annotations

from typing import Any

import pytest

from kvsync.fleet import Pod
from kvsync.serve.served import listed, missing_of

POD = Pod("a", "http://h:1", "llama", loras=("l",))


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"data": [{"id": "m"}, {"id": 3}, "x"]}, ["m"]),
        ({"data": {"id": "m"}}, []),
        ({"error": "no token"}, []),
        ([], []),
        (None, []),
    ],
)
def test_the_list_of_models_is_read_as_far_as_it_is_one(document: Any, names: list[str]) -> None:
    """Other answers say nothing."""
    assert listed(document) == names


def test_a_model_that_is_not_listed_is_told_with_those_that_are() -> None:
    """Adapters as well; nothing is said where all are listed or none is."""
    said = missing_of(POD, ["simulated"])
    assert said is not None
    assert "'llama'" in said
    assert "'simulated'" in said
    assert "'l'" in (missing_of(POD, ["llama"]) or "")
    assert missing_of(POD, ["llama", "l", "other"]) is None
    assert missing_of(POD, []) is None
