"""The reference loops that the speed of attacks is measured against find what the attacks find."""

from __future__ import annotations

import pytest
import torch

from makebreak.attacks import (
    GCG,
    SoftPrompt,
    insert_slots,
    search_tokens,
)
from makebreak.evaluation import score_targets
from makebreak.prompts import Requests, target_sequences
from tests.attacks.random_requests import FILLER, optimise_soft_prompt, random_network, random_requests
from tests.oracles.one_at_a_time import SearchBudget, SingleRequest, gcg_attack, soft_attack

D_VOCAB = 20
REQUESTS = random_requests([5, 9, 7], d_vocab=D_VOCAB)


def _bare(requests: Requests, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    prompt = requests.prompt[i, : requests.prompt_length[i]]
    return torch.from_numpy(prompt), torch.from_numpy(requests.instructed[i])


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("share_position", [True, False])
def test_soft_prompts_equal_those_of_a_loop(architecture: str, share_position: bool) -> None:
    model = random_network(architecture, d_vocab=D_VOCAB)
    result = optimise_soft_prompt(model, REQUESTS, SoftPrompt(3, 5, share_position=share_position), seed=0)
    starts = 0.01 * torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(0))
    for i, start in enumerate(starts):
        prompt, target = _bare(REQUESTS, i)
        position = int(REQUESTS.spans["text"][i, 1])
        chosen = {"radius": result.radius, "steps": 5, "share_position": share_position}
        for width in (0, 25):
            request = SingleRequest(prompt, target, position, width)
            vectors, loss = soft_attack(model, request, start, **chosen)
            assert loss == pytest.approx(float(result.loss[i]), abs=1e-4)
            assert torch.allclose(vectors, result.vectors.view(3, 3, 16)[i], atol=1e-3)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_best_swap_equals_that_of_a_loop(architecture: str) -> None:
    """Of one step that tries every proposed swap many times."""
    model, k = random_network(architecture, d_vocab=D_VOCAB), 2
    slots = insert_slots(REQUESTS, k, token=FILLER)
    result = search_tokens(model, slots, GCG(steps=1, candidates=200, topk=4), seed=0)
    with torch.no_grad():
        initial = score_targets(model, target_sequences(slots.requests, "instructed")).nll
    for i in range(3):
        prompt, target = _bare(REQUESTS, i)
        position, ids = int(slots.positions[i, 0]), torch.full((k,), FILLER)
        ids, loss = gcg_attack(
            model, SingleRequest(prompt, target, position), ids, SearchBudget(1, 200, 4), seed=0
        )
        assert min(loss, float(initial[i])) == pytest.approx(float(result.loss[i]), abs=1e-4)
        if loss < initial[i] - 1e-3:
            assert ids.tolist() == result.requests.prompt[i, result.positions[i]].tolist()
