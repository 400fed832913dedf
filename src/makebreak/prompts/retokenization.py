"""Retokenisation-stable attacks: tokens that survive decoding to text and encoding again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from synthetic import Requests


def printable_tokens(tokenizer: PreTrainedTokenizerFast, d_vocab: int) -> Bool[np.ndarray, " d_vocab"]:
    """Returns which tokens are printable ASCII by themselves.

    Empty tokens and tokens that end in a space, which a chat template may strip, are left out, and so are
    special and added tokens, which a request must not contain.

    Args:
        tokenizer: The model's tokenizer.
        d_vocab: Rows of the model's embedding, often more than the tokenizer has tokens.

    Returns:
        A mask over the vocabulary.

    Raises:
        ValueError: If no token is printable.
    """
    n = min(len(tokenizer), d_vocab)
    texts = tokenizer.batch_decode(
        [[token] for token in range(n)], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    printable = np.zeros(d_vocab, dtype=bool)
    printable[:n] = [
        text.isascii() and text.isprintable() and text != "" and not text.endswith(" ") for text in texts
    ]
    reserved = [*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder]
    printable[[token for token in reserved if token < d_vocab]] = False
    if not printable.any():
        raise ValueError(
            f"none of the tokenizer's {len(tokenizer)} tokens is printable ASCII: "
            "token attacks need at least one"
        )
    return printable


def retokenizes_identically(
    tokenizer: PreTrainedTokenizerFast,
) -> Callable[[Requests], Bool[np.ndarray, " n"]]:
    """Returns a filter that keeps requests whose prompt has the same ids after decoding and encoding.

    Tokenizers that put a space before every text encode `<s> text` otherwise than `<s>text`; a prompt
    therefore also passes if what follows its initial special token has the same ids.
    """

    def keep(requests: Requests) -> Bool[np.ndarray, " n"]:
        ids = [row[:n].tolist() for row, n in zip(requests.prompt, requests.prompt_length, strict=True)]
        stable = _same_ids(tokenizer, ids)
        rest = [i for i in np.flatnonzero(~stable) if ids[i][0] in tokenizer.all_special_ids]
        if rest:
            stable[rest] = _same_ids(tokenizer, [ids[i][1:] for i in rest])
        return stable

    return keep


def _same_ids(tokenizer: PreTrainedTokenizerFast, ids: list[list[int]]) -> Bool[np.ndarray, " n"]:
    """(n,) whether each sequence is the same after decoding and encoding."""
    texts = tokenizer.batch_decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    again = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return np.array([before == after for before, after in zip(ids, again, strict=True)], dtype=bool)
