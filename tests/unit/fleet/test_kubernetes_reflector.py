"""What is asked next of an API server, given what came."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from tests.unit.fleet.kubernetes_pods import v1_pod

from kvsync.fleet.kubernetes.failure import Failure, failure_of, finding_of
from kvsync.fleet.kubernetes.reading import read_pod
from kvsync.fleet.kubernetes.reflector import List, Reflector, Watch
from kvsync.stream.backoff import Backoff

GONE = Failure(410, "Expired", "too old resource version")
BUSY = Failure(500, "InternalError", "etcd is away")


def page(*names: str, version: str = "100", token: str | None = None) -> dict[str, Any]:
    """A page of a list."""
    metadata = {"resourceVersion": version, **({"continue": token} if token else {})}
    return {"kind": "PodList", "metadata": metadata, "items": [v1_pod(name) for name in names]}


def event(kind: str, name: str, version: str, **pod: Any) -> dict[str, Any]:
    """A line of a watch."""
    return {"type": kind, "object": v1_pod(name, version=version, **pod)}


def error(code: int) -> dict[str, Any]:
    """The line that says that the watch has failed."""
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": "R", "message": "M"}}


def new() -> Reflector:
    """One that has heard nothing."""
    return Reflector(read_pod, Backoff(1.0, 8.0, Random(1)))


def listed(*names: str) -> Reflector:
    """One that has listed these pods at version 100."""
    reflector = new()
    reflector.page(page(*names))
    return reflector


def test_it_lists_and_then_watches_from_the_lists_version() -> None:
    """And knows what the list held."""
    reflector = new()
    assert reflector.next() == List()
    reflector.page(page("a", "b"))
    assert reflector.next() == Watch("100")
    assert list(reflector.readings) == ["prod/a", "prod/b"]


def test_pages_count_when_the_last_has_come() -> None:
    """Until then what was known before stays."""
    reflector = listed("old")
    reflector.failed(GONE)
    reflector.page(page("a", token="t", version="200"))
    assert reflector.next() == List("t")
    assert list(reflector.readings) == ["prod/old"]
    reflector.page(page("b", version="200"))
    assert reflector.next() == Watch("200")
    assert list(reflector.readings) == ["prod/a", "prod/b"]


def test_a_token_that_expired_begins_the_list_anew() -> None:
    """What its first pages said is not used."""
    reflector = new()
    reflector.page(page("a", token="t"))
    reflector.failed(GONE)
    assert reflector.next() == List()
    reflector.page(page("b"))
    assert list(reflector.readings) == ["prod/b"]


def test_a_page_that_fails_is_asked_for_again() -> None:
    """With its token: the pages before it are not lost."""
    reflector = new()
    reflector.page(page("a", token="t"))
    reflector.failed(BUSY)
    assert reflector.next() == List("t")


def test_events_change_what_is_known_and_the_version() -> None:
    """A watch goes on after the last event that was heard."""
    reflector = listed("a", "b")
    assert reflector.event(event("ADDED", "c", "101"))
    assert reflector.event(event("MODIFIED", "a", "102", ip="10.9.9.9"))
    assert reflector.event(event("DELETED", "b", "103"))
    reflector.ended(lived_s=300, events=3)
    assert reflector.next() == Watch("103")
    assert list(reflector.readings) == ["prod/a", "prod/c"]
    pod = reflector.readings["prod/a"].pod
    assert pod is not None
    assert pod.http == "http://10.9.9.9:8000"


def test_a_bookmark_moves_the_version_only() -> None:
    """It holds no pod."""
    reflector = listed("a")
    reflector.event({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "150"}}})
    assert reflector.next() == Watch("150")
    assert list(reflector.readings) == ["prod/a"]


def test_expiry_in_the_stream_means_a_list_at_once() -> None:
    """It is normal once: nothing is waited for, and everything that was known stays."""
    reflector = listed("a")
    assert not reflector.event(error(410))
    assert reflector.next() == List()
    assert reflector.pause_s() == 0
    assert list(reflector.readings) == ["prod/a"]


def test_expiry_again_and_again_is_waited_out() -> None:
    """An API server that expires everything is not hammered."""
    reflector = listed("a")
    reflector.event(error(410))
    reflector.failed(GONE)
    assert reflector.pause_s() > 0


def test_a_list_does_not_prove_that_watches_work() -> None:
    """A server that lists and expires each watch is given longer and longer pauses, until a watch tells something."""
    reflector = listed("a")
    pauses = []
    for _ in range(6):
        assert not reflector.event(error(410))
        pauses.append(reflector.pause_s())
        reflector.page(page("a"))
        assert reflector.pause_s() == 0
        reflector.opened()
    assert pauses[0] == 0
    assert pauses[-1] > 2 * pauses[1] > 0
    reflector.event(event("MODIFIED", "a", "101"))
    assert not reflector.event(error(410))
    assert reflector.pause_s() == 0


def test_a_token_that_always_expires_is_waited_out() -> None:
    """A list that never comes to its end is not asked for in circles; pages that come are not waited between."""
    reflector = new()
    pauses = []
    for _ in range(6):
        reflector.page(page("a", token="t"))
        assert reflector.next() == List("t")
        assert reflector.pause_s() == 0
        reflector.failed(GONE)
        pauses.append(reflector.pause_s())
    assert pauses[0] == 0
    assert pauses[-1] > 2 * pauses[1] > 0
    assert reflector.failures == 6


def test_a_right_that_is_missing_for_watches_alone_stays_told() -> None:
    """Lists go on now and then, so that the pods are right again some time; the trouble is not over with them."""
    reflector = listed("a")
    for number in range(1, 9):
        assert reflector.next() == (List() if number in (4, 7) else Watch("100"))
        if reflector.next() == List():
            reflector.page(page("a"))
            assert reflector.failure is not None
        reflector.failed(Failure(403, "Forbidden", "cannot watch"))
        assert reflector.failure is not None
        assert reflector.failures == number


def test_another_error_in_the_stream_goes_on_from_the_version() -> None:
    """After a pause."""
    reflector = listed("a")
    reflector.event(event("MODIFIED", "a", "105"))
    assert not reflector.event(error(500))
    assert reflector.next() == Watch("105")
    assert reflector.pause_s() > 0


def test_a_watch_that_keeps_failing_gives_way_to_a_list() -> None:
    """The server may have lost the version: one restored from a backup calls it too large."""
    reflector = listed("a")
    for _ in range(2):
        reflector.failed(Failure(504, "Timeout", "Too large resource version"))
        assert reflector.next() == Watch("100")
    reflector.failed(Failure(504, "Timeout", "Too large resource version"))
    assert reflector.next() == List()


def test_pauses_grow_are_spread_and_end_with_success() -> None:
    """Up to the longest, for ever."""
    reflector = new()
    pauses = []
    for _ in range(20):
        reflector.failed(BUSY)
        pauses.append(reflector.pause_s())
    assert max(pauses) <= 8
    assert min(pauses[5:]) > 2
    assert len(set(pauses[5:])) > 5
    reflector.page(page("a"))
    assert (reflector.pause_s(), reflector.failures, reflector.failure) == (0, 0, None)


def test_a_watch_that_opens_is_no_trouble_any_more() -> None:
    """But a server that opens watches and fails each is still given longer and longer pauses."""
    reflector = listed("a")
    pauses = []
    for _ in range(4):
        reflector.event(error(500))
        pauses.append(reflector.pause_s())
        reflector.opened()
        assert reflector.failure is None
        assert reflector.pause_s() == 0
    assert pauses[3] > 2 * pauses[0]


def test_the_servers_own_pause_counts() -> None:
    """As with 429."""
    reflector = listed("a")
    reflector.failed(Failure(429, "TooManyRequests", "slow down", retry_after_s=7))
    assert reflector.pause_s() >= 7


def test_a_watch_that_ends_at_once_has_failed() -> None:
    """To go on without a pause would be to run in circles; a long one has simply ended."""
    reflector = listed("a")
    reflector.ended(lived_s=0.01, events=0)
    assert reflector.pause_s() > 0
    reflector.ended(lived_s=0.01, events=1)
    assert reflector.pause_s() == 0


@pytest.mark.parametrize("junk", [None, 7, [], {}, {"type": "ADDED"}, {"type": "ADDED", "object": []}, {"object": {}}])
def test_junk_in_a_watch_ends_it_and_changes_nothing(junk: Any) -> None:
    """It goes on from the version before."""
    reflector = listed("a")
    assert not reflector.event(junk)
    assert reflector.next() == Watch("100")
    assert list(reflector.readings) == ["prod/a"]


@pytest.mark.parametrize("junk", [None, [], {}, {"items": []}, {"items": 7, "metadata": {"resourceVersion": "1"}}])
def test_junk_for_a_list_changes_nothing(junk: Any) -> None:
    """As from a web server that is no API server."""
    reflector = listed("a")
    reflector.failed(GONE)
    reflector.page(junk)
    assert list(reflector.readings) == ["prod/a"]
    assert reflector.failure is not None


def test_a_status_is_read() -> None:
    """Code, reason, message on one line, and how long to wait, from either place."""
    status = {"code": 429, "reason": "R", "message": "a\n b", "details": {"retryAfterSeconds": 3}}
    assert failure_of(status, 500) == Failure(429, "R", "a b", 3.0)
    assert failure_of(status, 500, "9").retry_after_s == 9.0
    assert failure_of(None, 502) == Failure(502, "HTTP 502", "no reason was given")
    assert failure_of({"details": {"retryAfterSeconds": 10**9}}, 429).retry_after_s == 60


@pytest.mark.parametrize(
    ("failure", "reason", "remedy"),
    [
        (Failure(403, "Forbidden", "no"), "forbidden", "deploy/kubernetes/rbac.yaml"),
        (Failure(401, "Unauthorized", "no"), "unauthorized", "check the kubeconfig"),
        (Failure(0, "Unreachable", "refused"), "unreachable", "stay"),
        (Failure(0, "Config", "no cluster"), "config", "no cluster"),
        (Failure(500, "InternalError", "x"), "failing", "stay"),
    ],
)
def test_each_failure_has_a_remedy(failure: Failure, reason: str, remedy: str) -> None:
    """What only an operator can mend says how; the rest says that pods stay."""
    finding = finding_of(failure, "namespace prod")
    assert (finding.about, finding.reason) == ("namespace prod", reason)
    assert remedy in finding.text
