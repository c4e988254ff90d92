"""The checker catches an index that is wrong, however it is wrong, and says where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from kvsync.testing.compare import Differs, compare_history
from kvsync.testing.history import History
from kvsync.testing.model import ModelIndex
from kvsync.types import Applied, Engine, EngineHash, Match, Trust

SEEDS = range(4)


class ForgetsCopies(ModelIndex):
    """Keeps a set, not a count."""

    def engine_hashes(self, engine: Engine) -> dict[str, dict[int, dict[EngineHash, int]]]:
        """One copy of everything."""
        return {
            medium: {group: dict.fromkeys(hashes, 1) for group, hashes in groups.items()}
            for medium, groups in super().engine_hashes(engine).items()
        }


class MatchesOneLess(ModelIndex):
    """Leaves the last block of long matches out."""

    def match(self, tokens: Iterable[int], **asked: Any) -> Mapping[Engine, Match]:
        """One block less of more than five."""
        found = super().match(tokens, **asked)
        return {
            engine: Match(match.blocks - (match.blocks > 5), match.tokens, match.by_medium, match.certain, match.trust)
            for engine, match in found.items()
        }


class NeverDoubts(ModelIndex):
    """Believes everything."""

    def trust(self, engine: Engine, medium: str | None = None) -> Trust:
        """Never stale."""
        return min(super().trust(engine, medium), Trust.PARTIAL, key=lambda trust: trust.rank)


class MiscountsRemovals(ModelIndex):
    """Says that it removed one more, now and then."""

    def apply(self, engine: Engine, payload: bytes | memoryview, *, model: str, sequence: int | None = None) -> Applied:
        """One removal too many."""
        did = super().apply(engine, payload, model=model, sequence=sequence)
        return Applied(did.stored, did.removed + (did.removed > 3), did.cleared, did.skipped, did.reannounced)


class TakesRestartsForNothing(ModelIndex):
    """Goes on after a restart."""

    def restart(self, engine: Engine) -> None:
        """Nothing."""
        del engine


class IgnoresSalts(ModelIndex):
    """Matches whatever the salt."""

    def match(self, tokens: Iterable[int], **asked: Any) -> Mapping[Engine, Match]:
        """As if there were no salt."""
        return super().match(tokens, **{**asked, "cache_salt": None})


def play_all(broken: type[ModelIndex]) -> None:
    """Hold an index against the model over a few histories."""
    for seed in SEEDS:
        with broken() as index, ModelIndex() as model:
            compare_history(index, model, History(seed, steps=80))


@pytest.mark.parametrize(
    "broken", [ForgetsCopies, MatchesOneLess, NeverDoubts, MiscountsRemovals, TakesRestartsForNothing, IgnoresSalts]
)
def test_a_wrong_index_is_caught(broken: type[ModelIndex]) -> None:
    """Each fault shows within a few histories, with the seed that shows it."""
    with pytest.raises(Differs, match=r"^seed \d+, .*the model says"):
        play_all(broken)


def test_an_index_equals_itself() -> None:
    """The checker finds nothing where there is nothing to find."""
    play_all(ModelIndex)
