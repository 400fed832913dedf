"""How prompts deal with the reasoning of a model: the switch of its chat template, or a block without any."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from makebreak.prompts.chat_template import chat_template_text
from makebreak.prompts.thinking import (
    BLOCKS,
    ReasoningBlock,
    closing,
    has_block_tokens,
    mentioned_switches,
    mentions_block,
    opens_reasoning,
    reasoning_block,
)
from makebreak.prompts.turns import MARKER, render_request, template_parts
from makebreak.settings import Thinking


def choose_thinking(
    tokenizer: PreTrainedTokenizerFast, thinking: Thinking | None, system: str | None
) -> Thinking | None:
    """How prompts of a chat template deal with reasoning, with a choice where nothing is asked for.

    A model that reasons unless it is told not to gives answers whose beginning is no answer. So where nothing
    is asked for, reasoning is off if the template has a switch, and a block without reasoning is put in if it
    has none. A template that only removes reasoning from earlier answers is no evidence that the model
    reasons: its prompts must show the block, or its tokenizer must have tokens for it.

    Args:
        tokenizer: The model's tokenizer.
        thinking: What a user asks for; None for nothing.
        system: System prompt; None for none.

    Returns:
        `template`, `on`, `off` or `skip` for a model that may reason; None for any other, and where the
        template has reasoning off by default: prompts are those of the template.

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
    block, switch = model_reasoning_block(tokenizer), _find_switch(tokenizer, system)
    plain = template_parts(tokenizer, system, None)
    is_off = switch and plain == template_parts(tokenizer, system, {switch: False})
    if is_off and not opens_reasoning(plain[-1], block):
        return None
    is_mentioned = block is not None and mentions_block(chat_template_text(tokenizer), block)
    if not switch and not is_mentioned:
        return None
    if thinking == "template":
        return thinking
    if switch and not opens_reasoning(template_parts(tokenizer, system, {switch: False})[-1], block):
        return "off"
    return "skip" if block is not None and _is_shown(tokenizer, block, system) else None


def template_thinking(tokenizer: PreTrainedTokenizerFast, template: str) -> Thinking | None:
    """How prompts of a user's own template deal with reasoning.

    Args:
        tokenizer: The model's tokenizer.
        template: The template, a text with `{}`.

    Returns:
        `template` if answers may begin with reasoning: the template ends within a block, or the model may
        reason and the template has no end of a block behind the request. None otherwise.
    """
    tail = template.rpartition("{}")[2]
    if open_block(tokenizer, "template", None, template) is not None:
        return "template"
    block = model_reasoning_block(tokenizer)
    if block is None or block.end in tail or not tokenizer.chat_template:
        return None
    # where the chat template closes a block itself, one without an end leaves the choice to the model
    may_reason = choose_thinking(tokenizer, None, None) is not None
    return "template" if may_reason or block.end in template_parts(tokenizer, None, None)[-1] else None


def open_block(
    tokenizer: PreTrainedTokenizerFast, thinking: Thinking | None, system: str | None, template: str = "chat"
) -> ReasoningBlock | None:
    """The block of reasoning within which prompts end, which the answer goes on with.

    Args:
        tokenizer: The model's tokenizer.
        thinking: What `choose_thinking` or `template_thinking` returned.
        system: System prompt; None for none.
        template: `chat` for the tokenizer's chat template, else a text with `{}`.

    Returns:
        The texts around it; None where prompts do not end within one.
    """
    if thinking in (None, "skip"):
        return None
    block = model_reasoning_block(tokenizer)
    if template == "chat":
        tail = template_parts(tokenizer, system, reasoning_switch(tokenizer, thinking, system))[-1]
        return block if opens_reasoning(tail, block) else None
    tail = template.rpartition("{}")[2]
    known = BLOCKS if block is None else (block, *BLOCKS)
    return next((each for each in known if opens_reasoning(tail, each)), None)


def model_reasoning_block(tokenizer: PreTrainedTokenizerFast) -> ReasoningBlock | None:
    """The texts around the reasoning of a model; None for one without."""
    return reasoning_block(tokenizer, chat_template_text(tokenizer) if tokenizer.chat_template else "")


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


def missing_block(tokenizer: PreTrainedTokenizerFast, template: str) -> str:
    """What a user's own template lacks of a block without reasoning; see `closing`."""
    block = open_block(tokenizer, "template", None, template) or known_block(tokenizer, "template")
    return closing(template.rpartition("{}")[2], block)


def _is_shown(tokenizer: PreTrainedTokenizerFast, block: ReasoningBlock, system: str | None) -> bool:
    """Whether prompts have a text around reasoning, or the tokenizer has tokens for both."""
    prompt = "".join(template_parts(tokenizer, system, None))
    return block.begin in prompt or block.end in prompt or has_block_tokens(tokenizer, block)


def _find_switch(tokenizer: PreTrainedTokenizerFast, system: str | None) -> str | None:
    """The first variable of the chat template that changes prompts; None if there is none."""
    for name in mentioned_switches(chat_template_text(tokenizer)):
        on, off = (render_request(tokenizer, MARKER, system, {name: value}) for value in (True, False))
        if on != off:
            return name
    return None


def _name(tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.name_or_path or "this model"
