"""A pod of the API, read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.fleet.kubernetes_pods import AIBRIX, LLM_D, v1_pod

from kvsync.fleet import Pod
from kvsync.fleet.kubernetes.reading import read_pod

PLAIN = Pod(
    "prod/a",
    "http://10.0.0.1:8000",
    "llama",
    "tcp://10.0.0.1:5557",
    "tcp://10.0.0.1:5558",
    uid="uid-a",
    life="engine:0:c://0",
)


def read(**pod: Any) -> Pod | None:
    """The pod, where nothing is wrong with it."""
    reading = read_pod(v1_pod(**pod))
    assert reading.findings == ()
    return reading.pod


def fault(**annotations: str) -> str:
    """What is said of a pod with annotations that make it unusable."""
    reading = read_pod(v1_pod(annotations={key.replace("_", "-"): text for key, text in annotations.items()}))
    assert reading.is_there
    assert reading.pod is None
    (finding,) = reading.findings
    assert (finding.about, finding.reason) == ("prod/a", "bad_pod")
    return finding.text


def test_aibrix_labels_are_enough() -> None:
    """Model from the label, the rest as AIBrix has it by default."""
    assert read() == PLAIN


def test_aibrix_port_and_adapter_labels_count() -> None:
    """The HTTP port, and one adapter."""
    pod = read(labels={**AIBRIX, "model.aibrix.ai/port": "9000", "model.aibrix.ai/lora-id": "sql"})
    assert pod == replace(PLAIN, http="http://10.0.0.1:9000", loras=("sql",))


@pytest.mark.parametrize("said", [{}, {"model.aibrix.ai/kv-events-enabled": "false"}])
def test_an_aibrix_pod_without_events_has_none(said: dict[str, str]) -> None:
    """It is routed to all the same."""
    pod = read(labels={"model.aibrix.ai/name": "llama", **said})
    assert pod == replace(PLAIN, events=None, replay=None)


def test_llm_d_labels_name_no_model() -> None:
    """The pod will be asked; it is taken to publish events."""
    assert read(labels=LLM_D) == replace(PLAIN, model="")


def test_annotations_count_before_labels() -> None:
    """Each of them."""
    annotations = {
        "model": "meta/llama",
        "scheme": "https",
        "http-port": "1",
        "events-port": "2",
        "replay-port": "30",
        "topic": "kv",
        "ranks": "4",
        "loras": "x+y",
        "tokenizer": "/models/llama",
        "tokenizer-revision": "3",
    }
    pod = read(labels={**AIBRIX, "model.aibrix.ai/port": "9", "model.aibrix.ai/lora-id": "y"}, annotations=annotations)
    assert pod == replace(
        PLAIN,
        model="meta/llama",
        http="https://10.0.0.1:1",
        events="tcp://10.0.0.1:2",
        replay="tcp://10.0.0.1:30",
        topic="kv",
        ranks=4,
        loras=("x", "y"),
        tokenizer=(("tokenizer", "/models/llama"), ("tokenizer-revision", "3")),
    )


def test_events_and_replay_can_be_switched() -> None:
    """Whatever the labels say."""
    assert read(annotations={"events": "false"}) == replace(PLAIN, events=None, replay=None)
    assert read(annotations={"replay-port": "none"}) == replace(PLAIN, replay=None)
    pod = read(labels={"model.aibrix.ai/name": "llama"}, annotations={"events": "true"})
    assert pod == PLAIN


def test_replays_are_asked_for_after_the_events_ports() -> None:
    """Where no annotation says more: as engines with several ranks need it."""
    pod = read(annotations={"ranks": "2", "events-port": "6000"})
    assert pod is not None
    assert (pod.events, pod.replay) == ("tcp://10.0.0.1:6000", "tcp://10.0.0.1:6002")


def test_an_ipv6_address_gets_its_brackets() -> None:
    """In every endpoint."""
    pod = read(ip="fd00::7")
    assert pod is not None
    assert (pod.http, pod.events) == ("http://[fd00::7]:8000", "tcp://[fd00::7]:5557")


@pytest.mark.parametrize(("phase", "ip"), [("Pending", "10.0.0.1"), ("Running", None), ("Succeeded", "10.0.0.1")])
def test_a_pod_that_does_not_run_is_not_there(phase: str, ip: str | None) -> None:
    """And nothing is wrong with that, whatever its annotations say."""
    reading = read_pod(v1_pod(phase=phase, ip=ip, annotations={"http-port": "x"}))
    assert (reading.is_there, reading.pod, reading.findings) == (False, None, ())


def test_readiness_leaving_and_lives_are_seen() -> None:
    """A pod that is being ended is not ready, whatever its condition says; a restart changes its life only."""
    assert read(ready=False) == replace(PLAIN, ready=False)
    assert read(deletionTimestamp="2026-01-01T00:00:00Z") == replace(PLAIN, ready=False, leaving=True)
    assert read(restarts=1) == replace(PLAIN, life="engine:1:c://1")


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"http_port": "0"}, "annotation kvsync.io/http-port is '0'; give a port from 1 to 65535"),
        ({"events_port": "65536"}, "annotation kvsync.io/events-port is '65536'"),
        ({"replay_port": "off"}, "annotation kvsync.io/replay-port is 'off'"),
        ({"events_port": "９"}, "annotation kvsync.io/events-port"),
        ({"ranks": "0"}, "ranks is 0; give a number from 1"),
        ({"ranks": "9", "events_port": "65530", "replay_port": "1"}, "has no port for rank"),
        ({"ranks": "2", "replay_port": "5558"}, "is the replay endpoint of rank 0 and the events endpoint of rank 1"),
        ({"bind": "yes"}, 'annotation kvsync.io/bind is \'yes\'; give "true" or "false"'),
        ({"bind": "true"}, "which no setting allows; set kubernetes_bind_host"),
        ({"model": "a\nb"}, "kvsync.io/model is"),
        ({"model": "x" * 2000}, "up to 1024 visible characters"),
        ({"loras": "a++b"}, "kvsync.io/loras is 'a++b'"),
        ({"scheme": "ftp"}, "give http or https"),
    ],
)
def test_a_malformed_annotation_is_a_finding_and_no_pod(annotation: dict[str, str], said: str) -> None:
    """It names the annotation, the value and what to write."""
    assert said in fault(**annotation)


def test_an_unknown_annotation_is_told_and_harmless() -> None:
    """Most likely it is misspelt; others' annotations are not ours to judge."""
    reading = read_pod(v1_pod(annotations={"event-port": "1"}))
    assert reading.pod == PLAIN
    assert [finding.reason for finding in reading.findings] == ["unknown_annotation"]
    assert "kvsync.io/event-port means nothing" in reading.findings[0].text


def test_a_pod_may_connect_to_us_where_that_is_allowed() -> None:
    """On the address that the setting names, never on one that an annotation does."""
    reading = read_pod(v1_pod(annotations={"bind": "true", "events-port": "6001"}), bind_host="10.9.9.9")
    assert reading.pod == replace(PLAIN, events="tcp://10.9.9.9:6001", replay="tcp://10.0.0.1:6002", bind=True)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("metadata", "status", "spec"), JUNK)), st.data())
def test_no_object_whatever_breaks_the_reading(item: dict[str, Any], data: st.DataObject) -> None:
    """What an API server would never send is a pod that is not there, or a finding."""
    read_pod(item)
    whole = v1_pod()
    part = whole[data.draw(st.sampled_from(["metadata", "status"]))]
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JUNK)
    read_pod(whole)
