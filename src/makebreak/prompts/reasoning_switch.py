"""How prompts deal with the reasoning of a model: the switch of its chat template, or a block without any."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from makebreak.prompts.chat_template import chat_template_text
from makebreak.prompts.thinking import (
    ReasoningBlock,
    Thinking,
    closing,
    mentioned_switches,
    mentions_reasoning,
    opens_reasoning,
    reasoning_block,
)
from makebreak.prompts.turns import MARKER, render_request, template_parts


def choose_thinking(
    tokenizer: PreTrainedTokenizerFast, thinking: Thinking | None, system: str | None
) -> Thinking | None:
    """How prompts of a chat template deal with reasoning, with a choice where nothing is asked for.

    A model that reasons unless it is told not to gives answers whose beginning is no answer. So where nothing
    is asked for, reasoning is off if the template has a switch, and a block without reasoning is put in if it
    has none.

    Args:
        tokenizer: The model's tokenizer.
        thinking: What a user asks for; None for nothing.
        system: System prompt; None for none.

    Returns:
        `template`, `on`, `off` or `skip` for a model that may reason; None for any other, whose prompts are
        those of its template.

    Raises:
        ValueError: If the template has no switch that it is to obey, or the model no reasoning that could be
            skipped.
    """
    if not tokenizer.chat_template:
        return None
    if thinking in ("on", "off", "skip"):
        reasoning_switch(tokenizer, thinking, system)
        if thinking != "off":
            known_block(tokenizer, thinking)
        return thinking
    if not mentions_reasoning(chat_template_text(tokenizer)):
        return None
    block, switch = model_reasoning_block(tokenizer), _find_switch(tokenizer, system)
    if block is None and switch is None:
        return None
    if thinking == "template":
        is_off = switch and render_request(tokenizer, MARKER, system, None) == render_request(
            tokenizer, MARKER, system, {switch: False}
        )
        return "off" if is_off else thinking
    if switch and not opens_reasoning(template_parts(tokenizer, system, {switch: False})[-1], block):
        return "off"
    return None if block is None else "skip"


def begins_reasoning(
    tokenizer: PreTrainedTokenizerFast, thinking: Thinking | None, system: str | None
) -> bool:
    """Whether prompts of the chat template end within a block of reasoning, which the answer goes on with.

    Args:
        tokenizer: The model's tokenizer.
        thinking: What `choose_thinking` returned.
        system: System prompt; None for none.

    Returns:
        Whether they do; False for a model that does not reason.
    """
    if thinking in (None, "skip"):
        return False
    parts = template_parts(tokenizer, system, reasoning_switch(tokenizer, thinking, system))
    return opens_reasoning(parts[-1], model_reasoning_block(tokenizer))


def model_reasoning_block(tokenizer: PreTrainedTokenizerFast) -> ReasoningBlock | None:
    """The texts around the reasoning of a model; None for one without, or without a chat template."""
    if not tokenizer.chat_template:
        return None
    return reasoning_block(tokenizer, chat_template_text(tokenizer))


def known_block(tokenizer: PreTrainedTokenizerFast, thinking: Thinking) -> ReasoningBlock:
    """The texts around the reasoning of a model, which must have some.

    Args:
        tokenizer: The model's tokenizer.
        thinking: What a user asks for, named in the error.

    Returns:
        The texts.

    Raises:
        ValueError: If the model has none.
    """
    block = model_reasoning_block(tokenizer)
    if block is None:
        raise ValueError(
            f"--thinking {thinking}: neither the chat template of {_name(tokenizer)} nor its tokenizer has a "
            "known block of reasoning, such as <think>; leave the option out"
        )
    return block


def reasoning_switch(
    tokenizer: PreTrainedTokenizerFast, thinking: Thinking | None, system: str | None
) -> dict[str, bool] | None:
    """The variable of the chat template that turns reasoning on or off, with its value.

    Args:
        tokenizer: The model's tokenizer.
        thinking: How prompts deal with reasoning.
        system: System prompt; None for none.

    Returns:
        One variable; None unless reasoning is `on` or `off`.

    Raises:
        ValueError: If prompts are the same for on and off.
    """
    if thinking not in ("on", "off"):
        return None
    switch = _find_switch(tokenizer, system)
    if switch is None:
        has_block = model_reasoning_block(tokenizer) is not None
        raise ValueError(
            f"--thinking {thinking}: the chat template of {_name(tokenizer)} has no switch for reasoning, "
            "its prompts are the same for on and off; "
            + (
                "choose --thinking skip, which puts a block without reasoning before the answer, or "
                "--thinking template"
                if has_block
                else "leave the option out"
            )
        )
    return {switch: thinking == "on"}


def closed_block(tokenizer: PreTrainedTokenizerFast, after_request: str) -> str:
    """What a prompt lacks of a block without reasoning; see `closing`."""
    return closing(after_request, known_block(tokenizer, "skip"))


def _find_switch(tokenizer: PreTrainedTokenizerFast, system: str | None) -> str | None:
    """The first variable of the chat template that changes prompts; None if there is none."""
    for name in mentioned_switches(chat_template_text(tokenizer)):
        on, off = (render_request(tokenizer, MARKER, system, {name: value}) for value in (True, False))
        if on != off:
            return name
    return None


def _name(tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.name_or_path or "this model"
