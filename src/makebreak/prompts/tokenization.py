"""Texts as token ids; what a tokenizer of an unknown author cannot read is one error that names it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from transformers import BatchEncoding, PreTrainedTokenizerFast

from makebreak.errors import name_errors, silence_native_code


class EncodedPrompt(NamedTuple):
    """Tokens of a prompt."""

    ids: list[int]
    """Their ids."""
    offsets: list[tuple[int, int]]
    """First character of each, and the first after it; equal for a token that stands for no character."""


def encode_prompts(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, add_special_tokens: bool
) -> list[EncodedPrompt]:
    """Encodes prompts, which an answer follows.

    What a tokenizer puts after every text is left out: a model that has read the end of a text does not
    answer it. A second token for the beginning of a text, where template and tokenizer both put one, is left
    out as well. Both are said once on standard error.

    Args:
        tokenizer: The tokenizer.
        texts: The prompts.
        add_special_tokens: Whether the tokenizer adds those that it puts before a text.

    Returns:
        One encoded prompt per text.

    Raises:
        InvalidInput: If the tokenizer fails.
    """
    encoded = encode_texts(tokenizer, texts, add_special_tokens=add_special_tokens, with_offsets=True)
    end = tokens_after_texts(tokenizer) if add_special_tokens else []
    begin = tokenizer.bos_token_id
    prompts = []
    for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        first, last = 0, len(ids)
        if end and ids[-len(end) :] == end:
            last -= len(end)
            _report(f"{_name(tokenizer)} puts {tokenizer.decode(end)!r} after every text")
        while begin is not None and ids[first : first + 2] == [begin, begin]:
            first += 1
            _report(f"{_name(tokenizer)} and the prompt template both put {tokenizer.bos_token!r} first")
        prompts.append(EncodedPrompt(ids[first:last], offsets[first:last]))
    return prompts


def tokens_after_texts(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of the tokens that a tokenizer puts after every text, such as one for its end.

    Args:
        tokenizer: The tokenizer.

    Returns:
        The ids; none for most tokenizers.
    """
    plain, whole = (
        encode_texts(tokenizer, ["a"], add_special_tokens=add)["input_ids"][0] for add in (False, True)
    )
    for start in range(len(whole) - len(plain) + 1) if plain else ():
        if whole[start : start + len(plain)] == plain:
            return whole[start + len(plain) :]
    return []


@cache
def _report(line: str) -> None:
    """Says on standard error, once, that a token is left out of prompts."""
    sys.stderr.write(f"{line}: it is left out of prompts\n")


def _name(tokenizer: PreTrainedTokenizerFast) -> str:
    return f"the tokenizer of {tokenizer.name_or_path or 'this model'}"


def encode_texts(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    add_special_tokens: bool = False,
    with_offsets: bool = False,
) -> BatchEncoding:
    """Encodes texts, without padding.

    Args:
        tokenizer: The tokenizer.
        texts: The texts.
        add_special_tokens: Whether the tokenizer adds those that it puts around a text.
        with_offsets: Whether the places of the tokens in the texts are returned as `offset_mapping`.

    Returns:
        `input_ids` of each text.

    Raises:
        InvalidInput: If the tokenizer fails, or panics, as one with an endless regular expression does.
    """
    remedy = "correct its tokenizer.json, or download it again"
    with name_errors(_name(tokenizer), "it cannot read a text", remedy), silence_native_code():
        return tokenizer(
            list(texts), add_special_tokens=add_special_tokens, return_offsets_mapping=with_offsets
        )
