"""Tokens on their way to the client, and the text they make."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from kvsync.engine.request import Finish, Produced
from kvsync.engine.stream import TextAssembler, TokenStream
from kvsync.tokens.bytelevel import END_OF_TEXT


def test_what_waits_is_taken_at_once() -> None:
    """A reader that was away gets all tokens together, in order."""

    async def scenario() -> list[Produced]:
        stream = TokenStream()
        stream.put(Produced(1))
        stream.put(Produced(2, Finish.LENGTH))
        return await stream.take()

    assert asyncio.run(scenario()) == [Produced(1), Produced(2, Finish.LENGTH)]


def test_a_reader_waits_for_the_next_token() -> None:
    """Nothing there: the reader sleeps until something is."""

    async def scenario() -> list[Produced]:
        stream = TokenStream()
        reader = asyncio.create_task(stream.take())
        await asyncio.sleep(0)
        stream.put(Produced(3))
        return await reader

    assert asyncio.run(scenario()) == [Produced(3)]


def test_what_could_become_a_stop_string_is_held_back() -> None:
    """Text is shown once it can no longer be the beginning of a stop string, and the stop string never."""
    assembler = TextAssembler([b"END"])
    assert assembler.add(b"abE", None) == "a"
    assert assembler.add(b"x", None) == "b"
    assert assembler.add(b"END", Finish.STOP) == "Ex"


def test_the_end_mark_is_not_text() -> None:
    """The last token of an answer that ended by itself shows nothing."""
    assembler = TextAssembler([])
    assert assembler.add([104, 105], None) == "hi"
    assert assembler.add([END_OF_TEXT], Finish.STOP) == ""


@given(st.text("abc", min_size=1, max_size=30), st.lists(st.integers(1, 5)), st.text("abc", min_size=1, max_size=3))
def test_however_tokens_arrive_the_text_is_the_same(text: str, cuts: list[int], stop: str) -> None:
    """Pieces joined are the whole text, less a stop string at its end."""
    assembler, rest, shown = TextAssembler([stop.encode()]), text.encode(), ""
    for cut in cuts:
        # The last token comes together with the news that it is the last.
        if cut < len(rest):
            shown += assembler.add(rest[:cut], None)
            rest = rest[cut:]
    shown += assembler.add(rest, Finish.STOP)
    assert shown == text.removesuffix(stop)
