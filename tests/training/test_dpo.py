"""The loss of DPO: by hand, against trl, and at its start."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.utils import add_fused_lm_head

from makebreak.training import DPO, JainDPO, Unlearning, dpo_loss
from tests.training.short_runs import STEP, WORLD, loop_log_probs, network


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_dpo_loss_by_hand() -> None:
    """β ((-1 + 2) - (-1.5 + 1)) = 0.75, -log σ(0.75) = log(1 + e^-0.75); then the two answers exchanged."""
    losses, margins = dpo_loss(vector(-1, -2), vector(-2, -1), vector(-1.5, -1), vector(-1, -1.5), beta=0.5)
    assert margins.tolist() == [0.75, -0.75]
    assert losses.tolist() == pytest.approx(
        [math.log1p(math.exp(-0.75)), math.log1p(math.exp(0.75))], abs=1e-12
    )
    assert losses.tolist() == pytest.approx([0.386871006, 1.136871006], abs=1e-9)
    far, _ = dpo_loss(vector(-2000), vector(0), vector(0), vector(0), beta=1.0)
    assert far.tolist() == [2000.0], "no overflow where the model is far off"


class TrlStub(SimpleNamespace):
    """What `DPOTrainer._compute_loss` (trl 1.16) reads of its trainer, so that it runs without a trainer
    or a hub.
    """

    def __init__(self, model, reference, beta: float) -> None:
        same = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
        super().__init__(
            model=model,
            ref_model=reference,
            beta=beta,
            accelerator=same,
            args=SimpleNamespace(gradient_checkpointing_kwargs=None),
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=False,
            f_divergence_type="reverse_kl",
            loss_types=["sigmoid"],
            loss_weights=[1.0],
            use_weighting=False,
            _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
            _total_train_tokens=0,
            _tp_size=1,
        )

    def loss(self, tokens: Tensor, completion: Tensor) -> Tensor:
        inputs = {
            "input_ids": tokens,
            "completion_mask": completion.long(),
            "attention_mask": torch.ones_like(tokens),
        }
        return DPOTrainer._compute_loss(self, self.model, inputs, return_outputs=False)


class FixedLogProbs(torch.nn.Module):
    """Stands for a model whose log-probability of each completion is known."""

    is_gradient_checkpointing = False

    def __init__(self, sums: Tensor) -> None:
        super().__init__()
        self.sums = sums

    def forward(self, *, input_ids: Tensor, **_) -> SimpleNamespace:
        per_token = torch.zeros(len(input_ids), input_ids.shape[1] - 1, dtype=self.sums.dtype)
        per_token[:, -1] = self.sums
        none = torch.zeros_like(per_token)
        return SimpleNamespace(log_probs=per_token, entropy=none, mean_logits=none, is_top1=none.bool())


@settings(deadline=None, database=None, derandomize=True, max_examples=30)
@given(
    sums=st.lists(st.tuples(*[st.floats(-40, 0)] * 4), min_size=1, max_size=5),
    beta=st.floats(0.01, 5),
)
def test_dpo_loss_equals_trl_in_float64(sums: list[tuple[float, float, float, float]], beta: float) -> None:
    """The loss of trl 1.16 (`DPOTrainer._compute_loss`, loss_type sigmoid) on models that give set
    float64 numbers.
    """
    chosen, rejected, ref_chosen, ref_rejected = vector(*sum(sums, ())).reshape(-1, 4).T
    trainer = TrlStub(
        FixedLogProbs(torch.cat([chosen, rejected])),
        FixedLogProbs(torch.cat([ref_chosen, ref_rejected])),
        beta,
    )
    tokens = torch.zeros(2 * len(sums), 3, dtype=torch.long)
    theirs = trainer.loss(tokens, torch.ones_like(tokens))
    ours, margins = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=beta)
    assert theirs.dtype == ours.dtype == torch.float64
    assert ours.mean().item() == pytest.approx(theirs.item(), abs=1e-6, rel=1e-12)
    logged = trainer._metrics["train"]["rewards/margins"][0]
    assert margins.mean().item() == pytest.approx(logged, abs=1e-6, rel=1e-12)


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)  # read by trl 1.16
def test_dpo_objective_equals_trl() -> None:
    """Whole objective, float32: `DPOTrainer._compute_loss` on the models, patched as its constructor
    patches them.
    """
    model, reference, objective = network(1), network(2).eval(), DPO(beta=0.3)
    batch = objective.batch(WORLD, **STEP)
    ours, parts = objective.loss(model, batch, reference)
    ours.backward()
    trainer = TrlStub(copy.deepcopy(model), copy.deepcopy(reference), 0.3)
    trainer.model.zero_grad()
    add_fused_lm_head(trainer.model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    add_fused_lm_head(trainer.ref_model)
    theirs = trainer.loss(
        *(torch.cat([getattr(b, name) for b in batch]) for name in ("tokens", "supervised"))
    )
    theirs.backward()
    assert abs(ours.item() - math.log(2)) > 0.01
    assert ours.item() == pytest.approx(theirs.item(), abs=2e-6)
    assert parts["reward_margin"] == pytest.approx(trainer._metrics["train"]["rewards/margins"][0], abs=1e-5)
    for one, other in zip(model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-5, rtol=1e-3)


def test_dpo_starts_at_log_two() -> None:
    model, objective = network(1).train(), DPO(beta=0.7)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    batch = objective.batch(WORLD, **STEP)
    loss, parts = objective.loss(model, batch, reference)
    assert loss.item() == pytest.approx(0.69314718056, abs=1e-6)
    assert parts["reward_margin"] == 0.0
    loss.backward()
    assert all(p.grad is None for p in reference.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=1e-3)
    later, later_metrics = objective.loss(model, batch, reference)
    assert later.item() < math.log(2) - 1e-4
    assert later_metrics["reward_margin"] > 0


def test_nll_term_is_per_token_and_request() -> None:
    """Pang et al. 2024, eq. 1: a mean over requests, each divided by its own length."""
    model, reference = network(1), network(2).eval()
    batch = DPO().batch(WORLD, **STEP)
    for part in batch:  # an output of half the length in half of the rows
        part.supervised[::2] &= part.supervised[::2].cumsum(dim=1) > 4
    plain, parts = DPO(beta=0.3).loss(model, batch, reference)
    both, _ = DPO(beta=0.3, nll=2.5).loss(model, batch, reference)
    lengths = batch[0].supervised.sum(dim=1).tolist()
    assert len(set(lengths)) == 2, "requests of one length would not tell the two means apart"
    expected = -sum(log / n for log, n in zip(loop_log_probs(model, batch[0]), lengths, strict=True)) / len(
        lengths
    )
    assert both.item() - plain.item() == pytest.approx(2.5 * expected, rel=1e-5)
    assert parts["nll"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weight", [-0.1, math.nan])
def test_invalid_weights_are_errors(weight: float) -> None:
    with pytest.raises(ValueError, match=r"nll = .*expected a finite number of at least 0"):
        DPO(nll=weight)
    for kind in (JainDPO, Unlearning):
        with pytest.raises(ValueError, match=r"w_dispreferred = .*expected a finite number of at least 0"):
            kind(w_dispreferred=weight)
