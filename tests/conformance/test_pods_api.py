"""
What a client of pods observes of an API server: the same cases for the double and for a real one.

Whatever names the server (see conftest), only a namespace of this run is touched. Versions are compared as texts,
as the API asks; two values are taken for granted: 1 is long expired, and 2**62 is in the future.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conformance.client import MERGE, STRATEGIC, Answer, Api, eventually, pod

LONG_AGO, FUTURE = "1", str(2**62)
NOBODY = "kvsync-conformance-nobody"
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


def path(namespace: str, name: str = "", part: str = "") -> str:
    """Where pods, a pod, or its status are."""
    return "/".join(filter(None, [f"/api/v1/namespaces/{namespace}/pods", name, part]))


@contextlib.contextmanager
def created(api: Api, namespace: str, count: int = 1, **labels: str) -> Iterator[list[str]]:
    """Pods of this case, with a label `case` that no other case has; they go with it."""
    case = uuid.uuid4().hex[:8]
    names = [f"p{number}-{case}" for number in range(count)]
    for name in names:
        made = api.ask("POST", path(namespace), pod(name, {"case": case, **labels}))
        assert made.status == 201, made
    try:
        yield names
    finally:
        for name in names:
            api.ask("DELETE", path(namespace, name), gracePeriodSeconds=0)


def selector(names: list[str]) -> str:
    """The selector of a case's pods."""
    return f"case={names[0].split('-')[1]}"


def label(api: Api, namespace: str, name: str, **labels: str | None) -> Answer:
    """Change labels."""
    return api.ask("PATCH", path(namespace, name), {"metadata": {"labels": labels}}, _type=MERGE)


def version(api: Api, namespace: str) -> str:
    """The version of a list of now."""
    return api.ask("GET", path(namespace)).version


def seen(events: list[Any]) -> list[tuple[str, str]]:
    """Kind and name of each event."""
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def test_a_watch_begins_after_the_lists_version(api: Api, namespace: str) -> None:
    """Everything that happened since, in order, and nothing that the list held."""
    with created(api, namespace) as (name,):
        listed = api.ask("GET", path(namespace), labelSelector=selector([name]))
        label(api, namespace, name, step="1")
        label(api, namespace, name, step="2")
        status, events = api.watch(
            path(namespace),
            resourceVersion=listed.version,
            labelSelector=selector([name]),
            until=lambda events: len(events) >= 2,
            timeoutSeconds=2,
        )
        assert status == 200
        assert [(event["type"], event["object"]["metadata"]["labels"].get("step")) for event in events] == [
            ("MODIFIED", "1"),
            ("MODIFIED", "2"),
        ]


def test_a_watch_without_a_version_begins_with_what_is_there(api: Api, namespace: str) -> None:
    """As if it had just been added."""
    with created(api, namespace, 2) as names:
        _, events = api.watch(
            path(namespace),
            resourceVersion="0",
            labelSelector=selector(names),
            until=lambda events: len(events) >= 2,
            timeoutSeconds=3,
        )
        assert sorted(seen(events)) == [("ADDED", names[0]), ("ADDED", names[1])]


def test_a_watch_ends_in_time(api: Api, namespace: str) -> None:
    """The server ends it, in good order."""
    began = time.monotonic()
    status, events = api.watch(
        path(namespace), resourceVersion=version(api, namespace), labelSelector="case=none", timeoutSeconds=1
    )
    assert (status, events) == (200, [])
    assert 0.5 < time.monotonic() - began < 12  # with room for a machine that has other things to do


def test_an_expired_watch_says_so_in_the_stream(api: Api, namespace: str) -> None:
    """HTTP is fine; the first and only event is an ERROR with a `Status`."""
    status, events = api.watch(path(namespace), resourceVersion=LONG_AGO, timeoutSeconds=2)
    assert status == 200
    assert [event["type"] for event in events] == ["ERROR"]
    said = events[0]["object"]
    assert (said["kind"], said["code"], said["reason"]) == ("Status", 410, "Expired")


def test_an_exact_list_at_an_expired_version_is_gone(api: Api, namespace: str) -> None:
    """By HTTP, as it is no watch."""
    answer = api.ask("GET", path(namespace), resourceVersion=LONG_AGO, resourceVersionMatch="Exact")
    assert (answer.status, answer.body["reason"]) == (410, "Expired")


def test_a_version_from_the_future_times_out(api: Api, namespace: str) -> None:
    """The server may yet come to it; the cause says what it is about."""
    answer = api.ask("GET", path(namespace), resourceVersion=FUTURE, resourceVersionMatch="NotOlderThan")
    assert (answer.status, answer.body["reason"]) == (504, "Timeout")
    assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_a_stale_replace_is_a_conflict(api: Api, namespace: str) -> None:
    """Who writes over what he has not seen is refused; who has seen it is not."""
    with created(api, namespace) as (name,):
        before = api.ask("GET", path(namespace, name)).body
        now = label(api, namespace, name, step="1").body
        before["metadata"]["labels"]["step"] = "2"
        refused = api.ask("PUT", path(namespace, name), before)
        assert (refused.status, refused.body["reason"]) == (409, "Conflict")
        now["metadata"]["labels"]["step"] = "3"
        taken = api.ask("PUT", path(namespace, name), now)
        assert (taken.status, taken.body["metadata"]["labels"]["step"]) == (200, "3")


def test_an_invalid_pod_is_unprocessable(api: Api, namespace: str) -> None:
    """Each cause names its field."""
    body = pod("no-containers")
    body["spec"]["containers"] = []
    answer = api.ask("POST", path(namespace), body)
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert "spec.containers" in [cause["field"] for cause in answer.body["details"]["causes"]]
    assert api.ask("POST", path(namespace), pod("No_Such_Name")).status == 422


def test_a_bad_token_is_unauthorized(api: Api, namespace: str) -> None:
    """It is nobody's."""
    answer = api.ask("GET", path(namespace), _token="nobody-has-this-token")
    assert (answer.status, answer.body["reason"]) == (401, "Unauthorized")


def test_who_was_granted_nothing_is_forbidden(api: Api, namespace: str) -> None:
    """The message says who may not do what, and where."""
    answer = api.ask("GET", path(namespace), _as=NOBODY)
    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert f'User "{NOBODY}" cannot list resource "pods" in API group ""' in answer.body["message"]
    assert f'in the namespace "{namespace}"' in answer.body["message"]


def test_a_bookmark_comes_before_the_end(api: Api, namespace: str) -> None:
    """It has a version and no pod, and a watch from there misses nothing."""
    began = version(api, namespace)
    _, events = api.watch(
        path(namespace),
        resourceVersion=began,
        labelSelector="case=none",
        allowWatchBookmarks="true",
        timeoutSeconds=4,
    )
    assert [event["type"] for event in events] == ["BOOKMARK"]
    mark = events[0]["object"]
    assert mark["kind"] == "Pod"
    assert not mark["metadata"].get("name")
    with created(api, namespace) as (name,):
        _, events = api.watch(
            path(namespace),
            resourceVersion=mark["metadata"]["resourceVersion"],
            labelSelector=selector([name]),
            until=bool,
            timeoutSeconds=3,
        )
        assert seen(events) == [("ADDED", name)]


def test_bookmarks_come_to_who_asks_only(api: Api, namespace: str) -> None:
    """Who has not asked knows nothing of them."""
    _, events = api.watch(
        path(namespace), resourceVersion=version(api, namespace), labelSelector="case=none", timeoutSeconds=3
    )
    assert events == []


def test_a_deletion_is_told_twice(api: Api, namespace: str) -> None:
    """MODIFIED, with the time at which it was told to end, then DELETED."""
    with created(api, namespace) as (name,):
        began = version(api, namespace)
        api.ask("DELETE", path(namespace, name), gracePeriodSeconds=0)
        _, events = api.watch(
            path(namespace),
            resourceVersion=began,
            labelSelector=selector([name]),
            until=lambda events: "DELETED" in [event["type"] for event in events],
            timeoutSeconds=5,
        )
        assert seen(events) == [("MODIFIED", name), ("DELETED", name)]
        assert events[0]["object"]["metadata"]["deletionTimestamp"]
        assert events[0]["object"]["metadata"]["deletionGracePeriodSeconds"] == 0
        eventually(lambda: api.ask("GET", path(namespace, name)).status == 404)


def test_a_list_comes_in_pages(api: Api, namespace: str) -> None:
    """As many as asked for, with a token for the rest."""
    with created(api, namespace, 5) as names:
        page = api.ask("GET", path(namespace), labelSelector=selector(names), limit=2)
        assert len(page.body["items"]) == 2
        got = [item["metadata"]["name"] for item in page.body["items"]]
        while token := page.body["metadata"].get("continue"):
            query = {"labelSelector": selector(names), "limit": 2, "continue": token}
            page = api.ask("GET", path(namespace), **query)
            got += [item["metadata"]["name"] for item in page.body["items"]]
        assert got == sorted(names)


def test_what_remains_is_counted(api: Api, namespace: str) -> None:
    """Where no selector makes that expensive."""
    with created(api, namespace, 3):
        count = len(api.ask("GET", path(namespace)).body["items"])
        page = api.ask("GET", path(namespace), limit=1)
        assert page.body["metadata"]["remainingItemCount"] == count - 1


def test_pages_show_one_moment(api: Api, namespace: str) -> None:
    """What happens between two pages is in neither, and the version is the first one's."""
    with created(api, namespace, 2) as names:
        first = api.ask("GET", path(namespace), labelSelector=selector(names), limit=1)
        api.ask("DELETE", path(namespace, names[1]), gracePeriodSeconds=0)
        query = {"labelSelector": selector(names), "limit": 1, "continue": first.body["metadata"]["continue"]}
        second = api.ask("GET", path(namespace), **query)
        assert [item["metadata"]["name"] for item in second.body["items"]] == [names[1]]
        assert second.version == first.version


def test_initial_events_end_with_a_mark(api: Api, namespace: str) -> None:
    """A server that cannot stream them says so in the stream, and the client lists instead."""
    with created(api, namespace, 2) as names:
        status, events = api.watch(
            path(namespace),
            sendInitialEvents="true",
            resourceVersionMatch="NotOlderThan",
            allowWatchBookmarks="true",
            labelSelector=selector(names),
            until=lambda events: events[-1]["type"] in ("BOOKMARK", "ERROR") if events else False,
            timeoutSeconds=4,
        )
        assert status == 200
        if events[-1]["type"] == "ERROR":
            assert events[-1]["object"]["code"] == 500
            return
        assert sorted(seen(events[:-1])) == [("ADDED", name) for name in sorted(names)]
        assert events[-1]["type"] == "BOOKMARK"
        assert events[-1]["object"]["metadata"]["annotations"] == {INITIAL_EVENTS_END: "true"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("color=red", {0}),
        ("color==red", {0}),
        ("color!=red", {1, 2}),
        ("color in (red,blue)", {0, 1}),
        ("color notin (red)", {1, 2}),
        ("color", {0, 1}),
        ("!color", {2}),
        ("color,color!=red", {1}),
    ],
)
def test_labels_select(api: Api, namespace: str, text: str, wanted: set[int]) -> None:
    """Every form of a requirement, and several together."""
    with created(api, namespace, 3) as names:
        label(api, namespace, names[0], color="red")
        label(api, namespace, names[1], color="blue")
        answer = api.ask("GET", path(namespace), labelSelector=f"{selector(names)},{text}")
        assert {item["metadata"]["name"] for item in answer.body["items"]} == {names[number] for number in wanted}


def test_fields_select(api: Api, namespace: str) -> None:
    """Those of a pod that can; others are a bad request."""
    with created(api, namespace, 2) as names:
        for text, wanted in (
            (f"metadata.name={names[0]}", [names[0]]),
            (f"metadata.name!={names[0]}", [names[1]]),
            ("status.phase=Pending", names),
            ("status.phase=Running", []),
        ):
            answer = api.ask("GET", path(namespace), labelSelector=selector(names), fieldSelector=text)
            assert [item["metadata"]["name"] for item in answer.body["items"]] == wanted
        assert api.ask("GET", path(namespace), fieldSelector="spec.color=red").status == 400


def test_a_selector_that_cannot_be_read_is_refused(api: Api, namespace: str) -> None:
    """As a bad request."""
    answer = api.ask("GET", path(namespace), labelSelector="case in red")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")


def test_a_pod_that_no_longer_matches_is_deleted_to_the_watcher(api: Api, namespace: str) -> None:
    """And one that begins to match is added, though it was there before."""
    with created(api, namespace) as (name,):
        began = version(api, namespace)
        label(api, namespace, name, color="red")
        label(api, namespace, name, color=None)
        _, events = api.watch(
            path(namespace),
            resourceVersion=began,
            labelSelector=f"{selector([name])},color=red",
            until=lambda events: len(events) >= 2,
            timeoutSeconds=3,
        )
        assert seen(events) == [("ADDED", name), ("DELETED", name)]


def test_a_namespace_is_its_own(api: Api, namespace: str) -> None:
    """Others' pods are not in its list; one that does not exist is an empty list, and takes no pods."""
    with created(api, namespace) as (name,):
        elsewhere = api.ask("GET", path("default"), labelSelector=selector([name]))
        assert elsewhere.body["items"] == []
        everywhere = api.ask("GET", "/api/v1/pods", labelSelector=selector([name]))
        assert [item["metadata"]["name"] for item in everywhere.body["items"]] == [name]
    assert api.ask("GET", path(f"{namespace}-none")).body["items"] == []
    assert api.ask("POST", path(f"{namespace}-none"), pod("a")).status == 404


def test_a_name_is_taken_once(api: Api, namespace: str) -> None:
    """A second creation conflicts."""
    with created(api, namespace) as (name,):
        answer = api.ask("POST", path(namespace), pod(name))
        assert (answer.status, answer.body["reason"]) == (409, "AlreadyExists")


def test_a_status_is_written_by_its_own_door(api: Api, namespace: str) -> None:
    """A replace of the pod leaves the status alone, and a status patch leaves the labels."""
    with created(api, namespace) as (name,):
        body = api.ask("GET", path(namespace, name)).body
        body["status"]["podIP"] = "10.1.2.3"
        body["metadata"]["labels"]["step"] = "1"
        assert api.ask("PUT", path(namespace, name), body).status == 200
        assert "podIP" not in api.ask("GET", path(namespace, name)).body["status"]
        patch = {"metadata": {"labels": {"step": "2"}}, "status": {"phase": "Running", "podIP": "10.1.2.3"}}
        assert api.ask("PATCH", path(namespace, name, "status"), patch, _type=MERGE).status == 200
        now = api.ask("GET", path(namespace, name)).body
        assert (now["status"]["podIP"], now["metadata"]["labels"]["step"]) == ("10.1.2.3", "1")


def test_every_change_has_a_version_of_its_own(api: Api, namespace: str) -> None:
    """And a change of nothing has none."""
    with created(api, namespace) as (name,):
        versions = [api.ask("GET", path(namespace, name)).version]
        versions += [label(api, namespace, name, step=str(number)).version for number in range(3)]
        assert len(set(versions)) == 4
        assert label(api, namespace, name, step="2").version == versions[-1]


def test_a_change_of_nothing_is_no_event(api: Api, namespace: str) -> None:
    """Nobody is told of it."""
    with created(api, namespace) as (name,):
        label(api, namespace, name, step="1")
        began = version(api, namespace)
        label(api, namespace, name, step="1")
        label(api, namespace, name, step="2")
        _, events = api.watch(
            path(namespace), resourceVersion=began, labelSelector=selector([name]), until=bool, timeoutSeconds=3
        )
        assert [event["object"]["metadata"]["labels"]["step"] for event in events] == ["2"]


def test_a_strategic_merge_joins_conditions(api: Api, namespace: str) -> None:
    """By their type: who writes one leaves the others."""
    with created(api, namespace) as (name,):
        for kind in ("Ready", "ContainersReady"):
            patch = {"status": {"conditions": [{"type": kind, "status": "True"}]}}
            assert api.ask("PATCH", path(namespace, name, "status"), patch, _type=STRATEGIC).status == 200
        conditions = api.ask("GET", path(namespace, name)).body["status"]["conditions"]
        assert {"Ready", "ContainersReady"} <= {condition["type"] for condition in conditions}


def test_a_pod_that_is_unknown_is_not_found(api: Api, namespace: str) -> None:
    """With its name and kind in the details."""
    answer = api.ask("GET", path(namespace, "nobody"))
    assert (answer.status, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["details"] == {"name": "nobody", "kind": "pods"}


def test_a_watch_hears_what_happens_while_it_is_open(api: Api, namespace: str) -> None:
    """At once, not when it ends: what is done once it has told of something, it tells of as well."""
    with created(api, namespace) as (name,):
        began = version(api, namespace)
        label(api, namespace, name, step="1")

        def heard(events: list[Any]) -> bool:
            if len(events) == 1:
                label(api, namespace, name, step="2")
            return len(events) > 1

        _, events = api.watch(
            path(namespace), resourceVersion=began, labelSelector=selector([name]), until=heard, timeoutSeconds=10
        )
        assert seen(events) == [("MODIFIED", name)] * 2
