"""What the checker takes for untrue."""

from __future__ import annotations

import pytest

from kvsync.stream.instructions import Reset
from kvsync.stream.life import MISSED, REBUILT
from kvsync.stream.sequence import Sequence
from kvsync.testing.faults.checker import Violation, check_reset
from kvsync.testing.faults.engine import TrueEngine
from kvsync.testing.faults.followed import Followed
from kvsync.testing.faults.history import EngineSetup
from kvsync.types import Engine


def test_only_a_reset_that_tells_of_a_new_life_can_be_a_false_alarm() -> None:
    """A record may be dropped within a life, to be filled again."""
    followed = Followed(Engine("a"), TrueEngine(EngineSetup("vllm-0.33.0"), seed=0), Sequence(), met={0})
    for reason in (MISSED, REBUILT):
        check_reset(followed, Reset(reason))
    with pytest.raises(Violation, match="alarm: the live stream went back"):
        check_reset(followed, Reset("the live stream went back"))
    followed.truth.restart()
    check_reset(followed, Reset("the live stream went back"))
