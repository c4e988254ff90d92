"""
Lists: at which version, which of the objects, and in which pages. Pure.

A token holds the version of the first page, so that all pages show one moment, and the key after which to go on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvsync.testing.apiserver.faults import Faults, Sabotage
from kvsync.testing.apiserver.refusals import Refusal
from kvsync.testing.apiserver.selectors import Matches, field_selector, label_selector
from kvsync.testing.apiserver.store import Item, Store


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects are asked for."""

    namespace: str
    labels: Matches
    fields: Matches
    is_whole: bool

    def __call__(self, item: Item) -> bool:
        here = not self.namespace or item["metadata"].get("namespace", "") == self.namespace
        return here and self.labels(item) and self.fields(item)


def selection(query: Mapping[str, str], namespace: str, faults: Faults) -> Selection:
    """Read the selectors of a request."""
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    return Selection(
        "" if faults.does(Sabotage.NAMESPACES_IGNORED) else namespace,
        _labels(labels, faults),
        field_selector("" if faults.does(Sabotage.FIELDS_IGNORED) else fields),
        is_whole=not labels and not fields,
    )


def _labels(text: str, faults: Faults) -> Matches:
    try:
        return label_selector("" if faults.does(Sabotage.LABELS_IGNORED) else text)
    except Refusal:
        if faults.does(Sabotage.SELECTOR_JUNK):
            return label_selector("")
        raise


def version_of(text: str, what: str = "resourceVersion") -> int:
    """Read a version; the API calls it opaque, and refuses what is none of its own."""
    if not text.isascii() or not text.isdecimal():
        raise Refusal(400, f"Invalid value: {text!r}: {what} must be a number")
    return int(text)


def listed(store: Store, query: Mapping[str, str], selects: Selection, kind: str, faults: Faults) -> dict[str, Any]:
    """Answer a list."""
    asked, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    limit = version_of(query.get("limit", "0") or "0", "limit")
    token, after = query.get("continue", ""), ("", "")
    if match and (not asked or match not in ("Exact", "NotOlderThan")):
        raise Refusal(
            422, f"resourceVersionMatch: Forbidden: {match!r} with resourceVersion {asked!r}", reason="Invalid"
        )
    if token:
        if asked:
            raise Refusal(400, "specifying resource version is not allowed when using continue")
        version, after = _read_token(token)
        if version < store.oldest and not faults.does(Sabotage.EXPIRED_LIST_IS_SERVED):
            text = "The provided continue parameter is too old to display a consistent list result."
            raise Refusal(410, text, metadata={"continue": _token(store.versions.current, after)})
    else:
        version = _version(store, asked, match, faults)
        if asked == "0":
            limit = 0  # served from the cache, as a real one does
    if faults.does(Sabotage.PAGES_OF_NOW) or version < store.oldest:
        version = store.versions.current
    items = [item for item in store.at(version) if selects(item) and key_of(item) > after]
    return _page(items, version, 0 if faults.does(Sabotage.LIMIT_IGNORED) else limit, selects, kind, faults)


def key_of(item: Item) -> tuple[str, str]:
    """Where an object stands in a list."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _version(store: Store, asked: str, match: str, faults: Faults) -> int:
    current = store.versions.current
    version = version_of(asked) if asked else 0
    if version > current and faults.does(Sabotage.FUTURE_IS_SERVED):
        return current
    if match == "Exact":
        if not (version < store.oldest and faults.does(Sabotage.EXPIRED_LIST_IS_SERVED)):
            store.check(version)
        return version
    if version > current:
        store.check(version)
    return current


def _page(items: list[Item], version: int, limit: int, selects: Selection, kind: str, faults: Faults) -> dict[str, Any]:
    page = items[:limit] if limit else items
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if len(page) < len(items):
        metadata["continue"] = _token(version, key_of(page[-1]))
        if selects.is_whole and not faults.does(Sabotage.NO_REMAINING):
            metadata["remainingItemCount"] = len(items) - len(page)
    return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": metadata, "items": page}


def _token(version: int, after: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, *after]).encode()).decode()


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        return int(version), (str(namespace), str(name))
    except (ValueError, TypeError) as error:
        raise Refusal(400, "continue key is not valid") from error
