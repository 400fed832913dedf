"""Do the loops that the speed of attacks is measured beside find what we find?"""

from __future__ import annotations

import pytest
import torch

from makebreak.attacks import SoftTokens, TokenAttack, attack_tokens, place, soften
from makebreak.behaviour import aim
from makebreak.requests import Requests, target_sequences
from tests.attacks.asked import FILLER, answering, asked
from tests.oracles.one_at_a_time import gcg_attack, soft_attack

D_VOCAB = 20
REQUESTS = asked([5, 9, 7], d_vocab=D_VOCAB)


def _bare(requests: Requests, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    prompt = requests.prompt[i, : requests.prompt_length[i]]
    return torch.from_numpy(prompt), torch.from_numpy(requests.instructed[i])


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("held", [True, False])
def test_soft_tokens_of_a_loop_are_ours(architecture: str, held: bool) -> None:
    model = answering(architecture, d_vocab=D_VOCAB)
    found = soften(model, REQUESTS, SoftTokens(3, 5, held=held), seed=0)
    starts = 0.01 * torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(0))
    for i, start in enumerate(starts):
        prompt, target = _bare(REQUESTS, i)
        at = int(REQUESTS.spans["text"][i, 1])
        chosen = {"radius": found.radius, "steps": 5, "held": held}
        for width in (0, 25):
            vectors, loss = soft_attack(model, prompt, target, at=at, start=start, width=width, **chosen)
            assert loss == pytest.approx(float(found.loss[i]), abs=1e-4)
            assert torch.allclose(vectors, found.vectors.view(3, 3, 16)[i], atol=1e-3)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_best_swap_of_a_loop_is_ours(architecture: str) -> None:
    """Of one step that tries all swaps on offer, many times over."""
    model, k = answering(architecture, d_vocab=D_VOCAB), 2
    placed = place(REQUESTS, k, token=FILLER)
    budget = {"candidates": 200, "top": 4}
    found = attack_tokens(model, placed, TokenAttack(steps=1, candidates=200, top=4), seed=0)
    with torch.no_grad():
        began = aim(model, target_sequences(placed.requests, "instructed")).nll
    for i in range(3):
        prompt, target = _bare(REQUESTS, i)
        at, ids = int(placed.at[i, 0]), torch.full((k,), FILLER)
        ids, loss = gcg_attack(model, prompt, target, at=at, ids=ids, steps=1, seed=0, **budget)
        assert min(loss, float(began[i])) == pytest.approx(float(found.loss[i]), abs=1e-4)
        if loss < began[i] - 1e-3:
            assert ids.tolist() == found.requests.prompt[i, found.at[i]].tolist()
