"""
Cut prompts out of event streams: which request must have filled a given block?

Stored events name a block's parent, tokens and extra keys, so a block can be followed up to the start of its
prompt, and everything a query needs read off the way: tokens, adapter, salt, images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kvsync.testing.decoder import Extra, Extras, Lora, StoredEvent, decode_payload
from kvsync.testing.truth import live_frames
from kvsync.types import EngineHash, ExtraKey


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request, as `match` is asked about it."""

    tokens: tuple[int, ...]
    lora: str | None = None
    cache_salt: str | None = None
    extra_keys: tuple[ExtraKey, ...] = ()

    def first(self, tokens: int) -> Prompt:
        """The prompt cut after so many tokens; images that begin later are gone with them."""
        kept = tuple(extra_key for extra_key in self.extra_keys if extra_key[1] < tokens)
        return replace(self, tokens=self.tokens[:tokens], extra_keys=kept)

    def then(self, tokens: Iterable[int]) -> Prompt:
        """The prompt with more tokens behind it."""
        return replace(self, tokens=(*self.tokens, *tokens))


@dataclass(frozen=True, slots=True)
class _Link:
    parent: EngineHash | None
    tokens: tuple[int, ...]
    extras: Extras
    lora: Lora


class PromptBook:
    """Everything one engine said about its blocks, held or long gone."""

    def __init__(self) -> None:
        self._links: dict[EngineHash, _Link] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[EngineHash]:
        return iter(self._links)

    def add(self, event: StoredEvent) -> None:
        """Take note of the blocks of an event that ties its hashes to tokens; others teach nothing."""
        size, count = event.block_size, len(event.hashes)
        if not count or len(event.tokens) != count * size or (event.extras is not None and len(event.extras) != count):
            return
        parent = event.parent
        for i, engine_hash in enumerate(event.hashes):
            extras = event.extras[i] if event.extras is not None else ()
            if event.extras is None and parent is None and event.cache_salt is not None:
                extras = (event.cache_salt,)
            self._links[engine_hash] = _Link(parent, event.tokens[i * size : (i + 1) * size], extras, event.lora)
            parent = engine_hash

    def add_payload(self, payload: bytes) -> None:
        for event in decode_payload(payload).events:
            if isinstance(event, StoredEvent):
                self.add(event)

    def leaves(self) -> list[EngineHash]:
        """The blocks that no other block follows, in the order they were first told."""
        parents = {link.parent for link in self._links.values()}
        return [engine_hash for engine_hash in self._links if engine_hash not in parents]

    def chain(self, leaf: EngineHash) -> list[EngineHash]:
        """
        The blocks of a prompt from its start to `leaf`.

        KeyError where the stream never told a block on the way.
        """
        chain = [leaf]
        while (parent := self._links[chain[-1]].parent) is not None:
            chain.append(parent)
        return chain[::-1]

    def prompt(self, leaf: EngineHash) -> Prompt:
        """
        The prompt whose last block is `leaf`.

        ValueError for an adapter that is only known by number: no query can name it.
        """
        links = [self._links[engine_hash] for engine_hash in self.chain(leaf)]
        lora = links[0].lora
        if lora is not None and not isinstance(lora, str):
            raise ValueError(f"block {leaf!r} belongs to an adapter without a name: {lora}")
        salt = next((item for item in reversed(links[0].extras) if isinstance(item, str)), None)
        return Prompt(
            tokens=tuple(token for link in links for token in link.tokens),
            lora=lora,
            cache_salt=salt,
            extra_keys=tuple(_extra_keys(links)),
        )


def books_of(capture: Path) -> dict[int, PromptBook]:
    """One book for each rank of a capture, over all its lives."""
    books: dict[int, PromptBook] = {}
    for frame in live_frames(capture):
        books.setdefault(frame.rank, PromptBook()).add_payload(frame.payload)
    return books


def _extra_keys(links: list[_Link]) -> list[ExtraKey]:
    """
    The images of a prompt, each from its first token to the end of the last block that names it.

    Where inside that block an image really ends the wire does not show, and no query depends on it. An image
    named without an offset counts as one for each block.
    """
    ends: dict[tuple[str, int], int] = {}
    start = 0
    for number, link in enumerate(links):
        end = start + len(link.tokens)
        for identifier, at in _images(link.extras, is_first=number == 0):
            ends[identifier, start + at] = end
        start = end
    return [(identifier, at, end - at) for (identifier, at), end in ends.items()]


def _images(extras: Extras, *, is_first: bool) -> Iterator[tuple[str, int]]:
    texts: list[Extra] = [item for item in extras if isinstance(item, str)]
    salt = texts[-1:] if is_first else []
    for item in extras:
        if isinstance(item, tuple) and isinstance(item[0], str):
            yield item[0], item[1]
        elif isinstance(item, str) and [item] != salt:
            yield item, 0
