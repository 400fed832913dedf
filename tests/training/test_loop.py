"""Does a run move what it should, stop where it must, and end the same after a kill as without one?"""

from __future__ import annotations

import copy
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import synthetic
from makebreak.models import PRESETS, create, load
from makebreak.training import DPO, SSFT, Optimisation, Pretraining, train
from makebreak.training.loop import CHECKPOINT, METRICS, TrainingStopped

WORLD = synthetic.load("mini")
SHORT = Optimisation(12, 3e-3, batch_size=4)
EVERY_STEP = 0.0
NEVER = 1e9


def fresh(architecture: str = "gpt2"):
    config = replace(PRESETS["tiny"], architecture=architecture)
    return create(config, d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=5)


def run(folder: Path, objective: Any, optimisation: Optimisation = SHORT, model=None, checkpoints: float = NEVER):
    folder.mkdir(exist_ok=True)
    return train(
        fresh() if model is None else model,
        objective,
        optimisation,
        WORLD,
        folder,
        seed=1000,
        label="a test",
        checkpoint_seconds=checkpoints,
    )


@dataclass(frozen=True)
class Until:
    """An objective that something happens to at a step: before its batch (`stop`), or to its loss (`spoil`)."""

    inner: Any
    at: int
    stop: Callable[[], None] = lambda: None
    spoil: Callable[[Tensor], Tensor] = lambda loss: loss

    def batch(self, world, *, size: int, step: int, steps: int, seed: int):
        if step == self.at:
            self.stop()
        return step, self.inner.batch(world, size=size, step=step, steps=steps, seed=seed)

    def loss(self, model, batch, start) -> tuple[Tensor, dict[str, float]]:
        loss, parts = self.inner.loss(model, batch[1], start)
        return (self.spoil(loss) if batch[0] == self.at else loss), parts


def interrupt() -> None:
    raise KeyboardInterrupt


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


OBJECTIVES = {"pretraining": Pretraining(), "dpo": DPO(beta=1.0)}


@pytest.fixture(scope="module", params=list(OBJECTIVES))
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    objective, folder = OBJECTIVES[request.param], tmp_path_factory.mktemp("whole")
    return objective, run(folder, objective), (folder / METRICS).read_text()


@pytest.mark.parametrize(("at", "checkpoints"), [(1, EVERY_STEP), (7, EVERY_STEP), (11, EVERY_STEP), (7, NEVER)])
def test_interrupted_and_resumed_is_bit_identical(uninterrupted, tmp_path: Path, at: int, checkpoints: float) -> None:
    objective, whole, metrics = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Until(objective, at, interrupt), checkpoints=checkpoints)
    assert (tmp_path / CHECKPOINT).exists() == (checkpoints == EVERY_STEP)
    assert not (tmp_path / "model.safetensors").exists()
    resumed = run(tmp_path, objective, checkpoints=checkpoints)
    assert same(resumed, whole)
    assert (tmp_path / METRICS).read_text() == metrics
    assert not (tmp_path / CHECKPOINT).exists()
    assert same(load(tmp_path, symbols=WORLD.vocabulary.symbols), whole)
    assert not same(fresh(), whole), "it has learned something at all"


def test_a_resumed_run_does_not_begin_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Until(SSFT(), 7, interrupt), checkpoints=EVERY_STEP)

    def never() -> None:
        raise AssertionError("step 6 was made again")

    run(tmp_path, Until(SSFT(), 6, never))


def test_interrupted_twice(uninterrupted, tmp_path: Path) -> None:
    objective, whole, metrics = uninterrupted
    for at in (3, 9):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, Until(objective, at, interrupt), checkpoints=EVERY_STEP)
    assert same(run(tmp_path, objective), whole)
    assert (tmp_path / METRICS).read_text() == metrics


def test_half_a_metrics_row_is_dropped(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", SSFT())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Until(SSFT(), 7, interrupt), checkpoints=EVERY_STEP)
    with (tmp_path / "cut" / METRICS).open("a") as file:
        file.write('{"grad_norm": 1.5, "lo')
    assert same(run(tmp_path / "cut", SSFT()), whole)
    assert (tmp_path / "cut" / METRICS).read_text() == (tmp_path / "whole" / METRICS).read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[3]))
sys.path.insert(0, sys.argv[2])
import test_loop as t
folder = Path(sys.argv[1])
t.run(folder, t.Until(t.OBJECTIVES["dpo"], 8, lambda: os.kill(os.getpid(), signal.SIGKILL)), checkpoints=t.EVERY_STEP)
"""


def test_a_killed_process_changes_nothing(tmp_path: Path) -> None:
    """SIGKILL at step 8 of a process of its own; this process goes on from what it left."""
    folder, whole = tmp_path / "killed", run(tmp_path / "whole", OBJECTIVES["dpo"])
    arguments = [str(folder), str(Path(__file__).parent), str(torch.get_num_threads())]
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=200, check=False)
    assert process.returncode == -signal.SIGKILL
    assert (folder / CHECKPOINT).exists()
    resumed = run(folder, Until(OBJECTIVES["dpo"], 7, interrupt))
    assert same(resumed, whole)
    assert (folder / METRICS).read_text() == (tmp_path / "whole" / METRICS).read_text()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("checkpoints", [EVERY_STEP, NEVER])
def test_a_loss_that_is_not_finite_stops(tmp_path: Path, value: float, checkpoints: float) -> None:
    objective = Until(SSFT(), 5, spoil=lambda loss: loss * value)
    kept = f"the checkpoint of step 5 is in {tmp_path}" if checkpoints == EVERY_STEP else "no checkpoint was written"
    with pytest.raises(TrainingStopped) as raised:
        run(tmp_path, objective, checkpoints=checkpoints)
    assert f"a test: loss is {value}" in str(raised.value)
    assert f"at step 5; {kept}" in str(raised.value)
    assert "lower learning_rate = 0.003" in str(raised.value)
    assert (tmp_path / CHECKPOINT).exists() == (checkpoints == EVERY_STEP)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("at", [5, 11])
def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path, at: int) -> None:
    """The loss is finite, its gradient is not: no such weights are kept, at the last step as at any other."""

    def spoil(loss: Tensor) -> Tensor:
        return loss + (loss * 0).sqrt()

    with pytest.raises(TrainingStopped, match=f"at step {at}; the checkpoint of step {at} is in"):
        run(tmp_path, Until(SSFT(), at, spoil=spoil), checkpoints=EVERY_STEP)
    assert not (tmp_path / "model.safetensors").exists()
    resumed = run(tmp_path, SSFT())
    assert all(bool(p.isfinite().all()) for p in resumed.parameters())


class NoGradient:
    """A loss whose gradient is zero everywhere: weight decay alone moves the weights."""

    def batch(self, world, **_) -> None:
        return None

    def loss(self, model, batch, start) -> tuple[Tensor, dict[str, float]]:
        return sum((p * 0).sum() for p in model.parameters()), {}  # type: ignore[return-value]


DECAYED = {
    "gpt2": ("c_attn.weight", "c_proj.weight", "c_fc.weight", "lm_head.weight"),
    "llama": ("_proj.weight", "lm_head.weight"),
}
KEPT = {"gpt2": ("wte.weight", "wpe.weight", "bias", "ln_1.weight"), "llama": ("embed_tokens.weight", "norm.weight")}


@pytest.mark.parametrize("architecture", list(DECAYED))
def test_decay_is_on_matrices_outside_embeddings_only(tmp_path: Path, architecture: str) -> None:
    model = fresh(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    before = copy.deepcopy(model.state_dict())
    run(tmp_path, NoGradient(), Optimisation(1, 0.1, warmup_share=0.0, weight_decay=0.5), model)
    shrunk, kept = [], []
    for name, after in model.state_dict().items():
        (kept if torch.equal(after, before[name]) else shrunk).append(name)
        if name in shrunk:
            assert torch.allclose(after, before[name] * (1 - 0.1 * 0.5), rtol=1e-5, atol=0)
    assert all(name.endswith(DECAYED[architecture]) for name in shrunk)
    assert not any(name.endswith(DECAYED[architecture]) for name in kept)
    for ending in KEPT[architecture]:
        assert any(name.endswith(ending) for name in kept)
    assert len(shrunk) == {"gpt2": 2 * 4 + 1, "llama": 2 * 7 + 1}[architecture]


@pytest.mark.parametrize("architecture", list(DECAYED))
def test_one_step_changes_every_parameter(tmp_path: Path, architecture: str) -> None:
    model = fresh(architecture)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = run(tmp_path, Pretraining(), Optimisation(1, 1e-3, batch_size=4, weight_decay=0.0), model)
    assert trained is model
    assert not model.training
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert still == []


@dataclass(frozen=True)
class Sum:
    """The loss `scale` · Σ of all parameters: its gradient is `scale` everywhere, so a step is known by hand."""

    scale: float

    def batch(self, world, **_) -> None:
        return None

    def loss(self, model, batch, start) -> tuple[Tensor, dict[str, float]]:
        return self.scale * sum(p.sum() for p in model.parameters()), {}  # type: ignore[return-value]


def test_steps_of_adam_have_the_size_of_the_rate(tmp_path: Path) -> None:
    """Under a constant gradient AdamW moves every weight by the rate of the step, so by their sum in all."""
    model = fresh()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimisation = Optimisation(12, 1e-2, batch_size=4, weight_decay=0.0, clip=1e9)
    run(tmp_path, Sum(1.0), optimisation, model)
    moved = sum(optimisation.rate(step) for step in range(12))
    for name, parameter in model.named_parameters():
        assert torch.allclose(before[name] - parameter, torch.full_like(parameter, moved), rtol=1e-3)


def test_metrics_hold_loss_rate_and_the_norm_before_clipping(tmp_path: Path) -> None:
    run(tmp_path, Sum(2.0), Optimisation(12, 1e-6, batch_size=4, clip=0.5))
    rows = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 10, 11]
    n = sum(p.numel() for p in fresh().parameters())
    assert rows[0]["grad_norm"] == pytest.approx(2 * math.sqrt(n), rel=1e-4)
    assert rows[0]["loss"] == pytest.approx(2 * sum(p.sum().item() for p in fresh().parameters()), rel=1e-4)
    assert [row["lr"] for row in rows] == [Optimisation(12, 1e-6).rate(step) for step in (0, 10, 11)]


@dataclass(frozen=True)
class SameBatch(Until):
    """The batch of one step again and again, so that its loss must fall."""

    def batch(self, world, *, size: int, step: int, steps: int, seed: int):
        return super().batch(world, size=size, step=self.at, steps=steps, seed=seed)


def test_dpo_begins_at_log_two_and_is_measured_from_the_start(tmp_path: Path) -> None:
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


def test_warm_up_and_cosine_end_where_they_should() -> None:
    schedule = Optimisation(100, 0.5, warmup_share=0.1, final_share=0.02)
    assert schedule.rate(0) == pytest.approx(0.5 / 11)
    assert schedule.rate(4) == pytest.approx(0.5 * 5 / 11)
    assert schedule.rate(10) == pytest.approx(0.5), "the peak, where the warm-up ends"
    assert schedule.rate(55) == pytest.approx(0.5 * (0.02 + 0.98 / 2)), "half-way down"
    assert schedule.rate(100) == pytest.approx(0.5 * 0.02)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    flat = Optimisation(7, 0.5, warmup_share=0.0, final_share=1.0)
    assert {flat.rate(step) for step in range(7)} == {0.5}
    assert Optimisation(4, 1.0, warmup_share=1.0).rate(3) == pytest.approx(4 / 5)
    assert math.isfinite(Optimisation(1, 1.0, warmup_share=1.0).rate(0))


def test_nothing_is_drawn_from_the_global_generator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = run(tmp_path / "one", SSFT())
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert same(one, run(tmp_path / "other", SSFT()))
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_is_used_when_asked(tmp_path: Path) -> None:
    """The weights stay float32, and the run differs a little from one in float32."""
    half = run(tmp_path / "half", SSFT(), replace(SHORT, precision="bfloat16"))
    full = run(tmp_path / "full", SSFT())
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    gap = max((a - b).abs().max() for a, b in zip(half.parameters(), full.parameters(), strict=True))
    assert 0 < gap < 0.1
