"""Rendering of chat templates, which are programs of a model's author, in a process with limits.

The sandbox of Jinja keeps a template from running code, but not from looping without end or from filling the
memory. So templates are rendered in a forked process whose processor time, memory and output are limited by
the system, and whose reply is waited for so long only. It ends when it is not needed for a moment: pages of a
model that is trained meanwhile are not kept. A template that asks for the date is told the same one on every
day, and one that draws at random draws the same: a prompt is decided by the template and its messages.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import select
import signal
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import render_jinja_template

from makebreak.errors import InvalidInput, describe_error, name_errors

MAX_SECONDS = 5.0
"""Most processor time of one rendering."""
MAX_TOTAL, MAX_MEAN = 20.0, 0.25
"""Seconds of all renderings of a template after which they may take so long each on average."""
MAX_WAIT = 60.0
"""Most seconds from a request to its reply; more than a busy machine needs for that processor time."""
MAX_BYTES = 2**30
"""Most memory of the renderings, beyond what the program has."""
MAX_CHARACTERS, MAX_GROWTH = 100_000, 100
"""Longest prompt: so many characters, and so many times those of the messages."""
_IDLE_SECONDS = 0.5
_REMEDY = "correct the chat template, or give one (--template)"
_LENGTH = struct.Struct("<Q")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _FixedDate(datetime):
    """The date in templates that ask for one: that of Llama 3's own templates where none is known."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        """The same moment on every day."""
        return datetime(2024, 7, 26, tzinfo=tz)


class _Renderer(NamedTuple):
    """A process that renders templates."""

    pid: int
    requests: int
    """File descriptor to write to."""
    replies: int
    """File descriptor to read from."""


class _Duration(NamedTuple):
    """How long the renderings of a template took."""

    template: object
    n: int = 0
    seconds: float = 0.0


_lock = threading.Lock()
_durations: list[_Duration] = []  # at most that of the last template
_renderers: list[_Renderer] = []  # at most one


def render_chat(
    tokenizer: PreTrainedTokenizerFast,
    turns: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = False,
    switches: Mapping[str, bool] | None = None,
) -> str:
    """Renders a conversation by the chat template of a tokenizer, within limits of time, memory and length.

    Args:
        tokenizer: A tokenizer with a chat template.
        turns: Messages with `role` and `content`.
        add_generation_prompt: Whether the beginning of an answer follows.
        switches: Variables of the template, such as `enable_thinking`; None for none.

    Returns:
        What `apply_chat_template` of transformers gives.

    Raises:
        InvalidInput: If the template is no valid one, fails, or exceeds a limit.
    """
    name, template = _name(tokenizer), chat_template_text(tokenizer)
    request = {
        "conversations": [[dict(turn) for turn in turns]],
        "chat_template": template,
        "add_generation_prompt": add_generation_prompt,
        # no other names: they would be taken for arguments of the renderer
        **{name: token for name, token in tokenizer.special_tokens_map.items() if name.endswith("_token")},
        **(switches or {}),
    }
    n_characters = sum(len(part) for turn in turns for part in turn.values())
    limit = MAX_CHARACTERS + MAX_GROWTH * n_characters
    with _lock:
        started = time.monotonic()
        reply = _exchange({"request": request, "limit": limit})
        mean = _mean_duration(template, time.monotonic() - started)
    if mean > MAX_MEAN:
        raise InvalidInput(f"{name}: it takes {mean:.1f} s for each prompt; {_REMEDY}")
    if "error" in reply:
        raise InvalidInput(f"{name}: it cannot be rendered ({reply['error']}); {_REMEDY}")
    surrogate = _SURROGATE.search(reply["text"])
    if surrogate and not any(surrogate[0] in part for turn in turns for part in turn.values()):
        raise InvalidInput(
            f"{name}: it writes U+{ord(surrogate[0]):04X}, half of a character, which is no text; {_REMEDY}"
        )
    return reply["text"]


def chat_template_text(tokenizer: PreTrainedTokenizerFast) -> str:
    """The text of a tokenizer's chat template; raises InvalidInput if it is no valid one."""
    with name_errors(_name(tokenizer), "it cannot be used", _REMEDY):
        return tokenizer.get_chat_template()


def _name(tokenizer: PreTrainedTokenizerFast) -> str:
    return f"the chat template of {tokenizer.name_or_path or 'this tokenizer'}"


def _mean_duration(template: object, seconds: float) -> float:
    """Seconds that a rendering of a template takes on average, 0 until they took `MAX_TOTAL` in all."""
    last = _durations[0] if _durations and _durations[0].template == template else _Duration(template)
    _durations[:] = [_Duration(template, last.n + 1, last.seconds + seconds)]
    total = _durations[0]
    return total.seconds / total.n if total.seconds > MAX_TOTAL else 0.0


def _exchange(message: dict[str, Any]) -> dict[str, str]:
    """The reply of the renderer, which is started if there is none, or if it just ended unused."""
    for _ in range(2):
        renderer = _renderers[0] if _renderers else _start()
        deadline = time.monotonic() + MAX_WAIT
        try:
            with contextlib.suppress(BrokenPipeError):
                _write(renderer.requests, message, deadline)
            reply = _read(renderer.replies, deadline)
        except TimeoutError:
            _kill()
            return {"error": f"there was no reply for {MAX_WAIT:g} s"}
        except BaseException:  # Ctrl-C, say: a late reply would be taken for that of the next request
            _kill()
            raise
        if reply is not None:
            return reply
        status = _stop()
        if status is None or os.WIFSIGNALED(status):
            by_time = status is not None and os.WTERMSIG(status) == signal.SIGPROF
            return {"error": f"it took more than {MAX_SECONDS:g} s" if by_time else "its process was killed"}
    return {"error": "its process ended"}


def _start() -> _Renderer:
    """Forks the renderer."""
    request_end, requests = os.pipe()
    replies, reply_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(requests)
        os.close(replies)
        _serve(request_end, reply_end)
    os.close(request_end)
    os.close(reply_end)
    os.set_blocking(requests, False)
    os.set_blocking(replies, False)
    _renderers[:] = [_Renderer(pid, requests, replies)]
    return _renderers[0]


def _stop() -> int | None:
    """Closes the renderer, and returns its exit status; None where another part of the program took it."""
    renderer = _renderers.pop()
    os.close(renderer.requests)
    os.close(renderer.replies)
    try:
        return os.waitpid(renderer.pid, 0)[1]
    except ChildProcessError:
        return None


def _kill() -> None:
    """Ends the renderer at once."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(_renderers[0].pid, signal.SIGKILL)
    _stop()


def _forget() -> None:
    """Closes a renderer that belongs to the process that this one was forked from."""
    global _lock
    _lock = threading.Lock()
    for renderer in _renderers:
        for descriptor in (renderer.requests, renderer.replies):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    _renderers.clear()


os.register_at_fork(after_in_child=_forget)


def _serve(requests: int, replies: int) -> NoReturn:
    """Renders until nothing is asked for a moment, or the other process ends. Never returns."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process reports it
        for number in (signal.SIGTERM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        statistics = Path("/proc/self/statm")
        if statistics.exists():  # Linux; elsewhere time and length are limited alone
            n_bytes = int(statistics.read_text().split()[0]) * resource.getpagesize()
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            limit = n_bytes + MAX_BYTES
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        chat_template_utils.datetime = _FixedDate  # type: ignore[attr-defined, misc]
        patience = MAX_WAIT  # on a busy machine the first request may come late
        while select.select([requests], [], [], patience)[0]:
            patience = _IDLE_SECONDS
            message = _read(requests)
            if message is None:
                break
            _write(replies, _render(message))
        status = 0
    finally:
        os._exit(status)


def _render(message: dict[str, Any]) -> dict[str, str]:
    """The prompt, or why there is none."""
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)  # the system ends this process then
    try:
        random.seed(0)
        text = str(render_jinja_template(**message["request"])[0][0])
        if len(text) > message["limit"]:
            return {"error": f"a prompt of {len(text):,} characters: expected at most {message['limit']:,}"}
        return {"text": text}
    except Exception as error:
        return {"error": describe_error(error)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _write(descriptor: int, message: Mapping[str, Any], deadline: float | None = None) -> None:
    """Writes a message, its length and JSON; TimeoutError if it is not taken until a deadline."""
    content = json.dumps(message).encode()
    rest = memoryview(_LENGTH.pack(len(content)) + content)
    while rest:
        _wait(descriptor, select.POLLOUT, deadline)
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int, deadline: float | None = None) -> dict[str, Any] | None:
    """A message, None at the end of the stream; TimeoutError if it does not come until a deadline."""
    header = _read_bytes(descriptor, _LENGTH.size, deadline)
    content = _read_bytes(descriptor, _LENGTH.unpack(header)[0], deadline) if header else b""
    return json.loads(content) if content else None


def _read_bytes(descriptor: int, n: int, deadline: float | None) -> bytes:
    """So many bytes, b"" if the stream ends before."""
    parts = []
    while n:
        _wait(descriptor, select.POLLIN, deadline)
        part = os.read(descriptor, min(n, 2**20))
        if not part:
            return b""
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def _wait(descriptor: int, event: int, deadline: float | None) -> None:
    """Waits until a descriptor can be read or written, or its other end is closed."""
    poll = select.poll()
    poll.register(descriptor, event)
    seconds = None if deadline is None else max(deadline - time.monotonic(), 0)
    if not poll.poll(None if seconds is None else 1000 * seconds):
        raise TimeoutError
