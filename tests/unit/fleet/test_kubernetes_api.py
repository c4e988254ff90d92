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


@pytest.mark.parametrize("namespace", ["", "../x", "Engines", "ü", "a" * 64, "-a", "a.b", "a\n"])
def test_a_namespace_that_cannot_be_is_refused(namespace: str) -> None:
    """It would be asked for in a path, and could lead elsewhere."""
    with pytest.raises(ConfigError, match="no namespace's name"):
        KubernetesOptions(namespaces=("engines", namespace))


@pytest.mark.parametrize("selector", ["", "a\x1b=b", "a" * 5000])
def test_a_selector_that_cannot_be_is_refused(selector: str) -> None:
    """The rest of what a selector may be is the API server's to judge."""
    with pytest.raises(ConfigError, match="no label selector"):
        KubernetesOptions(selectors=(selector,))


def test_all_namespaces_and_usual_names_are_fine() -> None:
    """A star is every namespace."""
    assert KubernetesOptions(namespaces=("*", "a", "team-1")).namespaces == ("*", "a", "team-1")
