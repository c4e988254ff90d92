"""Which policies there are."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from kvsync.errors import ConfigError
from kvsync.routing import catalog
from kvsync.routing.candidate import Choice, Question
from kvsync.routing.policies import BUILT_IN, cost


def mine(question: Question) -> Choice:
    """A policy as a user writes one."""
    return Choice(question.candidates[0], "the first")


NO_FUNCTION = "text"


def install(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Pretend that a package with this entry point is installed."""
    entry = EntryPoint(name, value, catalog.GROUP)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [entry] if group == catalog.GROUP else [])


def test_the_built_in_policies_are_there() -> None:
    """Those that the guide names."""
    assert list(catalog.policies())[:6] == [
        "cost",
        "round-robin",
        "least-loaded",
        "random",
        "prefix",
        "consistent-hash",
    ]


def test_a_package_brings_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point of our group is a policy by its name."""
    install(monkeypatch, "mine", f"{__name__}:mine")
    assert catalog.policies()["mine"].__name__ == "mine"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("cost", "whatever:mine", "named as another"),
        ("mine", "no_such_module:mine", "cannot be loaded"),
        ("mine", "os:no_such_name", "cannot be loaded"),
        ("mine", "os:name", "give a function"),
    ],
)
def test_a_package_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    """Routing by another policy than the one asked for would go unnoticed."""
    install(monkeypatch, name, value)
    with pytest.raises(ConfigError, match=says):
        catalog.policies()


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """The operator sees what there is."""
    assert catalog.policy_named("cost", BUILT_IN) is cost
    with pytest.raises(ConfigError, match=r"'costly' is not known; choose one of cost, round-robin"):
        catalog.policy_named("costly", BUILT_IN)
