"""Speed of training on dialogues and of update geometry, relative to repeating shared work each time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.speed.timing import SpeedRow, median_ratio, seconds
from makebreak.geometry import column_space, left_null_space, output_spaces, sines
from makebreak.models import ModelConfig, create_model
from makebreak.prompts import Sequences
from makebreak.training import mean_cross_entropy

ROUNDS = 7
BATCH, SHARED_LENGTH, SEQUENCE_LENGTH = 16, 28, 68
"""A system prompt as long as SmolLM2's, followed by a short request and its answer."""
SHAPE = (768, 288)
"""Shape of the matrix: half of SmolLM2's W_in."""


def language_model_rows() -> list[SpeedRow]:
    """Ratios for a training step, and for the output spaces of an update and its two controls."""
    return [_training_step(), _output_spaces()]


def _training_step() -> SpeedRow:
    size = ModelConfig("llama", n_layers=4, n_heads=4, d_model=256, d_mlp=768)
    model = create_model(size, d_vocab=1000, n_ctx=128, seed=0).train()
    tokens = torch.randint(1000, (BATCH, SEQUENCE_LENGTH), generator=torch.Generator().manual_seed(0))
    tokens[:, :SHARED_LENGTH] = tokens[0, :SHARED_LENGTH]
    supervised = torch.zeros(BATCH, SEQUENCE_LENGTH, dtype=torch.bool)
    supervised[:, -20:] = True
    batch = Sequences(tokens, supervised, torch.full((BATCH,), SEQUENCE_LENGTH - 21))

    def step(*, share_prefix: bool) -> None:
        mean_cross_entropy(model, batch, share_prefix=share_prefix).backward()

    ratio = _ratio(partial(step, share_prefix=False), partial(step, share_prefix=True))
    return SpeedRow(
        "a training step on dialogues with one system prompt", "reading it in each dialogue", ratio
    )


def _output_spaces() -> SpeedRow:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(SHAPE, generator=random)
    updates = [torch.randn(SHAPE, generator=random) for _ in range(3)]

    def decompose_once() -> list[Tensor | None]:
        spaces = output_spaces(weight)
        return [sines(update, spaces.column90) for update in updates]

    def decompose_each_time() -> list[Tensor | None]:
        values = []
        for update in updates:
            for rule in ("exact", "energy90"):
                left_null_space(weight, rule)
            values.append(sines(update, column_space(weight, "energy90")))
        return values

    ratio = _ratio(decompose_each_time, decompose_once)
    return SpeedRow("output spaces of an update and two controls", "decomposing W for each", ratio)


def _ratio(baseline: Callable[[], object], ours: Callable[[], object]) -> float:
    return median_ratio([seconds(baseline) / seconds(ours) for _ in range(ROUNDS + 1)])
