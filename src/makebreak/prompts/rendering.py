"""Prompts as a model's chat template or a template of the user renders them, and what ends an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from makebreak.errors import InvalidInput
from makebreak.prompts.chat_template import render_chat
from makebreak.prompts.tokenization import encode_texts

REFUSAL_OPENERS = ("I", "As", "Sorry", "Unfortunately")
"""Words with which refusals begin; Arditi et al. 2024 take the first two, by family of models."""
_MARKER = "makebreak"
"""A text that no chat template contains."""
_SHOWN = 40
"""Characters of a prompt that an error shows."""


@dataclass(frozen=True)
class PromptFormat:
    """How prompts are rendered for a model, and how its refusals begin."""

    template: str | None = "chat"
    """`chat` for the tokenizer's chat template, another template with one `{}`, or None for the bare text."""
    system: str | None = None
    """System prompt, if the chat template has a place for one."""
    openers: Sequence[str] = REFUSAL_OPENERS
    """Words with which refusals begin."""


class RenderedPrompt(NamedTuple):
    """A prompt, and where the request is in it."""

    text: str
    """The prompt."""
    begin: int
    """Character at which the request begins."""


def render_prompts(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], prompt_format: PromptFormat
) -> list[RenderedPrompt]:
    """Renders requests as prompts.

    The place of a request is that of a marker which is rendered in its stead, so that a request that is also
    a word of the template, such as `assistant`, is not looked for there.

    Args:
        tokenizer: The model's tokenizer.
        texts: Requests, without white space at their ends.
        prompt_format: Template and system prompt.

    Returns:
        One prompt per request.

    Raises:
        ValueError: If the tokenizer has no chat template but is to use it, the template has no place for the
            system prompt, or it does not give a request back unchanged.
    """
    template, system = prompt_format.template, prompt_format.system
    if system is not None and template != "chat":
        raise ValueError(f"system prompt {system[:_SHOWN]!r}: only a chat template has a place for it")
    if template is None:
        parts = ["", ""]
    elif template == "chat":
        parts = _template_parts(tokenizer, system)
    else:
        parts = template.split("{}")
        if len(parts) != 2:
            raise ValueError(f"template {template!r}: expected one {{}} where the request goes")
    prompts = []
    for text in texts:
        prompt = _render_turns(tokenizer, text, system) if template == "chat" else text.join(parts)
        if not text or len(parts) < 2 or prompt != text.join(parts):
            name = tokenizer.name_or_path or "this model"
            raise ValueError(
                f"the prompt template of {name} does not give the request {text[:_SHOWN]!r} back as it is: "
                "choose another --template, or correct it"
            )
        prompts.append(RenderedPrompt(prompt, len(prompt) - len(parts[-1]) - len(text)))
    return prompts


def _template_parts(tokenizer: PreTrainedTokenizerFast, system: str | None) -> list[str]:
    """What a chat template puts before and after a request, or between its places if it has several."""
    marker = _MARKER
    while marker in (system or ""):
        marker += _MARKER[-1]
    return _render_turns(tokenizer, marker, system).split(marker)


def _render_turns(tokenizer: PreTrainedTokenizerFast, text: str, system: str | None) -> str:
    """The prompt of a request by the tokenizer's chat template."""
    if not tokenizer.chat_template:
        raise ValueError(
            "this tokenizer has no chat template: give one ('Q: {}\\nA:'), or none for a base model"
        )
    before = [] if system is None else [{"role": "system", "content": system}]
    turns = [*before, {"role": "user", "content": text}]
    try:
        prompt = render_chat(tokenizer, turns, add_generation_prompt=True)
    except InvalidInput:
        if system is not None:  # some templates refuse the role; an error of the request is named without it
            _render_turns(tokenizer, text, None)
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


def end_of_turn_token(tokenizer: PreTrainedTokenizerFast, template: str | None) -> int:
    """Id of the token that a chat template puts after an answer, else of the end of the text.

    Args:
        tokenizer: The model's tokenizer.
        template: `chat` for the tokenizer's chat template, another template, or None.

    Returns:
        A token id.

    Raises:
        ValueError: If there is neither.
    """
    if template == "chat" and tokenizer.chat_template:
        turns = [{"role": "user", "content": _MARKER}, {"role": "assistant", "content": _MARKER}]
        after = render_chat(tokenizer, turns).rpartition(_MARKER)[2].strip()
        [ids] = encode_texts(tokenizer, [after])["input_ids"] if after else [[]]
        if ids:
            return ids[0]
    if not isinstance(tokenizer.eos_token_id, int):
        raise ValueError(
            "this tokenizer has no token for the end of a text, and its template none for an answer's end"
        )
    return tokenizer.eos_token_id


def stop_tokens(
    tokenizer: PreTrainedTokenizerFast, end_of_text: int | list[int] | None
) -> int | list[int] | None:
    """Ids of the tokens that end an answer.

    Some models have a generation config that knows the end of a text alone, while their chat template ends a
    turn otherwise; their answers would go on into invented turns.

    Args:
        tokenizer: The model's tokenizer.
        end_of_text: Ids that the generation config names.

    Returns:
        The same, or a list with the token that ends a turn of the chat template, if that is a special token
        which the generation config does not name.
    """
    try:
        end_of_turn = end_of_turn_token(tokenizer, "chat")
    except ValueError:  # a template that renders no answer, an error where it is used; or no end of text
        return end_of_text
    token = tokenizer.added_tokens_decoder.get(end_of_turn)
    known = end_of_text if isinstance(end_of_text, list) else [end_of_text]
    if token is None or not token.special or end_of_turn in known:
        return end_of_text
    return [*(i for i in known if i is not None), end_of_turn]
