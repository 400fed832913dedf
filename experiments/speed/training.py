"""How fast are requests, training and whole models, beside the naive way?"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from experiments.jain2024.measure import at_end, on_the_way
from experiments.jain2024.presets import PRESETS, Preset
from experiments.speed.clock import seconds
from makebreak.artifacts import Store
from makebreak.models import create
from makebreak.recipes import build, checkpoints
from makebreak.requests import Sequences, World, load_world
from makebreak.training import Optimisation, Pretraining, train
from makebreak.zoo import measure
from synthetic import CompositionWorld, FormatsWorld

N_OURS, N_NAIVE, ROUNDS = 4096, 200, 7
STEPS = 4  # timed in every round of training; one before and one after are not
SEED = 1000


def generation() -> list[dict[str, object]]:
    """Requests per second, batched against one at a time (the oracle kept in tests/)."""
    from tests.oracles import per_request, per_text

    def naive(world: World) -> None:
        rng = random.Random(0)
        for _ in range(N_NAIVE):
            if isinstance(world, FormatsWorld):
                per_text.make_request(world, rng)
            else:
                assert isinstance(world, CompositionWorld)
                per_request.make_request(world, rng)

    def batched(world: World, seed: int) -> None:
        family = "pretraining" if isinstance(world, FormatsWorld) else "pretraining_without_null"
        world.sample(family, N_OURS, seed=seed, split="any")

    rows = []
    for name in ("mini", "jain2024", "formats", "formats_templates"):
        world = load_world(name)
        ratios = []
        for round_ in range(ROUNDS + 1):  # the first warms up
            ours = seconds(partial(batched, world, round_)) / N_OURS
            ratios.append(seconds(partial(naive, world)) / N_NAIVE / ours)
        rows.append(
            {"what": f"requests of {name}", "beside": "one at a time", "times": statistics.median(ratios[1:])}
        )
    return rows


@dataclass(frozen=True)
class Replay:
    """Pretraining on batches made beforehand; `asked` notes when each was asked for, so that a step is timed."""

    pretraining: Pretraining
    batches: list[Sequences]
    asked: list[float] = field(default_factory=list)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        self.asked.append(time.perf_counter())
        return self.batches[step]

    def loss(
        self, model: PreTrainedModel, batch: Sequences, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        return self.pretraining.loss(model, batch, start)

    def spent(self) -> list[float]:
        """Seconds of each step, the first (it makes the optimiser's state) and the last left out."""
        return [later - earlier for earlier, later in zip(self.asked[1:], self.asked[2:], strict=False)]


def training() -> list[dict[str, object]]:
    """Training tokens per second of our loop, beside a plain GPT and a model as that of Jain et al. 2024.

    All three see the same batches, so their tokens per second compare as their seconds per step; making the batches
    is not timed.
    """
    return [
        {"what": f"training tokens of {world}", "beside": beside, "times": statistics.median(ratios)}
        for world, preset, size in (("mini", "mini", 64), ("jain2024", "paper", 8))
        for beside, ratios in _slower(PRESETS[preset], world, size).items()
    ]


def _slower(preset: Preset, name: str, size: int) -> dict[str, list[float]]:
    """Seconds of a step, times those of ours on the same batch, for each model beside it and every timed step."""
    from tests.oracles.plain_gpt import PlainGPT, adamw, shifted, train_step
    from tests.oracles.reference_gpt import ReferenceGPT, dense_masks

    world, pretraining, n = load_world(name), preset.pretraining[name], STEPS + 2
    batches = [
        pretraining.batch(world, size=size, step=1000 * i, steps=1000 * n, seed=SEED) for i in range(n)
    ]
    sizes = {"d_vocab": len(world.vocabulary), "n_ctx": world.sequence_length}
    shape = {name: value for name, value in asdict(preset.model).items() if name != "architecture"}
    ours = create(preset.model, seed=SEED, **sizes)
    ratios: dict[str, list[float]] = {"a plain GPT": [], "the reference's": []}
    others = {
        beside: kind(**sizes, **shape) for beside, kind in zip(ratios, (PlainGPT, ReferenceGPT), strict=True)
    }
    optimisers = {beside: adamw(model) for beside, model in others.items()}
    for round_ in range(ROUNDS + 1):  # the first warms up
        replay = Replay(pretraining, batches)
        with tempfile.TemporaryDirectory() as folder:
            few = Optimisation(n, 1e-3, batch_size=size, checkpoints=1)
            train(ours, replay, few, world, Path(folder), seed=SEED, label="speed", checkpoint_seconds=1e9)
        for beside, model in others.items():
            model.to(ours.device)
            for batch, spent in zip(batches[1:-1], replay.spent(), strict=True):
                tokens, targets = (x.to(ours.device) for x in shifted(batch.tokens, batch.supervised))
                masks = (dense_masks(*tokens.shape).to(ours.device),) if beside == "the reference's" else ()
                step = partial(train_step, model, optimisers[beside], (tokens, *masks), targets)
                ratio = seconds(step) / spent
                if round_:
                    ratios[beside].append(ratio)
    return ratios


def throughput(preset: Preset, world: str, arm: str) -> dict[str, object]:
    """What one more model costs, aligned and fully measured as in the study, in seconds of one core.

    Its base is trained for a few steps only, and not counted: neither cost depends on what the base can do.
    """
    recipe = preset.recipe(world, SEED, arm)
    recipe = replace(recipe, optimisation=replace(recipe.optimisation, steps=4, checkpoints=1))
    ends, passes = at_end(preset, arm), on_the_way(preset, arm)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        build(recipe.base, store)
        times = [time.process_time()]
        steps = checkpoints(build(recipe, store))
        times.append(time.process_time())
        for step in steps:
            measure(store, recipe, *(ends if step == max(steps) else passes), step=step)
        times.append(time.process_time())
    align, measured = times[1] - times[0], times[2] - times[1]
    return {
        "model": f"{arm} of {world}",
        "alignment_core_seconds": align,
        "measuring_core_seconds": measured,
        "models_per_core_hour": 3600 / (align + measured),
    }
