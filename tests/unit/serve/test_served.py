"""What pods list, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvsync.fleet import Pod
from kvsync.serve.roster import Learned, Roster, completed, is_same
from kvsync.serve.served import finding_of, listed

POD = Pod("a", "http://h", "llama", loras=("l",))


@pytest.mark.parametrize(
    ("document", "learned"),
    [
        ({"data": [{"id": "llama"}, {"id": "l", "parent": "llama"}]}, Learned(("llama",), ("l",))),
        ({"data": [{"id": "llama", "parent": None}, {"object": "model"}, 7]}, Learned(("llama",))),
        (
            {
                "data": [
                    {"id": "llama"},
                    {"id": 'a"\n{x="1"}'},
                    {"id": "x" * 2000, "parent": "llama"},
                    {"id": "modèle ü"},
                ]
            },
            Learned(("llama", "modèle ü"), odd=('a"\n{x="1"}', "x" * 2000)),
        ),
        ({"data": []}, None),
        ({"data": "llama"}, None),
        ({"error": {"message": "no token"}}, None),
        ([], None),
        (None, None),
    ],
)
def test_names_are_read_from_whatever_comes(document: Any, learned: Learned | None) -> None:
    """An entry with a parent is an adapter; what is no list of models names none."""
    assert listed(document) == learned


def test_a_model_that_is_not_listed_is_told_with_those_that_are() -> None:
    """Adapters as well; nothing is said where all are listed or none is."""
    finding = finding_of(POD, Learned(("simulated",)), 200)
    assert finding is not None
    assert "'llama'" in finding.text
    assert "'simulated'" in finding.text
    assert "'l'" in str(finding_of(POD, Learned(("llama",)), 200))
    assert finding_of(POD, Learned(("llama",), ("l", "other")), 200) is None
    assert finding_of(POD, None, 401) is None


def test_a_name_that_is_none_is_told() -> None:
    """What cannot be shown or is endless is nobody's name; what else the pod lists counts."""
    finding = finding_of(POD, Learned(("llama",), ("l",), odd=("\x1b[31m",)), 200)
    assert finding is not None
    assert finding.reason == "odd_name"
    assert "'\\x1b[31m'" in finding.text


def test_a_pod_whose_model_nobody_names_is_told() -> None:
    """With what it answered; one that names it is fine."""
    unnamed = replace(POD, model="", loras=())
    assert "status 401" in str(finding_of(unnamed, None, 401))
    assert finding_of(unnamed, Learned(("m",)), 200) is None


def test_the_pod_completes_its_description() -> None:
    """The model where none is named, and adapters beside those that are; a given name stays."""
    learned = Learned(("served", "alias"), ("l", "new"))
    assert completed(POD, None) == POD
    assert completed(POD, learned) == replace(POD, loras=("l", "new"), loras_known=True)
    assert completed(replace(POD, model="", loras=()), learned).model == "served"


def test_a_pod_that_lists_no_adapters_has_none() -> None:
    """One that was not asked yet is believed to have any."""
    plain = replace(POD, loras=())
    assert plain.serves("llama", "x")
    assert not completed(plain, Learned(("llama",))).serves("llama", "x")


def test_another_pod_of_the_name_is_another() -> None:
    """Another uid, or another address; a new life of its containers is not."""
    assert is_same(POD, replace(POD, life="2", ready=False, model="x"))
    assert not is_same(POD, replace(POD, uid="2"))
    assert not is_same(POD, replace(POD, http="http://i"))


def test_a_pod_that_is_unknown_is_none() -> None:
    """What it once listed does not make it one."""
    roster = Roster(learned={"a": Learned(("m",))})
    assert roster.pod("a") is None
