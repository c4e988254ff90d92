"""
What a test makes the double do: faults of a real API server, and unfaithfulness that a conformance case must notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Sabotage(StrEnum):
    """Ways to misbehave, one for each point that the conformance cases check."""

    WATCH_FROM_NOW = "a watch ignores the version and begins now"
    WATCH_REPEATS = "a watch sends what the version already holds"
    EXPIRED_WATCH_IS_SILENT = "a watch from an expired version begins now"
    EXPIRED_WATCH_IS_HTTP = "a watch from an expired version is an HTTP 410"
    EXPIRED_LIST_IS_SERVED = "a list at an expired version is a list of now"
    FUTURE_IS_SERVED = "a version from the future is served"
    STALE_REPLACE = "a stale replace is taken"
    INVALID_POD = "an invalid pod is taken"
    BAD_TOKEN = "a bad token is the admin's"
    NO_RBAC = "everybody may do everything"
    NO_BOOKMARKS = "no bookmark is sent"
    BOOKMARKS_UNASKED = "bookmarks are sent unasked"
    DELETE_WITHOUT_MODIFIED = "a deletion sends no MODIFIED"
    LIMIT_IGNORED = "a limit is ignored"
    NO_REMAINING = "what remains of a list is not counted"
    PAGES_OF_NOW = "later pages show the present"
    NO_INITIAL_END = "the end of the initial events is not marked"
    LABELS_IGNORED = "label selectors are ignored"
    FIELDS_IGNORED = "field selectors are ignored"
    UNSELECTED_STAYS = "a pod that no longer matches is not told"
    NAMESPACES_IGNORED = "namespaces are ignored"
    STATUS_WITH_REPLACE = "a replace takes the status too"
    SPEC_WITH_STATUS = "a status patch takes labels too"
    VERSIONS_STAND = "a change keeps the version"
    NOOP_IS_WRITTEN = "a change of nothing is a change"
    DUPLICATES = "a name may be taken twice"
    STRATEGIC_REPLACES = "a strategic merge replaces lists"
    TIMEOUT_IGNORED = "a watch does not end in time"
    WATCH_FROM_NOTHING = "a watch without a version begins with nothing"
    WATCH_IS_LATE = "a watch tells only when it ends"
    SELECTOR_JUNK = "a selector that cannot be read matches all"
    NOT_FOUND_IS_EMPTY = "what is not there is an empty object"


@dataclass(slots=True)
class Faults:
    """What goes wrong at the moment; each field is a switch or a counter of requests."""

    slow_s: float = 0.0
    throttled: int = 0
    failing: int = 0
    initial_events_fail: bool = False
    sabotage: Sabotage | None = None

    def does(self, sabotage: Sabotage) -> bool:
        """Whether it is unfaithful in this point."""
        return self.sabotage is sabotage
