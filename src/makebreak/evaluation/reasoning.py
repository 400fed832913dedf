"""Reasoning at the beginning of answers: what follows it, and requests that end behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerFast

from makebreak.prompts import (
    REASONING_BEGIN,
    TextRequests,
    encode_texts,
    encoded_block,
    model_reasoning_block,
)

_THOUGHT = re.compile(r"^\s*<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_CLOSE = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_OPEN = re.compile(r"\s*<(?:think|thinking|reasoning)>", re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<(?:response|answer)>\s*", re.IGNORECASE)


def final_answer(answer: str) -> str:
    """Returns the part of an answer that follows a block of reasoning.

    Args:
        answer: The answer's text; reasoning stands in `<think>…</think>` at its beginning, of which the
            opening tag may belong to the prompt.

    Returns:
        The text after the block, without white space at its beginning; empty if the block is not closed; the
        whole answer if there is none.
    """
    end = reasoning_end(answer)
    if not end:
        return _THOUGHT.sub("", answer, count=1).lstrip()
    text = answer[end:].lstrip()
    tag = _ANSWER_TAG.match(text)
    return text if tag is None else text[tag.end() :]


def reasoning_end(answer: str) -> int:
    """Number of characters up to the end of the last block of reasoning in an answer, 0 without one."""
    closes = list(_CLOSE.finditer(answer))
    return closes[-1].end() if closes else 0


def is_unfinished(answer: str) -> bool:
    """Whether an answer begins with reasoning that does not end: there is nothing to judge."""
    return not reasoning_end(answer) and _OPEN.match(answer) is not None


def behind_reasoning(
    tokenizer: PreTrainedTokenizerFast,
    requests: TextRequests,
    answers: Sequence[str],
    *,
    is_begun: bool,
) -> TextRequests:
    """Requests whose prompts go on with the reasoning of their answers, up to where the answer proper begins.

    Args:
        tokenizer: The model's tokenizer.
        requests: The requests.
        answers: The model's answers to them, as `ChatTarget.answer` returns them.
        is_begun: Whether the prompts end within a block of reasoning; its beginning is in the answers too.

    Returns:
        The requests, without change where there is no reasoning.
    """
    block = model_reasoning_block(tokenizer)
    texts = []
    for answer in answers:
        end = reasoning_end(answer)
        n_space = len(answer[end:]) - len(answer[end:].lstrip()) if end else 0
        text = answer[: end + n_space]
        if is_begun:
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
