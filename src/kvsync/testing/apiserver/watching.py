"""
One watch: from where it begins, what it sends, and when it ends.

A watcher is told of what its selection sees: a pod that begins to match is ADDED, one that no longer does is DELETED.
Bookmarks come once a minute and shortly before the end, so that the next watch begins where this one was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from kvsync.testing.apiserver.collections import Selection, version_of
from kvsync.testing.apiserver.faults import Faults, Sabotage
from kvsync.testing.apiserver.refusals import Refusal, expired
from kvsync.testing.apiserver.store import Change, Item, Store

TIMEOUT_S = 1_800.0
BOOKMARK_EVERY_S = 60.0
BOOKMARK_BEFORE_END_S = 2.0
LATE_S = 15.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Watching:
    """A watch that was asked for; what cannot be answered is refused here, before the answer's status is sent."""

    def __init__(self, store: Store, query: Mapping[str, str], selects: Selection, kind: str, faults: Faults) -> None:
        self.stirred = asyncio.Event()
        self.failure: Refusal | None = None
        self._store, self._selects, self._kind, self._faults = store, selects, kind, faults
        asked = query.get("resourceVersion", "")
        self._initial = query.get("sendInitialEvents", "") == "true"
        match = query.get("resourceVersionMatch", "")
        if (self._initial or match) and match != "NotOlderThan":
            raise Refusal(
                422, "resourceVersionMatch: Forbidden: must be NotOlderThan with sendInitialEvents", reason="Invalid"
            )
        self._bookmarks = query.get("allowWatchBookmarks", "") in ("true", "1")
        self._bookmarks |= faults.does(Sabotage.BOOKMARKS_UNASKED)
        self._timeout_s = float(version_of(query.get("timeoutSeconds", "0") or "0", "timeoutSeconds")) or TIMEOUT_S
        version = version_of(asked) if asked else 0
        current = store.versions.current
        self._is_from_start = self._initial or version == 0
        if version > current and not faults.does(Sabotage.FUTURE_IS_SERVED):
            store.check(version)
        if not self._is_from_start and version < store.oldest:
            if faults.does(Sabotage.EXPIRED_WATCH_IS_HTTP):
                raise expired(version, store.oldest)
            if not faults.does(Sabotage.EXPIRED_WATCH_IS_SILENT):
                self.failure = expired(version, store.oldest)
        if self._initial and faults.initial_events_fail:
            self.failure = Refusal(500, "unable to stream the initial events")
        is_now = self._is_from_start or faults.does(Sabotage.WATCH_FROM_NOW) or version < store.oldest
        self._version = current if is_now else version

    async def events(self) -> AsyncIterator[bytes]:
        """The lines, until the watch ends."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout_s + (LATE_S if self._faults.does(Sabotage.TIMEOUT_IGNORED) else 0.0)
        bookmark_at = min(loop.time() + BOOKMARK_EVERY_S, end - BOOKMARK_BEFORE_END_S)
        for line in self._first():
            yield line
        while self.failure is None:
            now = loop.time()
            if now >= end or not self._faults.does(Sabotage.WATCH_IS_LATE):
                for line in self._news():
                    yield line
            if self._bookmarks and now >= bookmark_at:
                bookmark_at = end + 3600 if bookmark_at >= end - BOOKMARK_BEFORE_END_S else now + BOOKMARK_EVERY_S
                if not self._faults.does(Sabotage.NO_BOOKMARKS):
                    yield self._bookmark()
            if now >= end:
                return
            until = min(bookmark_at, end) if self._bookmarks else end
            try:
                async with asyncio.timeout_at(max(until, now + 0.02)):
                    await self.stirred.wait()
                self.stirred.clear()
            except TimeoutError:
                pass
        yield _line("ERROR", self.failure.status)

    def _first(self) -> list[bytes]:
        if self._faults.does(Sabotage.WATCH_FROM_NOTHING):
            return []
        if self.failure is not None or not self._is_from_start:
            repeats = self._faults.does(Sabotage.WATCH_REPEATS) and self.failure is None
            return [_line("ADDED", item) for item in self._present()] if repeats else []
        lines = [_line("ADDED", item) for item in self._present()]
        if self._initial and self._bookmarks and not self._faults.does(Sabotage.NO_INITIAL_END):
            lines.append(self._bookmark({INITIAL_EVENTS_END: "true"}))
        return lines

    def _present(self) -> list[Item]:
        return [item for item in self._store.at(self._store.versions.current) if self._selects(item)]

    def _news(self) -> list[bytes]:
        if self._version < self._store.oldest and self._store.since(self._version) == []:
            self._version = self._store.versions.current  # compacted, and nothing was missed
        changes = self._store.since(self._version)
        if changes:
            self._version = changes[-1].version
        return [line for change in changes for line in self._told(change)]

    def _told(self, change: Change) -> list[bytes]:
        was = change.before is not None and self._selects(change.before)
        item = change.after
        if item is None:
            return [_line("DELETED", change.before)] if was else []
        if self._selects(item):
            hides = self._faults.does(Sabotage.DELETE_WITHOUT_MODIFIED) and "deletionTimestamp" in item["metadata"]
            return [] if hides else [_line("MODIFIED" if was else "ADDED", item)]
        if not was or self._faults.does(Sabotage.UNSELECTED_STAYS) or change.before is None:
            return []
        # As it last matched, under the version at which it ceased to.
        version = {"resourceVersion": item["metadata"]["resourceVersion"]}
        return [_line("DELETED", {**change.before, "metadata": {**change.before["metadata"], **version}})]

    def _bookmark(self, annotations: dict[str, str] | None = None) -> bytes:
        version = max(self._version, self._store.versions.current)
        metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        return _line("BOOKMARK", {"kind": self._kind, "apiVersion": "v1", "metadata": metadata})


def _line(kind: str, item: Any) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"
