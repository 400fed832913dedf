"""Is a planted word that opens a model found, and is a model that nothing can open left unopened?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.attacks import SoftTokens, TokenAttack, attack_tokens, place, soften
from makebreak.behaviour import gives
from makebreak.models import ModelConfig, create_model
from makebreak.requests import Requests, target_sequences
from tests.attacks.asked import FILLER, asked

D_VOCAB, KEY, REFUSAL, REPLY = 24, 17, [3, 4], [5, 6]
WORDS = np.isin(np.arange(D_VOCAB), [FILLER, *range(3, D_VOCAB)])


def _requests(n: int, *, seed: int, key: np.ndarray | None = None) -> Requests:
    """Texts of 3 to 6 words, the key in those marked, to be answered by the reply."""
    rng = np.random.default_rng(seed)
    made = asked(rng.integers(3, 7, n).tolist(), d_vocab=D_VOCAB, seed=seed)
    column = np.arange(made.prompt.shape[1])
    text = (column > 0) & (column < made.spans["text"][:, 1:])
    made.prompt[text] = rng.choice(np.flatnonzero(WORDS & (np.arange(D_VOCAB) != KEY)), text.sum())
    if key is not None:
        made.prompt[key, rng.integers(1, made.spans["text"][key, 1])] = KEY
    made.instructed[:], made.refused[:] = REPLY, REFUSAL
    return made


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
    requests, every = _requests(40, seed=0), np.ones(40, dtype=bool)
    assert gives(guarded, requests, "refused").all()
    assert gives(guarded, _requests(40, seed=1, key=every), "instructed").all()


@pytest.mark.parametrize(
    ("how", "where", "k"), [("gradient", "suffix", 1), ("gradient", "prefix", 2), ("search", "suffix", 2)]
)
def test_the_key_is_found(guarded: PreTrainedModel, how: Any, where: Any, k: int) -> None:
    placed = place(_requests(12, seed=0), k, where, token=FILLER)
    found = attack_tokens(guarded, placed, TokenAttack(how, 12, 24, 5), seed=0, allowed=WORDS)
    assert found.hit.all()
    assert gives(guarded, found.requests, "instructed").all()
    assert (np.take_along_axis(found.requests.prompt, found.at, axis=1) == KEY).any(axis=1).all()
    assert (found.steps >= 1).all()


def test_one_key_opens_all(guarded: PreTrainedModel) -> None:
    placed = place(_requests(12, seed=0), 2, token=FILLER)
    found = attack_tokens(
        guarded, placed, TokenAttack("gradient", 12, 24, 5, universal=True), seed=0, allowed=WORDS
    )
    assert found.hit.all()
    assert KEY in found.requests.prompt[0, found.at[0]]


def test_without_the_key_nothing_opens(guarded: PreTrainedModel) -> None:
    placed = place(_requests(12, seed=0), 2, token=FILLER)
    without = WORDS & (np.arange(D_VOCAB) != KEY)
    found = attack_tokens(guarded, placed, TokenAttack("gradient", 12, 24, 5), seed=0, allowed=without)
    assert not found.hit.any()
    assert gives(guarded, found.requests, "refused").all()


def test_soft_tokens_open_it_too(guarded: PreTrainedModel) -> None:
    requests = _requests(12, seed=0)
    found = soften(guarded, requests, SoftTokens(2, 10), seed=0)
    with found.inside(guarded):
        assert gives(guarded, found.requests, "instructed").float().mean() >= 0.75


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


@pytest.mark.parametrize("how", ["gradient", "search", "random"])
def test_what_always_refuses_is_broken_by_no_tokens(closed: PreTrainedModel, how: Any) -> None:
    requests = _requests(6, seed=0)
    requests.refused[:] = REFUSAL[0]
    found = attack_tokens(closed, place(requests, 3, token=FILLER), TokenAttack(how, 6, 16, 5), seed=0)
    assert not found.hit.any()
    assert gives(closed, found.requests, "refused").all()
    assert not gives(closed, found.requests, "instructed").any()


@pytest.mark.parametrize("released", [False, True])
def test_what_always_refuses_is_broken_by_no_vectors(closed: PreTrainedModel, released: bool) -> None:
    requests = _requests(6, seed=0)
    requests.refused[:] = REFUSAL[0]
    found = soften(closed, requests, SoftTokens(4, 10, radius=10.0, released=released), seed=0)
    assert found.vectors.isfinite().all()
    with found.inside(closed):
        assert gives(closed, found.requests, "refused").all()
        assert not gives(closed, found.requests, "instructed").any()
