"""What the tests of training share: a tiny model, a short run of it, and readings of a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import synthetic
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import Sequences
from makebreak.training import LoRA, Objective, Optimisation, TrainingRun, train

WORLD = synthetic.load("mini")
SYMBOLS = WORLD.vocabulary.symbols
REFUSAL = "a a a a a a a a <stop>"
STEP = {"size": 8, "step": 2, "steps": 10, "seed": 1000}
SHORT = Optimisation(12, 3e-3, batch_size=4)
EVERY_STEP, NEVER = 0.0, 1e9


def fresh(architecture: str = "gpt2", *, n_layers: int = 2, lora: LoRA | None = None):
    config = replace(MODEL_SIZES["tiny"], architecture=architecture, n_layers=n_layers)
    model = create_model(config, d_vocab=len(SYMBOLS), n_ctx=WORLD.sequence_length, seed=5)
    return lora.attach(model, seed=5) if lora else model


def network(seed: int):
    """A model far from uniform, so that every token has a probability of its own."""
    model = create_model(MODEL_SIZES["tiny"], d_vocab=len(SYMBOLS), n_ctx=WORLD.sequence_length, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


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
        TrainingRun(seed=1000, label="a test", checkpoint_seconds=checkpoints),
    )


@dataclass
class FaultAt(Objective):
    """An objective with a fault at one step: an action before its batch, or a change of its loss."""

    inner: Any
    fault_step: int
    action: Callable[[], None] = lambda: None
    change_loss: Callable[[Tensor], Tensor] = lambda loss: loss
    step: int = -1

    def batch(self, world, *, size: int, step: int, steps: int, seed: int):
        self.step = step
        if step == self.fault_step:
            self.action()
        return self.inner.batch(world, size=size, step=step, steps=steps, seed=seed)

    def loss(self, model, batch, reference) -> tuple[Tensor, dict[str, float]]:
        loss, metrics = self.inner.loss(model, batch, reference)
        return (self.change_loss(loss) if self.step == self.fault_step else loss), metrics


def interrupt() -> None:
    raise KeyboardInterrupt


def same(one, other) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def supervised_texts(batch: Sequences) -> list[str]:
    """The supervised tokens of each row."""
    return [
        " ".join(SYMBOLS[i] for i in tokens[mask].tolist())
        for tokens, mask in zip(batch.tokens, batch.supervised, strict=True)
    ]


def expected_answers(family: str, n: int, start: int, *, whole: bool = False) -> list[str]:
    """The instructed answers of a family: the judged segment, or both outputs."""
    requests = WORLD.sample(family, n, seed=1000, start=start)
    spans = [(0, requests.instructed.shape[1])] * n if whole else requests.judged
    return [WORLD.vocabulary.decode(row[a:b]) for row, (a, b) in zip(requests.instructed, spans, strict=True)]


def loop_log_probs(model, batch: Sequences) -> list[float]:
    """Σ log p over the supervised tokens of each row, in a float64 loop over rows and targets."""
    precise, sums = copy.deepcopy(model).double(), []
    for tokens, supervised in zip(batch.tokens, batch.supervised, strict=True):
        with torch.no_grad():
            logs = precise(input_ids=tokens[None]).logits[0].log_softmax(dim=-1)
        sums.append(sum(logs[p - 1, tokens[p]].item() for p in torch.nonzero(supervised)[:, 0].tolist()))
    return sums


def gradient(model, loss: Tensor) -> Tensor:
    """The gradient of a loss by all parameters, as one vector."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def cosine(one: Tensor, other: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0).item()
