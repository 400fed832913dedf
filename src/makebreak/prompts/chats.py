"""The request of a chat, as data sets for training keep them."""

from __future__ import annotations

from typing import Any

from makebreak.prompts.tables import JsonObject, check_columns_differ, check_text

_KEYS = (("role", "content"), ("from", "value"))
_USER, _ASSISTANT = ("user", "human"), ("assistant", "gpt", "model", "bot", "chatgpt")


def is_chat(value: object) -> bool:
    """Whether a value is a list of turns."""
    return isinstance(value, list) and bool(value) and all(isinstance(t, JsonObject | dict) for t in value)


def last_user_turn(value: Any, where: str, *, ignore_earlier: bool = False) -> str:
    """The text of the last turn of the user; the answer behind it is left out.

    Args:
        value: The turns, each with `role` and `content`, or `from` and `value`.
        where: The place of the chat, for messages.
        ignore_earlier: Whether turns before it, a system prompt among them, may be left out.

    Returns:
        The text.

    Raises:
        ValueError: If a turn cannot be read, there is none of the user, or there are earlier turns and these
            may not be left out: the request would be another one without them.
    """
    turns = [_turn(turn, f"{where}, turn {i}") for i, turn in enumerate(value, 1)]
    users = [i for i, (role, _) in enumerate(turns) if role in _USER]
    if not users:
        raise ValueError(f"{where} is a chat without a turn of the user: expected one to take as the prompt")
    last = users[-1]
    for i, (role, _) in enumerate(turns[last + 1 :], last + 2):
        if role not in _ASSISTANT:
            raise ValueError(
                f"{where}, turn {i} is of {role!r}: expected the last request of the user, or an answer"
            )
    if last and not ignore_earlier:
        raise ValueError(
            f"{where} is a chat with {last} turns before its last request, the first of {turns[0][0]!r}: "
            "--turns last takes the last request alone (a system prompt is given by --system)"
        )
    return check_text(turns[last][1], f"{where}, turn {last + 1}")


def _turn(turn: Any, where: str) -> tuple[str, Any]:
    """Role and content of a turn."""
    if isinstance(turn, JsonObject):
        check_columns_differ(where, [key for key, _ in turn])
    cells = dict(turn)
    for role, content in _KEYS:
        if role in cells and content in cells:
            return check_text(cells[role], f"{where}, {role!r}").casefold(), cells[content]
    raise ValueError(f"{where} has {', '.join(map(repr, cells)) or 'nothing'}: expected 'role' and 'content'")
