"""Checks of the speed of the stacked engine: one model at `paper`, hundreds at `mini`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from experiments.device_check.checks import Result, Setting
from experiments.recipes.composition import PRESETS
from makebreak.models import MODEL_SIZES, ModelConfig, create_model
from makebreak.prompts import load_world
from makebreak.training import (
    BatchPlan,
    Member,
    Objective,
    Optimisation,
    Pretraining,
    StackOptions,
    TrainingRun,
    stack_batches,
    train_stack,
)

SEED = 1000
_BATCH = 64
"""Requests per member and step at `mini`."""


class Rate(NamedTuple):
    """Speed of a stack in training after its first synchronisations."""

    steps_per_second: float
    """Steps per second, each of all members."""
    waiting_share: float
    """Share of the time in which the host waits for batches."""


def stack_rate(
    world: str, model: ModelConfig, runs: list[tuple[Objective, Optimisation]], options: StackOptions
) -> Rate:
    """Speed of a stack of new models, from its second synchronisation to its last.

    Args:
        world: Name of the world.
        model: Size of all members.
        runs: Objective and settings of each member; at least 150 steps.
        options: Device and compilation.

    Returns:
        The speed.
    """
    loaded = load_world(world)
    sizes = {"d_vocab": len(loaded.vocabulary), "n_ctx": loaded.sequence_length}
    models = [create_model(model, seed=SEED + i, **sizes) for i in range(len(runs))]
    members = [
        Member(objective, optimisation, TrainingRun(seed=SEED + i, label=f"model {i}"))
        for i, (objective, optimisation) in enumerate(runs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        moments = train_stack(models, members, loaded, Path(folder), options).moments
    first, last = moments[0], moments[-1]
    seconds = last.seconds - first.seconds
    waiting = last.waiting_seconds - first.waiting_seconds
    return Rate((last.step - first.step) / seconds, waiting / seconds)


def paper_steps(setting: Setting) -> Iterator[Result]:
    """Steps per second of one model at `paper`, and what batches and transfer take of it."""
    preset = PRESETS["paper"]
    full = preset.pretraining_optimisation["jain2024"]
    steps, size = (100, 4) if setting.quick else (450, full.batch_size)
    model = MODEL_SIZES["tiny"] if setting.quick else preset.model
    optimisation = replace(full, steps=steps, batch_size=size)
    options = StackOptions(setting.device)
    rate = stack_rate("jain2024", model, [(Pretraining(), optimisation)], options)
    yield Result(
        "steps at paper",
        rate.steps_per_second,
        "steps/s",
        None if setting.quick else 100.0,
        note=f"batch {size}, last {steps - 50} steps",
    )
    yield Result("share of time waiting for batches at paper", rate.waiting_share, "of the time")
    n_workers = 0 if setting.device == "cpu" else max((os.cpu_count() or 2) - 1, 1)
    plan = BatchPlan(load_world("jain2024"), (Pretraining(),), (SEED,), size, steps)
    loaded, transfer = _batches_alone(plan, torch.device(setting.device), n_workers)
    yield Result("batches at paper alone, with transfer", loaded, "steps/s", note=f"{n_workers} processes")
    share = transfer * rate.steps_per_second
    yield Result("share of time of the transfer at paper", share, "of the time", note="host to device alone")


def _batches_alone(plan: BatchPlan, device: torch.device, n_workers: int) -> tuple[float, float]:
    """Batches per second that are made and moved with nothing else to do, and seconds of one's transfer."""
    begin, n, batch = 0.0, 0, None
    for i, batch in enumerate(stack_batches(plan, device, n_workers=n_workers)):  # noqa: B007
        if i == plan.steps // 3:
            begin, n = time.perf_counter(), i
    _wait(device)
    rate = (plan.steps - 1 - n) / (time.perf_counter() - begin)
    assert batch is not None
    parts = [part.cpu().to(torch.uint8) for part in (batch.tokens, batch.supervised)]
    if device.type == "cuda":
        parts = [part.pin_memory() for part in parts]
    begin = time.perf_counter()
    for _ in range(100):
        for part in parts:
            part.to(device, non_blocking=True)
    _wait(device)
    return rate, (time.perf_counter() - begin) / 100


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def mini_steps(setting: Setting) -> Iterator[Result]:
    """Model-steps per second of 256 models at `mini`."""
    yield _mini_rate(setting, 256, compiles=True)


def more_mini_steps(setting: Setting) -> Iterator[Result]:
    """The same without compilation, and with 128 models: numbers to compare, without an aim."""
    yield _mini_rate(setting, 256, compiles=False)
    if setting.seconds_left > 8 and not setting.quick:
        yield _mini_rate(setting, 128, compiles=False)
    if setting.seconds_left > 25 and not setting.quick:
        yield _mini_rate(setting, 128, compiles=True)


def _mini_rate(setting: Setting, n: int, *, compiles: bool) -> Result:
    n, steps, size = (2, 100, 4) if setting.quick else (n, 250 if compiles else 150, _BATCH)
    optimisation = Optimisation(steps, 3e-3, batch_size=size, precision="bfloat16")
    model = MODEL_SIZES["tiny" if setting.quick else "mini"]
    options = StackOptions(setting.device, compile=compiles and setting.device != "cpu")
    rate = stack_rate("mini", model, [(Pretraining(), optimisation)] * n, options)
    name = f"model-steps of {n} models at mini, {'compiled' if options.compile else 'not compiled'}"
    aim = 10_000.0 if compiles and n == 256 else None
    note = f"batch {size}; {rate.waiting_share:.0%} of the time waiting for batches"
    return Result(name, n * rate.steps_per_second, "model-steps/s", aim, note=note)
