"""Forward passes from a prefix cache equal those of whole rows, and leave the cache as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from makebreak.activations import MIN_PREFIX_TOKENS, PrefixCache, forward
from makebreak.prompts import Sequences
from tests.activations.networks import ARCHITECTURES, N_CTX, network, tokens

N_PREFIX = MIN_PREFIX_TOKENS + 1
ROWS = torch.tensor([3, 0, 0])


def shared_tokens(n_shared: int) -> Tensor:
    """Rows with equal first tokens and a different token after them."""
    rows = tokens()
    rows[:, :n_shared] = rows[:1, :n_shared]
    rows[:, n_shared] = torch.arange(len(rows))
    return rows


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cached_passes_equal_whole_passes(architecture: str) -> None:
    """For prefixes by row, for selected and repeated rows, and for a prefix cut from a longer pass."""
    model, rows = network(architecture), tokens()
    with torch.no_grad():
        whole = forward(model, rows).logits[:, N_PREFIX:]
        longer = model(input_ids=rows[:, :-1], use_cache=True)  # within the sliding window
        own = PrefixCache.of_rows(model, rows, N_PREFIX)
        for cache in (own, PrefixCache.from_output(longer, N_PREFIX)):
            for _ in range(2):  # a pass does not extend the stored cache
                logits = forward(model, rows[:, N_PREFIX:], cache=cache).logits
                torch.testing.assert_close(logits, whole, atol=1e-4, rtol=1e-4)
            selected = forward(model, rows[ROWS, N_PREFIX:], cache=cache.select(ROWS)).logits
            torch.testing.assert_close(selected, whole[ROWS], atol=1e-4, rtol=1e-4)
        other = forward(model, rows[:, N_PREFIX:], cache=own.select(torch.arange(5).flip(0))).logits
    assert (other - whole).abs().max() > 1e-2, "negative control: the prefixes of other rows"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shared_prefix_passes_gradients(architecture: str) -> None:
    model, rows = network(architecture), shared_tokens(N_PREFIX)

    def gradients(cache: PrefixCache) -> list[Tensor]:
        model.zero_grad()
        logits = forward(model, rows[:, cache.n_tokens :], cache=cache).logits
        logits[:, N_PREFIX - cache.n_tokens :].square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    cache = PrefixCache.shared(model, rows, torch.ones(N_CTX, dtype=torch.bool))
    assert cache.n_tokens == N_PREFIX
    for shared, whole in zip(gradients(cache), gradients(PrefixCache()), strict=True):
        torch.testing.assert_close(shared, whole, atol=1e-2, rtol=1e-3)


def test_short_prefixes_are_not_cached() -> None:
    model, all_positions = network("gpt2"), torch.ones(N_CTX, dtype=torch.bool)
    assert PrefixCache.of_rows(model, tokens(), MIN_PREFIX_TOKENS - 1) == PrefixCache()
    assert PrefixCache.of_rows(model, tokens(), MIN_PREFIX_TOKENS).n_tokens == MIN_PREFIX_TOKENS
    rows = shared_tokens(N_PREFIX)
    assert PrefixCache.shared(model, rows[:1], all_positions).n_tokens == 0, "one row shares with none"
    assert PrefixCache.shared(model, rows, torch.arange(N_CTX) < 3).n_tokens == 0
    assert PrefixCache.shared(model, rows, torch.arange(N_CTX) < 3, min_tokens=3).n_tokens == 3
    assert PrefixCache.shared(model, rows, all_positions, min_tokens=N_PREFIX + 1).n_tokens == 0


def test_remainder_follows_the_prefix() -> None:
    rows = tokens()
    batch = Sequences(rows, rows > 5, torch.full((len(rows),), N_PREFIX + 1))
    rest = PrefixCache.of_rows(network("gpt2"), rows, N_PREFIX).remainder(batch)
    assert torch.equal(rest.tokens, rows[:, N_PREFIX:])
    assert torch.equal(rest.supervised, batch.supervised[:, N_PREFIX:])
    assert rest.decision.tolist() == [1] * len(rows)
    same = PrefixCache().remainder(batch)
    assert torch.equal(same.tokens, rows)
    assert PrefixCache().select(ROWS) == PrefixCache()
