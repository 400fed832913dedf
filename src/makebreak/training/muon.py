"""Muon for weight matrices, beside AdamW for every other parameter.

Muon's update of a matrix is its momentum with all singular values made about equal, so that what is rare in
the data is learnt nearly as soon as what is frequent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel

from makebreak.configs import check_positive, check_probability
from makebreak.training.loop import Optimisation, decay_groups


@dataclass(frozen=True)
class MuonOptimisation(Optimisation):
    """Settings of Muon (Jordan et al. 2024) for matrices outside embeddings and head, of AdamW for the rest.

    The update of a matrix is scaled by 0.2 √max(rows, columns), which gives it the size of AdamW's (Liu et
    al. 2025). `betas` are AdamW's; `weight_decay` is that of all matrices outside embeddings.
    """

    tag: ClassVar[str] = "MuonOptimisation"
    momentum: float = 0.95
    """Coefficient of the running mean of a matrix's gradient, as Nesterov momentum."""
    matrix_rate: float = 5.0
    """Learning rate of the matrices, as a multiple of `learning_rate`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("momentum", self.momentum)
        check_positive(matrix_rate=self.matrix_rate)

    def create(self, model: PreTrainedModel) -> MuonWithAdamW:
        """Returns the optimiser of a model's trainable parameters."""
        return MuonWithAdamW(model, self)


class MuonWithAdamW(torch.optim.AdamW):
    """Torch's AdamW with torch's Muon for the matrices outside embeddings and head, as one optimiser.

    Both keep the state of their parameters in `state`; Muon follows the learning rate of the first group.
    """

    def __init__(self, model: PreTrainedModel, settings: MuonOptimisation) -> None:
        """Divides the parameters among the two.

        Args:
            model: The model whose trainable parameters are optimised.
            settings: Settings of both optimisers.
        """
        decayed, others = decay_groups(model)
        head = model.get_output_embeddings()
        assert head is not None, "a causal language model has a head"
        matrices = [p for p in decayed if p is not head.weight]
        heads = [p for p in decayed if p is head.weight]
        groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
        if heads:
            groups.append({"params": heads, "weight_decay": settings.weight_decay})
        super().__init__(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
        self._matrix_rate = settings.matrix_rate
        self._muon = torch.optim.Muon(
            matrices,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        self._muon.state = self.state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops or clears the gradients of all parameters."""
        super().zero_grad(set_to_none)
        self._muon.zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Takes one step of both; returns the closure's loss, if there is one."""
        for group in self._muon.param_groups:
            group["lr"] = self._matrix_rate * self.param_groups[0]["lr"]
        loss = super().step(closure)
        self._muon.step()
        return loss
