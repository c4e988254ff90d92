"""When a missing event stream is told."""

from __future__ import annotations

from kvsync.serve.absence import PATIENCE_S, Absence, News


def test_a_stream_that_never_comes_is_told_once() -> None:
    """After some patience, and then no more."""
    absence = Absence()
    told = [absence.look("a", connected=False, now=float(second)) for second in range(100)]
    assert told.index(News.MISSING) == PATIENCE_S
    assert told.count(None) == 99


def test_that_it_comes_is_told_once() -> None:
    """Whether its absence was told or not."""
    absence = Absence()
    for pod, first in (("a", 0.0), ("b", PATIENCE_S)):
        absence.look(pod, connected=False, now=0.0)
        absence.look(pod, connected=False, now=first)
        assert absence.look(pod, connected=True, now=9.0) is News.CAME
        assert absence.look(pod, connected=True, now=99.0) is None


def test_a_stream_that_is_lost_again_is_told_again() -> None:
    """With the same patience."""
    absence = Absence()
    absence.look("a", connected=True, now=0.0)
    assert absence.look("a", connected=False, now=10.0) is None
    assert absence.look("a", connected=False, now=9.9 + PATIENCE_S) is None
    assert absence.look("a", connected=False, now=10.0 + PATIENCE_S) is News.MISSING


def test_a_pod_that_goes_is_forgotten() -> None:
    """One of its name begins anew."""
    absence = Absence()
    absence.look("a", connected=False, now=0.0)
    absence.keep_only({"b"})
    assert absence.look("a", connected=False, now=10.0) is None
