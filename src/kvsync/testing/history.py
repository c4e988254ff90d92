"""
Made-up lives of engines, realistic and nasty, the same for the same seed.

A history is a list of operations on an index: frames as engines of many releases would send them, and what the
stream says beside them (restarts, doubts, clears). Requests are shared by all engines, so prefixes are too. Every
engine has its own release, block size, groups, hashes and temper: a calm one tells the whole truth in order, a
nasty one leaves numbers out, names parents nobody heard of, sends what cannot be read, and begins anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

from kvsync.testing.prompts import Prompt
from kvsync.testing.wire import FORMS, Cleared, Event, Removed, Stored, Verbatim, encode_batch
from kvsync.types import GPU, Engine, EngineHash

MODELS = ("llama", "qwen")
LORAS = (None, None, "sql", "chat")
SALTS = (None, None, None, "tenant-1", "tenant-2")
IMAGES = ("cat", "dog")
LOWER_MEDIA = ("CPU", "STORAGE", "cpu_pinned", "SHARED_STORAGE")
BLOCK_SIZES = (1, 2, 4, 4, 16)


@dataclass(frozen=True, slots=True)
class Apply:
    """A frame came."""

    engine: Engine
    model: str
    payload: bytes
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Clear:
    """The engine is known to hold nothing."""

    engine: Engine
    medium: str | None


@dataclass(frozen=True, slots=True)
class Restart:
    """The engine began a new life."""

    engine: Engine


@dataclass(frozen=True, slots=True)
class Doubt:
    """What the engine holds may be gone."""

    engine: Engine
    medium: str | None


@dataclass(frozen=True, slots=True)
class Remove:
    """The engine is gone for good."""

    engine: Engine


Operation: TypeAlias = Apply | Clear | Restart | Doubt | Remove


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask `match`."""

    model: str
    prompt: Prompt


UNREADABLE: Sequence[Any] = (
    17,
    None,
    [],
    {},
    "BlockStored",
    [b"BlockStored", [1], None, [1], 1, None],
    [["BlockStored"]],
    ["BlockStored"],
    ["BlockStored", [1], None, [1]],
    ["BlockStored", None, None, [1], 1, None],
    ["BlockStored", [None], None, [1], 1, None],
    ["BlockStored", ["text"], None, [1], 1, None],
    ["BlockStored", [b""], None, [1], 1, None],
    ["BlockStored", [b"h" * 65], None, [1], 1, None],
    ["BlockStored", [1], "parent", [1], 1, None],
    ["BlockStored", [1], None, ["a"], 1, None],
    ["BlockStored", [1], None, [-1], 1, None],
    ["BlockStored", [1], None, [1 << 32], 1, None],
    ["BlockStored", [1], None, [[1, 2, 3]], 1, None],
    ["BlockStored", [1], None, [[1, None]], 1, None],
    ["BlockStored", [1], None, [1], -1, None],
    ["BlockStored", [1], None, [1], (1 << 20) + 1, None],
    ["BlockStored", [1], None, [1], 1.0, None],
    ["BlockStored", [1], None, [1], 1, 2.5],
    ["BlockStored", [1], None, [1], 1, None, 3],
    ["BlockStored", [1], None, [1], 1, None, "M" * 65],
    ["BlockStored", [1], None, [1], 1, None, "GPU", "l" * 4097],
    ["BlockStored", [1], None, [1], 1, None, "GPU", None, 5],
    ["BlockStored", [1], None, [1], 1, None, "GPU", None, [5]],
    ["BlockStored", [1], None, [1], 1, None, "GPU", None, None, 65536],
    ["BlockStored", [1], None, [1], 1, None, "GPU", None, None, 0, 7],
    ["BlockStored", [1], None, [1], 1, None, "GPU", None, None, 0, None, 1 << 31],
    {"type": "BlockStored", "token_ids": [1], "block_size": 1},
    {"type": "BlockStored", "block_hashes": [1], "block_size": 1},
    {"type": "BlockStored", "block_hashes": [1], "token_ids": [1], "block_size": 1, "cache_salt": 4},
    {"block_hashes": [1], "token_ids": [1], "block_size": 1},
    {"type": 4},
    ["BlockRemoved"],
    ["BlockRemoved", 1],
    ["BlockRemoved", [1.5]],
    ["BlockRemoved", [1], "GPU", -1],
    {"type": "BlockRemoved"},
)
"""Events that cannot be applied, each for one reason."""

ODD: Sequence[Any] = (
    ["BlockUpdated", 1, 2],
    {"type": "BlockMoved", "from": "GPU"},
    ["AllBlocksReset"],
    ["BlockStored", [], None, [], 0, None],
    ["BlockRemoved", []],
    {"type": "BlockRemoved", "block_hashes": [], "since": 5, 7: 8},
)
"""Events that do nothing and do no harm."""


def deep(levels: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@dataclass(slots=True)
class Group:
    """One KV group of an engine."""

    number: int | None
    spec_kind: str | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """One whole block of a request, as an engine sees it."""

    hash: EngineHash
    tokens: tuple[int, ...]
    extras: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Temper:
    """How often an engine does what, by the name of the action; and how long its batches are."""

    weights: dict[str, float]
    batch_events_max: int = 5


CALM = Temper({"fill": 10, "evict": 6, "announce": 1, "offload": 2, "load_off": 1, "describe": 1, "clear_pool": 0.15})
NASTY = Temper(
    {
        **CALM.weights,
        "fill_anywhere": 3,
        "evict_anything": 1.5,
        "mask": 1,
        "shorten": 0.7,
        "retie": 0.7,
        "odd": 1,
        "unreadable": 0.25,
        "wander": 0.2,
        "clear_pool": 0.3,
    }
)


class Actor:
    """
    One engine: what it believes to hold, and the events it sends about it.

    What it holds is kept roughly: only so that evictions and parents are mostly true.
    """

    def __init__(
        self, rng: random.Random, engine: Engine, model: str, requests: Sequence[Prompt], tempers: Sequence[Temper]
    ) -> None:
        self.rng = rng
        self.engine = engine
        self.model = model
        self.form = rng.choice(list(FORMS))
        self.temper = rng.choice(tempers)
        self.is_numbered = rng.random() < 0.9
        self.block_size = rng.choice(BLOCK_SIZES)
        self.hash_bytes = rng.choice((0, 0, 8, 16, 32, 64)) if FORMS[self.form].bytes_hashes else 0
        if self.hash_bytes and self.temper is NASTY:
            self.hash_bytes = rng.choice((1, 2, self.hash_bytes))
        # One engine in a few has so few names for its blocks that different blocks share one.
        self.names = rng.choice((None, None, None, None, 60)) if self.temper is NASTY else None
        self.secret = rng.randbytes(8)
        self.cut_requests = [(pieces, prompt) for prompt in requests if (pieces := self._cut(prompt))]
        self.groups = self._choose_groups()
        self.number = rng.choice((0, 0, 0, 7))
        self.held: dict[tuple[str, int | None], list[EngineHash]] = {}

    def _choose_groups(self) -> list[Group]:
        rng = self.rng
        if not FORMS[self.form].groups:
            return [Group(None)]
        full = Group(rng.choice((0, None)), rng.choice((None, "full_attention", "mla_attention", "something_new")))
        kinds = ("sliding_window", "sliding_window_mla", "mamba", "full_attention", "chunked_local_attention")
        others = [
            Group(number, kind, rng.choice((None, 1, 9, 17)) if kind.startswith("sliding") else None)
            for number, kind in enumerate(rng.sample(kinds, rng.choice((0, 0, 0, 1, 2))), start=1)
        ]
        return [full, *others] if rng.random() < 0.95 or not others else others

    # ------------------------------------------------------------------ frames

    def frame(self) -> Apply:
        """What this engine sends next."""
        rng = self.rng
        events: list[Event] = []
        for _ in range(rng.randint(1, self.temper.batch_events_max)):
            action = rng.choices(list(self.temper.weights), list(self.temper.weights.values()))[0]
            events += getattr(self, action)()
        payload = encode_batch(events, form=self.form, rank=self.engine.rank)
        number = self.number if self.is_numbered else None
        self.number += 1
        return Apply(self.engine, self.model, self._spoil(payload) if self.temper is NASTY else payload, number)

    def _spoil(self, payload: bytes) -> bytes:
        rng = self.rng
        dice = rng.random()
        if dice < 0.01:
            return payload[: rng.randrange(len(payload))]
        if dice < 0.015:
            return rng.randbytes(rng.randrange(40))
        if dice < 0.025:
            return payload + rng.randbytes(3)
        return payload

    def forget(self) -> None:
        """Begin a new life."""
        self.held.clear()
        self.number = 0

    # ------------------------------------------------------------------ actions of any engine

    def fill(self) -> list[Event]:
        """Compute a request: every group stores what it does not hold yet."""
        pieces, prompt = self._pick()
        stop = self.rng.randint(1, len(pieces))
        return [
            event
            for group in self.groups
            for event in self._store(pieces, prompt, self._held_prefix(pieces, GPU, group), stop, GPU, group)
        ]

    def evict(self) -> list[Event]:
        """Let go of some blocks, mostly the ones stored last."""
        kinds = [kind for kind, hashes in self.held.items() if hashes]
        if not kinds:
            return []
        medium, group = self.rng.choice(kinds)
        hashes = self.held[medium, group]
        gone = [
            hashes.pop(-1 if self.rng.random() < 0.7 else self.rng.randrange(len(hashes)))
            for _ in range(min(len(hashes), self.rng.choice((1, 1, 2, 5))))
        ]
        if self.rng.random() < 0.5:
            return [Removed(tuple(gone), medium, group)]
        return [Removed((engine_hash,), medium, group) for engine_hash in gone]

    def announce(self) -> list[Event]:
        """Tell a held prefix again, as report mode "full" does: no new copy."""
        pieces, prompt = self._pick()
        group = self.groups[0]
        stop = self._held_prefix(pieces, GPU, group)
        return [self._stored(pieces[:stop], prompt, None, GPU, group)] if stop >= 2 else []

    def offload(self) -> list[Event]:
        """Say that held blocks lie on a lower medium too, by their hashes alone."""
        group = self.rng.choice(self.groups)
        held = self.held.get((GPU, group.number), [])
        if not held:
            return []
        medium = self.rng.choice(LOWER_MEDIA)
        hashes = tuple(self.rng.sample(held, min(len(held), self.rng.randint(1, 3))))
        self.held.setdefault((medium, group.number), []).extend(hashes)
        return [Stored(hashes, medium=medium, group=group.number)]

    def load_off(self) -> list[Event]:
        """Evict from the GPU and store below in one go: the note comes after the removal."""
        group = self.rng.choice(self.groups)
        held = self.held.get((GPU, group.number), [])
        if not held:
            return []
        engine_hash = held.pop()
        self.held.setdefault(("CPU", group.number), []).append(engine_hash)
        return [
            Removed((engine_hash,), GPU, group.number),
            Stored((engine_hash,), medium="CPU", group=group.number),
        ]

    def describe(self) -> list[Event]:
        """Store on a lower medium with tokens, shared prefix and all."""
        pieces, prompt = self._pick()
        stop = self.rng.randint(1, len(pieces))
        return self._store(pieces, prompt, 0, stop, self.rng.choice(LOWER_MEDIA), self.rng.choice(self.groups))

    def clear_pool(self) -> list[Event]:
        """Reset the block pool of the GPU."""
        for kind in [kind for kind in self.held if kind[0] == GPU]:
            del self.held[kind]
        return [Cleared()]

    # ------------------------------------------------------------------ actions of a nasty engine

    def fill_anywhere(self) -> list[Event]:
        """Store from some block on, whether what is before it was ever told or not."""
        pieces, prompt = self._pick()
        start = self.rng.randrange(len(pieces))
        stop = self.rng.randint(start + 1, len(pieces))
        medium = self.rng.choice((GPU, GPU, GPU, *LOWER_MEDIA))
        return self._store(pieces, prompt, start, stop, medium, self.rng.choice(self.groups))

    def evict_anything(self) -> list[Event]:
        """Remove a hash that may never have been told."""
        pieces, _ = self._pick()
        medium = self.rng.choice((GPU, GPU, *LOWER_MEDIA))
        return [Removed((self.rng.choice(pieces).hash,), medium, self.rng.choice(self.groups).number)]

    def mask(self) -> list[Event]:
        """Tell fewer hashes than the tokens make blocks: which is which cannot be told."""
        pieces, prompt = self._pick()
        event = self._stored(pieces, prompt, None, GPU, self.rng.choice(self.groups))
        kept = tuple(engine_hash for engine_hash in event.hashes if self.rng.random() < 0.6)
        return [Stored(kept, None, event.tokens, event.block_size, medium=GPU, group=event.group)]

    def shorten(self) -> list[Event]:
        """Store a last block that is not full."""
        pieces, prompt = self._pick()
        last = pieces[-1]
        size = self.rng.randint(1, self.block_size)
        short = Piece(self._hash("short", size, last.hash), last.tokens[:size], last.extras)
        parent = pieces[-2].hash if len(pieces) > 1 else None
        event = self._stored([short], prompt, parent, GPU, self.rng.choice(self.groups))
        self.held.setdefault((GPU, event.group), []).append(short.hash)
        return [event]

    def retie(self) -> list[Event]:
        """Use a hash that is known for other tokens."""
        pieces, prompt = self._pick()
        group = self.rng.choice(self.groups)
        held = self.held.get((GPU, group.number), [])
        if not held:
            return []
        last = pieces[-1]
        parent = pieces[-2].hash if len(pieces) > 1 else None
        return [self._stored([Piece(self.rng.choice(held), last.tokens, last.extras)], prompt, parent, GPU, group)]

    def odd(self) -> list[Event]:
        """Send what newer releases might."""
        return [Verbatim(self.rng.choice(ODD))]

    def unreadable(self) -> list[Event]:
        """Send what nobody could apply."""
        return [Verbatim(["Deep", deep(50)] if self.rng.random() < 0.1 else self.rng.choice(UNREADABLE))]

    def wander(self) -> list[Event]:
        """Name a medium or a group that was not there before; too many of them are refused."""
        pieces, _ = self._pick()
        medium = self.rng.choice((GPU, f"medium-{self.rng.randrange(12)}"))
        group = self.rng.randrange(40) if FORMS[self.form].groups else None
        hashes = (self.rng.choice(pieces).hash,)
        return [self.rng.choice((Stored(hashes, medium=medium, group=group), Removed(hashes, medium, group)))]

    # ------------------------------------------------------------------ blocks

    def _pick(self) -> tuple[list[Piece], Prompt]:
        return self.rng.choice(self.cut_requests)

    def _cut(self, prompt: Prompt) -> list[Piece]:
        """The whole blocks of a request, named by everything they depend on."""
        size = self.block_size
        pieces: list[Piece] = []
        so_far: tuple[object, ...] = (prompt.lora, prompt.cache_salt)
        for start in range(0, len(prompt.tokens) - size + 1, size):
            tokens = prompt.tokens[start : start + size]
            images = [
                (identifier, at - start)
                for identifier, at, length in sorted(prompt.extra_keys, key=lambda key: key[1])
                if at < start + size and at + length > start
            ]
            salt = [prompt.cache_salt] if start == 0 and prompt.cache_salt is not None else []
            extras = (*([prompt.lora] if prompt.lora else []), *images, *salt)
            so_far = (so_far, tokens, tuple(images))
            pieces.append(Piece(self._hash(so_far), tokens, extras or None))
        return pieces

    def _hash(self, *parts: object) -> EngineHash:
        digest = blake2b(repr(parts).encode(), key=self.secret, digest_size=64).digest()
        if self.names is not None:
            digest = blake2b(bytes([digest[0] % self.names]), key=self.secret, digest_size=64).digest()
        if self.hash_bytes:
            return digest[: self.hash_bytes]
        return int.from_bytes(digest[:8], "big")

    def _held_prefix(self, pieces: Sequence[Piece], medium: str, group: Group) -> int:
        held = self.held.get((medium, group.number), [])
        return next((i for i, piece in enumerate(pieces) if piece.hash not in held), len(pieces))

    def _store(
        self, pieces: Sequence[Piece], prompt: Prompt, start: int, stop: int, medium: str, group: Group
    ) -> list[Event]:
        """Events for blocks start to stop: one, or several that continue each other."""
        if self.temper is NASTY and self.rng.random() < 0.15:
            start = max(0, start - 1)  # another request filled the same block meanwhile
        events: list[Event] = []
        while start < stop:
            end = stop if self.rng.random() < 0.7 else self.rng.randint(start + 1, stop)
            parent = pieces[start - 1].hash if start else None
            events.append(self._stored(pieces[start:end], prompt, parent, medium, group))
            self.held.setdefault((medium, group.number), []).extend(piece.hash for piece in pieces[start:end])
            start = end
        return events

    def _stored(
        self, pieces: Sequence[Piece], prompt: Prompt, parent: EngineHash | None, medium: str, group: Group
    ) -> Stored:
        extra_keys = tuple(piece.extras for piece in pieces)
        return Stored(
            hashes=tuple(piece.hash for piece in pieces),
            parent=parent,
            tokens=tuple(token for piece in pieces for token in piece.tokens),
            block_size=len(pieces[0].tokens) if pieces else 0,
            lora_id=LORAS.index(prompt.lora) if prompt.lora else None,
            lora_name=prompt.lora,
            medium=medium if medium != GPU else self.rng.choice((GPU, GPU, "gpu")),
            extra_keys=extra_keys if any(extra_keys) or self.rng.random() < 0.5 else None,
            group=group.number,
            spec_kind=group.spec_kind,
            window=group.window,
            cache_salt=prompt.cache_salt,
            pairs=self.form.startswith("sglang") and self.rng.random() < 0.3,
            unknown={"news": [1, {"a": None}]} if self.rng.random() < 0.05 else {},
        )


class History:
    """
    A made-up past of a small fleet; iterating gives the operations, `questions` what to ask meanwhile.

    The same seed gives the same of both, as often as one asks. `tempers` are what its engines may be.
    """

    def __init__(
        self, seed: int, *, steps: int = 200, engines_max: int = 4, tempers: Sequence[Temper] = (CALM, NASTY, NASTY)
    ) -> None:
        self.seed = seed
        self.steps = steps
        self._tempers = tempers
        self._engines_max = engines_max
        self._requests = _requests(random.Random(f"requests {seed}"))

    def actors(self) -> list[Actor]:
        """The engines of this history as they begin."""
        return self._fleet(random.Random(f"fleet {self.seed}"))

    def _fleet(self, rng: random.Random) -> list[Actor]:
        return [
            Actor(rng, Engine(f"pod-{i}", rng.choice((0, 0, 1))), rng.choice(MODELS), self._requests, self._tempers)
            for i in range(rng.randint(1, self._engines_max))
        ]

    def __iter__(self) -> Iterator[Operation]:
        rng = random.Random(f"fleet {self.seed}")
        fleet = self._fleet(rng)
        for _ in range(self.steps):
            actor = rng.choice(fleet)
            if actor.temper is NASTY and rng.random() < 0.12:
                yield from rng.choices(*_TROUBLES)[0](rng, actor)
            else:
                yield actor.frame()

    def questions(self, count: int, turn: int) -> list[Question]:
        """Requests to ask about: as made, cut, gone on with, parted, and made with something else."""
        rng = random.Random(f"questions {self.seed} {turn}")
        return [Question(rng.choice(MODELS), _vary(rng, rng.choice(self._requests))) for _ in range(count)]


def _gap(rng: random.Random, actor: Actor) -> list[Operation]:
    actor.number += rng.randint(1, 3)
    return [actor.frame()]


def _repeat(rng: random.Random, actor: Actor) -> list[Operation]:
    frame = actor.frame()
    return [frame, Apply(frame.engine, frame.model, frame.payload, max(0, actor.number - rng.randint(1, 3)))]


def _restart(rng: random.Random, actor: Actor) -> list[Operation]:
    actor.forget()
    if rng.random() < 0.2:
        actor.number = 3
    return [Restart(actor.engine)]


def _doubt(rng: random.Random, actor: Actor) -> list[Operation]:
    return [Doubt(actor.engine, rng.choice((None, None, GPU)))]


def _clear(rng: random.Random, actor: Actor) -> list[Operation]:
    if rng.random() < 0.3:
        return [Clear(actor.engine, GPU)]
    actor.held.clear()
    actor.number = rng.choice((actor.number, 0, 20))
    return [Clear(actor.engine, None)]


def _remove(rng: random.Random, actor: Actor) -> list[Operation]:
    actor.forget()
    actor.number = rng.choice((0, 0, 5))
    return [Remove(actor.engine)]


def _lose(_rng: random.Random, actor: Actor) -> list[Operation]:
    """A frame is lost and its number too, as when the publisher could not encode it and counts on."""
    actor.frame()
    return [actor.frame()]


_TROUBLES: tuple[list[Callable[[random.Random, Actor], list[Operation]]], list[float]] = (
    [_gap, _lose, _repeat, _restart, _doubt, _clear, _remove],
    [3, 3, 3, 1, 1, 1, 0.3],
)


def _requests(rng: random.Random) -> list[Prompt]:
    """Requests that share beginnings: system prompts, conversations that go on, and the odd one alone."""
    vocabulary = [rng.randrange(1 << 17) for _ in range(30)] + [0, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1]

    def words(count: int) -> tuple[int, ...]:
        return tuple(rng.choice(vocabulary) for _ in range(count))

    systems = [words(rng.randint(1, 40)) for _ in range(3)]
    requests: list[Prompt] = []
    for _ in range(25):
        if requests and rng.random() < 0.4:
            requests.append(rng.choice(requests).then(words(rng.randint(1, 30))))
            continue
        system = rng.choice(systems)
        images: list[tuple[str, int, int]] = []
        if rng.random() < 0.3:
            images = [(rng.choice(IMAGES), len(system) + 5 * i, rng.randint(1, 9)) for i in range(rng.randint(1, 2))]
        tokens = (*system, *words(rng.randint(0, 30)))
        requests.append(Prompt(tokens, rng.choice(LORAS), rng.choice(SALTS), tuple(images)))
    return requests


def _vary(rng: random.Random, prompt: Prompt) -> Prompt:
    tokens, lora, salt, images = prompt.tokens, prompt.lora, prompt.cache_salt, prompt.extra_keys
    match rng.randrange(8):
        case 0:
            return prompt.first(rng.randint(0, len(tokens)))
        case 1:
            return prompt.then([1, 2, 3] * rng.randint(1, 9))
        case 2 if tokens:
            at = rng.randrange(len(tokens))
            return Prompt((*tokens[:at], tokens[at] ^ 1, *tokens[at + 1 :]), lora, salt, images)
        case 3:
            return Prompt(tokens, rng.choice((*LORAS, "never")), salt, images)
        case 4:
            return Prompt(tokens, lora, rng.choice((*SALTS, "never")), images)
        case 5:
            return Prompt(tokens, lora, salt, ((rng.choice(IMAGES), rng.randint(0, 40), rng.randint(0, 20)),))
        case 6:
            return Prompt(tokens, lora, salt, tuple(reversed(images)))
        case _:
            return prompt
