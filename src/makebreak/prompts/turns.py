"""A request as the prompt that a chat template makes of it."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PreTrainedTokenizerFast

from makebreak.errors import InvalidInput
from makebreak.prompts.chat_template import render_chat

MARKER = "makebreak"
"""A text that no chat template contains."""
_SHOWN = 40
"""Characters of a prompt that an error shows."""


def template_parts(
    tokenizer: PreTrainedTokenizerFast, system: str | None, switches: Mapping[str, bool] | None
) -> list[str]:
    """What a chat template puts before and after a request, or between its places if it has several.

    Args:
        tokenizer: A tokenizer with a chat template.
        system: System prompt; None for none.
        switches: Variables of the template; None for none.

    Returns:
        The texts, at least one.
    """
    marker = MARKER
    while marker in (system or ""):
        marker += MARKER[-1]
    return render_request(tokenizer, marker, system, switches).split(marker)


def render_request(
    tokenizer: PreTrainedTokenizerFast, text: str, system: str | None, switches: Mapping[str, bool] | None
) -> str:
    """The prompt of a request by the tokenizer's chat template.

    Args:
        tokenizer: The model's tokenizer.
        text: The request.
        system: System prompt; None for none.
        switches: Variables of the template; None for none.

    Returns:
        The prompt.

    Raises:
        ValueError: If there is no chat template, or it has no place for the system prompt.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "this tokenizer has no chat template: give one ('Q: {}\\nA:'), or none for a base model"
        )
    before = [] if system is None else [{"role": "system", "content": system}]
    turns = [*before, {"role": "user", "content": text}]
    try:
        prompt = render_chat(tokenizer, turns, add_generation_prompt=True, switches=switches)
    except InvalidInput:
        if system is not None:  # some templates refuse the role; an error of the request is named without it
            render_request(tokenizer, text, None, switches)
            raise _no_place(system) from None
        raise
    if system is not None and system.strip() not in prompt:
        raise _no_place(system)
    return prompt


def _no_place(system: str) -> InvalidInput:
    return InvalidInput(
        f"system prompt {system[:_SHOWN]!r}: this chat template has no place for it; leave --system out, or "
        "put it before the request in a --template of your own"
    )
