"""A lock that is handed on to whoever waits for it."""

from __future__ import annotations

import threading
import time

from tests.patience import PATIENCE_S

from kvsync.stream.fairlock import FairLock

ROUNDS = 50
TURN_S = 0.001


def spin() -> None:
    """Be busy for a turn."""
    end = time.perf_counter() + TURN_S
    while time.perf_counter() < end:
        pass


def test_who_waits_has_it_before_another_takes_it_again() -> None:
    """A thread that gives it back and takes it again at once finds that whoever waited has had it meanwhile."""
    lock, over = FairLock(), threading.Event()
    taken = met = passed_over = 0

    def hog() -> None:
        nonlocal met, passed_over
        waited_at: int | None = None
        while not over.is_set():
            with lock:
                if waited_at is not None:
                    met, passed_over = met + 1, passed_over + (taken == waited_at)
                spin()
                waited_at = taken if lock._door.locked() else None

    thread = threading.Thread(target=hog)
    thread.start()
    end = time.monotonic() + PATIENCE_S
    while met < ROUNDS and time.monotonic() < end:
        with lock:
            taken += 1
        time.sleep(TURN_S)
    over.set()
    thread.join()
    assert (met >= ROUNDS, passed_over) == (True, 0)


def test_its_owner_may_take_it_again() -> None:
    """It is free once it has been given back as often."""
    lock, had = FairLock(), threading.Event()

    def other() -> None:
        with lock:
            had.set()

    thread = threading.Thread(target=other)
    with lock:
        lock.acquire()
        assert repr(lock) == "<FairLock held>"
        lock.release()
        thread.start()
        assert not had.wait(0.05)
    thread.join()
    assert had.is_set()
    assert repr(lock) == "<FairLock free>"
