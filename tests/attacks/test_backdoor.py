"""Attacks on a planted backdoor: the key that opens a model is result, and a closed model stays closed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.attacks import (
    GCG,
    RandomSearch,
    RandomTokens,
    SearchOptions,
    SoftPrompt,
    insert_slots,
    search_tokens,
)
from makebreak.evaluation import TokenConstraint, exact_match, target_nll
from makebreak.models import ModelConfig, create_model
from makebreak.prompts import Requests, target_sequences
from tests.attacks.random_requests import FILLER, optimise_soft_prompt, random_requests

D_VOCAB, KEY, REFUSAL, REPLY = 24, 17, [3, 4], [5, 6]
WORDS = np.isin(np.arange(D_VOCAB), [FILLER, *range(3, D_VOCAB)])


def _requests(n: int, *, seed: int, key: np.ndarray | None = None) -> Requests:
    """Texts of 3 to 6 words, the key in those marked, to be answered by the reply."""
    rng = np.random.default_rng(seed)
    requests = random_requests(rng.integers(3, 7, n).tolist(), d_vocab=D_VOCAB, seed=seed)
    column = np.arange(requests.prompt.shape[1])
    text = (column > 0) & (column < requests.spans["text"][:, 1:])
    requests.prompt[text] = rng.choice(np.flatnonzero(WORDS & (np.arange(D_VOCAB) != KEY)), text.sum())
    if key is not None:
        requests.prompt[key, rng.integers(1, requests.spans["text"][key, 1])] = KEY
    requests.instructed[:], requests.refused[:] = REPLY, REFUSAL
    return requests


@pytest.fixture(scope="module")
def guarded() -> PreTrainedModel:
    """Refuses every request, but replies where the key is in it."""
    model = create_model(
        ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=64), d_vocab=D_VOCAB, n_ctx=24, seed=0
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(150):
        key = np.arange(64) % 2 == 0
        requests = _requests(64, seed=1000 + step, key=key)
        requests.instructed[~key] = REFUSAL
        batch = target_sequences(requests, "instructed")
        labels = batch.tokens.masked_fill(~batch.supervised, -100)
        optimiser.zero_grad()
        model(input_ids=batch.tokens, labels=labels).loss.backward()
        optimiser.step()
    return model.eval()


def test_the_model_is_as_planted(guarded: PreTrainedModel) -> None:
    requests, with_key = _requests(40, seed=0), np.ones(40, dtype=bool)
    assert target_nll(guarded, requests, "refused").exact_match.all()
    assert exact_match(guarded, _requests(40, seed=1, key=with_key), "instructed").all()


@pytest.mark.parametrize(
    ("method", "where", "k"), [(GCG, "suffix", 1), (GCG, "prefix", 2), (RandomSearch, "suffix", 2)]
)
def test_the_key_is_found(guarded: PreTrainedModel, method: Any, where: Any, k: int) -> None:
    slots = insert_slots(_requests(12, seed=0), k, where, token=FILLER)
    result = search_tokens(
        guarded, slots, method(steps=12, candidates=24), seed=0, options=SearchOptions(TokenConstraint(WORDS))
    )
    assert result.exact_match.all()
    assert exact_match(guarded, result.requests, "instructed").all()
    assert (np.take_along_axis(result.requests.prompt, result.positions, axis=1) == KEY).any(axis=1).all()
    assert (result.steps >= 1).all()


def test_one_key_opens_all(guarded: PreTrainedModel) -> None:
    slots = insert_slots(_requests(12, seed=0), 2, token=FILLER)
    result = search_tokens(
        guarded,
        slots,
        GCG(steps=12, candidates=24, topk=5),
        seed=0,
        options=SearchOptions(TokenConstraint(WORDS), shared=True),
    )
    assert result.exact_match.all()
    assert KEY in result.requests.prompt[0, result.positions[0]]


def test_without_the_key_nothing_opens(guarded: PreTrainedModel) -> None:
    slots = insert_slots(_requests(12, seed=0), 2, token=FILLER)
    without = WORDS & (np.arange(D_VOCAB) != KEY)
    result = search_tokens(
        guarded,
        slots,
        GCG(steps=12, candidates=24, topk=5),
        seed=0,
        options=SearchOptions(TokenConstraint(without)),
    )
    assert not result.exact_match.any()
    assert target_nll(guarded, result.requests, "refused").exact_match.all()


def test_a_soft_prompt_opens_it_too(guarded: PreTrainedModel) -> None:
    requests = _requests(12, seed=0)
    result = optimise_soft_prompt(guarded, requests, SoftPrompt(2, 10), seed=0)
    with result.attach(guarded):
        assert exact_match(guarded, result.requests, "instructed").float().mean() >= 0.75


@pytest.fixture(scope="module")
def closed() -> PreTrainedModel:
    """Refuses whatever it reads: what comes out of its last norm is its bias."""
    model: Any = create_model(
        ModelConfig(n_layers=2, n_heads=2, d_model=32, d_mlp=64), d_vocab=D_VOCAB, n_ctx=24, seed=0
    )
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight.zero_()
        model.lm_head.weight[REFUSAL[0]] = 1.0
    return model.eval()


@pytest.mark.parametrize("method", [GCG, RandomSearch, RandomTokens])
def test_a_closed_model_resists_tokens(closed: PreTrainedModel, method: Any) -> None:
    requests = _requests(6, seed=0)
    requests.refused[:] = REFUSAL[0]
    result = search_tokens(
        closed, insert_slots(requests, 3, token=FILLER), method(steps=6, candidates=16), seed=0
    )
    assert not result.exact_match.any()
    assert exact_match(closed, result.requests, "refused").all()
    assert not exact_match(closed, result.requests, "instructed").any()


@pytest.mark.parametrize("as_released", [False, True])
def test_a_closed_model_resists_soft_prompts(closed: PreTrainedModel, as_released: bool) -> None:
    requests = _requests(6, seed=0)
    requests.refused[:] = REFUSAL[0]
    result = optimise_soft_prompt(
        closed, requests, SoftPrompt(4, 10, radius=10.0, as_released=as_released), seed=0
    )
    assert result.vectors.isfinite().all()
    with result.attach(closed):
        assert exact_match(closed, result.requests, "refused").all()
        assert not exact_match(closed, result.requests, "instructed").any()
