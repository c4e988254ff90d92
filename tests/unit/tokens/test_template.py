"""Chat templates: rendered as engines do, and stopped where they use up more than they may."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import jinja2
import jinja2.sandbox
import pytest
from tests.patience import PATIENCE_S
from tests.unit.tokens.samples import CHATML, CHATS, PARTS, TOOLS

from kvsync.errors import ConfigError, TokenizeError
from kvsync.tokens.chat import Chat
from kvsync.tokens.messages import conversation, tools_of
from kvsync.tokens.template import SOURCE_CHARS_MAX, ChatTemplate

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
USER = [{"role": "user", "content": "hi"}]


def template(source: str, **options: Any) -> ChatTemplate:
    """A template at a fixed date."""
    return ChatTemplate(source, where="'m'", now=lambda: NOW, **options)


def render(source: str, chat: Chat | None = None, **options: Any) -> str:
    """What a template makes of a chat."""
    return template(source, **options).render(chat or Chat(USER))


def plainly(source: str, chat: Chat, content_format: Any, **names: Any) -> str:
    """The same by jinja2's own sandbox, set up as the transformers library does it."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    return environment.from_string(source).render(
        messages=conversation(chat.messages, content_format),
        tools=tools_of(chat.tools),
        documents=None,
        add_generation_prompt=chat.add_generation_prompt,
        **chat.template_kwargs,
        **names,
    )


@pytest.mark.parametrize("source", [CHATML, PARTS], ids=["chatml", "parts"])
@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False}], ids=["plain", "kwargs"])
def test_a_chat_is_rendered_as_by_plain_jinja(source: str, name: str, tools: Any, kwargs: dict[str, Any]) -> None:
    """The limits change nothing of what a decent template puts out, with tools and template arguments too."""
    made = template(source, variables={"bos_token": "<s>"})
    for add_generation_prompt in (True, False):
        chat = Chat(CHATS[name], tools, template_kwargs=kwargs, add_generation_prompt=add_generation_prompt)
        assert made.render(chat) == plainly(source, chat, made.content_format, bos_token="<s>")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ [1, 2, 3] | sum }}{% for x in 'ab' %}{{ loop.index ~ '/' ~ loop.length ~ x }}{% endfor %}", "61/2a2/2b"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% else %}none{% endfor %}", "a=1"),
        ("{% for x in [] %}x{% else %}none{% endfor %}{% for x in nothing %}x{% endfor %}", "none"),
        ("{% for x in [3, 1, 2] | sort if x > 1 %}{{ x }}{{ ',' if not loop.last }}{% endfor %}", "2,3"),
        ("{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "13"),
        ("{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "1"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) ~ f('a') }}", "<1><a>"),
        ("{% set ns = namespace(n=0) %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", "3"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x | upper }}{% set y | trim %}  b {% endset %}{{ y }}", "A1b"),
        ("{{ strftime_now('%Y-%m-%d') }}", "2026-03-04"),
        ("{{ {'b': 'ü<', 'a': [1]} | tojson }}", '{"b": "ü<", "a": [1]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1) }}", '{\n "b": 1,\n "a": 2\n}'),
        ("{{ none }}|{{ missing }}|{{ true }}|{{ 1.5 }}", "None||True|1.5"),
        ("{{ 'x' * 3 }}|{{ 2 ** 10 }}|{{ '%05d' % 7 }}|{{ '{:>3}'.format(7) }}", "xxx|1024|00007|  7"),
        ("{{ messages[0]['content'].split('i')[0] }}{{ messages[-1].role | capitalize }}", "hUser"),
        ("{% generation %}x{{ 1 }}{% endgeneration %}", "x1"),
        ("{{- '  a' }}\n    {%- if true %}\n  b\n{%- endif %}", "  a  b"),
        ("{{ 'a,b' | replace(',', ';') }}{{ ['a', 'b'] | join('-') }}{{ 'x'.join(['1', '2']) }}", "a;ba-b1x2"),
        ("{{ 'x' | center(3) }}{{ 'x'.rjust(2) }}", " x  x"),
        ("{% for m in messages recursive %}{{ m if m is string else loop([m.content]) }}{% endfor %}", "hi"),
    ],
)  # fmt: skip
def test_what_templates_use_works(source: str, expected: str) -> None:
    """Loops with their variables, macros, namespaces, filters, block sets and generation marks work as ever."""
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CHATML, "string"),
        (PARTS, "openai"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "string"),
        ("{% for m in messages[1:] %}{% for c in m['content'] | list %}{{ c }}{% endfor %}{% endfor %}", "openai"),
        ("{% set rest = messages %}{% for m in rest %}{% for c in m.content %}{% endfor %}{% endfor %}", "openai"),
        ("{% for m in messages %}{% set c = m.content %}{% for p in c %}{{ p }}{% endfor %}{% endfor %}", "string"),
        ("{% set n.m = messages %}{% for m in messages %}{% for c in m.content %}{% endfor %}{% endfor %}", "string"),
    ],
)  # fmt: skip
def test_the_content_format_is_what_engines_find(source: str, expected: str) -> None:
    """A template that loops over a message's own content gets parts, every other one gets a text."""
    assert template(source).content_format == expected
    assert template(source, content_format="openai").content_format == "openai"


def growing(start: str, step: str) -> str:
    """A template that doubles something 99 times."""
    return f"{{% set ns = namespace(x={start}) %}}{{% for i in range(99) %}}{step}{{% endfor %}}"


# Without a call inside, so that nothing but the loops themselves can be counted.
LOOPING = (
    "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% for c in r %}{% set x = a %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (LOOPING, "was stopped: it"),
        ("{% macro f(n) %}{{ f(n - 1) if n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(60) }}", "was stopped: it"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "calls itself without end"),
        (growing("'a'", "{% set ns.x = ns.x ~ ns.x %}"), "characters"),
        (growing("'a'", "{% set ns.x = ns.x + ns.x %}"), "characters"),
        (growing("[1]", "{% set ns.x = ns.x + ns.x %}"), "characters"),
        (growing("'a'", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"), "characters"),
        (growing("'a'", "{% set ns.x = [ns.x, ns.x] | join %}"), "characters"),
        (growing("3", "{% set ns.x = ns.x * ns.x %}"), "bits"),
        ("{{ 'x' * 10 ** 9 }}", "characters"),
        ("{{ [0] * 1000000000 }}", "characters"),
        ("{{ 2 ** 1000000 }}", "power"),
        ("{{ 'x' | center(1000000000) }}", "width"),
        ("{{ 'x'.ljust(1000000000) }}", "width"),
        ("{{ '%1000000000d' % 7 }}", "width"),
        ("{{ '%1000000000d' | format(7) }}", "width"),
        ("{{ '{:1000000000}'.format(7) }}", "width"),
        ("{{ '%*d' % (1000000000, 7) }}", "width"),
        ("{{ ('a' * 100000).replace('a', 'b' * 100000) }}", "characters"),
        ("{{ ('a' * 100000) | replace('a', 'b' * 100000) }}", "characters"),
        ("{{ ('b' * 100000).join('a' * 100000) }}", "characters"),
        ("{{ ('a' * 100000) | join('b' * 100000) }}", "characters"),
        ("{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", "characters"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "may not do that|failed"),
        ("{{ messages.append(1) }}", "may not do that"),
        ("{{ raise_exception.__globals__.x }}", "may not do that|failed"),
        ("{{ self.__init__.__globals__ }}", "may not do that|failed"),
        ("{{ cycler.__init__.__globals__['os'] }}", "may not do that|failed"),
        ("{{ raise_exception('roles must alternate') }}", "refuses the chat: roles must alternate"),
        ("{{ 1 / 0 }}", "failed .ZeroDivisionError"),
        ("{{ messages | nothing }}", "compiled"),
        ("{% include 'other' %}", "failed|refuses"),
    ],
)  # fmt: skip
def test_what_a_template_may_not_do(source: str, named: str) -> None:
    """Endless loops and recursion, growth without end, reaching for attributes and failing end with a clear error."""
    seconds = 0.2 if "stopped" in named else 60  # what another limit ends shall not be ended by a slow machine
    with pytest.raises((TokenizeError, ConfigError), match=named):
        render(source, seconds=seconds)


@pytest.mark.parametrize(
    "source",
    ["{% for %}", "{{ 'a' }", "{% if x %}", "{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "x" * (SOURCE_CHARS_MAX + 1)],
    ids=["no target", "no end", "no endif", "nested", "long"],
)
def test_what_is_no_template_is_told_on_loading(source: str) -> None:
    """A template that cannot be compiled names the model it belongs to."""
    with pytest.raises(ConfigError, match="chat template of 'm'"):
        template(source)


def test_time_is_looked_at_while_rendering() -> None:
    """A template that has used up its time is ended at the next look."""
    with pytest.raises(TokenizeError, match=r"ran for more than 0\.01 s"):
        render(LOOPING, seconds=0.01)


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        (CHATML, "1, 2", "<|im_start|>user\ngo<|im_end|>\n<|im_start|>assistant\n1, 2"),
        (CHATML, "1, 2 ", "<|im_start|>user\ngo<|im_end|>\n<|im_start|>assistant\n1, 2 "),
        ("{% for m in messages %}[{{ m.content | trim }}]{% endfor %}", "1, 2 ", "[go][1, 2"),
        ("{% for m in messages %}{% for p in m.content %}({{ p.text }}){% endfor %}{% endfor %}", "1", "(go)(1"),
    ],
)
def test_a_final_message_is_continued(source: str, content: str, expected: str) -> None:
    """The text ends where the final message does, trimmed where the template trims."""
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": content}]
    chat = Chat(messages, add_generation_prompt=False, continue_final_message=True)
    assert render(source, chat) == expected


@pytest.mark.parametrize(
    ("chat", "named"),
    [
        (Chat(USER, continue_final_message=True), "exclude each other"),
        (Chat([], add_generation_prompt=False, continue_final_message=True), "no text to continue"),
        (Chat(USER, add_generation_prompt=False, continue_final_message=True), "does not appear"),
    ],
)  # fmt: skip
def test_what_cannot_be_continued_is_told(chat: Chat, named: str) -> None:
    """No message, a generation prompt at the same time, and a template that drops the message are refused."""
    with pytest.raises(TokenizeError, match=named):
        render("{% for m in messages %}{% for p in m.content %}x{% endfor %}{% endfor %}", chat)


def test_a_chat_is_not_changed() -> None:
    """Rendering leaves the request's messages as they were."""
    messages = [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}]
    before = json.dumps(messages)
    render(PARTS, Chat(messages, add_generation_prompt=False, continue_final_message=True))
    assert json.dumps(messages) == before


def test_threads_have_budgets_of_their_own() -> None:
    """While one thread's template is being stopped, others render."""
    made, begin = template(CHATML), threading.Barrier(8)

    def work(number: int) -> str:
        begin.wait(20)
        if number == 0:
            with pytest.raises(TokenizeError, match="stopped"):
                render(LOOPING, seconds=0.05)
        return made.render(Chat(USER))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(work, range(8)))) == 1


def test_a_templates_chats_are_rendered_one_behind_the_other() -> None:
    """Many renderings at once would only take the interpreter from everybody else; a failed one gives its turn up."""
    others: list[threading.Thread] = []
    waited: list[bool] = []

    def now() -> datetime:
        if not others:
            others.append(threading.Thread(target=made.render, args=(Chat([]),)))
            others[0].start()
            others[0].join(0.05)
            waited.append(others[0].is_alive())
        return datetime(2026, 1, 1, tzinfo=UTC)

    made = ChatTemplate("{{ strftime_now('%Y') }}{{ raise_exception('no') if tools }}", where="m", now=now)
    with pytest.raises(TokenizeError, match="no"):
        made.render(Chat([], tools=[{"function": {"name": "f"}}]))
    others[0].join(PATIENCE_S)
    assert (waited, others[0].is_alive()) == ([True], False)
