"""
Which policies there are: the built-in ones, and those that installed packages bring.

A package adds a policy by an entry point of the group `kvsync.policies`, a function `Question -> Choice`:

    [project.entry-points."kvsync.policies"]
    mine = "my_package:my_policy"

This file looks at what is installed, once, when asked; the rest of the room looks at nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from kvsync.errors import ConfigError
from kvsync.routing.policies import BUILT_IN, Policy

GROUP = "kvsync.policies"


def policies() -> dict[str, Policy]:
    """
    All policies by name.

    A package's policy that cannot be imported, is no function, or takes a built-in name is a `ConfigError`: to route
    by another policy than the one that was asked for would go unnoticed.
    """
    found: dict[str, Policy] = dict(BUILT_IN)
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            raise ConfigError(f"policy {entry.name!r} of {entry.value} is named as another one; give it its own name")
        found[entry.name] = _load(entry)
    return found


def policy_named(name: str, known: Mapping[str, Policy]) -> Policy:
    """The policy of this name; `ConfigError` with the names there are, if it is none of them."""
    policy = known.get(name)
    if policy is None:
        raise ConfigError(f"policy {name!r} is not known; choose one of {', '.join(known)}")
    return policy


def _load(entry: EntryPoint) -> Policy:
    try:
        policy = entry.load()
    except Exception as error:
        raise ConfigError(f"policy {entry.name!r} of {entry.value} cannot be loaded: {error!r}") from error
    if not callable(policy):
        raise ConfigError(f"policy {entry.name!r} of {entry.value} is {policy!r}; give a function")
    return policy  # type: ignore[no-any-return]  # what it does with a question shows when it is asked
