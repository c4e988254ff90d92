"""What leads from one set of pods to another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvsync.fleet import Pod, difference

PODS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["m", "n"])).map(
    lambda models: {name: Pod(name, "http://h", model) for name, model in models.items()}
)


@given(PODS, PODS)
def test_the_changes_lead_from_one_set_to_the_other(before: dict[str, Pod], after: dict[str, Pod]) -> None:
    """Applied in order, each change fits what is there, and the end is the other set."""
    pods = dict(before)
    for change in difference(before, after):
        assert pods.get(change.name) == change.before
        if change.after is None:
            del pods[change.name]
        else:
            pods[change.name] = change.after
    assert pods == after


def test_what_stays_the_same_is_no_change() -> None:
    """Equal sets differ in nothing."""
    pods = {"a": Pod("a", "http://h", "m")}
    assert difference(pods, dict(pods)) == []
