"""Which way are the weights moved?

At coordinate a the weights are T0 + a d. Only matrices move (embeddings among them, tied ones once; never a buffer, a
bias or a norm's gain), but on a line to another checkpoint, where everything does. All directions but lines have the
weights' own norm, so that |a| is the relative size of the move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.mechanism import ablated_weights

Per = Literal["tensor", "row"]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Direction:
    """step: what one unit of the coordinate adds to each parameter, by name. end: the weights at coordinate 1, exactly,
    where there is such a checkpoint.
    """

    step: Tensors
    end: Tensors | None = None


def movable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of two dimensions or more outside norms, each storage once, by the first of its names."""
    norms = {id(p) for m in model.modules() if "norm" in type(m).__name__.lower() for p in m.parameters()}
    found, seen = {}, set()
    for name, parameter in model.named_parameters():
        where = parameter.data_ptr()
        if parameter.ndim >= 2 and id(parameter) not in norms and where not in seen:
            found[name] = parameter
            seen.add(where)
    return found


def random_direction(model: nn.Module, seed: int, *, per: Per = "tensor") -> Direction:
    """Gaussian, with the norm of every tensor (Peng et al. 2024), or of every output row (Li et al. 2018).

    Seeded by each parameter's name: the same draw for every model that has a tensor of that name and shape.
    """
    modules = dict(model.named_modules())
    step = {}
    for name, weight in movable(model).items():
        drawn = torch.randn(weight.shape, generator=_generator(seed, name)).to(weight)
        inputs = None
        if per == "row":  # transformers' Conv1D has its outputs last
            inputs = (
                0 if isinstance(modules[name.rpartition(".")[0]], Conv1D) else tuple(range(1, weight.ndim))
            )
        own, had = (torch.linalg.vector_norm(t, dim=inputs, keepdim=True) for t in (weight.detach(), drawn))
        step[name] = drawn * own / had
    return Direction(step)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def toward(model: nn.Module, other: nn.Module) -> Direction:
    """The line to another checkpoint, all parameters; coordinates 0 and 1 give both exactly.

    Raises ValueError where the two have other parameters.
    """
    ends = {name: p.detach().clone() for name, p in other.named_parameters()}
    starts = dict(model.named_parameters())
    if {n: p.shape for n, p in starts.items()} != {n: p.shape for n, p in ends.items()}:
        raise ValueError(
            "the models' parameters have other names or shapes: expected one fine-tuned from the other"
        )
    return Direction({name: end - starts[name].detach() for name, end in ends.items()}, ends)


def relative_norm(model: nn.Module, direction: Direction) -> float:
    """‖d‖ over the norm of all that may move."""
    return _norm(direction.step) / _norm(movable(model))


def at_norm(model: nn.Module, direction: Direction, norm: float = 1.0) -> Direction:
    """The matrices' part of a direction at a relative norm, all tensors by one factor. Raises ValueError for one of
    length 0.
    """
    names = movable(model)
    step = {name: tensor for name, tensor in direction.step.items() if name in names}
    own = _norm(step)
    if own == 0:
        raise ValueError("a direction that moves no matrix: expected a model that differs")
    factor = norm * _norm(names) / own
    return Direction({name: factor * tensor for name, tensor in step.items()})


def worst_direction(
    model: PreTrainedModel, loss: Callable[[PreTrainedModel], Tensor], *, radius: float, steps: int = 10
) -> Direction:
    """Where `loss` rises most within a ball: steps along its gradient, kept within the relative radius; of norm 1.

    Raises ValueError where the loss has no gradient.
    """
    weights = movable(model)
    origin = {name: w.detach().clone() for name, w in weights.items()}
    ball, asked = radius * _norm(origin), {id(p): p.requires_grad for p in model.parameters()}
    try:
        for p in model.parameters():
            p.requires_grad_(False)
        for w in weights.values():
            w.requires_grad_(True)
        for _ in range(steps):
            gradient = dict(
                zip(weights, torch.autograd.grad(loss(model), list(weights.values())), strict=True)
            )
            size = _norm(gradient)
            if not size:
                raise ValueError("the loss has no gradient: expected one that depends on the weights")
            with torch.no_grad():
                for name, w in weights.items():
                    w.add_(gradient[name], alpha=2 * ball / steps / size)
                moved = _norm({name: w - origin[name] for name, w in weights.items()})
                for name, w in weights.items():
                    w.copy_(origin[name] + (w - origin[name]) * min(1.0, ball / moved))
        found = Direction({name: w.detach() - origin[name] for name, w in weights.items()})
    finally:
        with torch.no_grad():
            for name, w in weights.items():
                w.copy_(origin[name])
        for p in model.parameters():
            p.requires_grad_(asked[id(p)])
    return at_norm(model, found)


def ablation(model: PreTrainedModel, vector: Tensor) -> Direction:
    """The edit W - r rᵀW of all that writes into the residual stream, of norm 1; tied embeddings stay."""
    made = ablated_weights(model, (vector / vector.norm()).float()[:, None])
    edited = {name: p.detach() for name, p in made.named_parameters()}
    kept = movable(model)
    if model.config.tie_word_embeddings:
        kept = {name: w for name, w in kept.items() if w is not model.get_output_embeddings().weight}  # type: ignore[union-attr]
    return at_norm(model, Direction({name: edited[name] - w.detach() for name, w in kept.items()}))


def _norm(tensors: object) -> float:
    values = tensors.values()  # type: ignore[attr-defined]
    return float(torch.stack([t.detach().double().square().sum() for t in values]).sum().sqrt())
