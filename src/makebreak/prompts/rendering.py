"""Prompts as a model's chat template or a template of the user renders them, and what ends an answer."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from makebreak.prompts.chat_template import render_chat
from makebreak.prompts.reasoning_switch import closed_block, reasoning_switch
from makebreak.prompts.tokenization import encode_texts
from makebreak.prompts.turns import MARKER, render_request, template_parts
from makebreak.settings import Thinking

REFUSAL_OPENERS = ("I", "As", "Sorry", "Unfortunately")
"""Words with which refusals begin; Arditi et al. 2024 take the first two, by family of models."""
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
    thinking: Thinking | None = None
    """How the chat template deals with reasoning; None and `template`: it is not asked."""


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
    after, switches = "", None
    if template is None:
        parts = ["", ""]
    elif template == "chat":
        switches = reasoning_switch(tokenizer, prompt_format.thinking, system)
        parts = template_parts(tokenizer, system, switches)
        if prompt_format.thinking == "skip":
            after = closed_block(tokenizer, parts[-1])
            parts[-1] += after
    else:
        parts = template.split("{}")
        if len(parts) != 2:
            raise ValueError(f"template {template!r}: expected one {{}} where the request goes")
    prompts = []
    for text in texts:
        prompt = text.join(parts)
        if template == "chat":
            prompt = render_request(tokenizer, text, system, switches) + after
        if not text or len(parts) < 2 or prompt != text.join(parts):
            name = tokenizer.name_or_path or "this model"
            raise ValueError(
                f"the prompt template of {name} does not give the request {text[:_SHOWN]!r} back as it is: "
                "choose another --template, or correct it"
            )
        prompts.append(RenderedPrompt(prompt, len(prompt) - len(parts[-1]) - len(text)))
    return prompts


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
        turns = [{"role": "user", "content": MARKER}, {"role": "assistant", "content": MARKER}]
        after = render_chat(tokenizer, turns).rpartition(MARKER)[2].strip()
        [ids] = encode_texts(tokenizer, [after])["input_ids"] if after else [[]]
        if ids:
            return ids[0]
    if not isinstance(tokenizer.eos_token_id, int):
        raise ValueError(
            "this tokenizer has no token for the end of a text, and its template none for an answer's end"
        )
    return tokenizer.eos_token_id


def stop_tokens(
    tokenizer: PreTrainedTokenizerFast, end_of_text: int | list[int] | None, stop_strings: Sequence[str] = ()
) -> int | list[int] | None:
    """Ids of the tokens that end an answer.

    Some models have a generation config that knows the end of a text alone, while their chat template ends a
    turn otherwise; their answers would go on into invented turns.

    Args:
        tokenizer: The model's tokenizer.
        end_of_text: Ids that the generation config names.
        stop_strings: Texts that end an answer; those that are one special token count here.

    Returns:
        `end_of_text`, or a list with the tokens of `stop_strings`, and with the token that ends a turn of the
        chat template if that is a special token, which the generation config does not name.
    """
    special = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    more = [special[text] for text in stop_strings if text in special]
    with contextlib.suppress(ValueError):  # the template renders no answer, or there is no end of text
        end_of_turn = end_of_turn_token(tokenizer, "chat")
        more += [end_of_turn] if end_of_turn in special.values() else []
    known = end_of_text if isinstance(end_of_text, list) else [end_of_text]
    new = [i for i in dict.fromkeys(more) if i not in known]
    return [*(i for i in known if i is not None), *new] if new else end_of_text
