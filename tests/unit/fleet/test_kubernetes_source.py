"""What watchers know, put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.fleet.kubernetes_pods import v1_pod

from kvsync.fleet import Pod
from kvsync.fleet.kubernetes.failure import Failure
from kvsync.fleet.kubernetes.reading import Reading, read_pod
from kvsync.fleet.kubernetes.source import described, merged, troubles
from kvsync.fleet.kubernetes.watcher import Snapshot
from kvsync.fleet.settle import settle

FORBIDDEN, AWAY = Failure(403, "Forbidden", "no"), Failure(0, "Unreachable", "refused")


def reading(name: str = "a", **pod: Any) -> Reading:
    """What is read of a pod."""
    return read_pod(v1_pod(name, **pod))


def snapshot(*readings: Reading, **others: Any) -> Snapshot:
    """What a watcher knows that has listed these."""
    given = {"namespace": "prod", "selector": "s", "is_listed": True, "failure": None, "failures": 0, **others}
    return Snapshot(readings={one.name: one for one in readings}, **given)


def pod_of(one: Reading) -> Pod:
    """The pod of a reading that has one."""
    assert one.pod is not None
    return one.pod


def test_the_older_of_two_pods_has_what_both_claim() -> None:
    """Whatever the order in which a list or events told of them: the same for every daemon, and after every list."""
    made = {"b": "2026-01-01T00:00:00Z", "a": "2026-01-01T00:00:01Z", "c": "2026-01-01T00:00:01Z"}
    readings = [reading(name, creationTimestamp=created) for name, created in made.items()]
    for order in (readings, readings[::-1]):
        found = merged([snapshot(*order[:1]), snapshot(*order[1:])])
        assert list(found) == ["prod/b", "prod/a", "prod/c"]
        pods, findings = settle(pod_of(one) for one in found.values())
        assert list(pods) == ["prod/b"]
        assert [finding.about for finding in findings] == ["prod/a", "prod/c"]


def test_a_pod_that_two_selectors_find_is_one() -> None:
    """And one that is not there is none."""
    found = merged([snapshot(reading("a"), reading("gone", phase="Failed")), snapshot(reading("a"), reading("b"))])
    assert sorted(found) == ["prod/a", "prod/b"]


def test_a_fault_leaves_a_pod_as_it_was() -> None:
    """But for what holds all the same: its readiness, its end and its life."""
    before = pod_of(reading())
    faulty = reading(annotations={"ranks": "none"}, ready=False, restarts=1)
    assert faulty.pod is None
    assert described(faulty, {"prod/a": before}) == replace(before, ready=False, life="engine:1:c://1")
    assert described(faulty, {}) is None


@pytest.mark.parametrize("other", [{"uid": "another"}, {"ip": "10.9.9.9"}], ids=["another pod", "another address"])
def test_a_fault_of_another_leaves_nothing(other: dict[str, Any]) -> None:
    """Where it was is nobody's, or somebody else's, by now."""
    faulty = reading(annotations={"ranks": "none"}, **other)
    assert described(faulty, {"prod/a": pod_of(reading())}) is None


def test_an_ipv6_address_is_known_again() -> None:
    """However it is written in a URL."""
    before = pod_of(reading(ip="FD00::7"))
    assert described(reading(ip="FD00::7", annotations={"ranks": "none"}), {"prod/a": before}) == before


def test_what_passes_by_itself_is_told_the_second_time() -> None:
    """What only an operator can mend at once, and once for all selectors."""
    known = {"is_listed": True, "failures": 1}
    assert troubles([snapshot(reading(), failure=AWAY, **known)]) == []
    assert [f.reason for f in troubles([snapshot(reading(), failure=AWAY, failures=2)])] == ["unreachable"]
    refused = snapshot(reading(), failure=FORBIDDEN, **known)
    assert [f.reason for f in troubles([refused, replace(refused, selector="t")])] == ["forbidden"]


def test_a_namespace_where_nothing_is_found_is_told() -> None:
    """Once all its selectors were listed and none found any; pods that do not run yet are some."""
    empty = snapshot()
    (finding,) = troubles([empty, replace(empty, selector="t"), snapshot(reading("b"), namespace="other")])
    assert (finding.about, finding.reason) == ("namespace prod", "no_pods")
    assert "'s' or 't'" in finding.text
    assert troubles([empty, snapshot(selector="t", is_listed=False)]) == []
    assert troubles([empty, snapshot(reading("a", phase="Pending"), selector="t")]) == []
    assert troubles([snapshot(namespace=None, is_listed=False, failure=AWAY, failures=9)])[0].about == "cluster"
