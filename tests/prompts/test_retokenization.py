"""Printable tokens, and the filter of requests that decode and encode to the same tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from makebreak.attacks import insert_slots
from makebreak.prompts import TextRequests, printable_tokens, retokenizes_identically, text_requests
from tests.fixtures.tiny_lm import byte_level_tokenizer, prompts, tokenizer

TEXTS = prompts()["harmful"][1:24:2]


def encode(tokens: Any) -> TextRequests:
    return text_requests(tokens, TEXTS[:4], family="harmful", unsafe=True)


def test_only_plain_tokens_are_printable() -> None:
    """Special tokens, rows beyond the tokenizer and tokens that end in a space are not."""
    tokens = byte_level_tokenizer()
    mask = printable_tokens(tokens, len(tokens) + 7)
    assert len(mask) == len(tokens) + 7
    assert not mask[len(tokens) :].any()
    assert not mask[tokens.all_special_ids].any()
    texts = {tokens.decode([token]) for token in np.flatnonzero(mask)}
    assert all(text.isascii() and text.isprintable() for text in texts)
    assert all(text.strip() == text.lstrip() != "" for text in texts)
    assert {"a", "!", "~"} <= texts
    with pytest.raises(ValueError, match="is printable ASCII"):
        printable_tokens(tokenizer(), 1)  # only <pad>


def test_merging_tokens_are_not_stable() -> None:
    """Tokens that merge into one when their text is encoded change the prompt."""
    tokens = byte_level_tokenizer()
    merged = tokens(" now", add_special_tokens=False)["input_ids"]
    assert len(merged) == 1
    parts = [tokens.convert_tokens_to_ids(piece) for piece in ("Ġ", "n", "o", "w")]
    slots = insert_slots(encode(tokens), 4, token=parts[0])
    requests, is_stable = slots.requests, retokenizes_identically(tokens)
    for i, ids in enumerate((parts, [merged[0]] * 4)):
        np.put_along_axis(requests.prompt[i : i + 1], slots.positions[i : i + 1], np.array([ids]), axis=1)
    assert is_stable(requests).tolist()[:2] == [False, True]
    assert retokenizes_identically(tokenizer())(encode(tokenizer())).all()


def test_prepended_spaces_do_not_count() -> None:
    """A tokenizer that puts a space before every text does not make all prompts unstable."""
    bpe = Tokenizer(BPE(unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = BpeTrainer(vocab_size=36, special_tokens=["<unk>", "<s>"], show_progress=False)
    bpe.train_from_iterator([f"[user] {text} [end]" for text in TEXTS], trainer)
    tokens = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", unk_token="<unk>")
    tokens.chat_template = "<s>[user] {{ messages[0]['content'] }} [end]"
    requests, is_stable = encode(tokens), retokenizes_identically(tokens)
    again = tokens(tokens.decode(requests.prompt[0]), add_special_tokens=False)["input_ids"]
    assert again != requests.prompt[0].tolist()
    assert is_stable(requests).all()
    assert len(tokens("xse", add_special_tokens=False)["input_ids"]) == 3
    slots = insert_slots(requests, 2, token=tokens.convert_tokens_to_ids("s"))
    slots.requests.prompt[np.arange(4), slots.positions[:, 1]] = tokens.convert_tokens_to_ids("e")
    assert not is_stable(slots.requests).any()
