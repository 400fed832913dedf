"""The trained parameters of a stack of models, a row for each member, and their optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.training.loop import Optimisation, decayed_parameters
from makebreak.training.muon import MuonOptimisation, muon_parameters, muon_scale, orthogonalise

_EPS = 1e-8
"""Added to the root of AdamW's second moment, as in torch."""
_CLIP_EPS = 1e-6
"""Added to the gradient's norm when it is clipped, as in torch."""


class StackState:
    """Trained parameters of a stack and the optimiser's moments, (members, parameters) each.

    AdamW changes all columns; with `MuonOptimisation`, Muon those of the matrices.

    The parameters of the stack are views of `weights`, so that a step of the optimiser is a few operations on
    matrices, and norms and learning rates are per row.

    Args:
        model: The stack, whose parameters become views.
        optimisations: Settings of each member; learning rate, weight decay and clip may differ.
        single: A model like the members, whose modules say what is a matrix, an embedding or the head.
    """

    def __init__(
        self, model: PreTrainedModel, optimisations: Sequence[Optimisation], single: PreTrainedModel
    ) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.shapes: dict[str, torch.Size] = {name: p.shape[1:] for name, p in trained.items()}
        self.parameters = list(trained.values())
        self.weights = torch.cat([p.detach().flatten(1) for p in self.parameters], dim=1)
        for parameter, columns in zip(self.parameters, self._columns(self.weights), strict=True):
            parameter.data = columns.view(parameter.shape)
        self.mean = torch.zeros_like(self.weights)
        self.mean_square = torch.zeros_like(self.weights)
        device, dtype = self.weights.device, self.weights.dtype
        with_decay = decayed_parameters(single)
        is_decayed = [torch.full((s.numel(),), float(n in with_decay)) for n, s in self.shapes.items()]
        self._decayed = torch.cat(is_decayed).to(device, dtype)
        self._rates = torch.tensor([o.learning_rate for o in optimisations], device=device, dtype=dtype)
        self._decays = torch.tensor([o.weight_decay for o in optimisations], device=device, dtype=dtype)
        self._clips = torch.tensor([o.clip for o in optimisations], device=device, dtype=dtype)
        first = optimisations[0]
        self._beta2 = first.betas[1]
        self._muon = first if isinstance(first, MuonOptimisation) else None
        self._matrices = self._by_shape(muon_parameters(single) if self._muon else set())
        is_matrix = torch.zeros(self.weights.shape[1], dtype=torch.bool)
        for starts, shape in self._matrices:
            for start in starts:
                is_matrix[start : start + shape.numel()] = True
        momentum, multiple = (self._muon.momentum, self._muon.matrix_rate) if self._muon else (0.0, 1.0)
        new_share = torch.where(is_matrix, 1 - momentum, 1 - first.betas[0])
        self._new_share = new_share.to(device, dtype)
        self._multiple = torch.where(is_matrix, multiple, 1.0).to(device, dtype)
        self._schedule = _schedule(optimisations[0]).to(device, dtype)
        self.stopped_at = torch.full((len(self.weights),), math.inf, device=device)
        """Step at which the loss or the gradient of each member was not finite; infinity for none."""

    def _columns(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Parts of rows of parameters, one for each parameter."""
        return rows.split([shape.numel() for shape in self.shapes.values()], dim=-1)

    def member(self, row: Float[Tensor, " parameters"]) -> dict[str, Tensor]:
        """Parameters of one member by name, from a row of `weights` or of a copy of it."""
        parts = self._columns(row)
        return {n: part.view(shape) for (n, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def gradient(self, losses: Float[Tensor, " members"]) -> Float[Tensor, "members parameters"]:
        """Gradient of each member's own loss."""
        parts = torch.autograd.grad(losses.sum(), self.parameters, allow_unused=True)
        for decayed, part in zip(self._columns(self._decayed), parts, strict=True):
            if part is None:  # torch's AdamW leaves a parameter without gradient as it is, too
                decayed.zero_()
        pairs = zip(self.parameters, parts, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten(1) for p, g in pairs], dim=1)

    def step_constants(self, step: int) -> Tensor:
        """Share of the peak learning rate, both bias corrections and the number of a step, on the device."""
        return self._schedule[step]

    def update(
        self,
        losses: Float[Tensor, " members"],
        gradient: Float[Tensor, "members parameters"],
        constants: Tensor,
    ) -> Float[Tensor, " members"]:
        """One step of the optimiser, in place, without any value that the host waits for.

        A member whose loss or gradient is not finite stays as it is, now and later.

        Args:
            losses: Loss of each member.
            gradient: Gradient of each member's own loss.
            constants: `step_constants` of the step.

        Returns:
            Norm of each member's gradient before clipping.
        """
        rate_share, correction1, correction2, step = constants.unbind()
        norms = gradient.norm(dim=1)
        finite = losses.isfinite() & norms.isfinite()
        self.stopped_at.copy_(torch.where(finite, self.stopped_at, self.stopped_at.minimum(step)))
        runs: Bool[Tensor, "members 1"] = self.stopped_at.isinf()[:, None]
        clipped = gradient * (self._clips / (norms + _CLIP_EPS)).clamp(max=1.0)[:, None]
        clipped = clipped.where(runs, 0)
        mean = self.mean.lerp(clipped, self._new_share)
        square = self.mean_square * self._beta2 + clipped.square() * (1 - self._beta2)
        rates = (self._rates * rate_share)[:, None]
        denominator = square.sqrt() / correction2.sqrt() + _EPS
        decay = rates * self._multiple * self._decays[:, None] * self._decayed
        change = rates / correction1 * mean / denominator
        if self._muon:
            change = self._with_muon(change, clipped.lerp(mean, self._muon.momentum), rates * self._multiple)
        weights = self.weights * (1 - decay) - change
        for old, new in ((self.mean, mean), (self.mean_square, square), (self.weights, weights)):
            old.copy_(torch.where(runs, new, old))
        return norms

    def _with_muon(self, change: Tensor, momentum: Tensor, rates: Tensor) -> Tensor:
        """Replaces the change of the columns of matrices; equal shapes are orthogonalised together."""
        change = change.clone()
        for starts, shape in self._matrices:
            size = shape.numel()
            together = torch.stack([momentum[:, start : start + size] for start in starts])
            scaled = orthogonalise(together.unflatten(-1, shape)).flatten(-2) * muon_scale(shape)
            for start, matrix in zip(starts, scaled, strict=True):
                change[:, start : start + size] = rates[:, start : start + size] * matrix
        return change

    def _by_shape(self, names: set[str]) -> list[tuple[list[int], torch.Size]]:
        """First columns of parameters, by shape."""
        starts: dict[torch.Size, list[int]] = {}
        first = 0
        for name, shape in self.shapes.items():
            if name in names:
                starts.setdefault(shape, []).append(first)
            first += shape.numel()
        return [(columns, shape) for shape, columns in starts.items()]

    def tensors(self) -> dict[str, Tensor]:
        """All that a run resumes from."""
        return {
            "weights": self.weights,
            "mean": self.mean,
            "mean_square": self.mean_square,
            "stopped_at": self.stopped_at,
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the state that `tensors` returned; raises KeyError or RuntimeError if it does not fit."""
        for name, own in self.tensors().items():
            if tensors[name].shape != own.shape:
                raise RuntimeError(
                    f"{name} has the shape {tuple(tensors[name].shape)}, not {tuple(own.shape)}"
                )
        for name, own in self.tensors().items():
            own.copy_(tensors[name])


def _schedule(optimisation: Optimisation) -> Float[Tensor, "steps 4"]:
    """`StackState.step_constants` of every step."""
    beta1, beta2 = optimisation.betas
    rows = [
        (
            optimisation.learning_rate_at(step) / optimisation.learning_rate,
            1 - beta1 ** (step + 1),
            1 - beta2 ** (step + 1),
            step,
        )
        for step in range(optimisation.steps)
    ]
    return torch.tensor(rows, dtype=torch.float64)
