"""Reasoning at the beginning of answers: what follows it, and requests that end behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerFast

from makebreak.prompts import (
    REASONING_BEGIN,
    ReasoningBlock,
    TextRequests,
    choose_thinking,
    encode_texts,
    encoded_block,
    missing_block,
    model_reasoning_block,
    template_thinking,
)
from makebreak.settings import GenerationSettings

_BLOCK = re.compile(r"\s*<(think|thinking|reasoning)>(?:.*?(</\1>))?", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?(?:think|thinking|reasoning)>", re.IGNORECASE)
_CLOSE_LINE = re.compile(
    r"(?:\A\s*</(?:think|thinking|reasoning)>|^ {0,3}</(?:think|thinking|reasoning)>[ \t]*\r?\n)\s*(?=\S)",
    re.MULTILINE | re.IGNORECASE,
)
_ANSWER_TAG = re.compile(r"<(?:response|answer)>\s*", re.IGNORECASE)
_FENCE = "```"


def final_answer(answer: str) -> str:
    """Returns the part of an answer that follows a block of reasoning.

    Args:
        answer: The answer's text; reasoning stands in `<think>…</think>` at its beginning (`reasoning_end`).

    Returns:
        The text after the block, without white space at its beginning; empty if the block is not closed; the
        whole answer if there is none.
    """
    end = reasoning_end(answer)
    if not end:
        return "" if is_unfinished(answer) else answer.lstrip()
    text = answer[end:].lstrip()
    tag = _ANSWER_TAG.match(text)
    return text if tag is None else text[tag.end() :]


def reasoning_end(answer: str) -> int:
    """Number of characters up to the end of the reasoning at the beginning of an answer, 0 without one.

    Reasoning is a block with which the answer begins, up to the first tag that closes it. Where the opening
    tag is missing, as in logs of models whose prompt has it, the first tag of the answer ends the reasoning
    if it is a closing tag at the answer's beginning or alone on its line, outside a block of code, and text
    follows. Any other tag is part of the answer's text, such as one that the answer explains.
    """
    block = _BLOCK.match(answer)
    if block is not None:
        return block.end() if block[2] else 0
    first, close = _TAG.search(answer), _CLOSE_LINE.search(answer)
    if first is None or close is None or not close.start() <= first.start() < close.end():
        return 0
    return 0 if answer[: first.start()].count(_FENCE) % 2 else first.end()


def is_unfinished(answer: str) -> bool:
    """Whether an answer begins with reasoning that does not end: there is nothing to judge."""
    block = _BLOCK.match(answer)
    return block is not None and not block[2]


def with_thinking(tokenizer: PreTrainedTokenizerFast, settings: GenerationSettings) -> GenerationSettings:
    """Settings with a choice of how prompts deal with reasoning (`choose_thinking`, `template_thinking`)."""
    if settings.template is None:
        return settings
    if settings.template == "chat":
        thinking = choose_thinking(tokenizer, settings.thinking, settings.system)
    else:
        thinking = template_thinking(tokenizer, settings.template)
    return replace(settings, thinking=thinking)


def reasoning_option(tokenizer: PreTrainedTokenizerFast, settings: GenerationSettings) -> tuple[str, str]:
    """The option by which answers begin with reasoning, and what a user does so that they begin directly."""
    if settings.template in (None, "chat"):
        return f"--thinking {settings.thinking}", "choose --thinking off or skip"
    block = missing_block(tokenizer, settings.template)
    return f"--template {settings.template!r}", f"add a block without reasoning at its end, {block!r}"


def behind_reasoning(
    tokenizer: PreTrainedTokenizerFast,
    requests: TextRequests,
    answers: Sequence[str],
    *,
    open_block: ReasoningBlock | None = None,
) -> TextRequests:
    """Requests whose prompts go on with the reasoning of their answers, up to where the answer proper begins.

    Args:
        tokenizer: The model's tokenizer.
        requests: The requests.
        answers: The model's answers to them, as `ChatTarget.answer` returns them.
        open_block: The block of reasoning within which the prompts end, None if they do not; its beginning is
            in the answers too.

    Returns:
        The requests themselves if no answer has reasoning.
    """
    ends = [reasoning_end(answer) for answer in answers]
    if not any(ends):
        return requests
    block = open_block or model_reasoning_block(tokenizer)
    texts = []
    for answer, end in zip(answers, ends, strict=True):
        n_space = len(answer[end:]) - len(answer[end:].lstrip()) if end else 0
        text = answer[: end + n_space]
        if open_block is not None:
            text = text.removeprefix(REASONING_BEGIN)
        texts.append(text if block is None else encoded_block(text, block))
    ids = encode_texts(tokenizer, texts)["input_ids"]
    length = requests.prompt_length + np.array([len(row) for row in ids])
    prompt = np.zeros((len(ids), max(int(length.max()), requests.prompt.shape[1])), dtype=np.int64)
    prompt[:, : requests.prompt.shape[1]] = requests.prompt
    for row, begin, added in zip(prompt, requests.prompt_length.tolist(), ids, strict=True):
        row[begin : begin + len(added)] = added
    spans = {**requests.spans, "eot": np.stack([length - 1, length], axis=1)}
    return replace(requests, prompt=prompt, prompt_length=length, spans=spans)
