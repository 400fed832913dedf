"""Can an attack be typed? Its tokens have to survive being written out as text and read again by the tokenizer."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from makebreak.attacks.tokens import Keep
from makebreak.requests import Requests


def typeable(tokenizer: PreTrainedTokenizerFast, d_vocab: int) -> Bool[np.ndarray, " d_vocab"]:
    """Tokens that are printable ASCII by themselves, not only spaces and without one at the end, which a chat template
    may strip; no special or added ones, which a request must not hold.

    d_vocab: rows of the model's embedding, often more than the tokenizer has tokens. Raises ValueError where no token
    can be typed.
    """
    n = min(len(tokenizer), d_vocab)
    texts = tokenizer.batch_decode(
        [[token] for token in range(n)], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    found = np.zeros(d_vocab, dtype=bool)
    found[:n] = [
        text.isascii() and text.isprintable() and text != "" and not text.endswith(" ") for text in texts
    ]
    reserved = [*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder]
    found[[token for token in reserved if token < d_vocab]] = False
    if not found.any():
        raise ValueError(
            f"none of the tokenizer's {len(tokenizer)} tokens can be typed: expected printable ASCII"
        )
    return found


def survives(tokenizer: PreTrainedTokenizerFast) -> Keep:
    """Keeps the requests whose prompt, decoded and encoded again, has the same ids: the whole of it, or what is behind
    a special token that begins it. Tokenizers that put a space before every text read `<s> text` otherwise than
    `<s>text`."""

    def keep(requests: Requests) -> Bool[np.ndarray, " n"]:
        ids = [row[:n].tolist() for row, n in zip(requests.prompt, requests.prompt_length, strict=True)]
        found = _same(tokenizer, ids)
        rest = [i for i in np.flatnonzero(~found) if ids[i][0] in tokenizer.all_special_ids]
        if rest:
            found[rest] = _same(tokenizer, [ids[i][1:] for i in rest])
        return found

    return keep


def _same(tokenizer: PreTrainedTokenizerFast, ids: list[list[int]]) -> Bool[np.ndarray, " n"]:
    texts = tokenizer.batch_decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    again = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return np.array([before == after for before, after in zip(ids, again, strict=True)], dtype=bool)
