"""What comes of each thing a stream can do, told one by one; tests/unit/testing/faults mixes them."""

from __future__ import annotations

import pytest

from kvsync.stream.answers import OVERSIZE_ROW_MAX
from kvsync.stream.instructions import Apply, Confirm, Doubt, Drop, Empty, Instruction, RequestReplay, Reset
from kvsync.stream.life import MISSED
from kvsync.stream.options import SequenceOptions
from kvsync.stream.sequence import Bookmark, Replay, Sequence, digest, feed

OPTIONS = SequenceOptions(
    waiting_frames_max=4, waiting_bytes_max=100, replay_timeout_s=3.0, replay_attempts=2, probe_idle_s=10.0
)
END = Drop("end_marker")
DUPLICATE = Drop("duplicate")


def payload(number: int, life: int = 0) -> bytes:
    """
    A batch that no other number and no other life has.
    """
    return f"{life}:{number}".encode()


def applies(*numbers: int, life: int = 0) -> tuple[Instruction, ...]:
    """
    The instructions to apply these.
    """
    return tuple(Apply(number, payload(number, life)) for number in numbers)


def live(sequence: Sequence, number: int, life: int = 0, now: float = 0.0) -> tuple[Instruction, ...]:
    """
    Tell a live batch.
    """
    return sequence.live(number, payload(number, life), now)


def replayed(sequence: Sequence, number: int, life: int = 0, now: float = 0.0) -> tuple[Instruction, ...]:
    """
    Tell a replayed batch.
    """
    return sequence.replayed(number, payload(number, life), now)


def is_balanced(sequence: Sequence) -> bool:
    """
    Whether every frame is accounted for.
    """
    counters = sequence.counters
    known = counters.applied + counters.duplicate + sum(counters.dropped.values()) + sequence.waiting
    return counters.received == known


def following(count: int, replay: Replay = Replay.ASKED) -> Sequence:
    """
    A sequence that has met an engine at its beginning and heard `count` batches live.
    """
    sequence = Sequence(OPTIONS, replay=replay)
    sequence.connect(0.0)
    if replay is Replay.ASKED:
        sequence.replay_ended(0.0)
    for number in range(count):
        assert live(sequence, number) == applies(number)
    return sequence


# ---------------------------------------------------------------------- first contact


def test_the_first_connection_asks_from_the_beginning() -> None:
    """A replay from 0 is asked for without waiting for a live frame."""
    assert Sequence(OPTIONS).connect(0.0) == (RequestReplay(0),)


def test_a_late_contact_is_caught_up_by_the_replay() -> None:
    """Live frames wait until the replay has reached them."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    assert live(sequence, 2) == ()
    assert replayed(sequence, 0) == applies(0)
    assert replayed(sequence, 1) == applies(1)
    assert replayed(sequence, 2) == (DUPLICATE, *applies(2))
    assert sequence.replay_ended(0.0) == (END,)
    assert sequence.state == "live"


def test_a_wrapped_buffer_is_accepted_at_first_contact() -> None:
    """An answer that begins later than 0 is the beginning there is."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    assert replayed(sequence, 7) == applies(7)
    assert replayed(sequence, 8) == applies(8)
    assert sequence.counters.unfilled == 0


def test_a_replay_may_run_ahead_of_the_live_stream() -> None:
    """Live numbers below the highest applied are duplicates as long as none goes back."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    for number in range(4):
        replayed(sequence, number)
    assert live(sequence, 2) == (DUPLICATE,)
    assert live(sequence, 3) == (DUPLICATE,)
    assert live(sequence, 4) == applies(4)
    assert sequence.counters.restarts == 0


def test_an_empty_engine_says_nothing() -> None:
    """The bare end marker of an engine that has published nothing changes nothing."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    assert sequence.replay_ended(0.0) == (END,)
    assert live(sequence, 0) == applies(0)


# ---------------------------------------------------------------------- gaps


def test_a_gap_is_asked_for_from_the_last_batch() -> None:
    """The frame above a gap waits, and one request is sent for however many follow it; its answer proves itself."""
    sequence = following(3)
    assert live(sequence, 5) == (RequestReplay(2),)
    assert live(sequence, 6) == ()
    assert replayed(sequence, 2) == (DUPLICATE,)
    assert replayed(sequence, 3) == applies(3)
    assert replayed(sequence, 4) == applies(4)
    assert replayed(sequence, 5) == (DUPLICATE, *applies(5))
    assert sequence.replay_ended(0.0) == (END, *applies(6))
    assert sequence.counters.gaps == 1


def test_a_gap_that_a_whole_answer_lacks_is_passed_over() -> None:
    """A complete answer without the missing number shows that it is gone."""
    sequence = following(3)
    live(sequence, 4)
    assert replayed(sequence, 2) == (DUPLICATE,)
    assert replayed(sequence, 4) == (DUPLICATE, *applies(4))
    assert sequence.counters.unfilled == 1


def test_a_gap_newer_than_the_answer_is_asked_for() -> None:
    """A hole that opened after the question was put is not given up for its answer."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    live(sequence, 2)
    assert sequence.replay_ended(0.0) == (END, RequestReplay(0))


def test_a_hole_inside_an_answer_is_asked_for_at_once() -> None:
    """Contiguity is checked inside the answer; it is resumed from the first hole, and what came above it is kept."""
    sequence = following(2)
    live(sequence, 6)
    replayed(sequence, 1)
    assert replayed(sequence, 2) == applies(2)
    assert replayed(sequence, 4) == (RequestReplay(2),)
    assert replayed(sequence, 2) == (DUPLICATE,)
    assert replayed(sequence, 3) == applies(3)
    assert replayed(sequence, 4) == (DUPLICATE, *applies(4))
    assert replayed(sequence, 5) == applies(5)
    assert replayed(sequence, 6) == (DUPLICATE, *applies(6))


def test_an_answer_in_the_wrong_order_is_dropped() -> None:
    """A number at or below the one before it in the same answer is dropped, and does not put off the timeout."""
    sequence = following(2)
    live(sequence, 6)
    replayed(sequence, 1)
    replayed(sequence, 2)
    assert replayed(sequence, 2, now=2.9) == (Drop("replay_order"),)
    assert sequence.tick(3.0) == (RequestReplay(2),)


def test_frames_of_a_replay_nobody_asked_for_are_dropped() -> None:
    """Without a question there is no answer."""
    assert replayed(following(2), 2) == (Drop("unasked"),)


def test_waiting_frames_are_bounded_and_asked_for_again() -> None:
    """On overflow all that waits is thrown away, counted, and part of the next answer."""
    sequence = following(1)
    for number in range(2, 6):
        live(sequence, number)
    assert sequence.waiting == 4
    assert live(sequence, 6) == (Drop("overflow"),)
    assert (sequence.waiting, sequence.counters.dropped["overflow"]) == (0, 5)
    replayed(sequence, 0)
    assert replayed(sequence, 1) == applies(1)
    assert sequence.replay_ended(0.0) == (END, RequestReplay(1))
    assert is_balanced(sequence)


def test_waiting_frames_are_bounded_in_bytes() -> None:
    """A few large frames overflow like many small ones."""
    sequence = following(1)
    assert sequence.live(2, bytes(60), 0.0) == (RequestReplay(0),)
    assert sequence.live(3, bytes(60), 0.0) == (Drop("overflow"),)


def test_what_was_thrown_away_and_is_not_to_be_had_again_is_doubted() -> None:
    """Where no later number would show the loss, the record is doubted outright."""
    sequence = following(1)
    for number in range(2, 7):
        live(sequence, number)
    assert sequence.tick(3.0) == (RequestReplay(0),)
    assert sequence.tick(6.0) == (Doubt("overflow"),)
    assert live(sequence, 7) == applies(7)


def test_a_replay_without_progress_is_asked_for_again_and_then_given_up() -> None:
    """Two timeouts in a row end the patience; the frames that waited apply over the hole."""
    sequence = following(1)
    assert live(sequence, 2) == (RequestReplay(0),)
    assert sequence.tick(2.9) == ()
    assert sequence.tick(3.0) == (RequestReplay(0),)
    assert sequence.tick(6.0) == applies(2)
    assert sequence.replay_available is False
    assert sequence.counters.unfilled == 1


def test_a_port_that_failed_gets_one_chance_until_it_answers() -> None:
    """Frames do not wait twice as long at each gap for a port that is dead."""
    sequence = following(1)
    live(sequence, 2)
    sequence.tick(3.0)
    sequence.tick(6.0)
    assert live(sequence, 4, now=6.0) == (RequestReplay(2),)
    assert sequence.tick(9.0) == applies(4)
    live(sequence, 6, now=9.0)
    sequence.replay_ended(9.0)
    live(sequence, 8, now=9.0)
    assert sequence.tick(12.0) == (RequestReplay(6),)


def test_progress_renews_patience() -> None:
    """An answer that stops half-way is resumed as often as each brings something."""
    sequence = following(1)
    live(sequence, 9)
    replayed(sequence, 0)
    for number in range(1, 6):
        assert replayed(sequence, number, now=number * 3.0) == applies(number)
        assert sequence.tick(number * 3.0 + 3.0) == (RequestReplay(number),)
        replayed(sequence, number, now=number * 3.0 + 3.0)


def test_without_a_port_a_gap_is_passed_over_at_once() -> None:
    """Nothing waits where nothing can come."""
    sequence = following(2, Replay.NONE)
    assert live(sequence, 4) == applies(4)
    assert (sequence.counters.gaps, sequence.counters.unfilled, sequence.waiting) == (1, 1, 0)


# ---------------------------------------------------------------------- restarts


@pytest.mark.parametrize("replay", [Replay.ASKED, Replay.NONE])
def test_a_live_stream_that_goes_back_is_a_new_life(replay: Replay) -> None:
    """The record is reset at once; a new life heard from 0 needs no replay."""
    sequence = following(5, replay)
    instructions = live(sequence, 0, life=1)
    assert isinstance(instructions[0], Reset)
    assert instructions[1:] == applies(0, life=1)
    assert sequence.counters.restarts == 1


def test_the_same_number_again_is_a_new_life() -> None:
    """The live stream never repeats a number within a life."""
    sequence = following(5)
    instructions = live(sequence, 4, life=1)
    assert isinstance(instructions[0], Reset)
    assert instructions[1:] == (RequestReplay(0),)


def test_a_known_number_with_other_bytes_is_a_new_life() -> None:
    """A live frame that contradicts what a replay brought is of another life."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    replayed(sequence, 0)
    replayed(sequence, 1)
    instructions = live(sequence, 1, life=1)
    assert isinstance(instructions[0], Reset)
    assert instructions[1:] == (RequestReplay(0),)


def test_frames_of_the_old_life_that_waited_are_dropped() -> None:
    """They are counted under a reason of their own."""
    sequence = following(2)
    live(sequence, 4)
    live(sequence, 0, life=1)
    assert sequence.counters.dropped["old_life"] == 1
    assert is_balanced(sequence)


def test_a_replayed_batch_that_contradicts_a_waiting_one_is_a_new_life() -> None:
    """What waits is known too."""
    sequence = following(2)
    live(sequence, 4)
    replayed(sequence, 2)
    instructions = replayed(sequence, 4, life=1)
    assert instructions[0] == Drop("restart")
    assert isinstance(instructions[1], Reset)


def test_only_so_many_numbers_are_remembered() -> None:
    """What was forgotten counts as a duplicate when it comes again, whatever its bytes."""
    sequence = Sequence(SequenceOptions(digests_max=2))
    sequence.connect(0.0)
    for number in range(4):
        replayed(sequence, number)
    assert live(sequence, 1, life=1) == (DUPLICATE,)
    assert isinstance(live(sequence, 2, life=1)[0], Reset)


def test_a_new_life_has_no_oversize_numbers() -> None:
    """A number that was too large in the old life is an ordinary one in the new."""
    sequence = following(1)
    live(sequence, 2)
    sequence.oversize()
    live(sequence, 0, life=1)
    for number in (1, 2, 3):
        assert live(sequence, number, life=1) == applies(number, life=1)


# ---------------------------------------------------------------------- connections


def test_a_reconnection_verifies_the_last_batch() -> None:
    """The same bytes are the same life; live frames wait for that, and what was missed follows."""
    sequence = following(3)
    sequence.disconnect()
    assert sequence.state == "disconnected"
    assert sequence.connect(1.0) == (RequestReplay(2),)
    assert live(sequence, 4) == ()
    assert replayed(sequence, 2) == (DUPLICATE,)
    assert replayed(sequence, 3) == applies(3)
    assert replayed(sequence, 4) == (DUPLICATE, *applies(4))
    assert sequence.counters.restarts == 0


def test_a_frame_that_follows_waits_for_the_verification() -> None:
    """The next number proves nothing: a new life may have passed the old number."""
    sequence = following(3)
    sequence.connect(1.0)
    assert live(sequence, 3, life=1) == ()
    instructions = replayed(sequence, 2, life=1)
    assert instructions[0] == Drop("restart")
    assert isinstance(instructions[1], Reset)
    assert instructions[2:] == (RequestReplay(0),)
    assert sequence.counters.dropped["old_life"] == 1


def test_an_empty_buffer_is_a_new_life() -> None:
    """A living engine keeps its last batch: a bare end marker means a new life without any."""
    sequence = following(3)
    sequence.connect(1.0)
    instructions = sequence.replay_ended(1.0)
    assert isinstance(instructions[1], Reset)
    assert instructions[2:] == (RequestReplay(0),)
    assert sequence.replay_ended(1.0) == (END, Empty())
    assert live(sequence, 0, life=1) == applies(0, life=1)


def test_a_wrapped_buffer_cannot_be_verified() -> None:
    """An answer that begins right behind the last batch is kept, and doubted."""
    sequence = following(3)
    sequence.connect(1.0)
    assert replayed(sequence, 3) == (Doubt("wrapped"), *applies(3))


def test_a_wrapped_buffer_with_a_hole_is_told_by_its_numbers() -> None:
    """Where the numbers jump the index needs no other sign."""
    sequence = following(3)
    sequence.connect(1.0)
    assert replayed(sequence, 5) == applies(5)
    assert sequence.counters.unfilled == 1


def test_a_verification_that_fails_is_doubted() -> None:
    """What cannot be verified is not silently believed."""
    sequence = following(3)
    sequence.connect(0.0)
    live(sequence, 3)
    assert sequence.tick(3.0) == (RequestReplay(2),)
    assert sequence.tick(6.0) == (*applies(3), Doubt("unverified"))


def test_a_reconnection_without_a_port_is_doubted() -> None:
    """Nothing can prove that it is the same life."""
    sequence = following(3, Replay.NONE)
    assert sequence.connect(1.0) == (Doubt("unverified"),)


def test_frames_read_along_with_a_reconnection_are_left_to_the_answer() -> None:
    """They may be of either connection; the answer that is on its way holds those that matter."""
    sequence = following(3)
    sequence.connect(1.0, unread=1)
    assert live(sequence, 3) == (Drop("reconnect"),)
    assert replayed(sequence, 2) == (DUPLICATE,)
    assert replayed(sequence, 3) == applies(3)


def test_frames_read_along_with_a_reconnection_cost_trust_without_a_port() -> None:
    """Where no answer will come they are applied and doubted."""
    sequence = following(3, Replay.NONE)
    sequence.connect(1.0, unread=1)
    assert live(sequence, 3) == (*applies(3), Doubt("unverified"))
    assert live(sequence, 4) == applies(4)


def test_frames_of_a_life_in_between_are_not_taken_for_the_newest() -> None:
    """After two connections in a row a number that goes back may be of either new life."""
    sequence = following(5)
    sequence.connect(1.0)
    assert sequence.connect(2.0, unread=1) == (RequestReplay(4),)
    assert live(sequence, 0, life=1) == (Drop("reconnect"),)


def test_an_oversize_frame_does_not_end_a_verification() -> None:
    """What waits for it goes on waiting."""
    sequence = following(3)
    sequence.connect(1.0)
    live(sequence, 3)
    assert sequence.oversize() == ()
    assert replayed(sequence, 2) == (DUPLICATE,)
    assert replayed(sequence, 3) == (DUPLICATE, *applies(3), Doubt("oversize"))
    assert sequence.applied == 4


def test_nothing_is_given_up_while_nobody_is_connected() -> None:
    """A replay that fails then is asked for anew by the next connection."""
    sequence = following(2)
    live(sequence, 4)
    sequence.disconnect()
    assert sequence.tick(100.0) == ()
    assert sequence.waiting == 1
    assert sequence.connect(100.0) == (RequestReplay(1),)


def test_a_bookmark_is_verified_like_a_reconnection() -> None:
    """A later process goes on from the last batch if the engine still has it."""
    mark = following(3).bookmark
    assert mark == Bookmark(2, digest(payload(2)))
    sequence = Sequence(OPTIONS, bookmark=mark)
    assert sequence.connect(0.0) == (RequestReplay(2),)
    assert replayed(sequence, 2) == (Confirm(), DUPLICATE)
    assert replayed(sequence, 3) == applies(3)
    assert sequence.counters.reconnects == 0


@pytest.mark.parametrize("first", [1, 3, 4])
def test_a_bookmark_that_is_not_met_is_not_confirmed(first: int) -> None:
    """Other bytes under its number, or an answer that begins behind it, confirm nothing."""
    sequence = Sequence(OPTIONS, bookmark=Bookmark(2, b"otherwise"))
    sequence.connect(0.0)
    out = replayed(sequence, first) + (replayed(sequence, 2) if first < 2 else ())
    assert Confirm() not in out
    assert any(isinstance(one, Doubt | Reset | Apply) for one in out)


def test_a_bookmark_without_a_replay_port_is_doubted() -> None:
    """Where nothing can be asked, nothing can be confirmed."""
    sequence = Sequence(OPTIONS, replay=Replay.NONE, bookmark=Bookmark(2, b"digest"))
    assert sequence.connect(0.0) == (Doubt("unverified"),)


# ---------------------------------------------------------------------- silence


@pytest.mark.parametrize("phase", [0.0, 0.5, 0.999])
def test_a_silent_stream_is_probed_in_time(phase: float) -> None:
    """Whatever the phase, a probe is sent within the allowed silence."""
    sequence = Sequence(OPTIONS, phase=phase)
    sequence.connect(0.0)
    sequence.replay_ended(0.0)
    live(sequence, 0)
    asked_at = next(now / 10 for now in range(1000) if sequence.tick(now / 10))
    assert 0 < asked_at <= OPTIONS.probe_idle_s
    assert sequence.asked == 0
    assert sequence.state == "live"


def test_a_stream_that_is_heard_is_not_probed() -> None:
    """Each live frame puts the probe off."""
    sequence = following(1)
    live(sequence, 1, now=8.0)
    assert sequence.tick(9.0) == ()
    assert sequence.tick(18.0) == (RequestReplay(1),)


def test_a_probe_may_be_withheld() -> None:
    """A fleet sends its probes one after the other."""
    sequence = following(1)
    assert sequence.wants_probe(9.0)
    assert sequence.tick(9.0, may_probe=False) == ()
    assert sequence.tick(9.0) == (RequestReplay(0),)


def test_live_frames_go_on_during_a_probe() -> None:
    """Only a reconnection raises the question whose frames they are."""
    sequence = following(1)
    sequence.tick(9.0)
    assert live(sequence, 1, now=9.0) == applies(1)
    assert replayed(sequence, 0, now=9.0) == (DUPLICATE,)
    assert replayed(sequence, 1, now=9.0) == (DUPLICATE,)
    assert sequence.replay_ended(9.0) == (END,)


def test_a_probe_finds_a_lost_tail() -> None:
    """Batches behind the last heard are applied."""
    sequence = following(1)
    sequence.tick(9.0)
    replayed(sequence, 0)
    assert replayed(sequence, 1) == applies(1)


def test_a_probe_without_an_answer_changes_nothing() -> None:
    """Silence proves nothing, and the next gap has all its attempts."""
    sequence = following(1)
    sequence.tick(9.0)
    assert sequence.tick(12.0) == ()
    live(sequence, 2, now=12.0)
    assert sequence.tick(15.0) == (RequestReplay(0),)


def test_a_buffer_without_room_is_not_taken_for_a_restart() -> None:
    """An engine that keeps nothing for replay answers nothing, though it has just published."""
    sequence = following(1)
    live(sequence, 2)
    sequence.replay_ended(0.0)
    assert sequence.applied == 2
    sequence.tick(20.0)
    assert sequence.replay_ended(20.0) == (END,)
    assert sequence.counters.restarts == 0


def test_a_buffer_that_has_room_again_is_believed_again() -> None:
    """One batch in an answer shows that it keeps some, and from then on nothing at all is a new life."""
    sequence = following(1)
    live(sequence, 2)
    sequence.replay_ended(0.0)
    sequence.connect(1.0)
    replayed(sequence, 2)
    sequence.replay_ended(1.0)
    sequence.connect(2.0)
    assert any(isinstance(instruction, Reset) for instruction in sequence.replay_ended(2.0))


def test_a_new_life_taken_for_empty_is_reset_once_more_if_it_was_not() -> None:
    """A first number other than 0 shows that something was published before."""
    sequence = following(3)
    sequence.connect(0.0)
    sequence.replay_ended(0.0)
    sequence.replay_ended(0.0)
    assert live(sequence, 2, life=1) == (RequestReplay(0),)
    again = Reset(MISSED)
    assert replayed(sequence, 2, life=1) == (DUPLICATE, again, *applies(2, life=1))


# ---------------------------------------------------------------------- frames that cannot be had


def test_an_oversize_frame_is_never_asked_for() -> None:
    """Its number is passed over and the record doubted; a verification that meets it goes on behind it."""
    sequence = following(3)
    assert sequence.oversize() == (Doubt("oversize"),)
    sequence.disconnect()
    assert sequence.connect(1.0) == (RequestReplay(2),)
    assert replayed(sequence, 2) == (DUPLICATE,)
    assert sequence.oversize_replayed(1.0) == (RequestReplay(4),)
    assert replayed(sequence, 4) == applies(4)


def test_an_oversize_frame_above_a_hole_waits_for_its_turn() -> None:
    """The hole below it is filled first."""
    sequence = following(1)
    live(sequence, 2)
    sequence.oversize()
    replayed(sequence, 0)
    assert replayed(sequence, 1) == applies(1)
    assert replayed(sequence, 2) == (DUPLICATE, *applies(2), Doubt("oversize"))
    assert sequence.applied == 3


def test_an_oversize_frame_in_an_answer_is_stepped_over() -> None:
    """The answer ends where it meets the frame; the next one begins behind it."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    replayed(sequence, 0)
    assert sequence.oversize_replayed(0.0) == (Doubt("oversize"), RequestReplay(2))
    assert replayed(sequence, 2) == applies(2)


def test_answers_that_only_hold_oversize_frames_come_to_an_end() -> None:
    """The number of an over-size frame at the start of an answer is a guess, and guesses are limited."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    for guess in range(OVERSIZE_ROW_MAX):
        assert sequence.oversize_replayed(0.0) == (Doubt("oversize"), RequestReplay(guess + 1))
    sequence.oversize_replayed(0.0)
    assert sequence.oversize_replayed(0.0) == (Doubt("oversize"),)
    assert sequence.asked is None


def test_numbers_beyond_reason_are_dropped() -> None:
    """A number that no engine reaches would leave no room above it."""
    sequence = following(1)
    assert sequence.live(2**63, b"", 0.0) == (Drop("number"),)
    assert sequence.replayed(2**64 - 1, b"", 0.0) == (Drop("number"),)
    assert is_balanced(sequence)


# ---------------------------------------------------------------------- captures


def test_given_answers_fill_holes_whenever_they_come() -> None:
    """In a capture the frames above a hole wait for an answer that nobody is seen to ask for."""
    sequence = Sequence(OPTIONS, replay=Replay.GIVEN)
    live(sequence, 0)
    assert live(sequence, 3) == ()
    assert replayed(sequence, 2) == ()
    assert replayed(sequence, 1) == applies(1, 2, 3)


def test_given_up_holes_are_passed_over_in_order() -> None:
    """At the end of a capture what waits is applied with its holes."""
    sequence = Sequence(OPTIONS, replay=Replay.GIVEN)
    for number in (0, 2, 4, 5):
        live(sequence, number)
    assert sequence.give_up() == applies(2, 4, 5)
    assert sequence.counters.unfilled == 2


def test_an_overflow_in_a_capture_gives_up_the_lowest_hole() -> None:
    """Nothing can be asked for again, so nothing is thrown away."""
    sequence = Sequence(OPTIONS, replay=Replay.GIVEN)
    for number in (0, 2, 4, 6, 8):
        live(sequence, number)
    assert live(sequence, 10) == applies(2)
    assert sequence.waiting == 4


def test_a_given_answer_of_another_life_is_a_restart() -> None:
    """A known number replayed with other bytes is evidence in a capture too."""
    sequence = Sequence(OPTIONS, replay=Replay.GIVEN)
    live(sequence, 0)
    instructions = replayed(sequence, 0, life=1)
    assert isinstance(instructions[0], Reset)
    assert instructions[1:] == applies(0, life=1)


# ---------------------------------------------------------------------- the face


def test_messages_go_to_their_method() -> None:
    """Both channels are read, in both forms of a replay, and what has no number is dropped."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    number = (0).to_bytes(8, "big")
    assert feed(sequence, "replay", [b"", number, payload(0)], 0.0) == applies(0)
    assert feed(sequence, "replay", [b"", b"", b"\xff" * 8, b""], 0.0) == (END,)
    assert feed(sequence, "pub", [b"topic", (1).to_bytes(8, "big"), payload(1)], 0.0) == applies(1)
    assert feed(sequence, "pub", [b"topic", number], 0.0) == (Drop("frame_count"),)
    assert sequence.counters.received == 4


def test_the_repr_is_a_line_of_status() -> None:
    """Operators read it."""
    sequence = following(3)
    live(sequence, 4)
    assert repr(sequence) == "<Sequence replaying applied=2 live=4 waiting=1 gaps=1 restarts=0>"


# ---------------------------------------------------------------------- whose answer it is: what the simulation found


def test_an_answer_to_a_gap_proves_itself() -> None:
    """The engine died behind the gap: its heir's answer has other bytes under the last number, and is not applied."""
    sequence = following(2)
    live(sequence, 3)
    out = replayed(sequence, 1, life=1)
    assert out[0] == Drop("restart")
    assert isinstance(out[1], Reset)
    assert out[2:] == (RequestReplay(0),)


def test_what_waits_is_not_applied_behind_an_answer_of_another_life() -> None:
    """A frame heard before the engine died waits right behind its heir's answer: it is asked for, not believed."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    live(sequence, 1)
    assert replayed(sequence, 0, life=1) == applies(0, life=1)
    assert sequence.replay_ended(0.0) == (END, RequestReplay(0))
    assert replayed(sequence, 0, life=1) == (DUPLICATE,)
    out = sequence.replay_ended(0.0)
    assert isinstance(out[1], Reset)
    assert out[2:] == (RequestReplay(0),)


def test_what_waits_is_compared_with_the_answer() -> None:
    """The heir's answer reaches the number that waits: other bytes are a new life."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    live(sequence, 1)
    replayed(sequence, 0, life=1)
    assert isinstance(replayed(sequence, 1, life=1)[1], Reset)


def test_a_batch_heard_live_is_compared_with_the_answer() -> None:
    """The same where the frame was applied at once."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    live(sequence, 0)
    assert isinstance(replayed(sequence, 0, life=1)[1], Reset)


def test_a_new_life_with_fewer_batches_is_not_taken_for_empty() -> None:
    """A bare answer from the old number on does not say that the new life has published nothing."""
    sequence = following(5)
    sequence.connect(1.0)
    out = sequence.replay_ended(1.0)
    assert Empty() not in out
    assert out[-1] == RequestReplay(0)
    assert replayed(sequence, 0, life=1) == applies(0, life=1)


def test_an_oversize_number_dies_with_its_connection() -> None:
    """Before anything was applied, an over-size number says nothing about the life that the next connection meets."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    live(sequence, 1)
    sequence.oversize()
    sequence.disconnect()
    sequence.connect(1.0)
    for number in range(3):
        assert replayed(sequence, number, life=1) == applies(number, life=1)
    assert sequence.applied == 2


def test_the_doubt_of_an_oversize_number_comes_in_its_turn() -> None:
    """A batch before it may clear doubt, so the doubt is told when the number is passed over, and once."""
    sequence = following(1)
    live(sequence, 2)
    assert sequence.oversize() == ()
    replayed(sequence, 0)
    assert Doubt("oversize") not in replayed(sequence, 1)
    assert replayed(sequence, 2)[-1] == Doubt("oversize")


def test_a_number_passed_over_before_is_no_news() -> None:
    """The line's over-size frame, found out late, doubts nothing that a replay has stepped over already."""
    sequence = following(2)
    sequence.tick(9.0)
    replayed(sequence, 1)
    assert sequence.oversize_replayed(9.0) == (Doubt("oversize"), RequestReplay(3))
    assert sequence.oversize() == ()


def test_a_live_number_below_an_unverified_record_is_a_new_life() -> None:
    """After a verification that nobody answered, no answer can have run ahead of the live stream."""
    sequence = Sequence(OPTIONS, bookmark=Bookmark(9, b"digest"))
    sequence.connect(0.0)
    sequence.tick(3.0)
    assert Doubt("unverified") in sequence.tick(6.0)
    assert isinstance(live(sequence, 4, life=1, now=6.0)[0], Reset)


def test_what_was_given_up_is_built_anew() -> None:
    """A hole given up for want of an answer is owed, and repaid once the buffer shows number 0."""
    sequence = following(1)
    live(sequence, 2)
    sequence.tick(3.0)
    assert sequence.tick(6.0) == applies(2)
    assert sequence.owes_rebuild
    live(sequence, 3, now=14.9)
    assert sequence.tick(15.0) == (RequestReplay(0),)
    assert replayed(sequence, 0, now=15.0) == (Reset("built anew from the beginning"), *applies(0))
    for number in (1, 2, 3):
        assert replayed(sequence, number, now=15.0) == applies(number)
    assert sequence.replay_ended(15.0) == (END,)
    assert (sequence.owes_rebuild, sequence.counters.restarts, sequence.counters.rebuilds) == (False, 0, 1)


def test_a_beginning_that_is_gone_is_not_asked_for_again() -> None:
    """An answer that begins later leaves the record as it is, for the rest of this life."""
    sequence = following(1)
    live(sequence, 2)
    sequence.tick(3.0)
    sequence.tick(6.0)
    assert sequence.tick(15.0) == (RequestReplay(0),)
    assert replayed(sequence, 1, now=15.0) == (DUPLICATE,)
    assert (sequence.asked, sequence.owes_rebuild) == (None, False)


def test_a_record_that_was_not_whole_is_owed() -> None:
    """A process that goes on from a bookmark learns from its caller that the record before it had a hole."""
    sequence = Sequence(OPTIONS, bookmark=Bookmark(0, digest(payload(0))), is_whole=False)
    sequence.connect(0.0)
    replayed(sequence, 0)
    sequence.replay_ended(0.0)
    assert sequence.tick(0.0) == (RequestReplay(0),)


def nothing_applied() -> Sequence:
    """
    A sequence whose first answers never came, and which threw away what it heard meanwhile.
    """
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    for number in range(2, 7):
        live(sequence, number)
    sequence.tick(3.0)
    assert sequence.tick(6.0) == (Doubt("overflow"),)
    assert sequence.tick(15.0) == (RequestReplay(0),)
    return sequence


def test_where_nothing_was_applied_any_beginning_will_do() -> None:
    """With nothing to lose, the oldest batch there is begins the record, as at first contact."""
    sequence = nothing_applied()
    assert replayed(sequence, 3, now=15.0)[1:] == applies(3)
    assert replayed(sequence, 4, now=15.0) == applies(4)


def test_where_nothing_was_applied_an_oversize_beginning_is_stepped_over() -> None:
    """The batches behind it are there to be had."""
    sequence = nothing_applied()
    assert sequence.oversize_replayed(15.0)[-1] == RequestReplay(1)
    assert replayed(sequence, 1, now=15.0) == applies(1)


def test_all_that_is_applied_before_a_first_answer_is_compared_with_it() -> None:
    """Also where the heir's answer lacks the last number of the life before, and goes on behind it."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    assert live(sequence, 0) == applies(0)
    assert live(sequence, 1) == applies(1)
    assert isinstance(replayed(sequence, 0, life=1)[1], Reset)


def test_what_waits_does_not_close_the_hole_of_a_wrapped_buffer() -> None:
    """Frames of a life in between must not join the old record to an answer that begins behind them."""
    sequence = following(1)
    live(sequence, 2)
    assert sequence.connect(1.0) == (RequestReplay(0),)
    assert replayed(sequence, 3, life=1) == applies(3, life=1)
    assert sequence.counters.dropped["wrapped"] == 1
    assert is_balanced(sequence)


def test_a_first_answer_that_begins_right_behind_the_live_batches_is_doubted() -> None:
    """Nothing is missing by the numbers, and nothing proves that both are of one life."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    assert live(sequence, 0) == applies(0)
    assert replayed(sequence, 1, life=1) == (Doubt("wrapped"), *applies(1, life=1))


def test_a_new_life_among_several_reconnections_is_doubted() -> None:
    """Two restarts read in one turn: what went back once may be of the life in between, until it goes back again."""
    sequence = Sequence(OPTIONS, replay=Replay.NONE)
    sequence.connect(0.0)
    for _ in range(2):
        sequence.disconnect()
        sequence.connect(0.0, unread=2)
    assert live(sequence, 0) == (*applies(0), Doubt("unverified"))
    reset, *applied, doubt = live(sequence, 0, life=1)
    assert isinstance(reset, Reset)
    assert (tuple(applied), doubt) == (applies(0, life=1), Doubt("unverified"))
    reset, *applied = live(sequence, 0, life=2)
    assert isinstance(reset, Reset)
    assert tuple(applied) == applies(0, life=2)


def test_as_many_new_lives_as_reconnections_are_not_doubted() -> None:
    """Where the live stream went back once for each reconnection, what comes is of the newest life."""
    sequence = Sequence(OPTIONS, replay=Replay.NONE)
    sequence.connect(0.0)
    for _ in range(2):
        sequence.disconnect()
        sequence.connect(0.0, unread=4)
    live(sequence, 0)
    assert live(sequence, 0, life=1)[-1] == Doubt("unverified")
    assert Doubt("unverified") not in live(sequence, 0, life=2)
    assert live(sequence, 1, life=2) == applies(1, life=2)


def behind_an_oversize_frame(life: int) -> Sequence:
    """
    A sequence whose second answer, asked from behind an over-size number 1 of life 0, was another life's or the same.
    """
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    replayed(sequence, 0)
    assert sequence.oversize_replayed(0.0) == (Doubt("oversize"), RequestReplay(2))
    assert replayed(sequence, 2, life=life) == applies(2, life=life)
    return sequence


def test_what_is_asked_from_behind_an_oversize_frame_is_proven_afterwards() -> None:
    """The engine died between the two answers: its heir does not have the batch before the over-size frame."""
    sequence = behind_an_oversize_frame(life=1)
    assert sequence.replay_ended(0.0) == (END, RequestReplay(0))
    out = replayed(sequence, 0, life=1)
    assert out[0] == Drop("restart")
    assert isinstance(out[1], Reset)
    assert out[2:] == (RequestReplay(0),)


def test_a_proof_that_all_is_of_one_life_costs_two_questions() -> None:
    """The same bytes in front of the over-size frame: nothing is doubted anew, and nothing is asked for ever."""
    sequence = behind_an_oversize_frame(life=0)
    assert sequence.replay_ended(0.0) == (END, RequestReplay(0))
    assert replayed(sequence, 0) == (DUPLICATE,)
    assert sequence.oversize_replayed(0.0) == (RequestReplay(2),)
    assert replayed(sequence, 2) == (DUPLICATE,)
    assert sequence.replay_ended(0.0) == (END,)
    assert sequence.connect(1.0) == (RequestReplay(2),)


def test_a_new_connection_asks_from_the_last_batch_that_is_proven() -> None:
    """What came in an answer that proved nothing is no witness of whose life the new connection is."""
    sequence = behind_an_oversize_frame(life=1)
    assert sequence.connect(1.0) == (RequestReplay(0),)
    assert isinstance(replayed(sequence, 0, life=1)[1], Reset)


def test_a_proof_that_nobody_answered_is_asked_for_by_the_next_probe() -> None:
    """It stays to be proven."""
    sequence = behind_an_oversize_frame(life=0)
    sequence.replay_ended(0.0)
    assert sequence.tick(3.0) == ()
    assert sequence.tick(13.0) == (RequestReplay(0),)


def test_an_oversize_beginning_is_owed_until_something_behind_it_was_there_before() -> None:
    """What follows an over-size number 0 may be an heir's, and nothing stands before it to be compared."""
    sequence = nothing_applied()
    sequence.oversize_replayed(15.0)
    for number in range(1, 7):
        assert replayed(sequence, number, life=1, now=15.0) == applies(number, life=1)
    assert sequence.replay_ended(15.0) == (END,)
    assert sequence.tick(25.0) == (RequestReplay(0),)
    sequence.oversize_replayed(25.0)
    assert (sequence.owes_rebuild, sequence.counters.rebuilds) == (False, 1)


def test_what_a_rebuild_has_brought_may_be_ahead_of_the_live_stream() -> None:
    """A verification was not answered, a later question was: what comes live now is known, and no new life."""
    sequence = Sequence(OPTIONS, bookmark=Bookmark(0, digest(payload(0))))
    sequence.connect(0.0)
    sequence.tick(3.0)
    assert Doubt("unverified") in sequence.tick(6.0)
    assert sequence.tick(15.0) == (RequestReplay(0),)
    for number in (0, 1):
        assert replayed(sequence, number, now=15.0)[-1:] == applies(number)
    sequence.replay_ended(15.0)
    assert live(sequence, 1, now=15.0) == (DUPLICATE,)


def test_what_waits_below_a_first_answer_is_not_its_beginning() -> None:
    """The numbers follow each other, but an heir's buffer has wrapped, and nothing proves that both are of one life."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    assert live(sequence, 1) == live(sequence, 2) == ()
    assert replayed(sequence, 3, life=1) == applies(3, life=1)
    assert sequence.counters.dropped["wrapped"] == 2
    assert is_balanced(sequence)


def test_an_answer_that_only_held_an_oversize_frame_puts_off_the_probe() -> None:
    """Else every tick would ask again; and each probe may step over as many as the first did."""
    sequence = Sequence(OPTIONS)
    sequence.connect(0.0)
    row = 0
    while sequence.oversize_replayed(8.9)[1:]:
        row += 1
    assert row >= OVERSIZE_ROW_MAX
    assert sequence.tick(9.0) == ()
    assert sequence.tick(18.0) == (RequestReplay(row + 1),)
    assert sequence.oversize_replayed(18.0) == (Doubt("oversize"), RequestReplay(row + 2))


def test_what_was_given_up_is_taken_from_a_buffer_whose_beginning_is_gone() -> None:
    """Nothing behind the last batch was ever applied, so the rest of the answer is no news only where nothing is."""
    sequence = following(1)
    for number in range(3, 8):
        live(sequence, number)  # too many to wait
    sequence.tick(3.0)
    assert Doubt("overflow") in sequence.tick(6.0)
    assert (sequence.applied, sequence.tick(15.0)) == (7, (RequestReplay(0),))
    assert replayed(sequence, 1, now=15.0) == (Doubt("wrapped"), *applies(1))
    assert replayed(sequence, 2, now=15.0) == applies(2)


def test_a_new_life_is_found_by_what_its_wrapped_buffer_lacks() -> None:
    """The same answer ends before what was heard live: asked from there, the engine has nothing more to say."""
    sequence = following(1)
    for number in range(3, 8):
        live(sequence, number)
    sequence.tick(3.0)
    sequence.tick(6.0)
    sequence.tick(15.0)
    for number in (1, 2):
        replayed(sequence, number, life=1, now=15.0)
    assert sequence.replay_ended(15.0) == (END, RequestReplay(2))
    replayed(sequence, 2, life=1, now=15.0)
    out = sequence.replay_ended(15.0)
    assert isinstance(out[1], Reset)
    assert out[2:] == (RequestReplay(0),)
