"""A prefix-cached runner answers as if every evaluation processed the whole prompts."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.activations import MIN_PREFIX_TOKENS, add, intervene, prefix_cache
from makebreak.attacks import (
    SoftPrompt,
)
from makebreak.evaluation import (
    PrefixCachedRunner,
    exact_match,
    next_token_log_probs,
    score_targets,
)
from makebreak.prompts import Requests, span_mask, target_sequences
from tests.attacks.random_requests import optimise_soft_prompt, random_network, random_requests

D_VOCAB, N = 12, 6
REQUESTS = random_requests(
    [MIN_PREFIX_TOKENS + 2, MIN_PREFIX_TOKENS + 5, MIN_PREFIX_TOKENS + 3] * (N // 3),
    d_vocab=D_VOCAB,
    n_target=3,
)
SITE = "blocks.1.hook_resid_pre"


def uncached(
    model: PreTrainedModel, requests: Requests, vector: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next-token log-probabilities, and exact match of the instructed answer, without any shortcut."""
    with torch.no_grad(), intervene(model, SITE, add(vector), span_mask(requests, "eot")):
        log_probs = next_token_log_probs(model, requests)
    batch = target_sequences(requests, "instructed")
    with (
        torch.no_grad(),
        intervene(model, SITE, add(vector), span_mask(requests, "eot", batch.tokens.shape[1] - 1)),
    ):
        return log_probs, score_targets(model, batch).exact_match


@pytest.mark.parametrize("layout", ["gpt2", "jain2024", "llama"])
@pytest.mark.parametrize("min_prefix", [1, MIN_PREFIX_TOKENS, 10**9])
def test_cached_equals_uncached(layout: str, min_prefix: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "MIN_PREFIX_TOKENS", min_prefix)
    model = random_network(layout, d_vocab=D_VOCAB)
    runner = PrefixCachedRunner.create(model, REQUESTS)
    assert (runner.batches[0].cache.n_tokens == 0) == (min_prefix > 100)
    torch.testing.assert_close(
        runner.next_token_log_probs(), next_token_log_probs(model, REQUESTS), atol=1e-4, rtol=0
    )
    assert torch.equal(runner.exact_match("instructed"), exact_match(model, REQUESTS, "instructed"))
    for shape in ((16,), (N, 16)):
        vector = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        log_probs, matches = uncached(model, REQUESTS, vector)
        for _ in range(2):  # the cache is not consumed
            torch.testing.assert_close(
                runner.next_token_log_probs(SITE, vector), log_probs, atol=1e-4, rtol=0
            )
        assert torch.equal(runner.exact_match("instructed", SITE, vector), matches)
        assert (log_probs - next_token_log_probs(model, REQUESTS)).abs().max() > 0.1


def test_soft_prompts_stay_out_of_the_cache() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    result = optimise_soft_prompt(model, REQUESTS, SoftPrompt(2, 2), seed=0)
    vector = torch.randn(16, generator=torch.Generator().manual_seed(0))
    with result.attach(model):
        log_probs, matches = uncached(model, result.requests, vector)
        runner = PrefixCachedRunner.create(model, result.requests)
        assert runner.batches[0].cache.n_tokens
        torch.testing.assert_close(runner.next_token_log_probs(SITE, vector), log_probs, atol=1e-4, rtol=0)
        assert torch.equal(runner.exact_match("instructed", SITE, vector), matches)


@pytest.mark.parametrize("per_request", [False, True])
def test_many_vectors_equal_one_at_a_time(per_request: bool) -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    runner = PrefixCachedRunner.create(model, REQUESTS)
    vectors = torch.randn(40, N if per_request else 1, 16, generator=torch.Generator().manual_seed(0))
    answers = runner.answers(SITE, 3 * vectors)
    for i in range(len(vectors)):
        vector = 3 * (vectors[i] if per_request else vectors[i, 0])
        log_probs = runner.next_token_log_probs(SITE, vector)
        torch.testing.assert_close(answers.log_probs[i], log_probs, atol=1e-4, rtol=0)
        for answer in ("instructed", "refused"):
            assert torch.equal(getattr(answers, answer)[i], runner.exact_match(answer, SITE, vector))
    assert len(answers.log_probs.argmax(dim=-1).unique()) > 3
