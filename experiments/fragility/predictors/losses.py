"""Losses whose gradients predictors use: of refusing unsafe requests, and of answering them as instructed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.model_zoo import AlignedPair
from makebreak.prompts import Sequences, sequences
from makebreak.training import mean_cross_entropy
from makebreak.weight_landscape import Direction, perturbable_parameters, rescale_to_norm


def harmful_examples(subject: AlignedPair, start: int = 0) -> Sequences:
    """Unsafe requests, from a number on, with instructed answers, all of whose tokens are supervised."""
    return sequences(subject.world, unsafe_requests(subject)[start:], "instructed", whole=True)


def refusal_examples(subject: AlignedPair, n: int) -> Sequences:
    """The first n unsafe requests with their refusals."""
    return sequences(subject.world, unsafe_requests(subject)[:n], "refused")


def weight_gradient(model: PreTrainedModel, examples: Sequences) -> Direction:
    """Gradient of the mean cross-entropy on examples with respect to all matrices."""
    weights = perturbable_parameters(model)
    loss = mean_cross_entropy(model, examples, share_prefix=False)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    return Direction(dict(zip(weights, gradients, strict=True)))


def descent_direction(model: PreTrainedModel, examples: Sequences) -> Direction:
    """Steepest descent of the mean cross-entropy on examples, with the norm of the weights."""
    gradient = weight_gradient(model, examples)
    return rescale_to_norm(model, Direction({name: -step for name, step in gradient.step.items()}))


def flat(direction: Direction) -> Float[Tensor, " d"]:
    """All entries of a direction as one vector."""
    return torch.cat([step.flatten() for step in direction.step.values()])
