"""Stream and index in a snapshot: each record with the bookmark of its last batch, whatever comes in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest
from tests.integration.stream_helpers import ENGINE, MODEL, QUICK, batch, batches, held, holds, source, wait_until

from kvsync.fleet import Pod, StaticPods
from kvsync.index import Index
from kvsync.routing import BUILT_IN, Router
from kvsync.serve import fleet
from kvsync.serve.parts import Parts
from kvsync.serve.settings import Settings
from kvsync.serve.snapshots.begin import begin
from kvsync.serve.snapshots.folder import SnapshotFolder
from kvsync.serve.snapshots.siblings import Siblings
from kvsync.stream.bookmark import Bookmark, digest
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.ports import hold_port
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.types import Trust

BEFORE = 40
WHILE_DOWN = 5


@contextmanager
def saved_while_running(publisher: ScriptedPublisher, path: Path) -> Iterator[None]:
    """Follow a publisher, and save in the middle of its batches."""
    with Index() as index, Subscriber(index, QUICK) as subscriber:
        subscriber.add(source(publisher))
        publisher.wait_for_subscriber()
        sender = threading.Thread(target=publisher.publish_all, args=(batches(BEFORE),))
        sender.start()
        wait_until(subscriber, lambda status: status.applied is not None)
        index.save(path, hold=subscriber.hold)
        sender.join()
    yield


@contextmanager
def loaded(publisher: ScriptedPublisher, path: Path, *, replay: bool = True) -> Iterator[tuple[Index, Subscriber]]:
    """A later process over what was saved."""
    with Index.load(path) as index, Subscriber(index, QUICK) as subscriber:
        assert index.trust(ENGINE) is Trust.STALE
        assert index.bookmarks[ENGINE].number == index.record(ENGINE).sequence
        subscriber.add(source(publisher, replay=replay), index.bookmarks[ENGINE])
        yield index, subscriber


def test_a_record_and_its_bookmark_fit(tmp_path: Path) -> None:
    """Saved under load, the next process applies what is new, nothing twice, and is exact."""
    path = tmp_path / "index"
    with ScriptedPublisher() as publisher, saved_while_running(publisher, path):
        for number in range(WHILE_DOWN):
            publisher.publish(batch(BEFORE + number))
        with loaded(publisher, path) as (index, subscriber):
            before = index.bookmarks[ENGINE].number
            wait_until(subscriber, lambda status: status.applied == BEFORE + WHILE_DOWN - 1)
            assert subscriber.status()[ENGINE].applied_frames == BEFORE + WHILE_DOWN - 1 - before
            assert held(index) == holds(BEFORE + WHILE_DOWN)
            assert index.trust(ENGINE) is Trust.EXACT
        assert publisher.asked[-1] == before


@pytest.mark.parametrize("again", [3, BEFORE, BEFORE + WHILE_DOWN])
def test_a_life_that_began_meanwhile_is_told_by_its_bytes(again: int, tmp_path: Path) -> None:
    """However far the new life has come, the old record goes and the new is whole."""
    path = tmp_path / "index"
    with ScriptedPublisher() as publisher, saved_while_running(publisher, path):
        publisher.restart()
        for payload in batches(again, life=1):
            publisher.publish(payload)
        with loaded(publisher, path) as (index, subscriber):
            wait_until(subscriber, lambda status: status.restarts == 1 and status.applied == again - 1)
            assert held(index) == holds(again)
            assert index.trust(ENGINE) is Trust.EXACT


def test_a_buffer_that_wrapped_meanwhile_leaves_doubt(tmp_path: Path) -> None:
    """What is in the buffer is applied, and the record is stale: nothing shows what was between."""
    path = tmp_path / "index"
    with ScriptedPublisher(buffer_steps=4) as publisher, saved_while_running(publisher, path):
        for number in range(20):
            publisher.publish(batch(BEFORE + number))
        with loaded(publisher, path) as (index, subscriber):
            wait_until(subscriber, lambda status: status.applied == BEFORE + 19)
            assert set(holds(BEFORE + 20)[-4:]) <= set(held(index))
            assert index.trust(ENGINE) is Trust.STALE
            assert index.record(ENGINE).media["GPU"].reason == "gap"


def test_an_engine_without_a_replay_port_stays_doubted(tmp_path: Path) -> None:
    """Where nothing can be compared, the record is kept and stale."""
    path = tmp_path / "index"
    with (
        ScriptedPublisher() as publisher,
        saved_while_running(publisher, path),
        loaded(publisher, path, replay=False) as (index, subscriber),
    ):
        wait_until(subscriber, lambda status: status.connected)
        assert held(index)
        assert index.trust(ENGINE) is Trust.STALE
        assert index.record(ENGINE).media["GPU"].reason == "unverified"


def test_an_engine_that_is_not_there_yet_is_not_believed(tmp_path: Path) -> None:
    """Until somebody answers, the record of an earlier process reads as stale."""
    path = tmp_path / "index"
    with ScriptedPublisher() as publisher, saved_while_running(publisher, path):
        publisher.close()
        with (
            hold_port("127.0.0.1", int(publisher.events.rpartition(":")[2])),
            loaded(publisher, path) as (
                index,
                subscriber,
            ),
        ):
            wait_until(subscriber, lambda status: status.error is not None)
            assert index.trust(ENGINE) is Trust.STALE


def test_what_was_owed_when_it_was_saved_is_owed_after_a_warm_start(tmp_path: Path) -> None:
    """The daemon builds a record with a hole anew, though it goes on from its bookmark and nothing new is missing."""
    settings = Settings()
    with ScriptedPublisher() as publisher, closing(SnapshotFolder(tmp_path)) as folder:
        for payload in batches(3):
            publisher.publish(payload)
        with Index() as index:
            index.apply(ENGINE, batch(0), model=MODEL, sequence=0)
            index.doubt(ENGINE, "gap")
            index.apply(ENGINE, batch(2), model=MODEL, sequence=2)
            index.save(folder.file, hold=lambda _engine: nullcontext(Bookmark(2, digest(batch(2)))))
        start = asyncio.run(begin(settings, folder, Siblings()))
        with start.index as index, Subscriber(index, QUICK) as streams:
            parts = Parts(settings, index, streams, Router(dict(BUILT_IN)), inherited=start.inherited)
            pod = Pod(ENGINE.pod, "http://127.0.0.1:9", MODEL, events=publisher.events, replay=publisher.replay)
            fleet.adopt(parts, StaticPods((pod,)))
            wait_until(streams, lambda status: status.rebuilds == 1 and status.applied == 2)
            assert held(index) == holds(3)
            assert index.trust(ENGINE) is Trust.EXACT
            assert start.inherited.resumed == 1
