"""Unlearning objectives of the retain/forget kind: gradient ascent and negative preference optimisation.

The likelihood of the instructed answers to unsafe requests is lowered, that of the answers to safe requests
is retained by cross-entropy. No refusal is trained: such a model should stop complying; whether it refuses is
an observation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_positive
from makebreak.prompts import Sequences, World, sequences
from makebreak.training.data import AlignmentData
from makebreak.training.losses import mean_cross_entropy, sequence_log_probs

RetainForget = tuple[Sequences, Sequences]
"""Sequences whose likelihood is retained, and sequences whose likelihood is lowered."""


def retain_forget_batch(
    data: AlignmentData, world: World, *, size: int, step: int, seed: int
) -> RetainForget:
    """Returns the instructed answers to the safe and to the unsafe requests of a step.

    Args:
        data: Families of requests, and their shares.
        world: Source of the requests.
        size: Number of requests.
        step: Step of training, from 0.
        seed: Seed of the run.

    Returns:
        (retain, forget): the former supervised whole, the latter on the judged segment.

    Raises:
        ValueError: If one of the two has no rows.
    """
    groups = data.requests(world, size=size, step=step, seed=seed)
    if len(groups) != 2:
        raise ValueError(
            f"safe_share = {data.safe_share} of batches of {size} leaves one side without rows: "
            "forgetting needs both, raise batch_size or move safe_share towards 0.5"
        )
    (safe, _), (unsafe, _) = groups
    return sequences(world, safe, "instructed", whole=True), sequences(world, unsafe, "instructed")


def _check_both(data: AlignmentData) -> None:
    if not 0 < data.safe_share < 1:
        raise ValueError(
            f"safe_share = {data.safe_share}: forgetting needs both sides, expected between 0 and 1"
        )


@dataclass(frozen=True)
class GradientAscent:
    """Gradient ascent on the answers to unsafe requests, cross-entropy on those to safe ones.

    The loss is retain - forget_weight · forget, each a mean over tokens. The second term has no lower bound.
    """

    tag: ClassVar[str] = "Ascent"
    data: AlignmentData = AlignmentData()
    """Families of requests; both are answered as instructed."""
    forget_weight: float = field(default=0.05, metadata={"key": "weight"})
    """Weight of the ascent; the cross-entropy on safe requests has weight 1."""

    def __post_init__(self) -> None:
        check_positive(forget_weight=self.forget_weight)
        _check_both(self.data)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> RetainForget:
        """Returns the (retain, forget) sequences of a step."""
        return retain_forget_batch(self.data, world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: RetainForget, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        """Returns the loss, with both cross-entropies as metrics `retain` and `forget`, in nats per token."""
        retain = mean_cross_entropy(model, batch[0])
        forget = mean_cross_entropy(model, batch[1])
        return retain - self.forget_weight * forget, {"retain": retain.item(), "forget": forget.item()}


@dataclass(frozen=True)
class NPO:
    """Negative preference optimisation with a retain term (Zhang et al. 2024, eq. 3 and §4).

    It is gradient ascent that saturates.
    """

    tag: ClassVar[str] = "NPO"
    data: AlignmentData = AlignmentData()
    """Families of requests; both are answered as instructed."""
    beta: float = 0.1
    """Inverse temperature β: the larger, the sooner the ascent saturates."""

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        _check_both(self.data)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> RetainForget:
        """Returns the (retain, forget) sequences of a step."""
        return retain_forget_batch(self.data, world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: RetainForget, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        """Returns the loss, with its terms as metrics: `retain` in nats per token, `forget` by eq. 3."""
        with torch.no_grad():
            ref_logps = sequence_log_probs(reference, batch[1])[0]
        forget = npo_loss(sequence_log_probs(model, batch[1])[0], ref_logps, beta=self.beta).mean()
        retain = mean_cross_entropy(model, batch[0])
        return retain + forget, {"retain": retain.item(), "forget": forget.item()}


def npo_loss(
    logps: Float[Tensor, " batch"], ref_logps: Float[Tensor, " batch"], *, beta: float
) -> Float[Tensor, " batch"]:
    """Returns -(2 / β) log σ(-β (logps - ref_logps)), the log-probabilities summed over each answer."""
    return -(2 / beta) * F.logsigmoid(-beta * (logps - ref_logps))
