"""Who has what when several pods claim it."""

from __future__ import annotations

from kvsync.fleet import CombinedPods, Pod, StaticPods
from kvsync.fleet.settle import settle


def pod(name: str, port: int, **others: object) -> Pod:
    """A pod with events, all of its ports apart from those of another hundred."""
    fields = {"http": f"http://10.0.0.1:{port}", "events": f"tcp://10.0.0.1:{port + 1}", **others}
    return Pod(name=name, model="m", **fields)  # type: ignore[arg-type]


def test_pods_apart_are_all_there() -> None:
    """Nothing is said of them."""
    assert settle([pod("a", 100), pod("b", 200)]) == ({"a": pod("a", 100), "b": pod("b", 200)}, [])


def test_the_first_keeps_an_address() -> None:
    """The other is left out, and is told who has which address; the others are not concerned."""
    pods, (finding,) = settle([pod("a", 100), pod("b", 100), pod("c", 300)])
    assert list(pods) == ["a", "c"]
    assert (finding.about, finding.reason) == ("b", "endpoint_taken")
    assert "http://10.0.0.1:100, which is a's" in finding.text


def test_any_ranks_port_is_an_address() -> None:
    """The second rank of one pod may be the first of another."""
    pods, findings = settle([pod("a", 100, ranks=3), pod("b", 300, events="tcp://10.0.0.1:103")])
    assert list(pods) == ["a"]
    assert "tcp://10.0.0.1:103" in findings[0].text


def test_a_pod_on_its_way_out_yields() -> None:
    """Its address is another's by now; nobody needs to mend that."""
    assert settle([pod("old", 100, leaving=True), pod("new", 100)]) == ({"new": pod("new", 100)}, [])


def test_a_pod_on_its_way_out_is_still_there() -> None:
    """While nobody else claims its address, what it holds is worth knowing."""
    assert list(settle([pod("old", 100, leaving=True), pod("new", 200)])[0]) == ["new", "old"]


def test_a_pod_that_only_it_can_name_the_model_of_has_addresses_too() -> None:
    """What is not listened to yet is claimed already."""
    _, findings = settle([pod("a", 100), Pod("b", "http://other", "", events="tcp://10.0.0.1:101")])
    assert [finding.about for finding in findings] == ["b"]


def test_of_two_sources_the_first_counts() -> None:
    """A name is one pod's, whoever else uses it; the finding says what to do."""
    combined = CombinedPods([StaticPods([pod("a", 100)]), StaticPods([pod("a", 200), pod("b", 300)])])
    assert combined.current() == {"a": pod("a", 100), "b": pod("b", 300)}
    assert [(finding.about, finding.reason) for finding in combined.findings()] == [("a", "name_taken")]
