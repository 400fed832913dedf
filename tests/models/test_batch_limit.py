"""Tokens of a forward pass, from planted memory and the memory that a token is known to take."""

from __future__ import annotations

import pytest
import torch

from makebreak.evaluation import batches, next_token_log_probs, target_batch_size
from makebreak.models import batch_limit, batch_tokens, halve_batches
from makebreak.models.batch_limit import MAX_BATCH_TOKENS, MIN_BATCH_TOKENS, bytes_per_token, limit_batches
from tests.activations.networks import network
from tests.attacks.random_requests import random_network, random_requests


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is measured yet."""
    monkeypatch.setattr(batch_limit, "_limits", type(batch_limit._limits)())


def plant_free_memory(monkeypatch: pytest.MonkeyPatch, n_bytes: float) -> None:
    monkeypatch.setattr(batch_limit, "free_memory", lambda device: int(n_bytes))


def test_memory_of_a_token_is_that_of_all_outputs() -> None:
    """Llama by hand: per block two norms, q, k, v, o, gate, up, activation, down, and the block's sum."""
    model, d, d_kv, d_mlp, n_blocks = random_network("llama", d_vocab=12), 16, 16, 40, 2
    block = 2 * d + d + 2 * d_kv + d + 3 * d_mlp + d + d
    rotary_angles = 2 * 8 / 2  # of one row, which serves both
    by_hand = d + n_blocks * block + d + rotary_angles
    assert bytes_per_token(model) == 4 * by_hand
    assert bytes_per_token(model.to(torch.bfloat16)) == 2 * by_hand  # type: ignore[arg-type]


def test_limit_is_half_of_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("gpt2")
    plant_free_memory(monkeypatch, 2000 * bytes_per_token(model) + 1)
    assert limit_batches(model) == 1000
    assert batch_tokens(model) == 1000
    assert batch_tokens(network("gpt2")) == 1000, "a copy has the least limit of the measured models"


@pytest.mark.parametrize(("n_bytes", "limit"), [(0, MIN_BATCH_TOKENS), (2**50, MAX_BATCH_TOKENS)])
def test_limit_has_bounds(monkeypatch: pytest.MonkeyPatch, n_bytes: int, limit: int) -> None:
    plant_free_memory(monkeypatch, n_bytes)
    assert limit_batches(network("gpt2")) == limit


def test_unmeasured_models_have_the_greatest_limit() -> None:
    assert batch_tokens(network("gpt2")) == MAX_BATCH_TOKENS


def test_halving_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("gpt2")
    assert not halve_batches(), "nothing was measured"
    plant_free_memory(monkeypatch, 2 * 3 * MIN_BATCH_TOKENS * bytes_per_token(model) + 1)
    assert limit_batches(model) == 3 * MIN_BATCH_TOKENS
    limits = []
    while halve_batches():
        limits.append(batch_tokens(model))
    assert limits == [3 * MIN_BATCH_TOKENS // 2, MIN_BATCH_TOKENS]


def test_batches_follow_the_limit_and_do_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    model, requests = random_network("llama", d_vocab=12), random_requests([30] * 9, d_vocab=12)
    whole, n_targets = next_token_log_probs(model, requests), target_batch_size(model, requests)
    assert [len(batch) for batch in batches(requests, model)] == [9]
    plant_free_memory(monkeypatch, 2 * 128 * bytes_per_token(model) + 1)
    limit_batches(model)
    assert [len(batch) for batch in batches(requests, model)] == [4, 4, 1]
    assert target_batch_size(model, requests) == 3 < n_targets
    torch.testing.assert_close(next_token_log_probs(model, requests), whole, rtol=1e-5, atol=1e-5)
