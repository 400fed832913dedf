"""Requests of language models: our own prompts, and the tokens that a chat template makes of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerFast

from makebreak.prompts.examples import packaged_table
from makebreak.prompts.rendering import PromptFormat, render_prompts
from makebreak.prompts.tokenization import encode_prompts, encode_texts
from synthetic import Requests

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
    prompt_format: PromptFormat | None = None,
    contents: Sequence[str] | None = None,
) -> TextRequests:
    """Prompts as tokens, padded on the right.

    Args:
        tokenizer: The model's tokenizer.
        texts: Requests as users write them.
        family: Name of their family.
        unsafe: Whether they are unsafe.
        prompt_format: Template, system prompt, and the words with which refusals begin; None for the chat
            template.
        contents: Part of each text that the span `text` marks; the whole text by default.

    Returns:
        Requests without answers.

    Raises:
        ValueError: If there is no text, the tokenizer has no chat template but is to use it, or the template
            does not contain the text unchanged.
    """
    if not texts:
        raise ValueError(f"family {family!r}: expected at least one request")
    prompt_format = prompt_format or PromptFormat()
    requests = [text.strip() for text in texts]
    parts = requests if contents is None else list(contents)
    for text, part in zip(requests, parts, strict=True):
        if not part or part not in text:
            raise ValueError(f"the content {part[:_SHOWN]!r} is not in the request {text[:_SHOWN]!r}")
    prompts = render_prompts(tokenizer, requests, prompt_format)
    encoded = encode_prompts(
        tokenizer,
        [prompt.text for prompt in prompts],
        add_special_tokens=prompt_format.template != "chat",
    )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    tokens, length = _pad_right([prompt.ids for prompt in encoded], pad if isinstance(pad, int) else 0)
    text_span = np.zeros((len(texts), 2), dtype=np.int64)
    for i, (text, part) in enumerate(zip(requests, parts, strict=True)):
        begin = prompts[i].begin + text.find(part)
        text_span[i] = _token_span(encoded[i].offsets, begin, begin + len(part))
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
