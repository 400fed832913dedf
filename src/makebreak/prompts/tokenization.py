"""Texts as token ids; what a tokenizer of an unknown author cannot read is one error that names it."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import BatchEncoding, PreTrainedTokenizerFast

from makebreak.errors import name_errors, silence_native_code


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
    name = f"the tokenizer of {tokenizer.name_or_path or 'this model'}"
    remedy = "correct its tokenizer.json, or download it again"
    with name_errors(name, "it cannot read a text", remedy), silence_native_code():
        return tokenizer(
            list(texts), add_special_tokens=add_special_tokens, return_offsets_mapping=with_offsets
        )
