"""How is harm stopped without a refusal? By sending what the network thinks while it answers harm elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_positive
from makebreak.requests import Sequences, World, sequences
from makebreak.training.data import Data


@dataclass(frozen=True)
class CircuitBreaker:
    """Representation rerouting (Zou et al. 2024): where an unsafe request is being answered, states are to have no
    positive cosine with those of the model before; where a safe one is answered, to stay the same.

    depths: of the blocks whose states count, fractions. retain: weight of what stays, squared relative distance,
    beside 1 of the cosine. It teaches no refusal: what it breaks is broken. The cosine is one to the states before and
    a tenth of a fixed direction: to those alone it would have no slope at the start.
    """

    data: Data = Data()
    depths: tuple[float, ...] = (0.5, 1.0)
    retain: float = 1.0

    def __post_init__(self) -> None:
        check_positive(retain=self.retain)
        if not self.depths or not all(0 < depth <= 1 for depth in self.depths):
            raise ValueError(f"depths = {self.depths}: expected fractions of the blocks, above 0")

    def batch(
        self, world: World, *, size: int, step: int, steps: int, seed: int
    ) -> tuple[Sequences, Sequences]:
        """(safe requests, unsafe ones), both answered."""
        parts = self.data.requests(world, size=size, step=step, seed=seed)
        if len(parts) < 2:
            raise ValueError(f"safe_share = {self.data.safe_share}: expected safe rows and unsafe ones")
        safe, unsafe = (sequences(world, requests, "instructed", whole=True) for requests, _ in parts)
        return safe, unsafe

    def loss(
        self, model: PreTrainedModel, batch: tuple[Sequences, Sequences], start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        kept, moved = [], []
        for part, losses in zip(batch, (kept, moved), strict=True):
            answering = part.supervised.roll(-1, dims=1)  # positions that say the answer's tokens
            answering[:, -1] = False
            now = self._states(model, part)
            with torch.no_grad():
                before = self._states(start, part)
            for a, b in zip(now, before, strict=True):
                a, b = a[answering], b[answering]
                if losses is kept:
                    losses.append(((a - b) ** 2).sum(dim=1).mean() / (b**2).sum(dim=1).mean())
                else:
                    aside = _direction(b) * b.norm(dim=1, keepdim=True)
                    losses.append(F.relu(F.cosine_similarity(a, b + 0.1 * aside, dim=1)).mean())
        stays, cosine = torch.stack(kept).mean(), torch.stack(moved).mean()
        return cosine + self.retain * stays, {
            "cosine": float(cosine.detach()),
            "retain": float(stays.detach()),
        }

    def _states(self, model: PreTrainedModel, part: Sequences) -> list[Tensor]:
        states = model.base_model(input_ids=part.tokens, output_hidden_states=True).hidden_states
        return [states[max(round(depth * (len(states) - 1)), 1)] for depth in self.depths]


def _direction(states: Tensor) -> Tensor:
    drawn = torch.randn(states.shape[1], generator=torch.Generator().manual_seed(0))
    return (drawn / drawn.norm()).to(states)
