"""Unlearning objectives of the retain/forget kind: gradient ascent and negative preference optimisation.

The likelihood of the instructed answers to unsafe requests is lowered, that of the answers to safe requests
is retained by cross-entropy. No refusal is trained: such a model should stop complying; whether it refuses is
an observation.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_positive
from makebreak.prompts import Sequences, World
from makebreak.training.losses import mean_cross_entropy, sequence_log_probs
from makebreak.training.objective import AlignmentObjective

RetainForget = tuple[Sequences, Sequences]
"""Sequences whose likelihood is retained, and sequences whose likelihood is lowered."""


class RetainForgetObjective(AlignmentObjective):
    """An objective on the instructed answers to safe and to unsafe requests; it needs both."""

    def __post_init__(self) -> None:
        if not 0 < self.data.safe_share < 1:
            raise ValueError(
                f"safe_share = {self.data.safe_share}: forgetting needs both sides, expected between 0 and 1"
            )

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> RetainForget:
        """Returns the instructed answers (retain, forget), supervised whole and on the judged segment."""
        return self.data.instructed_sides(world, size=size, step=step, seed=seed, whole=False)

    @abstractmethod
    def loss(
        self, model: PreTrainedModel, batch: RetainForget, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of both sides, and metrics that are logged beside it."""


@dataclass(frozen=True)
class GradientAscent(RetainForgetObjective):
    """Gradient ascent on the answers to unsafe requests, cross-entropy on those to safe ones.

    The loss is retain - forget_weight · forget, each a mean over tokens. The second term has no lower bound.
    """

    tag: ClassVar[str] = "Ascent"
    member_settings: ClassVar[tuple[str, ...]] = ("data", "forget_weight")
    forget_weight: float = field(default=0.05, metadata={"key": "weight"})
    """Weight of the ascent; the cross-entropy on safe requests has weight 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(forget_weight=self.forget_weight)

    def loss(
        self, model: PreTrainedModel, batch: RetainForget, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss, with both cross-entropies as metrics `retain` and `forget`, in nats per token."""
        retain = mean_cross_entropy(model, batch[0])
        forget = mean_cross_entropy(model, batch[1])
        return retain - self.forget_weight * forget, {"retain": retain.detach(), "forget": forget.detach()}


@dataclass(frozen=True)
class NPO(RetainForgetObjective):
    """Negative preference optimisation with a retain term (Zhang et al. 2024, eq. 3 and §4).

    It is gradient ascent that saturates.
    """

    tag: ClassVar[str] = "NPO"
    member_settings: ClassVar[tuple[str, ...]] = ("data", "beta")
    beta: float = 0.1
    """Inverse temperature β: the larger, the sooner the ascent saturates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(beta=self.beta)

    def loss(
        self, model: PreTrainedModel, batch: RetainForget, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss, with its terms as metrics: `retain` in nats per token, `forget` by eq. 3."""
        with torch.no_grad():
            ref_logps = sequence_log_probs(reference, batch[1])[0]
        forget = npo_loss(sequence_log_probs(model, batch[1])[0], ref_logps, beta=self.beta).mean(dim=0)
        retain = mean_cross_entropy(model, batch[0])
        return retain + forget, {"retain": retain.detach(), "forget": forget.detach()}


def npo_loss(
    logps: Float[Tensor, " batch *members"],
    ref_logps: Float[Tensor, " batch *members"],
    *,
    beta: float | Float[Tensor, "*members"],
) -> Float[Tensor, " batch *members"]:
    """Returns -(2 / β) log σ(-β (logps - ref_logps)), the log-probabilities summed over each answer."""
    return -(2 / beta) * F.logsigmoid(-beta * (logps - ref_logps))
