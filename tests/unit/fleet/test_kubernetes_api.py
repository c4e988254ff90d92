"""The client, where it is missing."""

from __future__ import annotations

import asyncio

import pytest

from kvsync.errors import ConfigError
from kvsync.fleet.kubernetes import KubernetesOptions, KubernetesPods, api


def test_a_missing_client_is_the_operators_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At start, with the command; no thread is begun."""
    monkeypatch.setattr(api, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'kvsync\[kubernetes\]'"):
        asyncio.run(KubernetesPods(KubernetesOptions()).open())
