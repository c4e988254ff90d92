"""Prompts cut from recordings are found by the model exactly as far as the engine's own hashes are held."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest

from kvsync.testing.decoder import StoredEvent, decode_payload
from kvsync.testing.model import ModelIndex
from kvsync.testing.prompts import Prompt, PromptBook, books_of
from kvsync.testing.truth import follow, live_frames
from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import GPU, Engine

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
LORA_SALTS_IMAGES = CAPTURES / "s2_lora_dp_bytes.msgpack"
BLOCK = 16
FILLER = 151_999  # the recordings' tokens are below 151,000
EVERY = 7  # of the blocks held; all of them takes long and shows nothing more


def ask(index: ModelIndex, prompt: Prompt, engine: Engine) -> int:
    """How many blocks of a prompt an engine holds."""
    found = index.match(
        prompt.tokens, model="m", lora=prompt.lora, cache_salt=prompt.cache_salt, extra_keys=prompt.extra_keys
    )
    return found[engine].blocks if engine in found else 0


@pytest.mark.parametrize("name", ["s1_single_int", "s1_single_int_v0.23.0", "s2_lora_dp_bytes", "s5_report_full"])
def test_prompts_match_as_far_as_their_hashes_are_held(name: str) -> None:
    """A prompt matches its leading blocks whose engine hashes the engine holds: salts, images, adapters and all."""
    capture = CAPTURES / f"{name}.msgpack"
    with ModelIndex() as index:
        for _ in follow(index, capture):
            pass
        for rank, book in books_of(capture).items():
            engine = Engine("pod", rank)
            held = index.engine_hashes(engine)[GPU][0]
            for leaf in list(book)[::EVERY]:
                prompt = book.prompt(leaf).then([FILLER] * 20)
                leading = len(list(takewhile(held.__contains__, book.chain(leaf))))
                assert ask(index, prompt, engine) == leading, (rank, leaf)


def test_the_recording_has_all_kinds_of_prompts() -> None:
    """The recording asked with adapters, salts and images, so the test above means something."""
    prompts = [book.prompt(leaf) for book in books_of(LORA_SALTS_IMAGES).values() for leaf in book.leaves()]
    assert any(prompt.lora and prompt.extra_keys for prompt in prompts)
    assert any(prompt.lora and prompt.cache_salt for prompt in prompts)
    assert any(prompt.extra_keys and not prompt.lora for prompt in prompts)
    assert any(not prompt.lora and not prompt.cache_salt and not prompt.extra_keys for prompt in prompts)


def test_another_adapter_salt_or_image_matches_less() -> None:
    """What a prompt was asked with is part of it: change it, and nothing from there on is found."""
    with ModelIndex() as index:
        for _ in follow(index, LORA_SALTS_IMAGES):
            pass
        seen = {"lora": 0, "salt": 0, "image": 0}
        for rank, book in books_of(LORA_SALTS_IMAGES).items():
            engine = Engine("pod", rank)
            for leaf in book.leaves():
                prompt = book.prompt(leaf)
                blocks = ask(index, prompt, engine)
                if prompt.lora and blocks:
                    seen["lora"] += 1
                    assert (
                        ask(index, Prompt(prompt.tokens, "no such", prompt.cache_salt, prompt.extra_keys), engine) == 0
                    )
                if prompt.cache_salt and blocks:
                    seen["salt"] += 1
                    assert ask(index, Prompt(prompt.tokens, prompt.lora, "no such", prompt.extra_keys), engine) == 0
                if prompt.extra_keys and blocks * BLOCK > prompt.extra_keys[0][1]:
                    seen["image"] += 1
                    _, at, length = prompt.extra_keys[0]
                    other = Prompt(prompt.tokens, prompt.lora, prompt.cache_salt, (("no such", at, length),))
                    assert ask(index, other, engine) == at // BLOCK
        assert min(seen.values()) > 0, seen


def test_hybrid_prompts_match_what_every_group_would_hit() -> None:
    """With sliding windows a prompt matches the longest prefix that the full and every window group can serve."""
    capture = CAPTURES / "s3_hybrid_swa.msgpack"
    window_blocks = 6  # a window of 96 tokens reads 95 back
    engine = Engine("pod", 0)
    with ModelIndex() as index:
        for _ in follow(index, capture):
            pass
        book = books_of(capture)[0]
        full, *windows = (index.engine_hashes(engine)[GPU][group] for group in range(3))
        answers = set()
        for leaf in list(book)[::EVERY]:
            chain = book.chain(leaf)
            expected = max(
                n
                for n in range(len(chain) + 1)
                if all(key in full for key in chain[:n])
                and all(key in window for window in windows for key in chain[max(0, n - window_blocks) : n])
            )
            assert ask(index, book.prompt(leaf), engine) == expected
            answers.add((expected == len(chain), expected == len(list(takewhile(full.__contains__, chain)))))
        assert (False, False) in answers, "no prompt was cut short by a window"


def test_images_are_told_apart_by_where_they_begin() -> None:
    """An image that began in an earlier block is one image, from its first token on."""
    book = PromptBook()
    extra_keys = ((("cat", 2), "salt"), (("cat", -2), ("dog", 3)), None)
    payload = encode_batch([Stored((1, 2, 3), None, tuple(range(12)), 4, lora_name=None, extra_keys=extra_keys)])
    book.add_payload(payload)
    assert book.prompt(3) == Prompt(tuple(range(12)), None, "salt", (("cat", 2, 6), ("dog", 7, 1)))


def test_a_block_whose_start_was_never_told_has_no_prompt() -> None:
    """A chain that leads to a block the stream never told of cannot be a query."""
    book = PromptBook()
    book.add_payload(encode_batch([Stored((2,), 1, (5, 6, 7, 8), 4)]))
    with pytest.raises(KeyError):
        book.prompt(2)


def test_every_stored_event_of_the_recording_teaches() -> None:
    """No store of the recording is left out of the books."""
    told = {
        engine_hash
        for frame in live_frames(LORA_SALTS_IMAGES)
        for event in decode_payload(frame.payload).events
        if isinstance(event, StoredEvent)
        for engine_hash in event.hashes
    }
    assert told == {engine_hash for book in books_of(LORA_SALTS_IMAGES).values() for engine_hash in book}
