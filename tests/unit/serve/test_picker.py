"""What a request's model name means, and which pods are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from kvsync.fleet import Pod
from kvsync.index import Index
from kvsync.routing import Router, policies
from kvsync.serve.health import Health
from kvsync.serve.picker import Picker
from kvsync.serve.problems import Problem
from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import Engine


class _World:
    """Two pods of one model; `listed` is when each last listed its adapters."""

    def __init__(self, index: Index, *, loras_known: bool = True) -> None:
        self.index = index
        names = ("a", "b")
        self.pods = {
            name: Pod(name, f"http://{name}", "m", events=f"tcp://{name}:5557", loras_known=loras_known)
            for name in names
        }
        self.listed = dict.fromkeys(names, 0)
        self.health = Health()
        self.picker = Picker(
            self.index, Router(policies()), self.health, self.pods, lambda name: self.listed.get(name, 0)
        )
        self._told = 0

    def stores(self, pod: str, lora: str | None) -> None:
        self._told += 1
        event = Stored((self._told,), None, (self._told, 2, 3, 4), 4, lora_name=lora)
        self.index.apply(Engine(pod), encode_batch([event]), model="m")

    def lists(self, pod: str) -> None:
        self.listed[pod] = self.index.adapter_stores

    def candidates(self, model: str, lora: str | None = None) -> list[str]:
        return [pod.name for pod in self.picker.resolve(model, lora).pods]

    def has(self, pod: str, model: str, *loras: str) -> None:
        self.pods[pod] = replace(self.pods[pod], model=model, loras=loras)

    def sees(self, pod: str, *, up: bool) -> None:
        self.health.add(pod, 0.0)
        self.health.answered(pod, None if up else "it is gone", 0.0)


@pytest.fixture
def world() -> Iterator[_World]:
    """Two pods that have said which adapters they have: none."""
    with Index(seed=1) as index:
        yield _World(index)


def test_an_adapter_that_events_name_is_asked_for_there(world: _World) -> None:
    """A pod whose engine stores blocks for an adapter is a candidate for requests whose model it is."""
    world.stores("b", "sql")
    assert world.candidates("sql") == world.candidates("m", "sql") == ["b"]
    target = world.picker.resolve("sql", None)
    assert (target.model, target.lora) == ("m", "sql")
    assert world.picker.model_names() == {"m": None, "sql": "m"}
    assert (world.picker.loras(world.pods["a"]), world.picker.loras(world.pods["b"])) == ((), ("sql",))


def test_a_base_model_comes_before_an_adapter_of_its_name(world: _World) -> None:
    """Who asks for the name gets the model that is called so, whoever else has an adapter of that name."""
    world.has("a", "m", "other")
    world.has("b", "other")
    target = world.picker.resolve("other", None)
    assert (target.model, target.lora, [pod.name for pod in target.pods]) == ("other", None, ["b"])
    assert world.candidates("m", "other") == ["a"]
    assert world.picker.model_names() == {"m": None, "other": None}


def test_an_adapter_of_two_base_models_is_that_of_a_pod_that_is_up(world: _World) -> None:
    """The first of them, in the order of pods; with none up it is the first one's, which is told of."""
    world.has("a", "m", "sql")
    world.has("b", "n", "sql")
    for up in ((), ("a",), ("b",), ("a", "b")):
        for pod in ("a", "b"):
            world.sees(pod, up=pod in up)
        target = world.picker.resolve("sql", None)
        expected = ("n", ["b"]) if up == ("b",) else ("m", ["a"])
        assert (target.model, [pod.name for pod in target.pods]) == expected
        assert target.lora == "sql"


def test_a_later_list_without_it_counts_before_the_events(world: _World) -> None:
    """An adapter that was unloaded is no longer asked for; one stored after the list is."""
    world.stores("a", "sql")
    world.lists("a")
    with pytest.raises(Problem, match="no pod serves the model 'sql'"):
        world.candidates("sql")
    assert world.picker.model_names() == {"m": None}
    world.stores("a", "sql")
    assert world.candidates("sql") == ["a"]


def test_events_of_a_pod_that_has_gone_count_for_nobody(world: _World) -> None:
    """A record without a pod, as one loaded from a snapshot, makes no candidate."""
    world.stores("gone", "sql")
    with pytest.raises(Problem, match="no pod serves"):
        world.candidates("sql")


@pytest.mark.parametrize("name", ["", "\ud800", "x" * 5000, "nul\0", "ü'\"\n"])
def test_odd_names_are_nobodys(world: _World, name: str) -> None:
    """A model name that no engine can have is not found, like any other."""
    world.stores("a", "sql")
    with pytest.raises(Problem, match="no pod serves the model"):
        world.candidates(name)


def test_pods_that_list_nothing_are_believed() -> None:
    """Where no pod has said which adapters it has, a base model's request names one freely, as before."""
    with Index(seed=1) as index:
        world = _World(index, loras_known=False)
        world.stores("a", "sql")
        assert world.candidates("m", "sql") == ["a", "b"]
