"""
The conformance cases against the double: each passes, and each fails when the double misbehaves in that point.

`tests/conformance` runs the same cases against whatever a kubeconfig names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.conformance import test_pods_api as cases
from tests.conformance.client import Api

from kvsync.testing.apiserver.faults import Sabotage
from kvsync.testing.apiserver.process import ApiServerProcess

CAUGHT_BY: dict[Sabotage, Callable[..., None]] = {
    Sabotage.WATCH_FROM_NOW: cases.test_a_watch_begins_after_the_lists_version,
    Sabotage.WATCH_REPEATS: cases.test_a_watch_begins_after_the_lists_version,
    Sabotage.EXPIRED_WATCH_IS_SILENT: cases.test_an_expired_watch_says_so_in_the_stream,
    Sabotage.EXPIRED_WATCH_IS_HTTP: cases.test_an_expired_watch_says_so_in_the_stream,
    Sabotage.EXPIRED_LIST_IS_SERVED: cases.test_an_exact_list_at_an_expired_version_is_gone,
    Sabotage.FUTURE_IS_SERVED: cases.test_a_version_from_the_future_times_out,
    Sabotage.STALE_REPLACE: cases.test_a_stale_replace_is_a_conflict,
    Sabotage.INVALID_POD: cases.test_an_invalid_pod_is_unprocessable,
    Sabotage.BAD_TOKEN: cases.test_a_bad_token_is_unauthorized,
    Sabotage.NO_RBAC: cases.test_who_was_granted_nothing_is_forbidden,
    Sabotage.NO_BOOKMARKS: cases.test_a_bookmark_comes_before_the_end,
    Sabotage.BOOKMARKS_UNASKED: cases.test_bookmarks_come_to_who_asks_only,
    Sabotage.DELETE_WITHOUT_MODIFIED: cases.test_a_deletion_is_told_twice,
    Sabotage.LIMIT_IGNORED: cases.test_a_list_comes_in_pages,
    Sabotage.NO_REMAINING: cases.test_what_remains_is_counted,
    Sabotage.PAGES_OF_NOW: cases.test_pages_show_one_moment,
    Sabotage.NO_INITIAL_END: cases.test_initial_events_end_with_a_mark,
    Sabotage.LABELS_IGNORED: cases.test_labels_select,
    Sabotage.FIELDS_IGNORED: cases.test_fields_select,
    Sabotage.UNSELECTED_STAYS: cases.test_a_pod_that_no_longer_matches_is_deleted_to_the_watcher,
    Sabotage.NAMESPACES_IGNORED: cases.test_a_namespace_is_its_own,
    Sabotage.STATUS_WITH_REPLACE: cases.test_a_status_is_written_by_its_own_door,
    Sabotage.SPEC_WITH_STATUS: cases.test_a_status_is_written_by_its_own_door,
    Sabotage.VERSIONS_STAND: cases.test_every_change_has_a_version_of_its_own,
    Sabotage.NOOP_IS_WRITTEN: cases.test_a_change_of_nothing_is_no_event,
    Sabotage.DUPLICATES: cases.test_a_name_is_taken_once,
    Sabotage.STRATEGIC_REPLACES: cases.test_a_strategic_merge_joins_conditions,
    Sabotage.TIMEOUT_IGNORED: cases.test_a_watch_ends_in_time,
    Sabotage.WATCH_FROM_NOTHING: cases.test_a_watch_without_a_version_begins_with_what_is_there,
    Sabotage.WATCH_IS_LATE: cases.test_a_watch_hears_what_happens_while_it_is_open,
    Sabotage.SELECTOR_JUNK: cases.test_a_selector_that_cannot_be_read_is_refused,
    Sabotage.NOT_FOUND_IS_EMPTY: cases.test_a_pod_that_is_unknown_is_not_found,
}

CASES = [case for name, case in inspect.getmembers(cases, inspect.isfunction) if name.startswith("test_")]


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServerProcess]:
    """One double for all."""
    with ApiServerProcess(tmp_path_factory.mktemp("apiserver")) as double:
        yield double


@pytest.fixture(scope="module")
def api(double: ApiServerProcess) -> Iterator[Api]:
    """Its admin."""
    api = Api(str(double.kubeconfig()))
    api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "here"}})
    yield api
    api.close()


def run(case: Callable[..., None], api: Api) -> None:
    """Run a case, with the first of its parameters where it has some."""
    for mark in getattr(case, "pytestmark", []):
        for values in mark.args[1]:
            case(api, "here", **dict(zip(mark.args[0], values, strict=True)))
        return
    case(api, "here")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_double_conforms(double: ApiServerProcess, api: Api, case: Any) -> None:
    """Every case passes."""
    double.do("sabotage", None)
    run(case, api)


@pytest.mark.parametrize("sabotage", list(Sabotage), ids=lambda sabotage: sabotage.name.lower())
def test_misbehaviour_is_caught(double: ApiServerProcess, api: Api, sabotage: Sabotage) -> None:
    """By the case that is about it."""
    double.do("sabotage", sabotage.name)
    try:
        with pytest.raises((AssertionError, KeyError, IndexError, TypeError)):
            run(CAUGHT_BY[sabotage], api)
    finally:
        double.do("sabotage", None)


def test_every_case_can_fail() -> None:
    """There is a misbehaviour for each; one that nothing breaks would prove nothing."""
    assert {case.__name__ for case in CASES} == {case.__name__ for case in CAUGHT_BY.values()}
