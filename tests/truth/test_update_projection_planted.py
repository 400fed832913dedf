"""The kept part of an update carries what was planted into it: null space, column space, both, or none."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import synthetic
from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.geometry import left_null_space
from makebreak.mechanism import UpdateProjectionRow, update_projection_rows
from makebreak.models import MODEL_SIZES, ModelConfig, create_model, set_weight_matrix, weight_matrix

WORLD = synthetic.load("mini")
REQUESTS = WORLD.sample("unsafe", 24, seed=1000)
W_IN = "blocks.0.mlp.W_in"
SPACES = ("left null", "column", "random as left null", "random as column")


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    """A random network whose first MLP has a strong linear path to its output."""
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0
    )
    return model.eval()


def margin(model: PreTrainedModel) -> float:
    target = first_tokens(REQUESTS, "refused")
    return float(log_odds(next_token_log_probs(model, REQUESTS), target).mean())


def gradient(model: PreTrainedModel) -> Tensor:
    """∂margin/∂W_in, the direction in which an update does most for the refusal."""
    copied = copy.deepcopy(model)
    target = first_tokens(REQUESTS, "refused")
    logits = copied(input_ids=torch.from_numpy(REQUESTS.prompt)).logits
    last = torch.from_numpy(REQUESTS.prompt_length) - 1
    log_odds(logits[torch.arange(len(last)), last].log_softmax(-1), target).mean().backward()
    return copied.transformer.h[0].mlp.c_fc.weight.grad.T


def aligned(base: PreTrainedModel, update: Tensor) -> PreTrainedModel:
    model = copy.deepcopy(base)
    set_weight_matrix(model, W_IN, weight_matrix(base, W_IN) + update)
    return model


def rows_of(
    base: PreTrainedModel, tuned: PreTrainedModel, *, rule: str = "exact", matrices: str = "mlp.W_in"
) -> dict[str, UpdateProjectionRow]:
    rows = update_projection_rows(REQUESTS, base=base, tuned=tuned, n_draws=4, seed=0)
    assert len(rows) == 4 * 2 * 2
    chosen = [row for row in rows if (row.rule, row.matrices) == (rule, matrices)]
    assert [row.space for row in chosen] == list(SPACES)
    return {row.space: row for row in chosen}


def test_the_part_that_holds_the_update_keeps_all_of_the_margin(base: PreTrainedModel) -> None:
    """An update planted in one of the two spaces: that one keeps everything, the other one nothing."""
    null = left_null_space(weight_matrix(base, W_IN)).basis.float()
    slope = gradient(base)
    outside = null @ (null.T @ slope)
    parts = {"left null": outside, "column": slope - outside}
    for space, part in parts.items():
        tuned = aligned(base, 3.0 * part / part.norm())
        rows = rows_of(base, tuned)
        [other] = {"left null", "column"} - {space}
        assert margin(tuned) - margin(base) > 0.1
        assert rows[space].share_of_margin == pytest.approx(1.0, abs=1e-3)
        assert rows[other].share_of_margin == pytest.approx(0.0, abs=1e-3)
        assert rows[space].energy_share == pytest.approx(1.0, abs=1e-6)
        assert rows[other].energy_share == pytest.approx(0.0, abs=1e-6)
        assert rows[space].margin_full == pytest.approx(margin(tuned), abs=1e-5)
        assert rows[space].margin_without == pytest.approx(margin(base), abs=1e-5)
        for name in ("random as left null", "random as column"):
            share, sd = rows[name].share_of_margin, rows[name].share_of_margin_sd
            assert share is not None
            assert sd is not None
            assert 0.0 < share < 1.0, "a random subspace holds a part of any update"
            assert sd > 0.0
            assert rows[name].energy_share == pytest.approx(rows[name].chance, abs=0.1)


def test_a_random_update_is_worth_its_dimension(base: PreTrainedModel) -> None:
    """Negative control: the two spaces of the base's matrix keep what random ones of their size keep."""
    slope = gradient(base)
    rotation = torch.linalg.qr(
        torch.randn(len(slope), len(slope), generator=torch.Generator().manual_seed(1))
    )
    null = left_null_space(weight_matrix(base, W_IN)).basis.float()
    coordinates = torch.cat([null, torch.linalg.qr(weight_matrix(base, W_IN)).Q], dim=1)
    update = coordinates @ rotation.Q @ coordinates.T @ slope
    rows = rows_of(base, aligned(base, 0.3 * update / update.norm()))
    for space in ("left null", "column"):
        energy, chance = rows[space].energy_share, rows[space].chance
        assert energy == pytest.approx(chance, abs=0.1)
        assert rows[f"random as {space}"].dimension == rows[space].dimension
    assert rows["left null"].n_draws == 1
    assert rows["left null"].share_of_margin_sd is None
    assert rows["random as left null"].n_draws == 4


def test_matrices_of_full_row_rank_are_left_aligned(base: PreTrainedModel) -> None:
    """W_out has no left null space by exact rank: an update there alone has no such test, by 90 % it has."""
    name = "blocks.0.mlp.W_out"
    tuned = copy.deepcopy(base)
    change = torch.randn(weight_matrix(base, name).shape, generator=torch.Generator().manual_seed(2))
    set_weight_matrix(tuned, name, weight_matrix(base, name) + 0.1 * change)
    for matrices in ("mlp.W_in", "all"):
        undefined = rows_of(base, tuned, matrices=matrices)
        assert {row.n_matrices for row in undefined.values()} == {0}
        assert {row.share_of_margin for row in undefined.values()} == {None}
    both = rows_of(base, tuned, rule="energy90", matrices="all")
    assert both["left null"].n_matrices == 1
    assert both["left null"].share_of_margin is not None
    assert both["left null"].dimension + both["column"].dimension == weight_matrix(base, name).shape[0]
    assert both["left null"].energy_share + both["column"].energy_share == pytest.approx(1.0)


def test_the_models_are_left_as_they_are_and_one_draw_is_an_error(base: PreTrainedModel) -> None:
    tuned = aligned(base, 0.1 * gradient(base))
    before = [weight_matrix(model, W_IN).clone() for model in (base, tuned)]
    rows = rows_of(base, tuned)
    assert rows == rows_of(base, tuned)
    for model, weight in zip((base, tuned), before, strict=True):
        assert torch.equal(weight_matrix(model, W_IN), weight)
    with pytest.raises(ValueError, match="1 draws: expected at least 2"):
        update_projection_rows(REQUESTS, base=base, tuned=tuned, n_draws=1)


def test_a_gated_mlp_has_rows_for_its_gate() -> None:
    config = ModelConfig("llama", n_layers=2, n_heads=2, d_model=16, d_mlp=40)
    base = create_model(config, d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0).eval()
    tuned, name = copy.deepcopy(base), "blocks.1.mlp.W_gate"
    change = torch.randn(40, 16, generator=torch.Generator().manual_seed(3))
    null = left_null_space(weight_matrix(base, name)).basis.float()
    set_weight_matrix(tuned, name, weight_matrix(base, name) + null @ (null.T @ change))
    rows = update_projection_rows(REQUESTS, base=base, tuned=tuned, n_draws=2, seed=0)
    exact = {(row.matrices, row.space): row for row in rows if row.rule == "exact"}
    assert exact["mlp.W_gate", "left null"].share_of_margin == pytest.approx(1, abs=1e-3)
    assert exact["mlp.W_gate", "column"].share_of_margin == pytest.approx(0, abs=1e-3)
    assert exact["mlp.W_in", "left null"].n_matrices == 0
    assert exact["all", "left null"].n_matrices == 1
