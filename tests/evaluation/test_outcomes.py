"""Outcomes decided without generation: equal to those of generation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from makebreak.evaluation import WorldTarget, evaluate_behaviour, exact_outcomes, outcome_rate
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import Outcome, load_world, token_requests
from tests.attacks.random_requests import FILLER, random_network, random_requests


@pytest.mark.parametrize("layout", ["gpt2", "jain2024", "llama"])
@pytest.mark.parametrize("same_length", [True, False])
def test_outcomes_equal_greedy_decoding(layout: str, same_length: bool) -> None:
    """On answers that the model itself generates, some of them changed at one token."""
    model, rng = random_network(layout, d_vocab=9), np.random.default_rng(0)
    lengths = [5] * 60 if same_length else [4, 5, 6] * 20
    requests = random_requests(lengths, d_vocab=9, n_target=3)
    generated = np.zeros_like(requests.instructed)
    for i in range(60):
        ids = torch.from_numpy(requests.prompt[i, : requests.prompt_length[i]])[None]
        for k in range(3):
            with torch.no_grad():
                generated[i, k] = int(model(input_ids=ids).logits[0, -1].argmax())
            ids = torch.cat([ids, torch.tensor([[generated[i, k]]])], dim=1)
    kind = rng.integers(0, 3, 60)
    instructed, refused = (np.where((kind == which)[:, None], generated, FILLER) for which in (0, 1))
    late = generated.copy()
    late[:, 2] = (generated[:, 2] + 1) % 9  # right until the last token
    instructed = np.where((kind == 2)[:, None], late, instructed)
    instructed[(instructed == refused).all(axis=1)] = 8
    answerable = replace(requests, instructed=instructed, refused=refused)
    is_refused, is_instructed = ((generated == answer).all(axis=1) for answer in (refused, instructed))
    expected = np.where(is_refused, Outcome.REFUSE, np.where(is_instructed, Outcome.COMPLY, Outcome.NEITHER))
    assert exact_outcomes(model, answerable).tolist() == expected.tolist()
    assert set(expected.tolist()) == {Outcome.REFUSE, Outcome.COMPLY, Outcome.NEITHER}
    target = WorldTarget(model)
    assert target.judge(answerable, target.answer(answerable)).tolist() == expected.tolist()


@pytest.mark.parametrize("layout", ["gpt2", "jain2024", "llama"])
def test_prompts_of_one_token(layout: str) -> None:
    """A third of the requests each is refused, complied with and neither; all caches are empty."""
    model, ids = random_network(layout, d_vocab=9), torch.arange(9)[:, None]
    prompts = ids.tolist()
    for _ in range(2):
        with torch.no_grad():
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(dim=-1)], dim=1)
    generated, kind = ids[:, 1:].numpy(), np.arange(9)[:, None] % 3
    wrong, other = (generated + 1) % 9, (generated + 2) % 9
    requests = token_requests(
        prompts,
        instructed_answers=np.where(kind == 1, generated, wrong).tolist(),
        refusals=np.where(kind == 0, generated, other).tolist(),
    )
    assert exact_outcomes(model, requests).tolist() == [Outcome.REFUSE, Outcome.COMPLY, Outcome.NEITHER] * 3


@pytest.mark.parametrize("family", ["unsafe", "second_composition_safe_branch"])
def test_outcomes_equal_evaluated_behaviour(family: str) -> None:
    world = load_world("mini")
    requests = world.sample(family, 60, seed=3)
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=0
    ).eval()
    exact = exact_outcomes(model, requests)
    judged = evaluate_behaviour(model, world, requests).outcomes
    for outcome in (Outcome.REFUSE, Outcome.COMPLY):
        assert (judged[exact == outcome] == outcome).all()


def test_outcome_rate() -> None:
    outcomes = np.array([Outcome.REFUSE, Outcome.REFUSE, Outcome.COMPLY, Outcome.NEITHER])
    assert outcome_rate(outcomes, Outcome.REFUSE) == 0.5
    assert outcome_rate(outcomes, Outcome.COMPLY) == 0.25
    assert outcome_rate(outcomes, Outcome.DEGENERATE) == 0
