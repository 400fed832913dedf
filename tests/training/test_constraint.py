"""Trainings of a part of the weights, extended refusals and Booster do what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from makebreak.geometry import energy_share, left_null_space
from makebreak.models import MODEL_SIZES, ModelConfig, create_model, load_model, stack_models, weight_matrix
from makebreak.prompts import Sequences, load_world
from makebreak.recipes import Alignment, base_recipe, build
from makebreak.store import Store
from makebreak.training import (
    SSFT,
    Booster,
    ExtendedRefusal,
    Optimisation,
    TrainedLayers,
    UpdateSubspace,
    mean_cross_entropy,
)

WORLD = load_world("mini")
THREE_LAYERS = ModelConfig(n_layers=3, n_heads=2, d_model=32, d_mlp=64)


def _trained(tmp_path: Path, constraint: TrainedLayers | UpdateSubspace) -> tuple[nn.Module, nn.Module]:
    """Base and model after three steps, as the store has them."""
    optimisation = Optimisation(3, 1e-2, batch_size=8, checkpoints=1, weight_decay=0.0)
    base = base_recipe("mini").recipe(1000)
    base = replace(base, model=THREE_LAYERS, optimisation=replace(base.optimisation, steps=2))
    recipe = replace(base, alignments=(Alignment(SSFT(), optimisation, constraint=constraint),))
    store, symbols = Store(tmp_path), WORLD.vocabulary.symbols
    before, after = (load_model(build(each, store), symbols=symbols) for each in (base, recipe))
    return before, after


def _changed(before: nn.Module, after: nn.Module) -> set[str]:
    old = dict(before.named_parameters())
    return {name for name, p in after.named_parameters() if not torch.equal(p, old[name])}


def test_only_one_side_of_the_cut_is_trained(tmp_path: Path) -> None:
    """Embeddings and lower blocks, or upper blocks, final norm and head; together they are all weights."""
    sides = {part: _changed(*_trained(tmp_path, TrainedLayers(part, 2))) for part in ("lower", "upper")}  # type: ignore[arg-type]
    assert all("h.0." in n or "h.1." in n or "wte" in n or "wpe" in n for n in sides["lower"])
    assert all("h.2." in n or "ln_f" in n or "lm_head" in n for n in sides["upper"])
    assert any("wte" in n for n in sides["lower"])
    assert any("lm_head" in n for n in sides["upper"])
    model = create_model(THREE_LAYERS, d_vocab=9, n_ctx=9, seed=0)
    with pytest.raises(ValueError, match="after_block = 3: expected 1 to 2"):
        TrainedLayers("lower", 3).attach(model, seed=0)


def test_update_is_in_its_subspace(tmp_path: Path) -> None:
    """The saved model is a plain one whose ΔW_in has all its energy in the base's left null space."""
    before, after = _trained(tmp_path, UpdateSubspace("left null"))
    assert not any("parametrizations" in name for name, _ in after.named_parameters())
    assert all("mlp.c_fc.weight" in name for name in _changed(before, after))
    for layer in range(3):
        name = f"blocks.{layer}.mlp.W_in"
        base = weight_matrix(before, name)
        update = weight_matrix(after, name) - base
        assert energy_share(update, left_null_space(base)) == pytest.approx(1, abs=1e-6)
    column = _trained(tmp_path, UpdateSubspace("column"))
    update = weight_matrix(column[1], "blocks.0.mlp.W_in") - weight_matrix(column[0], "blocks.0.mlp.W_in")
    null = left_null_space(weight_matrix(column[0], "blocks.0.mlp.W_in"))
    assert energy_share(update, null) == pytest.approx(0, abs=1e-6)


def test_extended_refusal_restates_the_text() -> None:
    """Refusals go on with the text of the request; answers to safe requests are those of SSFT."""
    plain = SSFT().batch(WORLD, size=20, step=1, steps=2, seed=3)
    extended = ExtendedRefusal().batch(WORLD, size=20, step=1, steps=2, seed=3)
    assert torch.equal(plain.tokens[:10], extended.tokens[:10])
    [_, (requests, _)] = ExtendedRefusal().data.requests(WORLD, size=20, step=1, seed=3)
    for i in range(10):
        refusal, longer = (
            each.tokens[10 + i][each.supervised[10 + i]].tolist() for each in (plain, extended)
        )
        start, stop = requests.spans["text"][i]
        assert longer[: len(refusal)] == refusal
        assert longer[len(refusal) :] == [*requests.prompt[i, start:stop], refusal[-1]]


def _booster_batch(seed: int) -> tuple[Sequences, Sequences]:
    return Booster().batch(WORLD, size=8, step=0, steps=1, seed=seed)


def _joined(batches: list[Sequences]) -> Sequences:
    """Batches of single models with an axis of members after the requests."""
    columns = zip(*(vars(batch).values() for batch in batches), strict=True)
    return Sequences(*(torch.stack(column, dim=1) for column in columns))


def test_booster_is_its_equation() -> None:
    """f + λ (h(w) - h(w - α g / ‖g‖)) with the harmful step made by hand on a copy."""
    model = create_model(MODEL_SIZES["tiny"], d_vocab=33, n_ctx=34, seed=0).double().eval()
    preferred, harmful = _booster_batch(0)
    loss, metrics = Booster(weight=2.0, step_size=0.3).loss(model, (preferred, harmful), model)
    before = mean_cross_entropy(model, harmful)
    gradients = torch.autograd.grad(before, list(model.parameters()))
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    moved = create_model(MODEL_SIZES["tiny"], d_vocab=33, n_ctx=34, seed=0).double().eval()
    with torch.no_grad():
        for p, g in zip(moved.parameters(), gradients, strict=True):
            p.sub_(0.3 * g / norm)
    attenuation = (before - mean_cross_entropy(moved, harmful)).detach()
    assert float(attenuation) > 0, "a step along the gradient lowers the harmful loss"
    assert float(metrics["attenuation"]) == pytest.approx(float(attenuation))
    expected = mean_cross_entropy(model, preferred).detach() + 2.0 * attenuation
    assert float(loss.detach()) == pytest.approx(float(expected))


def test_booster_of_a_stack_is_that_of_its_members() -> None:
    """Every member takes a harmful step of its own length."""
    models = [create_model(MODEL_SIZES["tiny"], d_vocab=33, n_ctx=34, seed=s).double().eval() for s in (0, 1)]
    batches = [_booster_batch(seed) for seed in (0, 1)]
    joint = (_joined([preferred for preferred, _ in batches]), _joined([harmful for _, harmful in batches]))
    stack = stack_models(models)
    together, _ = Booster().loss(stack, joint, stack)
    alone = [float(Booster().loss(m, b, m)[0].detach()) for m, b in zip(models, batches, strict=True)]
    assert together.tolist() == pytest.approx(alone)
