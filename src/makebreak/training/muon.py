"""Muon for weight matrices, beside AdamW for every other parameter.

Muon's update of a matrix is its momentum with all singular values made about equal, so that what is rare in
the data is learnt nearly as soon as what is frequent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_positive, check_probability
from makebreak.training.loop import Optimisation, decay_groups

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration of Jordan et al. 2024, torch's default."""
_NEWTON_SCHULZ_STEPS = 5
_EPS = 1e-7


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


def muon_parameters(model: PreTrainedModel) -> set[str]:
    """Names of the trainable parameters that Muon moves: matrices outside embeddings and head."""
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    with_muon = {id(p) for p in decay_groups(model)[0] if p is not head.weight}
    return {name for name, parameter in model.named_parameters() if id(parameter) in with_muon}


def muon_scale(shape: torch.Size) -> float:
    """Factor that gives the orthogonalised update of a matrix the size of AdamW's (Liu et al. 2025)."""
    return 0.2 * math.sqrt(max(shape))


def orthogonalise(matrices: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch rows columns"]:
    """Matrices with about equal singular values, by five Newton-Schulz steps (Jordan et al. 2024).

    Args:
        matrices: The matrices.

    Returns:
        About the nearest semi-orthogonal matrices; singular values that are not tiny become 0.7 to 1.2.
    """
    a, b, c = _NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if is_tall else matrices).reshape(-1, *sorted(matrices.shape[-2:]))
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_EPS)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x, x.mT)
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, update, x, beta=a)
    return (x.mT if is_tall else x).reshape(matrices.shape)


class MuonWithAdamW(torch.optim.AdamW):
    """Torch's AdamW, with Muon for the matrices outside embeddings and head.

    Torch's own Muon takes single matrices and rounds to bfloat16, which its iteration amplifies to per cents
    of an update; here a stack of models repeats single models to float32.

    Args:
        model: The model whose trainable parameters are optimised.
        settings: Settings of both optimisers.
    """

    def __init__(self, model: PreTrainedModel, settings: MuonOptimisation) -> None:
        decayed, others = decay_groups(model)
        names = muon_parameters(model)
        self._matrices = [p for name, p in model.named_parameters() if name in names]
        heads = [p for p in decayed if not any(p is matrix for matrix in self._matrices)]
        groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
        if heads:
            groups.append({"params": heads, "weight_decay": settings.weight_decay})
        super().__init__(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
        self._settings = settings

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops or clears the gradients of all parameters."""
        super().zero_grad(set_to_none)
        for matrix in self._matrices:
            matrix.grad = None

    def step(self, closure: Callable[[], float] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Takes one step of both; returns the closure's loss, if there is one."""
        loss = super().step(closure)
        rate, momentum = self.param_groups[0]["lr"] * self._settings.matrix_rate, self._settings.momentum
        with torch.no_grad():
            for matrix in self._matrices:
                if matrix.grad is None:
                    continue
                mean = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - momentum)
                update = orthogonalise(matrix.grad.lerp(mean, momentum))
                matrix.mul_(1 - rate * self._settings.weight_decay)
                matrix.sub_(update, alpha=rate * muon_scale(matrix.shape))
        return loss
