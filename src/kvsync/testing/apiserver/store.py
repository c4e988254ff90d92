"""
Objects of one kind under increasing versions, and the history that lists at a version and watches are read from. Pure.

    history    ... | 1004 a: none -> A | 1005 a: A -> A' | 1006 a: A' -> none
    oldest         ^ what a watch may begin after at the earliest

Objects are never changed in place: who holds one holds that version of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvsync.testing.apiserver.refusals import expired, from_the_future

Item = dict[str, Any]
Key = tuple[str, str]

FIRST_VERSION = 1_000
"""What came before it is long expired, as in any cluster that was not made this minute."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object at a version: it came, differs, or went."""

    version: int
    before: Item | None
    after: Item | None


@dataclass(slots=True)
class Versions:
    """The counter that all kinds share."""

    current: int = FIRST_VERSION


@dataclass(slots=True)
class Store:
    """The objects by (namespace, name). `changed` is called after each change."""

    versions: Versions = field(default_factory=Versions)
    changed: Callable[[], None] = lambda: None
    oldest: int = FIRST_VERSION
    _items: dict[Key, Item] = field(default_factory=dict)
    _history: list[Change] = field(default_factory=list)

    def get(self, key: Key) -> Item | None:
        """The object as it is now."""
        return self._items.get(key)

    def put(self, item: Item) -> Item:
        """Write an object under the next version; one that differs in nothing is not written."""
        key = _key(item)
        before = self._items.get(key)
        if before is not None and _without_version(before) == _without_version(item):
            return before
        version = self._next()
        after = {**item, "metadata": {**item["metadata"], "resourceVersion": str(version)}}
        self._items[key] = after
        self._record(Change(version, before, after))
        return after

    def delete(self, key: Key) -> Item:
        """Take an object away; gives it as it was last, under the version of its end."""
        before, version = self._items.pop(key), self._next()
        last = {**before, "metadata": {**before["metadata"], "resourceVersion": str(version)}}
        self._record(Change(version, last, None))
        return last

    def at(self, version: int) -> list[Item]:
        """All objects as they were at a version, in order of key; a 410 or 504 where that is not known."""
        self.check(version)
        items = dict(self._items)
        for change in reversed(self._history):
            if change.version <= version:
                break
            key = _key(change.after or change.before or {})
            if change.before is None:
                del items[key]
            else:
                items[key] = change.before
        return [items[key] for key in sorted(items)]

    def since(self, version: int) -> list[Change]:
        """What happened after a version."""
        first = len(self._history)
        while first and self._history[first - 1].version > version:
            first -= 1
        return self._history[first:]

    def check(self, version: int) -> None:
        """Refuse a version that is not known any more, or not yet."""
        if version > self.versions.current:
            raise from_the_future(version, self.versions.current)
        if version < self.oldest:
            raise expired(version, self.oldest)

    def compact(self) -> None:
        """Forget the history: only the present can be listed or watched from."""
        self.versions.current += 1
        self.oldest = self.versions.current
        self._history.clear()
        self.changed()

    def _next(self) -> int:
        self.versions.current += 1
        return self.versions.current

    def _record(self, change: Change) -> None:
        self._history.append(change)
        self.changed()


def _key(item: Item) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _without_version(item: Item) -> Item:
    return {**item, "metadata": {**item["metadata"], "resourceVersion": ""}}
