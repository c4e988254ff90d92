"""
Label and field selectors: text -> a test of an object. Pure; what cannot be read is a 400, as in the API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kvsync.testing.apiserver.refusals import Refusal

Matches = Callable[[Mapping[str, Any]], bool]

FIELDS = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "spec.nodeName": ("spec", "nodeName"),
    "status.phase": ("status", "phase"),
    "status.podIP": ("status", "podIP"),
}

_KEY = r"(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s+\(([^()]*)\)")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")


def label_selector(text: str) -> Matches:
    """Read a label selector; an empty one matches all."""
    tests = [_requirement(part.strip()) for part in re.split(r",(?![^()]*\))", text) if text.strip()]
    return lambda item: all(test(item["metadata"].get("labels") or {}) for test in tests)


def field_selector(text: str) -> Matches:
    """Read a field selector; an empty one matches all."""
    tests = [_field(part.strip()) for part in text.split(",") if text.strip()]
    return lambda item: all(test(item) for test in tests)


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.fullmatch(text):
        key, word, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        if word == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.fullmatch(text):
        key, sign, value = found.groups()
        if sign == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.fullmatch(text):
        absent, key = found.groups()
        return lambda labels: (key in labels) != bool(absent)
    raise Refusal(400, f"unable to parse requirement: {text!r}")


def _field(text: str) -> Matches:
    found = re.fullmatch(r"([\w.]+)(==|=|!=)([^=!]*)", text)
    if found is None:
        raise Refusal(400, f"invalid field selector: {text!r}")
    name, sign, value = found.groups()
    if name not in FIELDS:
        raise Refusal(400, f"field label not supported: {name}")
    part, key = FIELDS[name]
    return lambda item: ((item.get(part, {}).get(key) or "") == value) != (sign == "!=")
