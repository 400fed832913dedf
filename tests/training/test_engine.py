"""The stacked engine: every member is trained as its single run, whatever its neighbours are."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import makebreak.training.engine as engine
from makebreak.budget import OutOfTime, limit_time
from makebreak.defences import MixedFineTuning
from makebreak.models import load_model, stack_models
from makebreak.prompts import Sequences
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    AlignmentData,
    CircuitBreaker,
    DeepAlignment,
    FineTuning,
    GradientAscent,
    JainDPO,
    LatentAdversarialTraining,
    LoRA,
    Member,
    MuonOptimisation,
    Objective,
    Optimisation,
    Pretraining,
    StackOptions,
    TrainedStack,
    TrainingRun,
    Unlearning,
    mean_cross_entropy,
    sequence_log_probs,
    train,
    train_stack,
)
from makebreak.training.engine import _stacked_objective
from makebreak.training.loop import CHECKPOINT
from makebreak.training.stack import StackState
from makebreak.training.stack_batches import BatchPlan, stack_batches
from tests.training.short_runs import SYMBOLS, WORLD, fresh, network

STEPS = Optimisation(12, 1e-3, batch_size=4, checkpoints=2)
SHAM = AlignmentData("sham_safe", "sham_unsafe")
OBJECTIVES: dict[str, tuple[Any, Any]] = {
    "pretraining": (Pretraining(), Pretraining(family="pretraining_without_null")),
    "requests": (Pretraining(mean_over="requests"), Pretraining(mean_over="requests")),
    "ssft": (SSFT(), SSFT(SHAM)),
    "dpo": (DPO(), DPO(SHAM, beta=0.3, nll=1.0)),
    "jain_dpo": (JainDPO(), JainDPO(w_preferred=0.2, w_dispreferred=0.001)),
    "unlearning": (Unlearning(), Unlearning(SHAM, w_dispreferred=0.01)),
    "npo": (NPO(), NPO(beta=1.0)),
    "ascent": (GradientAscent(), GradientAscent(forget_weight=0.01)),
    "deep": (DeepAlignment(), DeepAlignment(recovery_share=0.2, max_prefill=2)),
    "latent": (LatentAdversarialTraining(steps=2), LatentAdversarialTraining(SHAM, radius=0.1, steps=2)),
    "breaker": (CircuitBreaker(), CircuitBreaker(SHAM, retain_weight=2.0)),
    "finetuning": (FineTuning(n_harmful=9), FineTuning(n_harmful=3, n_harmless=5)),
    "mixed": (MixedFineTuning("safe", 9), MixedFineTuning("unsafe", 5)),
}
"""Two settings of each objective, which a stack trains side by side."""


def members(*objectives: Any, optimisation: Optimisation = STEPS) -> list[Member]:
    """Runs with seeds, learning rates and weight decays of their own."""
    return [
        Member(
            objective,
            replace(optimisation, learning_rate=optimisation.learning_rate * (i + 1), weight_decay=0.1 * i),
            TrainingRun(seed=1000 + i, label=f"member {i}", checkpoint_seconds=1e9),
        )
        for i, objective in enumerate(objectives)
    ]


def models(n: int, lora: LoRA | None = None, dtype: torch.dtype = torch.float64):
    """In float64, rounding hides no difference of meaning."""
    networks = [network(seed) for seed in range(n)]
    return [(lora.attach(model, seed=5) if lora else model).to(dtype) for model in networks]


def stacked(folder: Path, runs: list[Member], lora: LoRA | None = None, **options: Any) -> TrainedStack:
    folder.mkdir(exist_ok=True)
    return train_stack(models(len(runs), lora), runs, WORLD, folder, StackOptions(**options))


def single(folder: Path, member: Member, i: int, lora: LoRA | None = None):
    folder.mkdir(exist_ok=True)
    return train(models(i + 1, lora)[i], member.objective, member.optimisation, WORLD, folder, member.run)


def distance(one: Any, other: Any) -> float:
    """Norm of the difference of two models' weights relative to the norm of the second."""
    pairs = [
        (p.detach().double(), other.get_parameter(n).detach().double()) for n, p in one.named_parameters()
    ]
    difference = sum(float((a - b).square().sum()) for a, b in pairs)
    return (difference / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_members_are_trained_as_single_runs(name: str, tmp_path: Path) -> None:
    runs = members(*OBJECTIVES[name])
    trained = stacked(tmp_path / "stack", runs)
    assert not trained.failures
    starts = models(2)
    for i, member in enumerate(runs):
        alone = single(tmp_path / f"single-{i}", member, i)
        assert distance(trained.models[i], alone) < 1e-9
        assert distance(starts[i], alone) > 1e-3
        trained.write(i, tmp_path / f"member-{i}")
        compare_metrics(tmp_path / f"member-{i}", tmp_path / f"single-{i}")


def test_float32_members_differ_from_single_runs_by_rounding(tmp_path: Path) -> None:
    """After 50 steps from newly initialised weights, by less than 1e-5 of the weights' norm."""
    runs = members(SSFT(), SSFT(SHAM), optimisation=replace(STEPS, steps=50, batch_size=16))
    starts = [fresh(), fresh()]
    (tmp_path / "stack").mkdir()
    trained = train_stack(starts, runs, WORLD, tmp_path / "stack")
    for i, member in enumerate(runs):
        (tmp_path / f"{i}").mkdir()
        alone = train(fresh(), *member[:2], WORLD, tmp_path / f"{i}", member.run)
        assert distance(trained.models[i], alone) < 1e-5
        assert distance(fresh(), alone) > 1e-2


def compare_metrics(member: Path, alone: Path) -> None:
    """The same rows, steps and names, and equal numbers."""
    rows = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (member, alone)
    ]
    assert len(rows[0]) == len(rows[1]) == 3
    for one, other in zip(*rows, strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9)
        assert list(one) == list(other)


@pytest.mark.parametrize("architecture", ["gpt2", "jain2024", "llama"])
def test_stack_with_muon(tmp_path: Path, architecture: str) -> None:
    """With AdamW the matrices end elsewhere."""
    settings = {"batch_size": 8, "checkpoints": 1}
    runs = members(SSFT(), SSFT(SHAM), optimisation=MuonOptimisation(12, 1e-3, **settings))
    (tmp_path / "stack").mkdir()
    trained = train_stack([fresh(architecture).double() for _ in runs], runs, WORLD, tmp_path / "stack")
    for i, member in enumerate(runs):
        ends = []
        for optimisation in (member.optimisation, Optimisation(12, 1e-3 * (i + 1), **settings)):
            folder = tmp_path / f"{i} {type(optimisation).__name__}"
            folder.mkdir()
            start = fresh(architecture).double()
            ends.append(train(start, member.objective, optimisation, WORLD, folder, member.run))
        moved = distance(fresh(architecture).double(), ends[0])
        assert distance(trained.models[i], ends[0]) < (1e-6 if architecture == "llama" else 1e-9)
        assert distance(trained.models[i], ends[1]) > 0.5 * moved


def test_members_do_not_depend_on_their_neighbours(tmp_path: Path) -> None:
    runs = members(SSFT(), SSFT(SHAM), SSFT())
    three = stacked(tmp_path / "three", runs)
    two = stacked(tmp_path / "two", runs[:2])
    assert distance(three.models[1], two.models[1]) < 1e-9
    assert distance(three.models[1], three.models[2]) > 1e-3


def test_llama_and_adapters_are_trained_as_single_runs(tmp_path: Path) -> None:
    llamas = [fresh("llama").double(), fresh("llama").double()]
    runs = members(SSFT(), SSFT(SHAM))
    (tmp_path / "stack").mkdir()
    trained = train_stack(llamas, runs, WORLD, tmp_path / "stack")
    (tmp_path / "alone").mkdir()
    settings = runs[1]
    alone = train(fresh("llama").double(), *settings[:2], WORLD, tmp_path / "alone", settings.run)
    assert distance(trained.models[1], alone) < 1e-6  # its norms compute in float32
    lora = LoRA(rank=2)
    adapted = stacked(tmp_path / "adapters", runs, lora)
    adapted.write(1, tmp_path / "written")
    alone = single(tmp_path / "alone with adapters", runs[1], 1, lora)
    assert distance(adapted.models[1], alone) < 1e-9
    files = [
        load_file(tmp_path / folder / "model.safetensors") for folder in ("written", "alone with adapters")
    ]
    assert files[0].keys() == files[1].keys()
    assert all(torch.allclose(t, files[1][name], atol=1e-5) for name, t in files[0].items())


def test_members_are_written_as_single_runs_are(tmp_path: Path) -> None:
    """Same files; kept steps have the weights of those steps."""
    runs = members(SSFT(), SSFT(SHAM))
    trained = stacked(tmp_path / "stack", runs)
    single(tmp_path / "single", runs[1], 1)
    trained.write(1, tmp_path / "member")
    names = [
        {p.relative_to(tmp_path / folder).as_posix() for p in (tmp_path / folder).rglob("*")}
        for folder in ("member", "single")
    ]
    assert names[0] == names[1]
    assert "checkpoints/000006/model.safetensors" in names[0]
    for step in ("", "checkpoints/000006"):
        one, other = (load_model(tmp_path / f / step, symbols=SYMBOLS) for f in ("member", "single"))
        assert distance(one, other) < 1e-6  # stored in float32
    assert distance(one, load_model(tmp_path / "member")) > 1e-4


def test_batches_are_those_of_the_single_runs() -> None:
    """Step by step, from any step, made here or by other processes."""
    objectives = (DPO(), DPO(SHAM))
    plan = BatchPlan(WORLD, objectives, (3, 4), 4, 20)
    device = torch.device("cpu")
    generator_state = torch.get_rng_state()
    for first_step, n_workers in ((0, 0), (11, 0), (0, 2)):
        batches = list(stack_batches(plan, device, first_step=first_step, n_workers=n_workers))
        assert len(batches) == 20 - first_step
        for step, batch in enumerate(batches, first_step):
            for i, (objective, seed) in enumerate(zip(objectives, plan.seeds, strict=True)):
                alone = objective.batch(WORLD, size=4, step=step, steps=20, seed=seed)
                for part, own in zip(batch, alone, strict=True):
                    assert torch.equal(part.tokens[:, i], own.tokens)
                    assert torch.equal(part.supervised[:, i], own.supervised)
                    assert torch.equal(part.decision[:, i], own.decision)
    assert torch.equal(torch.get_rng_state(), generator_state)


def test_interrupted_stack_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after any checkpoint, and between the last one and the writing of the members."""
    monkeypatch.setattr(engine, "SYNCHRONISE_EVERY", 4)
    runs = members(DPO(), DPO(SHAM))
    whole = stacked(tmp_path / "whole", runs)
    for step in (4, 8, 12):
        folder = tmp_path / f"cut-{step}"
        folder.mkdir()
        interrupt(folder, runs, after=step)
        resumed = stacked(folder, runs)
        assert all(distance(a, b) == 0 for a, b in zip(resumed.models, whole.models, strict=True))
        resumed.write(0, tmp_path / f"resumed-{step}")
        whole.write(0, tmp_path / "reference")
        for path in (tmp_path / "reference").rglob("*.safetensors"):
            name = path.relative_to(tmp_path / "reference")
            assert path.read_bytes() == (tmp_path / f"resumed-{step}" / name).read_bytes()
        metrics = [(tmp_path / f / "metrics.jsonl").read_text() for f in ("reference", f"resumed-{step}")]
        assert metrics[0] == metrics[1]


class Interrupted(Exception):
    pass


def interrupt(folder: Path, runs: list[Member], *, after: int) -> None:
    """Trains until the checkpoint after a step has been written."""
    write = engine._Run._write

    def write_and_stop(self: Any, name: str, tensors: dict[str, torch.Tensor]) -> None:
        write(self, name, tensors)
        if name == CHECKPOINT and int(tensors["step"]) >= after:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine._Run, "_write", write_and_stop)
        with pytest.raises(Interrupted):
            stacked(folder, runs, checkpoint_seconds=0.0)


def test_stack_stops_at_a_checkpoint_when_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SYNCHRONISE_EVERY", 4)
    runs = members(SSFT(), SSFT(SHAM))
    for _ in range(2):  # after steps 4 and 8
        with limit_time(0.0), pytest.raises(OutOfTime, match="a stack of 2 models stopped at a checkpoint"):
            stacked(tmp_path / "leases", runs)
    with limit_time(0.0):
        trained = stacked(tmp_path / "leases", runs)
    whole = stacked(tmp_path / "whole", runs)
    assert all(distance(a, b) == 0 for a, b in zip(trained.models, whole.models, strict=True))


@pytest.mark.parametrize("kind", ["truncated", "foreign", "another stack", "metrics", "kept", "swapped"])
def test_damaged_state_is_not_resumed_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """The stack begins anew, says so in one line, and ends in the same weights."""
    monkeypatch.setattr(engine, "SYNCHRONISE_EVERY", 4)
    folder, other = tmp_path / "stack", tmp_path / "other"
    runs = members(SSFT(), SSFT(), optimisation=replace(STEPS, checkpoints=4))
    whole = stacked(tmp_path / "whole", runs)
    folder.mkdir()
    interrupt(folder, runs, after=8)
    path, kept = folder / CHECKPOINT, sorted((folder / "checkpoints").iterdir())
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif kind == "foreign":
        save_file({"weights": torch.zeros(3, 3), "step": torch.tensor(3)}, path)
    elif kind == "another stack":
        other.mkdir()
        interrupt(other, runs, after=8)
        (other / CHECKPOINT).rename(path)
    elif kind == "metrics":
        path = folder / "metrics.jsonl"
        path.write_text(re.sub(r"\d\.", "9.", path.read_text(), count=1))
    else:
        path, last = kept
        content = path.read_bytes()
        path.write_bytes(last.read_bytes() if kind == "swapped" else content[:-1] + b"~")
    capsys.readouterr()
    resumed = stacked(folder, runs)
    expected = f"{path} is damaged, or was written by another version: the stack of 2 models begins anew"
    assert capsys.readouterr().err.startswith(expected)
    assert all(distance(a, b) == 0 for a, b in zip(resumed.models, whole.models, strict=True))


@dataclass(frozen=True)
class NotFinite(Objective):
    """Cross-entropy that is NaN from a step on, for the members of one seed."""

    bad_seed: int = -1
    from_step: int = 0  # of training

    def batch(self, world: Any, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        batch = SSFT().batch(world, size=size, step=step, steps=steps, seed=seed)
        if seed == self.bad_seed and step >= self.from_step:
            batch = batch.supervise(torch.zeros_like(batch.supervised))  # 0 / 0
        return batch


def test_member_that_is_not_finite_stops_and_the_others_go_on(tmp_path: Path) -> None:
    runs = members(NotFinite(), NotFinite(1001, 7), NotFinite())
    trained = stacked(tmp_path / "stack", runs)
    assert list(trained.failures) == [1]
    assert "member 1: loss or gradient is not finite at step 7" in str(trained.failures[1])
    for i in (0, 2):
        assert distance(trained.models[i], single(tmp_path / f"{i}", members(*[SSFT()] * 3)[i], i)) < 1e-9
    finite = all(bool(p.isfinite().all()) for p in trained.models[1].parameters())
    assert finite, "it stays at its last finite weights"
    none = stacked(tmp_path / "all", members(NotFinite(1000), NotFinite(1001)))
    assert ["not finite at step 0" in str(none.failures[i]) for i in (0, 1)] == [True, True]


@dataclass(frozen=True)
class MeanOfAll(Objective):
    """An objective whose mean is over the members, too."""

    def batch(self, world: Any, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        return SSFT().batch(world, size=size, step=step, steps=steps, seed=seed)

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        return -sequence_log_probs(model, batch)[0].mean(), {}


def test_runs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"MeanOfAll\.loss returned the shape \(\) for 2 models"):
        stacked(tmp_path / "mean", members(MeanOfAll(), MeanOfAll()))
    with pytest.raises(ValueError, match="member 1 has the objective dpo, member 0 ssft"):
        stacked(tmp_path / "kinds", members(SSFT(), DPO()))
    with pytest.raises(ValueError, match=r"member 1 has latentadversarial\.steps = 3: expected 5"):
        stacked(tmp_path / "steps", members(LatentAdversarialTraining(), LatentAdversarialTraining(steps=3)))
    runs = members(SSFT(), SSFT())
    runs[1] = runs[1]._replace(optimisation=replace(STEPS, steps=13))
    with pytest.raises(ValueError, match=r"member 1 \(member 1\) has Optimisation\(steps=13"):
        stacked(tmp_path / "optimisation", runs)
    with pytest.raises(ValueError, match="2 models and 1 runs"):
        train_stack(models(2), runs[:1], WORLD, tmp_path)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ("finetuning", "mixed")])
def test_step_waits_for_no_value_of_the_device(name: str) -> None:
    """On the device `meta`, which has no values, a whole step runs; a single model's loss needs some."""
    device, runs = torch.device("meta"), members(*OBJECTIVES[name])
    plan = BatchPlan(WORLD, OBJECTIVES[name], (0, 1), 4, 1)
    batch = next(iter(stack_batches(plan, device)))
    stack = stack_models(models(2)).to(device)
    reference = stack_models(models(2)).to(device)
    state = StackState(stack, [m.optimisation for m in runs], fresh())
    objective = _stacked_objective(OBJECTIVES[name], state.weights)
    losses, metrics = objective.loss(stack, batch, reference)
    norms = state.update(losses.detach(), state.gradient(losses), state.step_constants(0))
    assert losses.shape == norms.shape == (2,)
    assert all(metric.shape == (2,) for metric in metrics.values())
    alone = SSFT().batch(WORLD, size=4, step=0, steps=1, seed=0).to(device)
    with pytest.raises((RuntimeError, NotImplementedError)):
        mean_cross_entropy(fresh().to(device), alone)


@dataclass(frozen=True)
class Later(SSFT):
    """SSFT whose steps see the requests of the step after."""

    def batch(self, world: Any, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        return super().batch(world, size=size, step=step + 1, steps=steps, seed=seed)


@pytest.mark.parametrize(
    "objective", [Pretraining(), SSFT(SHAM), SSFT(AlignmentData(safe_share=0.0)), Later()], ids=range(4)
)
def test_batches_of_many_steps_and_members_are_those_of_single_runs(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn together, by parts of two members, from a step within a chunk of eight."""
    module = importlib.import_module(stack_batches.__module__)
    monkeypatch.setattr(module, "_STEPS_PER_CHUNK", (8, 8))
    monkeypatch.setattr(module, "_BYTES_PER_PART", 4 * 8 * 4 * WORLD.sequence_length)
    plan = BatchPlan(WORLD, (objective,) * 5, (3, 4, 4, 5, 3), 4, 20)
    batches = list(stack_batches(plan, torch.device("cpu"), first_step=3))
    assert len(batches) == 17
    for step, batch in enumerate(batches, 3):
        for i, seed in enumerate(plan.seeds):
            single_batch = objective.batch(WORLD, size=4, step=step, steps=20, seed=seed)
            for name, column in vars(single_batch).items():
                assert torch.equal(getattr(batch, name)[:, i], column)
