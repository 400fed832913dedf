"""The training loop: when it stops, what it changes, and its learning rates."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from makebreak.training import DPO, SSFT, LoRA, Objective, Optimisation, Pretraining
from makebreak.training.loop import CHECKPOINT, METRICS, TrainingStopped
from tests.training.short_runs import EVERY_STEP, NEVER, SHORT, WORLD, FaultAt, fresh, run, same


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("checkpoints", [EVERY_STEP, NEVER])
def test_infinite_loss_stops_the_run(tmp_path: Path, value: float, checkpoints: float) -> None:
    objective = FaultAt(SSFT(), 5, change_loss=lambda loss: loss * value)
    state = (
        f"the checkpoint of step 5 is in {tmp_path}"
        if checkpoints == EVERY_STEP
        else "no checkpoint was written"
    )
    with pytest.raises(TrainingStopped) as error:
        run(tmp_path, objective, checkpoints=checkpoints)
    assert f"a test: loss is {value}" in str(error.value)
    assert f"at step 5; {state}" in str(error.value)
    assert "lower learning_rate = 0.003" in str(error.value)
    assert (tmp_path / CHECKPOINT).exists() == (checkpoints == EVERY_STEP)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("fault_step", [5, 11])
def test_infinite_gradient_stops_the_run(tmp_path: Path, fault_step: int) -> None:
    """The loss is finite, its gradient is not: no such weights are saved, at the last step as at any
    other.
    """

    def add_infinite_gradient(loss: Tensor) -> Tensor:
        return loss + (loss * 0).sqrt()

    with pytest.raises(
        TrainingStopped, match=f"at step {fault_step}; the checkpoint of step {fault_step} is in"
    ):
        run(tmp_path, FaultAt(SSFT(), fault_step, change_loss=add_infinite_gradient), checkpoints=EVERY_STEP)
    assert not (tmp_path / "model.safetensors").exists()
    resumed = run(tmp_path, SSFT())
    assert all(bool(p.isfinite().all()) for p in resumed.parameters())


class NoGradient(Objective):
    """A loss whose gradient is zero everywhere: weight decay alone moves the weights."""

    def batch(self, world, **_) -> tuple[()]:
        return ()

    def loss(self, model, batch, reference) -> tuple[Tensor, dict[str, float]]:
        return sum((p * 0).sum() for p in model.parameters()), {}  # type: ignore[return-value]


DECAYED = {
    "gpt2": ("c_attn.weight", "c_proj.weight", "c_fc.weight", "lm_head.weight"),
    "jain2024": ("c_attn.weight", "c_proj.weight", "c_fc.weight", "lm_head.weight"),
    "llama": ("_proj.weight", "lm_head.weight"),
}
NOT_DECAYED = {
    "gpt2": ("wte.weight", "wpe.weight", "bias", "ln_1.weight"),
    "jain2024": ("wte.weight", "bias", "ln_1.weight"),
    "llama": ("embed_tokens.weight", "norm.weight"),
}


@pytest.mark.parametrize("architecture", list(DECAYED))
def test_decay_spares_embeddings_norms_biases(tmp_path: Path, architecture: str) -> None:
    model = fresh(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    before = copy.deepcopy(model.state_dict())
    run(tmp_path, NoGradient(), Optimisation(1, 0.1, warmup_share=0.0, weight_decay=0.5), model)
    shrunk, unchanged = [], []
    for name, after in model.state_dict().items():
        (unchanged if torch.equal(after, before[name]) else shrunk).append(name)
        if name in shrunk:
            assert torch.allclose(after, before[name] * (1 - 0.1 * 0.5), rtol=1e-5, atol=0)
    assert all(name.endswith(DECAYED[architecture]) for name in shrunk)
    assert not any(name.endswith(DECAYED[architecture]) for name in unchanged)
    for ending in NOT_DECAYED[architecture]:
        assert any(name.endswith(ending) for name in unchanged)
    assert len(shrunk) == 2 * (7 if architecture == "llama" else 4) + 1


@pytest.mark.parametrize("lora", [None, LoRA(2)])
def test_without_decay_nothing_decays(tmp_path: Path, lora: LoRA | None) -> None:
    """Decay alone moves weights here: with 0 every one stays bit for bit, with the default some do not."""

    def still(name: str, optimisation: Optimisation) -> set[bool]:
        model = fresh(lora=lora)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1)
        before = copy.deepcopy(model.state_dict())
        run(tmp_path / name, NoGradient(), optimisation, model)
        return {torch.equal(after, before[name]) for name, after in model.state_dict().items()}

    assert still("none", Optimisation(3, 1.0, weight_decay=0.0)) == {True}
    assert still("default", Optimisation(3, 1.0)) == {True, False}


@pytest.mark.parametrize("architecture", list(DECAYED))
def test_one_step_changes_every_parameter(tmp_path: Path, architecture: str) -> None:
    model = fresh(architecture)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    returned = run(tmp_path, Pretraining(), Optimisation(1, 1e-3, batch_size=4, weight_decay=0.0), model)
    assert returned is model
    assert not model.training
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert still == []


@dataclass(frozen=True)
class Sum(Objective):
    """The loss `scale` · Σ of all parameters: its gradient is `scale` everywhere, so a step is known by
    hand.
    """

    scale: float

    def batch(self, world, **_) -> tuple[()]:
        return ()

    def loss(self, model, batch, reference) -> tuple[Tensor, dict[str, float]]:
        return self.scale * sum(p.sum() for p in model.parameters()), {}  # type: ignore[return-value]


def test_adam_steps_have_the_size_of_the_rate(tmp_path: Path) -> None:
    """Under a constant gradient AdamW moves every weight by the rate of the step, so by their sum in all."""
    model = fresh()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimisation = Optimisation(12, 1e-2, batch_size=4, weight_decay=0.0, clip=1e9)
    run(tmp_path, Sum(1.0), optimisation, model)
    distance = sum(optimisation.learning_rate_at(step) for step in range(12))
    for name, parameter in model.named_parameters():
        assert torch.allclose(before[name] - parameter, torch.full_like(parameter, distance), rtol=1e-3)


def test_metrics_hold_the_norm_before_clipping(tmp_path: Path) -> None:
    run(tmp_path, Sum(2.0), Optimisation(12, 1e-6, batch_size=4, clip=0.5))
    rows = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 10, 11]
    n = sum(p.numel() for p in fresh().parameters())
    assert rows[0]["grad_norm"] == pytest.approx(2 * math.sqrt(n), rel=1e-4)
    assert rows[0]["loss"] == pytest.approx(2 * sum(p.sum().item() for p in fresh().parameters()), rel=1e-4)
    assert [row["lr"] for row in rows] == [
        Optimisation(12, 1e-6).learning_rate_at(step) for step in (0, 10, 11)
    ]


class SameBatch(FaultAt):
    """The batch of one step again and again, so that its loss must fall."""

    def batch(self, world, *, size: int, step: int, steps: int, seed: int):
        return super().batch(world, size=size, step=self.fault_step, steps=steps, seed=seed)


def test_dpo_reference_is_the_initial_model(tmp_path: Path) -> None:
    """Were the reference the model of the last step, every loss would be log 2."""
    run(tmp_path, SameBatch(DPO(beta=1.0), 3))
    rows = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert rows[0]["reward_margin"] == pytest.approx(0.0, abs=1e-6)
    assert rows[-1]["loss"] < 0.6
    assert rows[-1]["reward_margin"] > 0.1


def test_training_learns(tmp_path: Path) -> None:
    run(tmp_path, SSFT(), Optimisation(60, 1e-2, batch_size=16))
    losses = [json.loads(line)["loss"] for line in (tmp_path / METRICS).read_text().splitlines()]
    assert losses[0] == pytest.approx(math.log(len(WORLD.vocabulary)), abs=0.2), "a fresh model knows nothing"
    assert losses[-1] < 0.6 * losses[0]


def test_the_final_rate_is_held_after_the_decay() -> None:
    """The schedule of Jain et al. 2024: the cosine ends at four fifths of the steps."""
    whole, held = Optimisation(80, 0.5), Optimisation(100, 0.5, warmup_share=0.08, decay_end=0.8)
    rates = [held.learning_rate_at(step) for step in range(100)]
    assert rates[:80] == pytest.approx([whole.learning_rate_at(step) for step in range(80)])
    assert rates[80:] == pytest.approx([0.005] * 20)
    with pytest.raises(ValueError, match=r"decay_end = 0\.1: expected a share from warmup_share = 0\.2 to 1"):
        Optimisation(100, 0.5, warmup_share=0.2, decay_end=0.1)


def test_warm_up_and_cosine_schedule() -> None:
    schedule = Optimisation(100, 0.5, warmup_share=0.1, final_share=0.02)
    assert schedule.learning_rate_at(0) == pytest.approx(0.5 / 11)
    assert schedule.learning_rate_at(4) == pytest.approx(0.5 * 5 / 11)
    assert schedule.learning_rate_at(10) == pytest.approx(0.5), "the peak, where the warm-up ends"
    assert schedule.learning_rate_at(55) == pytest.approx(0.5 * (0.02 + 0.98 / 2)), "half-way down"
    assert schedule.learning_rate_at(100) == pytest.approx(0.5 * 0.02)
    rates = [schedule.learning_rate_at(step) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    flat = Optimisation(7, 0.5, warmup_share=0.0, final_share=1.0)
    assert {flat.learning_rate_at(step) for step in range(7)} == {0.5}
    assert Optimisation(4, 1.0, warmup_share=1.0).learning_rate_at(3) == pytest.approx(4 / 5)
    assert math.isfinite(Optimisation(1, 1.0, warmup_share=1.0).learning_rate_at(0))


def test_nothing_is_drawn_from_the_global_generator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = run(tmp_path / "one", SSFT())
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert same(one, run(tmp_path / "other", SSFT()))
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_autocast(tmp_path: Path) -> None:
    """The weights stay float32, and the run differs a little from one in float32."""
    half = run(tmp_path / "half", SSFT(), replace(SHORT, precision="bfloat16"))
    full = run(tmp_path / "full", SSFT())
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    gap = max((a - b).abs().max() for a, b in zip(half.parameters(), full.parameters(), strict=True))
    assert 0 < gap < 0.1
