"""Chat templates are programs of a model's author: what they give, and the limits that they run under."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from makebreak.errors import InvalidInput
from makebreak.prompts import chat_template
from makebreak.prompts.chat_template import render_chat
from tests.fixtures.tiny_lm import TEMPLATE, prompts, tokenizer

TURNS = [{"role": "user", "content": "make tea now"}]
FAILURES = [
    "{% for %}",
    "{% endfor %}",
    "{{ messages[9].content.x.y }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append(1) }}",
    "{{ 1 / 0 }}",
    "{% include 'x' %}",
    "{% import 'os' as os %}",
    "{{ raise_exception('only\ntools') }}",
    "{{ range(10**9) | list | length }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ messages | nofilter }}",
    "{{ namespace(__class__=1) }}",
    "{{ ('(' * 500) + 1 }}",
    "{{ " + "(" * 3000 + ")" * 3000 + " }}",
]
LARGE = [
    "{{ 'a' * 20000000000 }}",
    "{{ 'a' * 5000000000 }}" + TEMPLATE,
    "{{ 'now ' * 12000000 }}" + TEMPLATE,
    "{{ 'x' | center(10**11) }}",
    "{{ '%9999999999d' | format(1) }}",
    "{% set n = namespace(x='now ') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "{{ messages[0].content * 100000 }}",
    "{{ ([0] * 10**9) | length }}",
    "{% for a in range(99999) %}{{ messages[0].content }}{% endfor %}",
    TEMPLATE.replace("m['content']", "m['content'] * (99999 if 'tea' in m['content'] else 1)"),
]
ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}"
    "{% endfor %}{% endfor %}" + TEMPLATE,
    "{{ 9 ** (9 ** 9) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    TEMPLATE + "{% if 'tea' in messages[0].content %}{{ 7 ** (9 ** 9) }}{% endif %}",
]


def with_template(template: str) -> PreTrainedTokenizerFast:
    words = tokenizer()
    words.chat_template = template
    return words


def refuse(template: str) -> str:
    """The one line of the error; a good template is rendered before and after it."""
    expected = tokenizer().apply_chat_template(TURNS, tokenize=False)
    assert render_chat(tokenizer(), TURNS) == expected
    with pytest.raises(
        InvalidInput, match="the chat template of this tokenizer: it cannot be rendered"
    ) as error:
        render_chat(with_template(template), TURNS, add_generation_prompt=True)
    assert render_chat(tokenizer(), TURNS) == expected
    assert "\n" not in str(error.value)
    assert "; correct the chat template, or give one" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("template", FAILURES)
def test_failures_are_one_line(template: str) -> None:
    refuse(template)


def test_half_of_a_character_is_no_prompt() -> None:
    """JSON can write one, a tokenizer cannot read it; one of the user's own is not the template's fault."""
    with pytest.raises(InvalidInput, match=r"chat template .* it writes U\+D800, half of a character"):
        render_chat(with_template("{{ '\\ud800' }}" + TEMPLATE), TURNS)
    assert "\ud800" in render_chat(tokenizer(), [{"role": "user", "content": "\ud800"}])


@pytest.mark.parametrize("template", LARGE)
def test_memory_and_length_are_limited(template: str) -> None:
    line = refuse(template)
    assert "MemoryError" in line or "characters: expected at most" in line or "process" in line


@pytest.mark.parametrize("template", ENDLESS)
def test_time_is_limited(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no bytecode of Python ends, and where only some requests start it."""
    end_renderer()
    monkeypatch.setattr(chat_template, "MAX_SECONDS", 0.2)
    started = time.process_time()
    line = refuse(template)
    assert "it took more than 0.2 s" in line or "maximum recursion" in line
    assert time.process_time() - started < 2
    end_renderer()


@pytest.mark.parametrize("n_characters", [10, 10_000_000])
def test_a_renderer_that_does_not_reply_is_not_waited_for(
    n_characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped, so that it uses no time, before it replies or before it has taken the whole request."""
    end_renderer()
    expected = render_chat(tokenizer(), TURNS)
    monkeypatch.setattr(chat_template, "_IDLE_SECONDS", 60.0)
    monkeypatch.setattr(chat_template, "MAX_WAIT", 0.2)
    os.kill(chat_template._renderers[0].pid, signal.SIGSTOP)
    with pytest.raises(InvalidInput, match=r"there was no reply for 0\.2 s"):
        render_chat(tokenizer(), [{"role": "user", "content": "x" * n_characters}])
    assert not chat_template._renderers
    monkeypatch.undo()
    assert render_chat(tokenizer(), TURNS) == expected
    end_renderer()


def test_an_interrupted_reply_is_not_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that comes after Ctrl-C would be taken for that of the next request."""
    end_renderer()
    expected = render_chat(tokenizer(), TURNS)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chat_template, "_read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            render_chat(tokenizer(), [{"role": "user", "content": "another"}])
    assert render_chat(tokenizer(), TURNS) == expected
    end_renderer()


def end_renderer() -> None:
    """Ends the process of earlier renderings, which has its own limits."""
    if chat_template._renderers:
        chat_template._stop()


def test_prompts_are_those_of_transformers() -> None:
    """The control, with system prompts, names of special tokens, several templates, and any text."""
    words = with_template("{{ bos_token }}{{ eos_token }}" + TEMPLATE)
    named = tokenizer()
    named.chat_template = {"default": TEMPLATE, "tools": "{{ tools }}"}  # type: ignore[assignment]
    texts = [
        *prompts()["harmful"][:3],
        "a\nb",
        "“ü” \u2028 \U0001f600",
        "{{ 1 / 0 }}",
        "\ud800",
        "x" * 50_000,
    ]
    for text in texts:
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        for one in (tokenizer(), words, named):
            for prompt in (False, True):
                expected = one.apply_chat_template(turns, add_generation_prompt=prompt, tokenize=False)
                assert render_chat(one, turns, add_generation_prompt=prompt) == expected


def test_many_slow_prompts_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is within the limit of one, all together would take minutes; quick ones go on for ever."""
    monkeypatch.setattr(chat_template, "MAX_TOTAL", 0.2)
    monkeypatch.setattr(chat_template, "MAX_MEAN", 0.05)
    slow = with_template("{% for a in range(99999) %}{% for b in range(30) %}{% endfor %}{% endfor %}")
    with pytest.raises(InvalidInput, match=r"it takes .* s for each prompt; correct the chat template"):
        [render_chat(slow, TURNS) for _ in range(10)]
    monkeypatch.setattr(chat_template, "MAX_MEAN", 60.0)
    for _ in range(10):
        render_chat(tokenizer(), TURNS)


@pytest.mark.parametrize("call", ["strftime_now('%d %b %Y %H:%M:%S.%f')", "range(10**5) | random"])
def test_a_prompt_depends_on_its_messages_only(call: str) -> None:
    """On every day, and in every process."""
    words = with_template("{{ " + call + " }}")
    first = render_chat(words, TURNS)
    end_renderer()
    assert [render_chat(words, TURNS) for _ in range(2)] == [first] * 2
    assert first == "26 Jul 2024 00:00:00.000000" or first.isdecimal()


def test_special_tokens_are_no_arguments_of_the_renderer() -> None:
    """A tokenizer may give any name to a token: none replaces the template or the messages."""
    words = tokenizer()
    expected = render_chat(words, TURNS)
    for name in ("chat_template", "conversations", "tools", "messages"):
        words._special_tokens_map[name] = "bread"
    assert render_chat(words, TURNS) == expected


def test_the_process_ends_when_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unused, or killed by something else, and the next rendering starts another."""
    end_renderer()
    monkeypatch.setattr(chat_template, "_IDLE_SECONDS", 0.01)
    expected = render_chat(tokenizer(), TURNS)
    [first] = chat_template._renderers
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    assert render_chat(tokenizer(), TURNS) == expected
    end_renderer()
    monkeypatch.setattr(chat_template, "_IDLE_SECONDS", 60.0)
    assert render_chat(tokenizer(), TURNS) == expected
    [second] = chat_template._renderers
    os.kill(second.pid, signal.SIGKILL)
    with pytest.raises(InvalidInput, match="its process was killed"):
        render_chat(tokenizer(), TURNS)
    assert render_chat(tokenizer(), TURNS) == expected
    end_renderer()


def test_the_first_request_may_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine; the process waits for it longer than it waits for further ones."""
    expected = render_chat(tokenizer(), TURNS)
    end_renderer()
    monkeypatch.setattr(chat_template, "_IDLE_SECONDS", 0.01)
    start = chat_template._start

    def start_slowly() -> Any:
        renderer = start()
        time.sleep(0.5)
        return renderer

    monkeypatch.setattr(chat_template, "_start", start_slowly)
    assert render_chat(tokenizer(), TURNS) == expected
    end_renderer()


def test_a_forked_process_has_its_own() -> None:
    """Two processes that share one would read each other's replies."""
    expected = render_chat(tokenizer(), TURNS)
    pid = os.fork()
    if pid == 0:
        is_own = not chat_template._renderers
        os._exit(0 if is_own and render_chat(tokenizer(), TURNS) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert render_chat(tokenizer(), TURNS) == expected
