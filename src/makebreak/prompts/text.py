"""Requests of language models: our own prompts, and the tokens that a chat template makes of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerFast

from makebreak.prompts.chat_template import render_chat
from makebreak.prompts.examples import packaged_table
from makebreak.prompts.tokenization import encode_texts
from synthetic import Requests

REFUSAL_OPENERS = ("I", "As", "Sorry", "Unfortunately")
"""Words with which refusals begin; Arditi et al. 2024 take the first two, by family of models."""
_SHOWN = 40
"""Characters of a prompt that an error shows."""


@dataclass(frozen=True)
class TextRequests(Requests):
    """Requests of a language model, whose answers are not known beforehand.

    `refused` is empty, and so are `instructed` and `judged` unless targets are given. Spans are `text`, the
    request itself, `template`, what the chat template puts after it, and `eot`, the last token of the prompt.
    `truth` has the column `request`, the text, and `target` if there is one.
    """

    openers: np.ndarray
    """(n, k) ids of the tokens with which a refusal begins."""

    def __getitem__(self, rows: slice | np.ndarray) -> TextRequests:
        """Returns a part of the requests, by slice, index array or mask."""
        return super().__getitem__(rows)  # type: ignore[return-value]


@dataclass(frozen=True)
class PromptFormat:
    """How prompts are rendered for a model, and how its refusals begin."""

    template: str | None = "chat"
    """`chat` for the tokenizer's chat template, another template with one `{}`, or None for the bare text."""
    system: str | None = None
    """System prompt, if the chat template has a place for one."""
    openers: Sequence[str] = REFUSAL_OPENERS
    """Words with which refusals begin."""


def evaluation_prompts() -> dict[str, list[str]]:
    """Our own prompts for evaluation.

    Returns:
        `harmless` and `harmful` prompts, paired by their verb, and `borderline` ones: harmless prompts with
        words that make some models refuse.
    """
    prompts: dict[str, list[str]] = {}
    for name in ("pairs", "borderline"):
        for row in packaged_table(name):
            for column, prompt in row.items():
                prompts.setdefault(column, []).append(prompt)
    return prompts


def text_requests(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    family: str,
    unsafe: bool,
    prompt_format: PromptFormat = PromptFormat(),
    contents: Sequence[str] | None = None,
) -> TextRequests:
    """Prompts as tokens, padded on the right.

    Args:
        tokenizer: The model's tokenizer.
        texts: Requests as users write them.
        family: Name of their family.
        unsafe: Whether they are unsafe.
        prompt_format: Template, system prompt, and the words with which refusals begin.
        contents: Part of each text that the span `text` marks; the whole text by default.

    Returns:
        Requests without answers.

    Raises:
        ValueError: If there is no text, the tokenizer has no chat template but is to use it, or the template
            does not contain the text unchanged.
    """
    if not texts:
        raise ValueError(f"family {family!r}: expected at least one request")
    parts = [text.strip() for text in texts] if contents is None else list(contents)
    prompts = [_render(tokenizer, text, part, prompt_format) for text, part in zip(texts, parts, strict=True)]
    encoded = encode_texts(
        tokenizer,
        [prompt for prompt, _ in prompts],
        add_special_tokens=prompt_format.template != "chat",
        with_offsets=True,
    )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    tokens, length = _pad_right(encoded["input_ids"], pad if isinstance(pad, int) else 0)
    text_span = np.zeros((len(texts), 2), dtype=np.int64)
    for i, offsets in enumerate(encoded["offset_mapping"]):
        begin = prompts[i][1]
        text_span[i] = _token_span(offsets, begin, begin + len(parts[i]))
    no_answers = np.zeros((len(texts), 0), dtype=np.int64)
    return TextRequests(
        family=family,
        seed=0,
        prompt=tokens,
        prompt_length=length,
        instructed=no_answers,
        refused=no_answers,
        judged=np.zeros((len(texts), 2), dtype=np.int64),
        unsafe=np.full(len(texts), unsafe),
        spans={
            "text": text_span,
            "template": np.stack([text_span[:, 1], length], axis=1),
            "eot": np.stack([length - 1, length], axis=1),
        },
        truth={"request": np.array(list(texts))},
        openers=np.tile(first_token_ids(tokenizer, prompt_format.openers), (len(texts), 1)),
    )


def with_targets(
    tokenizer: PreTrainedTokenizerFast, requests: TextRequests, targets: Sequence[str]
) -> TextRequests:
    """Requests with the answers that an attack aims at, as their instructed answers.

    Args:
        tokenizer: The model's tokenizer.
        requests: Requests without answers.
        targets: First words of the answer to each request.

    Returns:
        The requests with `instructed` and `judged` set, and the column `target` in `truth`.

    Raises:
        ValueError: If there are not as many targets as requests, or one is empty.
    """
    if len(targets) != len(requests) or not all(targets):
        raise ValueError(
            f"{len(targets)} targets for {len(requests)} requests: expected one for each, none of them empty"
        )
    ids, length = _pad_right(encode_texts(tokenizer, targets)["input_ids"], 0)
    judged = np.zeros((len(requests), 2), dtype=np.int64)
    judged[:, 1] = length
    truth = {**requests.truth, "target": np.array(list(targets))}
    return replace(requests, instructed=ids, judged=judged, truth=truth)


def _pad_right(rows: Sequence[Sequence[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, longest) ids, and the length of each row."""
    length = np.array([len(row) for row in rows])
    ids = np.full((len(rows), length.max()), pad, dtype=np.int64)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row
    return ids, length


def _token_span(offsets: Sequence[tuple[int, int]], begin: int, end: int) -> tuple[int, int]:
    """First token, and first token after it, of the characters begin … end - 1."""
    inside = [j for j, (start, stop) in enumerate(offsets) if start < end and stop > begin and stop > start]
    if not inside:
        raise ValueError(
            f"the tokenizer has no token for characters {begin} to {end - 1} of a prompt: reword it"
        )
    return inside[0], inside[-1] + 1


def check_known(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> None:
    """Checks that a tokenizer knows a part of every text.

    Args:
        tokenizer: The model's tokenizer.
        texts: Prompts, or targets of attacks.

    Raises:
        ValueError: If a text is nothing but unknown tokens: another one would be asked in its place.
    """
    for text in texts:
        [ids] = encode_texts(tokenizer, [text])["input_ids"]
        if all(token == tokenizer.unk_token_id for token in ids):
            raise ValueError(
                f"{text[:_SHOWN]!r}: this tokenizer knows no part of it; reword or remove it, or, if it is "
                "one of makebreak's own, give a file with the columns harmful and harmless"
            )


def first_token_ids(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> np.ndarray:
    """Ids of the tokens with which words begin, at the start of a text and after a space.

    Args:
        tokenizer: The model's tokenizer.
        words: Words, such as those with which refusals begin.

    Returns:
        (k,) sorted ids without repetition.

    Raises:
        ValueError: If the tokenizer knows none of the words.
    """
    pieces = encode_texts(tokenizer, [space + word for word in words for space in ("", " ")])["input_ids"]
    ids = sorted({piece[0] for piece in pieces if piece and piece[0] != tokenizer.unk_token_id})
    if not ids:
        raise ValueError(f"openers {list(words)}: this tokenizer knows none of them; name words that it has")
    return np.array(ids, dtype=np.int64)


def _render(
    tokenizer: PreTrainedTokenizerFast, text: str, content: str, prompt_format: PromptFormat
) -> tuple[str, int]:
    """The prompt of a request, and the character at which the content begins in it."""
    template, system, text = prompt_format.template, prompt_format.system, text.strip()
    if system is not None and template != "chat":
        raise ValueError(f"system prompt {system[:_SHOWN]!r}: only a chat template has a place for it")
    if template is None:
        prompt = text
    elif template == "chat":
        prompt = _render_chat(tokenizer, text, system)
    elif template.count("{}") == 1:
        prompt = template.replace("{}", text)
    else:
        raise ValueError(f"template {template!r}: expected one {{}} where the request goes")
    begin, offset = prompt.rfind(text), text.find(content)
    if not text or begin < 0:
        name = tokenizer.name_or_path or "this model"
        raise ValueError(
            f"the prompt template of {name} does not give the request {text[:_SHOWN]!r} back as it is: "
            "choose another --template, or correct it"
        )
    if not content or offset < 0:
        raise ValueError(f"the content {content[:_SHOWN]!r} is not in the request {text[:_SHOWN]!r}")
    return prompt, begin + offset


def _render_chat(tokenizer: PreTrainedTokenizerFast, text: str, system: str | None) -> str:
    """The prompt of a request by the tokenizer's chat template."""
    if not tokenizer.chat_template:
        raise ValueError(
            "this tokenizer has no chat template: give one ('Q: {}\\nA:'), or none for a base model"
        )
    before = [] if system is None else [{"role": "system", "content": system}]
    turns = [*before, {"role": "user", "content": text}]
    prompt = render_chat(tokenizer, turns, add_generation_prompt=True)
    if system is not None and system.strip() not in prompt:
        raise ValueError(f"system prompt {system[:_SHOWN]!r}: this chat template has no place for it")
    return prompt
