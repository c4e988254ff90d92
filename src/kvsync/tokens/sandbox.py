"""
Jinja for templates of strangers: the environment that engines render chats in, with limits on what one may use up.

A chat template comes with a model and runs for every request, so it is a program of whoever made the model. Jinja's
sandbox keeps it from Python's attributes and from changing what it is given. What the sandbox does not do is done here:

- Steps and time. Every turn of a loop, call, filter and output counts against a `Budget`; a budget that is used up ends
  the rendering. Its time is the processor's: a machine that has other things to do is no fault of the template.
- Size. Every text that is put out, joined, repeated or returned counts in characters before it is made, or, where one
  operation can at most double it, right after. Formats and fillers with large widths are refused.

For that, a template's syntax tree is rewritten before it is compiled: loops, `~` and outputs go through our filters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from time import thread_time
from typing import Any, Self, cast

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

CHARS_MAX = 64 * 1024 * 1024
STEPS_MAX = 2_000_000
SECONDS_MAX = 1.0
STEPS_BETWEEN_LOOKS = 64
WIDTH_MAX = 100_000
EXPONENT_MAX = 64

_FILLERS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "batch", "slice"})
_WIDE = re.compile(r"\d{6}|\*")

_BUDGET: ContextVar[Budget] = ContextVar("budget")


class LimitExceeded(TemplateError):
    """A template used up what it may."""


class Budget:
    """What one rendering may still use."""

    def __init__(self, *, seconds: float = SECONDS_MAX, clock: Callable[[], float] = thread_time) -> None:
        self._clock = clock
        self._seconds = seconds
        self._deadline = clock() + seconds
        self._steps = STEPS_MAX
        self._chars = CHARS_MAX

    def __enter__(self) -> Self:
        self._token = _BUDGET.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _BUDGET.reset(self._token)

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise LimitExceeded(f"it took more than {STEPS_MAX:,} steps")
        if self._steps % STEPS_BETWEEN_LOOKS == 0 and self._clock() > self._deadline:
            raise LimitExceeded(f"it ran for more than {self._seconds:g} s")

    def chars(self, count: int) -> None:
        self._chars -= count
        if self._chars < 0:
            raise LimitExceeded(f"it made more than {CHARS_MAX:,} characters")


def _sized(value: Any) -> Any:
    """Count what was made, if it has a size, and give it back."""
    budget = _BUDGET.get()
    budget.step()
    if isinstance(value, Sized):
        budget.chars(len(value))
    return value


@pass_context
def _each(_context: Any, items: Iterable[Any]) -> Iterator[Any]:
    """What a loop goes through, one step a turn."""
    budget = _BUDGET.get()
    for item in items:
        budget.step()
        yield item


@pass_context
def _output(_context: Any, value: Any) -> str:
    return str(_sized(value if isinstance(value, str) else str(value)))


@pass_context
def _block(_context: Any, value: Any) -> Any:
    return _sized(value)


@pass_context
def _concat(_context: Any, values: list[Any]) -> str:
    texts = [value if isinstance(value, str) else str(value) for value in values]
    _BUDGET.get().chars(sum(map(len, texts)))
    return "".join(texts)


class _Guard(NodeTransformer):
    """Rewrites a template's tree so that loops, outputs and joined texts are counted."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802  jinja2's way of naming visitors
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_each")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [_filtered(_constant(part), "_output") for part in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_concat")

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.AssignBlock:  # noqa: N802
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, "_block", [], [], None, None, lineno=node.lineno)
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


def _constant(node: nodes.Expr) -> nodes.Expr:
    return nodes.Const(node.data, lineno=node.lineno) if isinstance(node, nodes.TemplateData) else node


class _Generation(Extension):
    """`{% generation %}` marks what a model wrote, for training; when rendering it means nothing."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_pass_on"), [], [], body, lineno=lineno)

    def _pass_on(self, caller: Macro) -> str:
        return caller()


class Environment(ImmutableSandboxedEnvironment):
    """The environment of chat templates, as the transformers library sets it up, with the limits above."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, now: Callable[[], datetime]) -> None:
        # Not optimized: folding constants would compute `"x" * 10**9` before any budget is there.
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], optimized=False)
        self.filters["tojson"] = _tojson
        self.filters = {name: _guarded(name, call) for name, call in self.filters.items()}
        self.filters |= {"_each": _each, "_output": _output, "_block": _block, "_concat": _concat}
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda form: now().strftime(form)

    def guarded(self, source: str) -> Any:
        """Compile a template with its loops, outputs and joins counted; raises what jinja2 and compiling raise."""
        tree = _Guard().visit(self.parse(source))
        return self.template_class.from_code(self, self.compile(tree), self.make_globals(None), None)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _check_call(function, args, kwargs)
        return _sized(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_repeat(left, right)
        elif operator == "**" and not (isinstance(right, (int, float)) and abs(right) <= EXPONENT_MAX):
            raise LimitExceeded(f"it raises to the power of {str(right)[:20]}; {EXPONENT_MAX} at most")
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
        return _sized(super().call_binop(context, operator, left, right))


def _check_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    method = getattr(function, "__wrapped__", function)  # jinja2 puts its own function around str.format
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if isinstance(owner, str):
        _check_filter(name, (owner, *args), kwargs)


def _check_filter(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if name in _FILLERS:
        for value in (*args[1:], *kwargs.values()):
            if isinstance(value, int) and value > WIDTH_MAX:
                raise LimitExceeded(f"{name} is asked for a width of {value:,}; {WIDTH_MAX:,} at most")
    elif name in ("format", "format_map"):
        _check_format(args[0])
    elif name == "replace" and len(args) >= 3:
        _BUDGET.get().chars(len(str(args[0])) * len(str(args[2])))
    elif name == "join":
        # The separators are what one cannot see from the parts.
        separator = args[0] if isinstance(args[0], str) else (args[1] if len(args) > 1 else kwargs.get("d", ""))
        parts = args[1] if isinstance(args[0], str) and len(args) > 1 else args[0]
        _BUDGET.get().chars(len(str(separator)) * (len(parts) if isinstance(parts, Sized) else 0))


def _check_format(form: Any) -> None:
    if _WIDE.search(str(form)):
        raise LimitExceeded(
            f"it formats with a width of six digits or more, or a width from outside: {str(form)[:40]!r}"
        )


def _check_repeat(left: Any, right: Any) -> None:
    for items, times in ((left, right), (right, left)):
        if isinstance(items, Sized) and isinstance(times, int):
            _BUDGET.get().chars(len(items) * max(times, 0))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 4096:
        raise LimitExceeded("it multiplies numbers of more than 4,096 bits")


def _guarded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts as a step, and whose result counts by its size."""
    # jinja2 marks filters that want a context or environment as first argument; what is filtered comes after it.
    first = 1 if getattr(call, "jinja_pass_arg", None) is not None else 0

    @wraps(call)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        _check_filter(name, args[first:], kwargs)
        return _sized(call(*args, **kwargs))

    return guarded


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own escapes HTML, which is no part of a prompt.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
