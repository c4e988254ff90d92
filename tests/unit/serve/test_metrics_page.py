"""docs/metrics.md lists every metric of the daemon, as it is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.serve_helpers import MadeUpStreams, make_pod

from kvsync.fleet import StaticPods
from kvsync.index import Index
from kvsync.routing import BUILT_IN, Router
from kvsync.serve import fleet
from kvsync.serve.figures import STREAM_KINDS, figures
from kvsync.serve.parts import Parts
from kvsync.serve.settings import Settings
from kvsync.types import Engine

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(kvsync_\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
MADE_BY_THE_LIBRARY = frozenset({"le"})


def families() -> dict[str, Metric]:
    """All families of a daemon whose one engine has been heard."""
    with Index(seed=1) as index:
        parts = Parts(Settings(), index, MadeUpStreams(), Router(dict(BUILT_IN)))
        fleet.adopt(parts, StaticPods((make_pod("a"),)))
        index.apply(Engine("a"), b"\x92\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x90", model="m", sequence=0)
        page = asyncio.run(parts.metrics.page(figures(parts))).decode()
        return {family.name: family for family in text_string_to_metric_families(page)}


def test_the_page_lists_every_metric() -> None:
    """Name and type of each family, no more and no fewer."""
    listed = {name: kind for name, kind, *_ in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert listed == {name: family.type for name, family in families().items()}


def test_the_page_names_the_labels() -> None:
    """Those of the samples there are."""
    listed = {name: set(re.findall(r"`(\w+)`", labels)) for name, _, labels, *_ in ROW.findall(PAGE.read_text())}
    for name, family in families().items():
        seen = {label for sample in family.samples for label in sample.labels} - MADE_BY_THE_LIBRARY
        if family.samples:
            assert listed[name] == seen, name


def test_a_name_ends_in_its_unit() -> None:
    """What is measured in seconds says so, as is Prometheus' custom."""
    for name, _, _, unit, _ in ROW.findall(PAGE.read_text(encoding="utf-8")):
        assert ("seconds" in unit) == name.endswith("_seconds"), name


def test_the_page_names_what_happens_to_streams() -> None:
    """Every kind of `kvsync_stream`, in its own row."""
    meanings = {name: meaning for name, *_, meaning in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert set(re.findall(r"`(\w+)`", meanings["kvsync_stream"])) == set(STREAM_KINDS)
