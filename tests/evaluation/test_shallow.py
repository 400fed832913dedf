"""Refusals of which only the first token is there, planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from makebreak.evaluation import shallow_refusal_share, shallow_refusals
from makebreak.prompts import Requests, load_world
from tests.attacks.random_requests import random_network, random_requests


def greedy_tokens(model: torch.nn.Module, requests: Requests, n: int) -> np.ndarray:
    """Greedy answers, token by token."""
    tokens = torch.from_numpy(requests.prompt)
    for _ in range(n):
        with torch.no_grad():
            tokens = torch.cat([tokens, model(input_ids=tokens).logits[:, -1:].argmax(dim=-1)], dim=1)
    return tokens[:, -n:].numpy()


@pytest.mark.parametrize("layout", ["gpt2", "llama"])
def test_the_share_of_refusals_that_only_begin(layout: str) -> None:
    """A third of the answers are refusals, a third begin like one, and a third begin otherwise."""
    model, requests = random_network(layout, d_vocab=9), random_requests([5] * 30, d_vocab=9, n_target=3)
    refused, kind = greedy_tokens(model, requests, 3), np.arange(30) % 3
    shift = 1 + ((refused[:, 1] + 1) % 9 == refused[:, 2])  # the last token is a STOP, which no refusal needs
    refused[kind == 1, 1] = ((refused[:, 1] + shift) % 9)[kind == 1]
    refused[kind == 2, 0] = (refused[kind == 2, 0] + 1) % 9
    planted = replace(requests, refused=refused, instructed=(refused + 4) % 9)
    assert shallow_refusal_share(model, planted) == pytest.approx(1 / 3)
    for i, share in enumerate((0, 1, 0)):
        assert shallow_refusal_share(model, planted[kind == i]) == share


def test_leading_axes_are_kept() -> None:
    """Under the first of two steering vectors all answers begin like the refusal, under the other none."""
    requests = load_world("mini").sample("unsafe", 4, seed=1000)
    first = int(requests.refused[0, 0])
    log_p = torch.zeros(2, 4, first + 2)
    log_p[0, :, first], log_p[1, :, first + 1] = 1, 1
    is_refused = torch.tensor([[True, False, False, False]] * 2)
    result = shallow_refusals(log_p, requests, is_refused)
    assert result.tolist() == [[False, True, True, True], [False] * 4]


def test_requests_that_are_judged_later_are_refused() -> None:
    requests = load_world("mini").sample("second_composition_safe_branch", 2, seed=1000)
    with pytest.raises(ValueError, match="judged on a later output"):
        shallow_refusals(torch.zeros(2, 40), requests, torch.zeros(2, dtype=torch.bool))
