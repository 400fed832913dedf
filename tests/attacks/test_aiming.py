"""Does a teacher-forced pass tell what a model would answer, as the exact judge of a world does?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.behaviour import aim, behaviour, gives, greedy_answers
from makebreak.models import MODEL_SIZES, create_model
from makebreak.requests import OUTCOMES, Requests, load_world, target_sequences
from tests.training.short_runs import looped, network

WORLD = load_world("mini")
FAMILIES = ["unsafe", "second_composition_unsafe_branch"]


def _memory(requests: Requests) -> PreTrainedModel:
    """A model that has learnt by heart to refuse every second request and to answer the others but every sixth."""
    model = create_model(MODEL_SIZES["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    kinds = np.arange(len(requests))
    parts = [
        target_sequences(requests[kinds % 2 == 0], "refused"),
        target_sequences(requests[(kinds % 2 == 1) & (kinds % 6 != 1)], "instructed"),
    ]
    for _ in range(150):
        optimiser.zero_grad()
        torch.cat([aim(model, part).nll for part in parts]).mean().backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_given_is_what_the_judge_finds(family: str) -> None:
    requests = WORLD.sample(family, 24, seed=1000)
    model = _memory(requests)
    outcomes = behaviour(model, WORLD, requests).outcomes
    complied, refused = (gives(model, requests, answer).numpy() for answer in ("instructed", "refused"))
    if requests.judged[0, 0] == 0:
        assert (complied == (outcomes == OUTCOMES.index("comply"))).all()
        assert (refused == (outcomes == OUTCOMES.index("refuse"))).all()
    # what stands before the judged segment is given here, so whoever refuses by itself does so here as well
    answers = greedy_answers(model, WORLD, requests).tokens
    column = np.arange(answers.shape[1])
    for answer, given in (("instructed", complied), ("refused", refused)):
        wanted = getattr(requests, answer)[:, : answers.shape[1]]
        same_before = ((answers == wanted) | (column >= requests.judged[:, :1])).all(axis=1)
        inside = (column >= requests.judged[:, :1]) & (column < requests.judged[:, 1:])
        same = ((answers == wanted) | ~inside).all(axis=1)
        assert (given == same)[same_before].all()
    assert 0 < complied.sum() < 24
    assert 0 < refused.sum() < 24
    assert not (complied & refused).any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_networks_are_found_as_the_judge_finds_them(seed: int) -> None:
    """Some of them say nulls without a STOP, which is a refusal all the same."""
    requests, model = WORLD.sample("unsafe", 64, seed=1000), network(seed)
    outcomes = behaviour(model, WORLD, requests).outcomes
    assert (gives(model, requests, "instructed").numpy() == (outcomes == OUTCOMES.index("comply"))).all()
    assert (gives(model, requests, "refused").numpy() == (outcomes == OUTCOMES.index("refuse"))).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_a_loop_in_float64(family: str) -> None:
    model, requests = network(2), WORLD.sample(family, 6, seed=1000)
    for answer in ("instructed", "refused"):
        batch = target_sequences(requests, answer)
        with torch.no_grad():
            found = aim(model, batch)
        n = batch.supervised.sum(dim=1)
        assert torch.allclose(found.nll, -torch.tensor(looped(model, batch)) / n, atol=1e-5)
        assert len(found.right) == int(n.sum())
        assert found.hit.tolist() == [bool(part.all()) for part in found.right.split(n.tolist())]
