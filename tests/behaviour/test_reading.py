"""Does a request that is read once answer as one that is read anew for every question?"""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.activations import add, intervene
from makebreak.attacks import SoftTokens, soften
from makebreak.behaviour import LEAST_PREFIX, Read, aim, decide, gives, reading
from makebreak.requests import Requests, positions, targeted
from tests.attacks.asked import answering, asked

D_VOCAB, N = 12, 6
REQUESTS = asked(
    [LEAST_PREFIX + 2, LEAST_PREFIX + 5, LEAST_PREFIX + 3] * (N // 3), d_vocab=D_VOCAB, n_target=3
)
SITE = "blocks.1.hook_resid_pre"


def slow(model: PreTrainedModel, requests: Requests, move: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The decision, and whether the instructed answer is given, without any shortcut."""
    with torch.no_grad(), intervene(model, SITE, add(move), positions(requests, "eot")):
        decided = decide(model, requests)
    batch = targeted(requests, "instructed")
    with (
        torch.no_grad(),
        intervene(model, SITE, add(move), positions(requests, "eot", batch.tokens.shape[1] - 1)),
    ):
        return decided, aim(model, batch).hit


@pytest.mark.parametrize("layout", ["gpt2", "llama"])
@pytest.mark.parametrize("least", [1, LEAST_PREFIX, 10**9])
def test_it_answers_as_if_read_anew(layout: str, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LEAST_PREFIX", least)
    model = answering(layout, d_vocab=D_VOCAB)
    read = Read.of(model, REQUESTS)
    assert (read.parts[0].before is None) == (least > 100)
    torch.testing.assert_close(read.decide(), decide(model, REQUESTS), atol=1e-4, rtol=0)
    assert torch.equal(read.gives("instructed"), gives(model, REQUESTS, "instructed"))
    for shape in ((16,), (N, 16)):
        move = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        decided, given = slow(model, REQUESTS, move)
        for _ in range(2):  # what was read is not used up
            torch.testing.assert_close(read.decide(SITE, move), decided, atol=1e-4, rtol=0)
        assert torch.equal(read.gives("instructed", SITE, move), given)
        assert (decided - decide(model, REQUESTS)).abs().max() > 0.1


def test_soft_tokens_are_read_with_what_is_behind_them() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    found = soften(model, REQUESTS, SoftTokens(2, 2), seed=0)
    move = torch.randn(16, generator=torch.Generator().manual_seed(0))
    with found.inside(model):
        decided, given = slow(model, found.requests, move)
        read = Read.of(model, found.requests)
        assert read.parts[0].before is not None
        torch.testing.assert_close(read.decide(SITE, move), decided, atol=1e-4, rtol=0)
        assert torch.equal(read.gives("instructed", SITE, move), given)
