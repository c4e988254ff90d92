"""
What a pod must be, what the server adds to it, and what becomes of one that is replaced or deleted. Pure.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from kvsync.testing.apiserver.refusals import Refusal, invalid
from kvsync.testing.apiserver.store import Item

GRACE_S = 30
SERVERS_OWN = frozenset(
    {
        "namespace",
        "name",
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    }
)
"""Metadata that no client can change."""

_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


def created(body: Item, namespace: str, *, uid: UUID, now: str, suffix: str) -> Item:
    """The pod that a body asks for; `suffix` completes a generated name."""
    _check_kind(body)
    metadata = dict(body.get("metadata") or {})
    if metadata.get("namespace", namespace) != namespace:
        raise Refusal(400, "the namespace of the provided object does not match the namespace sent on the request")
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = f"{metadata['generateName']}{suffix}"
    spec = {"restartPolicy": "Always", "terminationGracePeriodSeconds": GRACE_S, **(body.get("spec") or {})}
    _check(metadata, spec)
    metadata |= {"namespace": namespace, "uid": str(uid), "creationTimestamp": now}
    metadata.pop("resourceVersion", None)
    status = {"phase": "Pending", "qosClass": "BestEffort"}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}


def replaced(before: Item, body: Item, *, part: str) -> Item:
    """
    The pod after a body was put over it: all but the status, or (`part` is "status") the status alone.

    A body with another version is stale: 409. What cannot be changed is a 422.
    """
    _check_kind(body)
    metadata = body.get("metadata") or {}
    name = before["metadata"]["name"]
    if metadata.get("name", name) != name:
        raise Refusal(400, f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    version = metadata.get("resourceVersion")
    if version not in (None, "", before["metadata"]["resourceVersion"]):
        text = "the object has been modified; please apply your changes to the latest version and try again"
        raise Refusal(
            409, f'Operation cannot be fulfilled on pods "{name}": {text}', details={"name": name, "kind": "pods"}
        )
    if metadata.get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
        raise Refusal(409, f'Operation cannot be fulfilled on pods "{name}": the UID does not match')
    if part == "status":
        return {**before, "status": body.get("status") or {}}
    given = {key: value for key, value in metadata.items() if key not in SERVERS_OWN}
    after_metadata = given | {key: before["metadata"][key] for key in sorted(SERVERS_OWN) if key in before["metadata"]}
    spec = body.get("spec") or {}
    _check(after_metadata, spec)
    if _immutable(spec) != _immutable(before["spec"]):
        text = "Forbidden: pod updates may not change fields other than `spec.containers[*].image` and a few more"
        raise invalid(name, [("spec", text)])
    return {**before, "metadata": after_metadata, "spec": spec}


def grace_of(item: Item, asked: int | None) -> int:
    """How long a pod may take to end: none where no kubelet has it, or it has ended by itself."""
    is_over = item["status"].get("phase") in ("Succeeded", "Failed")
    if not item["spec"].get("nodeName") or is_over:
        return 0
    return int(item["spec"].get("terminationGracePeriodSeconds", GRACE_S)) if asked is None else asked


def ending(item: Item, grace_s: int, *, now: str) -> Item:
    """The pod once it was told to end."""
    metadata = {"deletionTimestamp": now, **item["metadata"], "deletionGracePeriodSeconds": grace_s}
    return {**item, "metadata": metadata}


def _check_kind(body: Any) -> None:
    if not isinstance(body, dict):
        raise Refusal(400, "the request's body is no object")
    if body.get("kind", "Pod") != "Pod" or body.get("apiVersion", "v1") != "v1":
        kind = f"{body.get('apiVersion')}, Kind={body.get('kind')}"
        raise Refusal(400, f"the API version in the data ({kind}) does not match the expected API version (v1)")


def _check(metadata: dict[str, Any], spec: dict[str, Any]) -> None:
    name, problems = str(metadata.get("name") or ""), []
    if not name:
        problems.append(("metadata.name", "Required value: name or generateName is required"))
    elif not _SUBDOMAIN.fullmatch(name):
        problems.append(
            ("metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of ...')
        )
    for key, value in (metadata.get("labels") or {}).items():
        if not isinstance(value, str):
            raise Refusal(400, f"Pod in version v1 cannot be handled as a Pod: labels.{key} is no string")
        if not _LABEL_VALUE.fullmatch(value):
            problems.append(
                ("metadata.labels", f'Invalid value: "{value}": a valid label must be an empty string or ...')
            )
    containers = spec.get("containers")
    if not containers:
        problems.append(("spec.containers", "Required value"))
    for number, container in enumerate(containers or []):
        where = f"spec.containers[{number}]"
        if not _LABEL.fullmatch(str(container.get("name") or "")):
            problems.append((f"{where}.name", "Required value"))
        if not container.get("image"):
            problems.append((f"{where}.image", "Required value"))
    if problems:
        raise invalid(name, problems)


def _immutable(spec: dict[str, Any]) -> dict[str, Any]:
    containers = [{k: v for k, v in one.items() if k != "image"} for one in spec.get("containers", [])]
    free = ("containers", "activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")
    rest = {key: value for key, value in spec.items() if key not in free}
    return {**rest, "containers": containers}
