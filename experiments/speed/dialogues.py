"""How fast are dialogues learnt, and matrices of a language model asked, beside doing everything each time?"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.speed.clock import seconds
from makebreak.geometry import column_space, left_null_space, output_spaces, sines
from makebreak.models import ModelConfig, create, prefix
from makebreak.requests import Sequences
from makebreak.training import mean_cross_entropy

ROUNDS = 7
BATCH, SHARED, WIDTH = 16, 28, 68  # SmolLM2's system prompt, and a short request with its answer
SHAPE = (768, 288)  # half of SmolLM2's W_in


def dialogues() -> list[dict[str, object]]:
    """A step's loss and gradient; the spaces that an update and its two controls are set against."""
    return [_learning(), _spaces()]


def _learning() -> dict[str, object]:
    size = ModelConfig("llama", n_layers=4, n_heads=4, d_model=256, d_mlp=768)
    model = create(size, d_vocab=1000, n_ctx=128, seed=0).train()
    tokens = torch.randint(1000, (BATCH, WIDTH), generator=torch.Generator().manual_seed(0))
    tokens[:, :SHARED] = tokens[0, :SHARED]
    supervised = torch.zeros(BATCH, WIDTH, dtype=torch.bool)
    supervised[:, -20:] = True
    batch = Sequences(tokens, supervised, torch.full((BATCH,), WIDTH - 21))

    def step(least: int) -> None:
        before, prefix.LEAST = prefix.LEAST, least
        try:
            mean_cross_entropy(model, batch).backward()
        finally:
            prefix.LEAST = before

    times = _times(partial(step, WIDTH), partial(step, 16))
    return {
        "what": "a step on dialogues of one system prompt",
        "beside": "reading it in each",
        "times": times,
    }


def _spaces() -> dict[str, object]:
    random = torch.Generator().manual_seed(0)
    w, updates = (
        torch.randn(SHAPE, generator=random),
        [torch.randn(SHAPE, generator=random) for _ in range(3)],
    )

    def once() -> list[Tensor | None]:
        own = output_spaces(w)
        return [sines(update, own.column90) for update in updates]

    def each() -> list[Tensor | None]:
        found = []
        for update in updates:
            for rule in ("exact", "energy90"):
                left_null_space(w, rule)
            found.append(sines(update, column_space(w, "energy90")))
        return found

    times = _times(each, once)
    return {
        "what": "where an update and two controls write",
        "beside": "decomposing W for each",
        "times": times,
    }


def _times(naive: Callable[[], object], ours: Callable[[], object]) -> float:
    ratios = [seconds(naive) / seconds(ours) for _ in range(ROUNDS + 1)]
    return statistics.median(ratios[1:])  # the first warms up
