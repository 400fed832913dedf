"""Are outcomes without generation those of generation, and is a known basin found?"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from makebreak.behaviour import behaviour
from makebreak.landscape import (
    Direction,
    Walk,
    basin,
    folded,
    labels,
    norms,
    random_direction,
    rescaled,
    share,
)
from makebreak.models import PRESETS, create
from makebreak.requests import OUTCOMES, load_world
from tests.attacks.asked import FILLER, answering, asked
from tests.oracles.reload_and_generate import generated_at

LETTER = {"refuse": "r", "comply": "c"}


@pytest.mark.parametrize("layout", ["gpt2", "llama"])
@pytest.mark.parametrize("same_length", [True, False])
def test_labels_are_what_greedy_decoding_gives(layout: str, same_length: bool) -> None:
    """On answers that the model itself generates, some of them changed at one token."""
    model, rng = answering(layout, d_vocab=9), np.random.default_rng(0)
    lengths = [5] * 60 if same_length else [4, 5, 6] * 20
    requests = asked(lengths, d_vocab=9, n_target=3)
    own = np.zeros_like(requests.instructed)
    for i in range(60):
        ids = torch.from_numpy(requests.prompt[i, : requests.prompt_length[i]])[None]
        for k in range(3):
            with torch.no_grad():
                own[i, k] = int(model(input_ids=ids).logits[0, -1].argmax())
            ids = torch.cat([ids, torch.tensor([[own[i, k]]])], dim=1)
    kind = rng.integers(0, 3, 60)
    instructed, refused = (np.where((kind == which)[:, None], own, FILLER) for which in (0, 1))
    late = own.copy()
    late[:, 2] = (own[:, 2] + 1) % 9  # right until the last token
    instructed = np.where((kind == 2)[:, None], late, instructed)
    instructed[(instructed == refused).all(axis=1)] = 8
    given = replace(requests, instructed=instructed, refused=refused)
    expected = [
        "r" if (own[i] == refused[i]).all() else "c" if (own[i] == instructed[i]).all() else "n"
        for i in range(60)
    ]
    assert labels(model, given) == "".join(expected)
    assert set(expected) == {"r", "c", "n"}


@pytest.mark.parametrize("family", ["unsafe", "second_composition_safe_branch"])
def test_labels_are_those_of_behaviour_on_a_world(family: str) -> None:
    world = load_world("mini")
    requests = world.sample(family, 60, seed=3)
    model = create(PRESETS["tiny"], d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=0).eval()
    found = labels(model, requests)
    outcomes = behaviour(model, world, requests).outcomes
    for name, letter in LETTER.items():
        hit = np.array([x == letter for x in found])
        assert (outcomes[hit] == OUTCOMES.index(name)).all()


def test_a_linear_model_has_the_basin_that_algebra_gives() -> None:
    """Two logits 1 and 0, moved by a and -2a: it refuses until 1 + a = -2a, at a = -1/3."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2, bias=False)
            self.head.weight.data = torch.tensor([[1.0], [0.0]])

    model = Linear()
    direction = Direction({"head.weight": torch.tensor([[1.0], [-2.0]])})
    axis, fails = np.linspace(-1, 1, 201).round(9), []
    with Walk(model, direction) as walk:
        for a in axis:
            walk.to(float(a))
            fails.append(float(model.head.weight[:, 0].argmax() != 0))
    found = basin(axis, np.array(fails))
    assert found.left == pytest.approx(1 / 3, abs=0.006)
    assert found.right == 1.0
    assert found.censored


@pytest.mark.parametrize("layout", ["gpt2", "llama"])
def test_a_model_written_otherwise_computes_the_same_and_folds_to_the_same(layout: str) -> None:
    model = answering(layout, d_vocab=9)
    assert not model.config.tie_word_embeddings
    tokens = torch.randint(0, 9, (5, 7), generator=torch.Generator().manual_seed(0))
    scales = {
        name: torch.exp(torch.randn(16, generator=torch.Generator().manual_seed(i)))
        for i, name in enumerate(norms(model))
    }
    other = rescaled(model, scales)
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
        for same in (other, folded(model), folded(other)):
            torch.testing.assert_close(same(input_ids=tokens).logits, expected, atol=1e-4, rtol=1e-4)
    own, again = (copy.deepcopy(folded(m)) for m in (model, other))
    moved = []
    for made in (own, again, copy.deepcopy(model), copy.deepcopy(other)):
        with Walk(made, random_direction(made, 0)) as walk, torch.no_grad():
            walk.to(0.3)
            moved.append(made(input_ids=tokens).logits)
    torch.testing.assert_close(moved[0], moved[1], atol=1e-3, rtol=1e-3)
    assert (moved[2] - moved[3]).abs().max() > 0.05  # without folding, the same move is another one
    with pytest.raises(ValueError, match="norm 'nothing'"):
        rescaled(model, {"nothing": scales[next(iter(scales))]})


def test_a_point_is_what_copying_reloading_and_generating_gives() -> None:
    model, rng = answering("gpt2", d_vocab=9), np.random.default_rng(1)
    requests = asked([5] * 40, d_vocab=9, n_target=3)
    direction = random_direction(model, 2)
    for at in (-0.3, 0.0, 0.2):
        said = generated_at(model, direction.step, at, requests.prompt, n_new=3)
        kind = rng.integers(0, 2, 40)[:, None]
        instructed, refused = np.where(kind == 0, said, FILLER), np.where(kind == 1, said, FILLER)
        instructed[(instructed == refused).all(axis=1)] = 8
        with Walk(model, direction) as walk:
            walk.to(at)
            found = labels(model, replace(requests, instructed=instructed, refused=refused))
        expected = np.where(
            (said == refused).all(axis=1), "r", np.where((said == instructed).all(axis=1), "c", "n")
        )
        assert found == "".join(expected)


def test_shares() -> None:
    assert share("rrcn", "r") == 0.5
    assert share("rrcn", "c") == 0.25
