"""Shared by the tests of training: a tiny model, a short run of it, and what is read off a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import synthetic
from makebreak.models import PRESETS, create
from makebreak.requests import Sequences
from makebreak.training import LoRA, Optimisation, train

WORLD = synthetic.load("mini")
SYMBOLS = WORLD.vocabulary.symbols
NULL = "a a a a a a a a <stop>"
STEP = {"size": 8, "step": 2, "steps": 10, "seed": 1000}
SHORT = Optimisation(12, 3e-3, batch_size=4)
EVERY_STEP, NEVER = 0.0, 1e9


def fresh(architecture: str = "gpt2", *, n_layers: int = 2, lora: LoRA | None = None):
    config = replace(PRESETS["tiny"], architecture=architecture, n_layers=n_layers)
    made = create(config, d_vocab=len(SYMBOLS), n_ctx=WORLD.sequence_length, seed=5)
    return lora.attach(made, seed=5) if lora else made


def network(seed: int):
    """A model far from uniform, so that every token has a probability of its own."""
    made = create(PRESETS["tiny"], d_vocab=len(SYMBOLS), n_ctx=WORLD.sequence_length, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return made


def run(
    folder: Path, objective: Any, optimisation: Optimisation = SHORT, model=None, checkpoints: float = NEVER
):
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


@dataclass
class Until:
    """An objective that something happens to at a step: before its batch (`stop`), or to its loss (`spoil`)."""

    inner: Any
    at: int
    stop: Callable[[], None] = lambda: None
    spoil: Callable[[Tensor], Tensor] = lambda loss: loss
    now: int = -1

    def batch(self, world, *, size: int, step: int, steps: int, seed: int):
        self.now = step
        if step == self.at:
            self.stop()
        return self.inner.batch(world, size=size, step=step, steps=steps, seed=seed)

    def loss(self, model, batch, start) -> tuple[Tensor, dict[str, float]]:
        loss, parts = self.inner.loss(model, batch, start)
        return (self.spoil(loss) if self.now == self.at else loss), parts


def interrupt() -> None:
    raise KeyboardInterrupt


def same(one, other) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def judged(batch: Sequences) -> list[str]:
    """The supervised tokens of each row."""
    return [
        " ".join(SYMBOLS[i] for i in tokens[mask].tolist())
        for tokens, mask in zip(batch.tokens, batch.supervised, strict=True)
    ]


def wanted(family: str, n: int, start: int, *, whole: bool = False) -> list[str]:
    """The instructed answers of a family: the judged segment, or both outputs."""
    requests = WORLD.sample(family, n, seed=1000, start=start)
    spans = [(0, requests.instructed.shape[1])] * n if whole else requests.judged
    return [WORLD.vocabulary.decode(row[a:b]) for row, (a, b) in zip(requests.instructed, spans, strict=True)]


def looped(model, batch: Sequences) -> list[float]:
    """Σ log p over the supervised tokens of each row, in a float64 loop over rows and targets."""
    precise, found = copy.deepcopy(model).double(), []
    for tokens, supervised in zip(batch.tokens, batch.supervised, strict=True):
        with torch.no_grad():
            logs = precise(input_ids=tokens[None]).logits[0].log_softmax(dim=-1)
        found.append(sum(logs[p - 1, tokens[p]].item() for p in torch.nonzero(supervised)[:, 0].tolist()))
    return found


def gradient(model, loss: Tensor) -> Tensor:
    """The gradient of a loss by all parameters, as one vector."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def cosine(one: Tensor, other: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0).item()
