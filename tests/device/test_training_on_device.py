"""Objectives and short runs on an accelerator."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.model_zoo import SafetyMeasure, Subject, measure
from makebreak.models import MODEL_SIZES, load_model
from makebreak.recipes import Alignment, Engine, Recipe
from makebreak.store import Store
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    CircuitBreaker,
    DeepAlignment,
    FineTuning,
    GradientAscent,
    JainDPO,
    LatentAdversarialTraining,
    LoRA,
    Optimisation,
    Pretraining,
    TrainingRun,
    Unlearning,
    sequence_log_probs,
    train,
)
from tests.device.both import assert_same, assert_same_on
from tests.training.short_runs import SHORT, STEP, WORLD, FaultAt, fresh, interrupt, network

OBJECTIVES: list[Any] = [
    SSFT(),
    DPO(nll=1.0),
    JainDPO(),
    Unlearning(),
    NPO(),
    GradientAscent(),
    DeepAlignment(),
    LatentAdversarialTraining(),
    CircuitBreaker(),
    FineTuning(n_harmful=8),
    Pretraining(),
    Pretraining(mean_over="requests"),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_losses_of_batches_on_the_cpu(device: torch.device, objective: Any) -> None:
    """An objective's batch is made on the CPU; `train` moves it, and losses of a CPU batch are equal."""
    batch = objective.batch(WORLD, **STEP)

    def loss(model: PreTrainedModel) -> Any:
        reference = copy.deepcopy(model)
        moved = (
            tuple(p.to(model.device) for p in batch) if isinstance(batch, tuple) else batch.to(model.device)
        )
        value, metrics = objective.loss(model, moved, reference)
        value.backward()
        gradients = [p.grad.cpu() for p in model.parameters() if p.grad is not None]
        return value.detach().cpu(), {name: float(m) for name, m in metrics.items()}, gradients

    assert_same_on(device, loss, network(1))


def test_log_probabilities_of_a_batch_on_the_cpu(device: torch.device) -> None:
    batch = SSFT().batch(WORLD, **STEP)

    def sums(model: PreTrainedModel) -> list[torch.Tensor]:
        return [part.detach().cpu() for part in sequence_log_probs(model, batch)]

    assert_same_on(device, sums, network(1))


@pytest.mark.parametrize(
    "lora", [None, pytest.param(LoRA(2, 4), marks=pytest.mark.slow)], ids=["all weights", "adapters"]
)
def test_short_run(device: torch.device, tmp_path: Path, lora: LoRA | None) -> None:
    """A run that began on the CPU goes on on the accelerator, and saves models that load on the CPU."""
    for name in ("cpu", "accelerator"):
        (tmp_path / name).mkdir()
    cpu = TrainingRun(1000, "a test", 0.0, device=torch.device("cpu"))
    train(fresh(lora=lora), DPO(), SHORT, WORLD, tmp_path / "cpu", cpu)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(lora=lora), FaultAt(DPO(), 5, interrupt), SHORT, WORLD, tmp_path / "accelerator", cpu)
    run = TrainingRun(1000, "a test", 0.0, device=device)
    trained = train(fresh(lora=lora), DPO(), SHORT, WORLD, tmp_path / "accelerator", run)
    assert trained.device == device
    for step in ("", "checkpoints/000006"):
        expected, model = (load_model(tmp_path / name / step) for name in ("cpu", "accelerator"))
        assert_same(model.state_dict(), expected.state_dict())


def test_recipes_train_and_measures_run(device: torch.device, tmp_path: Path) -> None:
    """A recipe is trained on the accelerator that it names; its model is measured from the store."""
    steps = Optimisation(2, 1e-3, batch_size=4, checkpoints=1)
    recipe = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), steps, (Alignment(SSFT(), steps),), 1000)
    recipe = replace(recipe, engine=Engine("single", device.type))
    with seen_devices() as devices:
        results = measure(Store(tmp_path), recipe, SafetyMeasure(4))
    assert device in devices
    assert all(
        np.isfinite(value) for result, _ in results for value in result.columns.values() if value is not None
    )


def test_measures_of_models_on_the_device(device: torch.device, tmp_path: Path) -> None:
    steps = Optimisation(2, 1e-3, batch_size=4, checkpoints=1)
    recipe = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), steps, (Alignment(SSFT(), steps),), 1000)

    def measures(model: PreTrainedModel, base: PreTrainedModel) -> Any:
        subject = Subject(recipe, 2, model, base, Store(tmp_path))
        return vars(SafetyMeasure(4)(subject))

    assert_same_on(device, measures, network(1).eval(), network(2).eval())


@contextmanager
def seen_devices() -> Iterator[set[torch.device]]:
    """A context that collects the devices of all forward passes."""
    devices: set[torch.device] = set()

    def note(module: torch.nn.Module, args: Any) -> None:
        devices.update(parameter.device for parameter in module.parameters(recurse=False))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield devices
    finally:
        handle.remove()
