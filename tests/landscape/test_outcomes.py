"""Outcomes of perturbed models: equal to those of generation; folding of norms; a basin known from
algebra."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from makebreak.evaluation import evaluate_behaviour
from makebreak.landscape import (
    Direction,
    Perturbation,
    basin,
    fold_norms,
    letter_share,
    norm_readers,
    outcome_letters,
    random_direction,
    rescale_norms,
)
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import OUTCOMES, load_world
from tests.attacks.random_requests import FILLER, random_network, random_requests
from tests.oracles.reload_and_generate import generate_at

LETTER = {"refuse": "r", "comply": "c"}


@pytest.mark.parametrize("layout", ["gpt2", "llama"])
@pytest.mark.parametrize("same_length", [True, False])
def test_letters_equal_greedy_decoding(layout: str, same_length: bool) -> None:
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
    expected = [
        "r" if (generated[i] == refused[i]).all() else "c" if (generated[i] == instructed[i]).all() else "n"
        for i in range(60)
    ]
    assert outcome_letters(model, answerable) == "".join(expected)
    assert set(expected) == {"r", "c", "n"}


@pytest.mark.parametrize("family", ["unsafe", "second_composition_safe_branch"])
def test_letters_equal_evaluated_behaviour(family: str) -> None:
    world = load_world("mini")
    requests = world.sample(family, 60, seed=3)
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=0
    ).eval()
    letters = outcome_letters(model, requests)
    outcomes = evaluate_behaviour(model, world, requests).outcomes
    for name, letter in LETTER.items():
        is_match = np.array([x == letter for x in letters])
        assert (outcomes[is_match] == OUTCOMES.index(name)).all()


def test_basin_of_a_linear_model() -> None:
    """Two logits 1 and 0, moved by a and -2a: it refuses until 1 + a = -2a, at a = -1/3."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2, bias=False)
            self.head.weight.data = torch.tensor([[1.0], [0.0]])

    model = Linear()
    direction = Direction({"head.weight": torch.tensor([[1.0], [-2.0]])})
    axis, fails = np.linspace(-1, 1, 201).round(9), []
    with Perturbation(model, direction) as perturbation:
        for a in axis:
            perturbation.set(float(a))
            fails.append(float(model.head.weight[:, 0].argmax() != 0))
    shape = basin(axis, np.array(fails))
    assert shape.left == pytest.approx(1 / 3, abs=0.006)
    assert shape.right == 1.0
    assert shape.is_censored


@pytest.mark.parametrize("layout", ["gpt2", "llama"])
def test_norm_folding_keeps_the_function(layout: str) -> None:
    model = random_network(layout, d_vocab=9)
    assert not model.config.tie_word_embeddings
    tokens = torch.randint(0, 9, (5, 7), generator=torch.Generator().manual_seed(0))
    scales = {
        name: torch.exp(torch.randn(16, generator=torch.Generator().manual_seed(i)))
        for i, name in enumerate(norm_readers(model))
    }
    other = rescale_norms(model, scales)
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
        for same in (other, fold_norms(model), fold_norms(other)):
            torch.testing.assert_close(same(input_ids=tokens).logits, expected, atol=1e-4, rtol=1e-4)
    generated, again = (copy.deepcopy(fold_norms(m)) for m in (model, other))
    perturbed = []
    for copied in (generated, again, copy.deepcopy(model), copy.deepcopy(other)):
        with Perturbation(copied, random_direction(copied, 0)) as perturbation, torch.no_grad():
            perturbation.set(0.3)
            perturbed.append(copied(input_ids=tokens).logits)
    torch.testing.assert_close(perturbed[0], perturbed[1], atol=1e-3, rtol=1e-3)
    assert (
        perturbed[2] - perturbed[3]
    ).abs().max() > 0.05  # without folding, the same direction is another perturbation
    with pytest.raises(ValueError, match="norm 'nothing'"):
        rescale_norms(model, {"nothing": scales[next(iter(scales))]})


def test_points_equal_reloading_and_generating() -> None:
    model, rng = random_network("gpt2", d_vocab=9), np.random.default_rng(1)
    requests = random_requests([5] * 40, d_vocab=9, n_target=3)
    direction = random_direction(model, 2)
    for coordinate in (-0.3, 0.0, 0.2):
        answers = generate_at(model, direction.step, coordinate, requests.prompt, n_new=3)
        kind = rng.integers(0, 2, 40)[:, None]
        instructed, refused = np.where(kind == 0, answers, FILLER), np.where(kind == 1, answers, FILLER)
        instructed[(instructed == refused).all(axis=1)] = 8
        with Perturbation(model, direction) as perturbation:
            perturbation.set(coordinate)
            letters = outcome_letters(model, replace(requests, instructed=instructed, refused=refused))
        expected = np.where(
            (answers == refused).all(axis=1), "r", np.where((answers == instructed).all(axis=1), "c", "n")
        )
        assert letters == "".join(expected)


def test_letter_share() -> None:
    assert letter_share("rrcn", "r") == 0.5
    assert letter_share("rrcn", "c") == 0.25
