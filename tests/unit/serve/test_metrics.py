"""The page of metrics, written in slices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kvsync.serve import metrics
from kvsync.serve.exposition import gauge, labels
from kvsync.serve.metrics import Metrics

ENGINES = 400


def _looked_up() -> Iterator[str]:
    yield from gauge("kvsync_x", "Looked up.", ((labels(pod=f"p{number}"), number) for number in range(ENGINES)))
    yield ""


def _made() -> Metrics:
    made = Metrics()
    for number in range(ENGINES):
        made.picks.labels("cost", f'p{number} "\n#\\', "0").inc()
    made.pick_seconds.observe(0.001)
    return made


def _read(page: bytes) -> dict[str, Metric]:
    families = list(text_string_to_metric_families(page.decode()))
    assert len({family.name for family in families}) == len(families), "a family comes twice"
    return {family.name: family for family in families}


def test_slices_are_one_page() -> None:
    """What is looked up comes first; what is counted is what the library would write in one go, headers once."""
    made = _made()
    page = _read(asyncio.run(made.page(_looked_up())))
    assert [sample.value for sample in page.pop("kvsync_x").samples] == list(range(ENGINES))
    whole = _read(generate_latest(made.registry))
    assert page == {name: family for name, family in whole.items() if not name.endswith("_created")}
    assert len(page["kvsync_picks"].samples) == ENGINES


def test_others_have_their_turn_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of very many lines holds up nobody for longer than a slice."""
    monkeypatch.setattr(metrics, "SLICE_S", 0.0)
    monkeypatch.setattr(metrics, "REST", 0.0)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def story() -> None:
        beside = asyncio.create_task(others())
        await _made().page(_looked_up())
        beside.cancel()

    asyncio.run(story())
    assert turns >= 2 * ENGINES // metrics.PIECE_LINES
