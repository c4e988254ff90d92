"""
The three kinds of patch: JSON patch (RFC 6902), merge patch (RFC 7386), and Kubernetes' strategic merge. Pure.
"""

from __future__ import annotations

import copy
from typing import Any

from kvsync.testing.apiserver.refusals import Refusal

JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumes": "name",
    "podIPs": "ip",
}
"""Lists whose entries a strategic merge joins by a key; others are replaced whole."""


def patched(item: Any, patch: Any, content_type: str) -> Any:
    """The item after the patch; the item itself is left as it is."""
    if content_type == JSON_PATCH:
        return _json_patch(copy.deepcopy(item), patch)
    if content_type == MERGE:
        return _merge(item, patch, strategic=False)
    if content_type == STRATEGIC:
        return _merge(item, patch, strategic=True)
    raise Refusal(415, f"the body of the request was in an unknown format - accepted media types include: {MERGE}")


def _merge(item: Any, patch: Any, *, strategic: bool) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(item) if isinstance(item, dict) else {}
    if strategic and patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif strategic and isinstance(value, list) and key in MERGE_KEYS and isinstance(merged.get(key), list):
            merged[key] = _join(merged[key], value, MERGE_KEYS[key])
        else:
            merged[key] = _merge(merged.get(key), value, strategic=strategic)
    return merged


def _join(items: list[Any], patches: list[Any], by: str) -> list[Any]:
    joined = {item.get(by): item for item in items}
    for patch in patches:
        key = patch.get(by)
        if patch.get("$patch") == "delete":
            joined.pop(key, None)
        else:
            joined[key] = _merge(joined.get(key, {}), patch, strategic=True)
    return list(joined.values())


def _json_patch(item: Any, operations: Any) -> Any:
    if not isinstance(operations, list):
        raise Refusal(400, "a JSON patch is a list of operations")
    for operation in operations:
        try:
            _operate(item, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise Refusal(422, f"the server rejected our request due to an error in our request: {error!r}") from error
    return item


def _operate(item: Any, operation: dict[str, Any]) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    for part in parents:
        item = item[int(part)] if isinstance(item, list) else item[part]
    kind, value = operation["op"], operation.get("value")
    if kind not in ("add", "replace", "remove", "test"):
        raise ValueError(f"op {kind!r} is not supported here")
    where: Any = last
    if isinstance(item, list):
        where = len(item) if last == "-" else int(last)
    if kind == "test":
        if item[where] != value:
            raise ValueError(f"testing value {operation['path']} failed")
    elif kind == "remove":
        del item[where]
    elif kind == "add" and isinstance(item, list):
        item.insert(where, value)
    else:
        if kind == "replace":
            item[where]  # it must be there
        item[where] = value
