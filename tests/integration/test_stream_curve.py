"""Encrypted streams: a simulated engine with a key, and subscribers with the right one, another one, and none."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
import zmq
from tests.integration.engine_helpers import engine_beside as engine
from tests.integration.stream_helpers import ENGINE, QUICK, QUICK_SEQUENCE, wait_for, wait_until
from tests.patience import PATIENCE_S

from kvsync.index import Index
from kvsync.stream.endpoints import Source
from kvsync.stream.options import Curve, SubscriberOptions
from kvsync.stream.subscriber import Subscriber


def options(curve: Curve | None) -> SubscriberOptions:
    """Quick ones, with these keys."""
    return SubscriberOptions(sequence=QUICK_SEQUENCE, reconnect_first_s=0.05, tick_s=0.02, seed=1, curve=curve)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, bytes]:
    """An engine's secret key in a file, and its public half."""
    public, secret = zmq.curve_keypair()
    path = tmp_path / "engine.key"
    path.touch(mode=0o600)
    path.write_bytes(secret)
    return path, public


def test_events_and_replays_come_through(keys: tuple[Path, bytes]) -> None:
    """What was published before we came, by replay, and what comes then, live."""
    path, public = keys
    with engine("--curve-key", str(path)) as (_, ready), Index(seed=1) as index:

        def complete(prompt: str) -> None:
            body = json.dumps({"model": "simulated", "prompt": prompt, "max_tokens": 1}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{ready['http']}/v1/completions", data=body, headers=headers)
            urllib.request.urlopen(request, timeout=PATIENCE_S).close()

        complete("before " * 50)
        curve = Curve(zmq.curve_keypair()[1], public)
        with Subscriber(index, options(curve)) as subscriber:
            subscriber.add(Source(ENGINE, "simulated", ready["events"][0], ready["replay"][0]))
            wait_until(subscriber, lambda status: status.applied_frames and status.replay_available)
            before = subscriber.status()[ENGINE].applied_frames
            complete("after " * 50)
            wait_until(subscriber, lambda status: status.applied_frames > before)
            assert index.trust(ENGINE).value == "exact"


def test_a_wrong_key_is_named_as_such(keys: tuple[Path, bytes]) -> None:
    """And nothing is heard."""
    path, _ = keys
    with engine("--curve-key", str(path)) as (_, ready), Index(seed=1) as index:
        other = Curve(zmq.curve_keypair()[1], zmq.curve_keypair()[0])
        for curve, said in ((other, "has another CURVE key than ours"), (None, "wants CURVE, and we have no key")):
            with Subscriber(index, options(curve)) as subscriber:
                subscriber.add(Source(ENGINE, "simulated", ready["events"][0]))
                wait_until(subscriber, lambda status, said=said: said in (status.error or ""))  # type: ignore[misc]
                assert not subscriber.status()[ENGINE].connected


def test_an_engine_without_a_key_is_named_as_such() -> None:
    """Who wants encryption does not fall back to none."""
    with engine() as (_, ready), Index(seed=1) as index:
        curve = Curve(zmq.curve_keypair()[1], zmq.curve_keypair()[0])
        with Subscriber(index, options(curve)) as subscriber:
            subscriber.add(Source(ENGINE, "simulated", ready["events"][0]))
            wait_for(
                lambda: "does not use CURVE" in (subscriber.status()[ENGINE].error or ""),
                lambda: subscriber.status()[ENGINE],
            )


def test_a_port_that_nobody_has_is_still_called_so() -> None:
    """With keys as without."""
    curve = Curve(zmq.curve_keypair()[1], zmq.curve_keypair()[0])
    for one in (options(curve), QUICK):
        with Index(seed=1) as index, Subscriber(index, one) as subscriber:
            subscriber.add(Source(ENGINE, "m", "tcp://127.0.0.1:9"))
            wait_until(subscriber, lambda status: "no connection to" in (status.error or ""))
