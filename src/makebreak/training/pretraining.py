"""What does a base model learn? Text, and to carry out composed tasks, in the mixture of modes of Jain et al. 2024."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_probability
from makebreak.requests import Requests, Sequences, World, between, sampled, sequences
from makebreak.training.losses import log_probabilities

Shares = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Pretraining:
    """Next-token training on requests of one family, each shown in one of six modes.

    Modes: `text` (language modelling of the text alone, tasks hidden), `full` (text and all outputs), `first`
    (text and the first output), `second` (the second output alone), and ours: `outputs` (all outputs, not the
    text) and `label` (the text's label in place of its end, nothing else). Shares go from `modes_start`, kept for
    the first tenth of the steps, linearly to `modes_end`; the defaults are those of Jain et al. 2024 (released
    pretraining script). mean_over: what counts the same in the loss, tokens (as theirs) or requests.
    """

    family: str = "pretraining"
    modes_start: Shares = (0.5, 0.1, 0.2, 0.2, 0.0, 0.0)
    modes_end: Shares = (0.1, 0.2, 0.3, 0.4, 0.0, 0.0)

    mean_over: Literal["tokens", "requests"] = "tokens"

    def __post_init__(self) -> None:
        for name, shares in (("modes_start", self.modes_start), ("modes_end", self.modes_end)):
            for share in shares:
                check_probability(name, share)
            if abs(sum(shares) - 1) > 1e-6:
                raise ValueError(f"{name} = {shares}: expected six shares that sum to 1")

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        requests = sampled(world, self.family, size, step=step, seed=seed)
        late = min(max(step / max(steps, 1) - 0.1, 0.0) / 0.9, 1.0)
        shares = np.array(self.modes_start) * (1 - late) + np.array(self.modes_end) * late
        mode = np.random.default_rng((seed, step)).choice(6, size, p=shares / shares.sum())
        return in_modes(world, requests, mode)

    def loss(
        self, model: PreTrainedModel, batch: Sequences, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        sums, counts = log_probabilities(model, batch)
        if self.mean_over == "tokens":
            return -sums.sum() / counts.sum(), {}
        shown = counts > 0  # the second output of a request that ends in the first is nothing
        return -(sums[shown] / counts[shown]).mean(), {}


def in_modes(world: World, requests: Requests, mode: np.ndarray) -> Sequences:
    """Requests as sequences, each in its mode (index into text, full, first, second, outputs, label)."""
    whole = sequences(world, requests, "instructed", whole=True)
    width = whole.tokens.shape[1]
    covers = {name: between(span[:, 0], span[:, 1], width) for name, span in requests.spans.items()}
    shown = torch.from_numpy(mode)[:, None]
    text = covers["text"] | covers["eot"]
    second = covers.get("output2", torch.zeros_like(text))
    supervised = (text & (shown <= 2)) | (covers["output1"] & ((shown == 1) | (shown == 2) | (shown == 4)))
    supervised |= second & ((shown == 1) | (shown == 3) | (shown == 4))
    supervised |= covers["eot"] & (shown == 5)
    tokens = whole.tokens.masked_fill(covers["tasks"] & (shown == 0), world.vocabulary.id("<pad>"))
    label = torch.from_numpy(requests.truth["label"])[:, None]
    return Sequences(torch.where(covers["eot"] & (shown == 5), label, tokens), supervised, whole.decision)
