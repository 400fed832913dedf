"""Speed of sampling and training, relative to straightforward implementations, and the cost of one model."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from experiments.recipes.composition import PRESETS, Preset
from experiments.speed.timing import SpeedRow, median_ratio, seconds
from makebreak.model_zoo import Measure, measure
from makebreak.models import create_model, default_device
from makebreak.prompts import Sequences, World, load_world
from makebreak.recipes import build, checkpoints
from makebreak.store import Store
from makebreak.training import (
    Member,
    Objective,
    Optimisation,
    Pretraining,
    StackOptions,
    TrainingRun,
    train,
    train_stack,
)
from synthetic import CompositionWorld, FormatsWorld

Measures = Callable[[Preset, str], tuple[Measure, ...]]
"""Measures that a study takes of an arm."""
N_OURS, N_BASELINE, ROUNDS = 4096, 200, 7
N_TIMED_STEPS = 4
"""Training steps that are timed in every round; one before and one after are not."""
SEED = 1000


class ThroughputRow(NamedTuple):
    """Cost of one more model on this machine, aligned and fully measured as in the study."""

    model: str
    """Alignment and world."""
    alignment_core_seconds: float
    """CPU time of alignment."""
    measuring_core_seconds: float
    """CPU time of all measures at all checkpoints."""
    models_per_core_hour: float
    """Models that one core aligns and measures in an hour."""


def generation_rows() -> list[SpeedRow]:
    """Seconds per request sampled in a batch, relative to one request at a time."""
    from tests.oracles import per_request, per_text

    def baseline(world: World) -> None:
        rng = random.Random(0)
        for _ in range(N_BASELINE):
            if isinstance(world, FormatsWorld):
                per_text.make_request(world, rng)
            else:
                assert isinstance(world, CompositionWorld)
                per_request.make_request(world, rng)

    def ours(world: World, seed: int) -> None:
        family = "pretraining" if isinstance(world, FormatsWorld) else "pretraining_without_null"
        world.sample(family, N_OURS, seed=seed, split="any")

    rows = []
    for name in ("mini", "jain2024", "formats", "formats_templates"):
        world = load_world(name)
        ratios = []
        for round_ in range(ROUNDS + 1):
            our_seconds = seconds(partial(ours, world, round_)) / N_OURS
            ratios.append(seconds(partial(baseline, world)) / N_BASELINE / our_seconds)
        rows.append(SpeedRow(f"requests of {name}", "one at a time", median_ratio(ratios)))
    return rows


@dataclass(frozen=True)
class Replay(Objective):
    """Pretraining on batches made beforehand, which notes when each batch is requested."""

    pretraining: Pretraining
    """The objective whose loss is used."""
    sequences: list[Sequences]
    """Batches by step."""
    times: list[float] = field(default_factory=list)
    """Clock at which each batch was requested, in seconds."""

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        """Returns the batch of a step and notes the time."""
        self.times.append(time.perf_counter())
        return self.sequences[step]

    def loss(
        self, model: PreTrainedModel, batch: Sequences, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of pretraining."""
        return self.pretraining.loss(model, batch, reference)

    def step_seconds(self) -> list[float]:
        """Seconds of each step, without the first, which allocates the optimiser's state, and the last."""
        return [later - earlier for earlier, later in zip(self.times[1:], self.times[2:], strict=False)]


def training_rows() -> list[SpeedRow]:
    """Seconds per training step of a plain GPT and of a model as that of Jain et al. 2024, relative to ours.

    All three see the same batches, so that their tokens per second compare as their seconds per step; making
    the batches is not timed.

    """
    rows = []
    for name, preset, batch_size in (("mini", "mini", 64), ("jain2024", "paper", 8)):
        for baseline, ratios in _step_ratios(PRESETS[preset], name, batch_size).items():
            rows.append(SpeedRow(f"training tokens of {name}", baseline, statistics.median(ratios)))
    return rows


def _step_ratios(preset: Preset, name: str, batch_size: int) -> dict[str, list[float]]:
    """Seconds of a step over ours on the same batch, for each baseline and timed step."""
    from tests.oracles.plain_gpt import PlainGPT, adamw, inputs_and_targets, train_step
    from tests.oracles.reference_gpt import ReferenceGPT, dense_masks

    world, pretraining, n = load_world(name), preset.pretraining[name], N_TIMED_STEPS + 2
    batches = [
        pretraining.batch(world, size=batch_size, step=1000 * i, steps=1000 * n, seed=SEED) for i in range(n)
    ]
    sizes = {"d_vocab": len(world.vocabulary), "n_ctx": world.sequence_length}
    shape = {name: value for name, value in asdict(preset.model).items() if name != "architecture"}
    ours = create_model(preset.model, seed=SEED, **sizes)
    baselines = {"a plain GPT": PlainGPT(**sizes, **shape), "the reference's": ReferenceGPT(**sizes, **shape)}
    ratios: dict[str, list[float]] = {baseline: [] for baseline in baselines}
    optimisers = {baseline: adamw(model) for baseline, model in baselines.items()}
    for round_ in range(ROUNDS + 1):  # the first warms up
        replay = Replay(pretraining, batches)
        with tempfile.TemporaryDirectory() as folder:
            optimisation = Optimisation(n, 1e-3, batch_size=batch_size, checkpoints=1)
            run = TrainingRun(seed=SEED, label="speed", checkpoint_seconds=1e9)
            train(ours, replay, optimisation, world, Path(folder), run)
        for baseline, model in baselines.items():
            model.to(ours.device)
            for batch, our_seconds in zip(batches[1:-1], replay.step_seconds(), strict=True):
                inputs = inputs_and_targets(batch.tokens, batch.supervised)
                tokens, targets = inputs[0].to(ours.device), inputs[1].to(ours.device)
                masks = (dense_masks(*tokens.shape).to(ours.device),) if baseline == "the reference's" else ()
                step = partial(train_step, model, optimisers[baseline], (tokens, *masks), targets)
                ratio = seconds(step) / our_seconds
                if round_:
                    ratios[baseline].append(ratio)
    return ratios


def stacked_rows() -> list[SpeedRow]:
    """Seconds per step and model of runs one by one, relative to the same runs trained in one step.

    A base and an SSFT of preset `mini`, batches included; 8 models on a CPU, 128 on an accelerator.
    """
    device = default_device()
    n_members, steps = (8, 100) if device.type == "cpu" else (128, 200)
    preset, world = PRESETS["mini"], load_world("mini")
    sizes = {"d_vocab": len(world.vocabulary), "n_ctx": world.sequence_length}
    rows = []
    for arm in ("base", "ssft"):
        recipe = preset.recipe("mini", SEED, arm)
        stage = recipe.alignments[-1] if recipe.alignments else None
        objective, settings = (
            (stage.objective, stage.optimisation) if stage else (recipe.pretraining, recipe.optimisation)
        )
        optimisation = replace(settings, steps=steps, checkpoints=1)
        runs = [TrainingRun(SEED + i, f"model {i}", 1e9, device=device) for i in range(n_members)]
        models = [create_model(preset.model, seed=SEED + i, **sizes) for i in range(n_members)]
        with tempfile.TemporaryDirectory() as folder:
            train_single = partial(train, models[0], objective, optimisation, world, Path(folder), runs[0])
            single = seconds(train_single) / steps
        members = [Member(objective, optimisation, run) for run in runs]
        with tempfile.TemporaryDirectory() as folder:
            options = StackOptions(str(device), checkpoint_seconds=1e9)
            moments = train_stack(models, members, world, Path(folder), options).moments
        window = (moments[-1].seconds - moments[0].seconds) / (moments[-1].step - moments[0].step)
        task = f"training step of {n_members} stacked models, {arm}, {device.type}"
        rows.append(SpeedRow(task, "one by one", single / (window / n_members)))
    return rows


def throughput_row(
    preset: Preset, world: str, arm: str, final_measures: Measures, checkpoint_measures: Measures
) -> ThroughputRow:
    """Cost of one more model, aligned and fully measured as in the study, in seconds of one core.

    Its base is trained for four steps and not counted: neither cost depends on what the base can do.

    Args:
        preset: Sizes of the model and of its measures.
        world: Name of the world.
        arm: Name of the arm.
        final_measures: Measures of the finished model.
        checkpoint_measures: Measures of the checkpoints before.

    Returns:
        The cost of alignment and of all measures.
    """
    recipe = preset.recipe(world, SEED, arm)
    recipe = replace(recipe, optimisation=replace(recipe.optimisation, steps=4, checkpoints=1))
    final, passing = final_measures(preset, arm), checkpoint_measures(preset, arm)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        build(recipe.base, store)
        times = [time.process_time()]
        steps = checkpoints(build(recipe, store))
        times.append(time.process_time())
        for step in steps:
            measure(store, recipe, *(final if step == max(steps) else passing), step=step)
        times.append(time.process_time())
    alignment, measuring = times[1] - times[0], times[2] - times[1]
    return ThroughputRow(f"{arm} of {world}", alignment, measuring, 3600 / (alignment + measuring))
