"""Names of blocks: what they depend on, and how they are written."""

from __future__ import annotations

from array import array

import pytest

from kvsync.engine.hashing import BlockExtras, BlockHasher, HashForm

TOKENS = array("I", [1, 2, 3, 4])
DIGEST = bytes(range(224, 256))


def test_a_name_depends_on_seed_parent_tokens_and_extras() -> None:
    """Whatever may keep two blocks apart is in the name, and nothing runs into its neighbour."""
    hasher = BlockHasher(1)
    first = hasher.digest(None, TOKENS, None)
    cases: list[tuple[bytes | None, array[int], BlockExtras | None]] = [
        (first, TOKENS, None),
        (None, TOKENS[:3], None),
        (None, array("I", [1, 2, 3, 5]), None),
        (None, TOKENS, ("a",)),
        (None, TOKENS, ("a", "b")),
        (None, TOKENS, (("a", 0),)),
        (None, TOKENS, (("a", 1),)),
    ]
    names = {first, BlockHasher(2).digest(None, TOKENS, None), *(hasher.digest(*case) for case in cases)}
    assert len(names) == len(cases) + 2


def test_the_same_seed_names_alike_in_every_process() -> None:
    """A golden name: a change of it would end the meaning of recorded runs. Computed by this code, 2025."""
    assert BlockHasher(0).digest(None, TOKENS, None).hex()[-16:] == GOLDEN


@pytest.mark.parametrize(
    ("form", "written", "shown"),
    [
        (HashForm.U64, 0xF8F9FAFBFCFDFEFF, str(0xF8F9FAFBFCFDFEFF)),
        (HashForm.I64, 0xF8F9FAFBFCFDFEFF - 2**64, str(0xF8F9FAFBFCFDFEFF)),
        (HashForm.BYTES32, DIGEST, DIGEST.hex()),
        (HashForm.BYTES16, DIGEST[16:], DIGEST[16:].hex()),
    ],
)
def test_a_name_is_written_in_the_form_asked_for(form: HashForm, written: int | bytes, shown: str) -> None:
    """Integers take the low eight bytes, big-endian; reports show them unsigned, bytes as hex."""
    assert form.write(DIGEST) == written
    assert form.show(DIGEST) == shown


GOLDEN = "296d49f551d38f46"
