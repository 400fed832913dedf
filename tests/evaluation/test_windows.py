"""Answers in a batch are those to one prompt at a time where prompts exceed a window of attention."""

from __future__ import annotations

import pytest
import torch

from makebreak.activations import PrefixCache, forward
from makebreak.evaluation import generate_texts, generation
from makebreak.models import LanguageModel, attention_window
from makebreak.prompts import TextRequests, text_requests
from tests.architectures.matrix import WINDOW, matrix_model
from tests.fixtures.tiny_lm import HARMLESS, VERBS, tokenizer

WORDS = [*VERBS, *HARMLESS]


def language_model(name: str) -> LanguageModel:
    return LanguageModel("tiny", matrix_model(name), tokenizer())


def random_requests(lm: LanguageModel, seed: int) -> TextRequests:
    """Prompts of random lengths that begin alike, some within the window and some beyond it."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 2 * WINDOW, (5,), generator=random).tolist()
    ends = [torch.randint(len(WORDS), (n,), generator=random).tolist() for n in lengths]
    texts = [" ".join([*WORDS[:10], *(WORDS[i] for i in end)]) for end in ends]
    return text_requests(lm.tokenizer, texts, family="harmless", unsafe=False)


def is_alike(lm: LanguageModel, seed: int) -> bool:
    requests = random_requests(lm, seed)
    alone = [generate_texts(lm, requests[i : i + 1], n_new=3)[0] for i in range(len(requests))]
    return generate_texts(lm, requests, n_new=3) == alone


@pytest.mark.parametrize("name", ["gemma3_text", "mistral"])
def test_random_lengths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = language_model(name)
    assert attention_window(lm.model) == WINDOW
    assert all(is_alike(lm, seed) for seed in range(3))
    monkeypatch.setattr(generation, "attention_window", lambda _: None)
    assert not all(is_alike(lm, seed) for seed in range(3)), "negative control: the prefix is shared"


def test_long_prefixes_are_cached_within_the_window_only() -> None:
    """A cache cut from a pass beyond the window would lack tokens; one of whole prefixes does not."""
    model = matrix_model("mistral")
    tokens = torch.arange(60).remainder(17).view(2, 30)
    with torch.no_grad():
        whole = forward(model, tokens).logits
        assert PrefixCache.from_output(model(input_ids=tokens, use_cache=True), 20).n_tokens == 0
        short = PrefixCache.from_output(model(input_ids=tokens[:, :12], use_cache=True), 9)
        for cache in (short, PrefixCache.of_rows(model, tokens, 20)):
            logits = forward(model, tokens[:, cache.n_tokens :], cache=cache).logits
            torch.testing.assert_close(logits, whole[:, cache.n_tokens :], atol=1e-3, rtol=1e-3)
    assert short.n_tokens == 9
