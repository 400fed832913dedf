"""Constrained updates stay in their subspace and train nothing else; the whole space is plain training."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from makebreak.geometry import Subspace, energy_share, left_null_space
from makebreak.mechanism import constrained_finetuning_rows
from makebreak.models import ModelConfig, create_model, weight_matrix
from makebreak.prompts import load_world
from makebreak.tables import as_dicts
from makebreak.training import (
    SSFT,
    Optimisation,
    TrainingRun,
    constrain_updates,
    remove_constraints,
    train,
)

WORLD = load_world("mini")
OPTIMISATION = Optimisation(6, 1e-2, batch_size=8, checkpoints=1)
NAMES = ["blocks.0.mlp.W_in", "blocks.1.mlp.W_in"]


def network(architecture: str = "gpt2"):
    config = ModelConfig(architecture, n_layers=2, n_heads=2, d_model=16, d_mlp=40)  # type: ignore[arg-type]
    return create_model(config, d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0).eval()


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_update_stays_in_its_subspace(architecture: str, tmp_path: Path) -> None:
    base = network(architecture)
    spaces = {name: left_null_space(weight_matrix(base, name)) for name in NAMES}
    model = constrain_updates(copy.deepcopy(base), spaces)
    tokens = torch.arange(10)[None]
    assert torch.equal(model(input_ids=tokens).logits, base(input_ids=tokens).logits), "it starts at the base"
    train(model, SSFT(), OPTIMISATION, WORLD, tmp_path, TrainingRun(seed=0, label="x"))
    remove_constraints(model, NAMES)
    for name in NAMES:
        delta = weight_matrix(model, name) - weight_matrix(base, name)
        assert delta.norm() > 1e-3
        assert energy_share(delta, spaces[name]) == pytest.approx(1.0, abs=1e-5)
    before, after = base.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert len(changed) == 2
    assert all("c_fc" in name or "up_proj" in name for name in changed)


def test_whole_space_equals_plain_training(tmp_path: Path) -> None:
    """Adam updates coordinates; in the standard basis they are the matrix's own, up to weight decay."""
    base = network()
    no_decay = Optimisation(6, 1e-2, batch_size=8, checkpoints=1, weight_decay=0.0)
    whole = {name: Subspace(torch.eye(40, dtype=torch.float64)) for name in NAMES}
    constrained = constrain_updates(copy.deepcopy(base), whole)
    plain = copy.deepcopy(base).requires_grad_(False)
    for layer in (0, 1):
        plain.transformer.h[layer].mlp.c_fc.weight.requires_grad_(True)
    for name, model in (("a", constrained), ("b", plain)):
        (tmp_path / name).mkdir()
        train(model, SSFT(), no_decay, WORLD, tmp_path / name, TrainingRun(seed=0, label="x"))
    remove_constraints(constrained, NAMES)
    for name in NAMES:
        assert torch.allclose(weight_matrix(constrained, name), weight_matrix(plain, name), atol=1e-5)


def test_rows_have_random_controls_and_skip_empty_spaces() -> None:
    score = {family: WORLD.sample(family, 20, seed=1000, split="score") for family in ("safe", "unsafe")}
    rows = as_dicts(constrained_finetuning_rows(SSFT(), OPTIMISATION, WORLD, score, base=network(), seed=0))
    dimensions = {row["space"]: row["dimension"] for row in rows}
    assert dimensions == {
        "left null": 24,
        "random as left null": 24,
        "column": 16,
        "random as column": 16,
        "all": 40,
    }
    assert all(row["update_norm"] > 0 for row in rows)
    again = as_dicts(constrained_finetuning_rows(SSFT(), OPTIMISATION, WORLD, score, base=network(), seed=0))
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in rows])
    wide = create_model(
        ModelConfig(n_layers=2, n_heads=2, d_model=16, d_mlp=16),
        d_vocab=len(WORLD.vocabulary),
        n_ctx=WORLD.sequence_length,
        seed=0,
    )
    assert [
        row["space"]
        for row in as_dicts(
            constrained_finetuning_rows(SSFT(), OPTIMISATION, WORLD, score, base=wide, seed=0)
        )
    ] == [
        "column",
        "random as column",
        "all",
    ]
