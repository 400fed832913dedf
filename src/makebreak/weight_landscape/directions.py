"""Directions in weight space along which models are perturbed.

At coordinate a the weights are T0 + a d. Only matrices are perturbed (embeddings among them, tied ones once;
never a buffer, a bias or the gain of a norm), except on the line to another checkpoint, where all parameters
are. All directions but such lines have the norm of the weights, so that |a| is the relative size of the
perturbation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.mechanism import ablate_weights

Normalisation = Literal["tensor", "row"]
"""Whether a random direction has the norm of every tensor, or of every output row of every tensor."""
Tensors = dict[str, Tensor]
"""Tensors by the name of the parameter."""
_STEP_FACTOR = 2.0
"""Total length of the gradient steps of `worst_direction`, in radii of the ball."""


@dataclass(frozen=True)
class Direction:
    """A direction in weight space."""

    step: Tensors
    """What one unit of the coordinate adds to each parameter."""
    end: Tensors | None = None
    """Weights at coordinate 1, exactly, if the direction leads to a checkpoint; None otherwise."""


def perturbable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of at least two dimensions outside norms; tied ones once, under the first of their names."""
    norms = {id(p) for m in model.modules() if "norm" in type(m).__name__.lower() for p in m.parameters()}
    parameters, addresses = {}, set()
    for name, parameter in model.named_parameters():
        address = parameter.data_ptr()
        if parameter.ndim >= 2 and id(parameter) not in norms and address not in addresses:
            parameters[name] = parameter
            addresses.add(address)
    return parameters


def random_direction(model: nn.Module, seed: int, *, normalisation: Normalisation = "tensor") -> Direction:
    """Gaussian direction with the norms of the weights.

    Args:
        model: The model to perturb.
        seed: Seed; each parameter has its own stream, derived from the seed and its name. The samples are the
            same for every model that has a tensor of that name and shape.
        normalisation: `tensor` for the norm of every tensor (Peng et al. 2024), `row` for that of every
            output row (Li et al. 2018).

    Returns:
        A direction in the perturbable parameters.
    """
    modules = dict(model.named_modules())
    step = {}
    for name, weight in perturbable_parameters(model).items():
        noise = torch.randn(weight.shape, generator=_generator(seed, name)).to(weight)
        inputs = None
        if normalisation == "row":
            is_transposed = isinstance(
                modules[name.rpartition(".")[0]], Conv1D
            )  # outputs are its last dimension
            inputs = 0 if is_transposed else tuple(range(1, weight.ndim))
        weight_norm = torch.linalg.vector_norm(weight.detach(), dim=inputs, keepdim=True)
        step[name] = noise * weight_norm / torch.linalg.vector_norm(noise, dim=inputs, keepdim=True)
    return Direction(step)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def direction_to(model: nn.Module, other: nn.Module) -> Direction:
    """The line to another checkpoint, in all parameters; coordinates 0 and 1 give both exactly.

    Args:
        model: The model at coordinate 0.
        other: The model at coordinate 1.

    Returns:
        The direction, with `end`.

    Raises:
        ValueError: If the two have parameters of other names or shapes.
    """
    starts = dict(model.named_parameters())
    ends = {name: p.detach().clone() for name, p in other.named_parameters()}
    if {name: p.shape for name, p in starts.items()} != {name: p.shape for name, p in ends.items()}:
        raise ValueError(
            "the models' parameters have other names or shapes: expected one fine-tuned from the other"
        )
    ends = {name: end.to(starts[name].device) for name, end in ends.items()}
    return Direction({name: end - starts[name].detach() for name, end in ends.items()}, ends)


def relative_norm(model: nn.Module, direction: Direction) -> float:
    """Norm of a direction over the norm of all perturbable parameters."""
    return _norm(direction.step) / _norm(perturbable_parameters(model))


def rescale_to_norm(model: nn.Module, direction: Direction) -> Direction:
    """Restricts a direction to the perturbable parameters and rescales it, all tensors by one factor.

    Args:
        model: The model to perturb.
        direction: The direction.

    Returns:
        The direction, of relative norm 1 (`relative_norm`).

    Raises:
        ValueError: If the direction changes no perturbable parameter.
    """
    parameters = perturbable_parameters(model)
    step = {name: tensor for name, tensor in direction.step.items() if name in parameters}
    step_norm = _norm(step)
    if step_norm == 0:
        raise ValueError("a direction that moves no matrix: expected a model that differs")
    factor = _norm(parameters) / step_norm
    return Direction({name: factor * tensor for name, tensor in step.items()})


def worst_direction(
    model: PreTrainedModel, loss: Callable[[PreTrainedModel], Tensor], *, radius: float, steps: int = 10
) -> Direction:
    """Direction in which a loss rises most within a ball around the weights, by projected gradient ascent.

    The weights are restored at the end, also after an error.

    Args:
        model: The model to perturb.
        loss: The loss, as a function of the model.
        radius: Radius of the ball, relative to the norm of the perturbable parameters.
        steps: Number of gradient steps.

    Returns:
        The direction, of relative norm 1.

    Raises:
        ValueError: If the gradient of the loss is 0.
    """
    weights = perturbable_parameters(model)
    origin = {name: w.detach().clone() for name, w in weights.items()}
    ball = radius * _norm(origin)
    requires_grad = {id(p): p.requires_grad for p in model.parameters()}
    try:
        for p in model.parameters():
            p.requires_grad_(False)
        for w in weights.values():
            w.requires_grad_(True)
        for _ in range(steps):
            gradients = torch.autograd.grad(loss(model), list(weights.values()))
            _ascend(
                weights, origin, dict(zip(weights, gradients, strict=True)), ball, _STEP_FACTOR * ball / steps
            )
        direction = Direction({name: w.detach() - origin[name] for name, w in weights.items()})
    finally:
        with torch.no_grad():
            for name, w in weights.items():
                w.copy_(origin[name])
        for p in model.parameters():
            p.requires_grad_(requires_grad[id(p)])
    return rescale_to_norm(model, direction)


@torch.no_grad()
def _ascend(
    weights: Mapping[str, Tensor], origin: Tensors, gradient: Tensors, ball: float, length: float
) -> None:
    """Moves weights along a gradient by a length, then back into the ball around the origin."""
    norm = _norm(gradient)
    if not norm:
        raise ValueError("the loss has no gradient: expected one that depends on the weights")
    for name, w in weights.items():
        w.add_(gradient[name], alpha=length / norm)
    distance = _norm({name: w - origin[name] for name, w in weights.items()})
    for name, w in weights.items():
        w.copy_(origin[name] + (w - origin[name]) * min(1.0, ball / distance))


def ablation_direction(model: PreTrainedModel, vector: Tensor) -> Direction:
    """Direction of weight orthogonalisation, W - r rᵀW for all matrices that write into the residual stream.

    Args:
        model: The model to perturb.
        vector: The residual direction that is ablated, (d_model,), of any length.

    Returns:
        The direction, of relative norm 1; tied embeddings are not part of it.
    """
    orthogonalised = ablate_weights(model, (vector / vector.norm()).float()[:, None])
    after = {name: p.detach() for name, p in orthogonalised.named_parameters()}
    parameters = perturbable_parameters(model)
    if model.config.tie_word_embeddings:
        unembedding = cast("nn.Module", model.get_output_embeddings()).weight
        parameters = {name: w for name, w in parameters.items() if w is not unembedding}
    step = {name: after[name] - w.detach() for name, w in parameters.items()}
    return rescale_to_norm(model, Direction(step))


def _norm(tensors: Mapping[str, Tensor]) -> float:
    """Frobenius norm of all tensors together."""
    squares = [t.detach().double().square().sum() for t in tensors.values()]
    return float(torch.stack(squares).sum().sqrt())
