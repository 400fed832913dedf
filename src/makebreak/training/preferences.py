"""Preference objectives: on the same prompt one answer is made more likely, the other less likely.

The pairs are those of Jain et al. 2024, §4.3: on safe requests the instructed answer is preferred to the
refusal, on unsafe ones the refusal to the instructed answer; supervised is the judged segment.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_not_negative, check_positive
from makebreak.prompts import Sequences, World
from makebreak.training.data import concatenate
from makebreak.training.losses import sequence_log_probs
from makebreak.training.objective import AlignmentObjective

Pairs = tuple[Sequences, Sequences]
"""Preferred and dispreferred answers to the same prompts."""


class PairObjective(AlignmentObjective):
    """An objective on pairs of answers to the same prompts."""

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Pairs:
        """Returns the (preferred, dispreferred) sequences of a step."""
        return self.data.preference_pairs(world, size=size, step=step, seed=seed)

    @abstractmethod
    def loss(
        self, model: PreTrainedModel, batch: Pairs, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of both sides, and metrics that are logged beside it."""


@dataclass(frozen=True)
class DPO(PairObjective):
    """Direct preference optimisation on summed log-probabilities (Rafailov et al. 2023, eq. 7).

    The reference is the model that the alignment starts from. Every request is drawn once, and its reference
    log-probabilities are computed then, once.
    """

    tag: ClassVar[str] = "DPO"
    member_settings: ClassVar[tuple[str, ...]] = ("data", "beta", "nll")
    beta: float = 0.1
    """Inverse temperature β of the implicit reward."""
    nll: float = 0.0
    """Weight of the preferred answer's negative log-likelihood per token (Pang et al. 2024, eq. 1).

    It keeps the likelihoods of both answers from falling together.
    """

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        check_not_negative(nll=self.nll)

    @property
    def method(self) -> str:
        """`dpo`, or `dpo+nll` where the preferred answer's own likelihood has a weight."""
        return super().method + ("+nll" if self.nll else "")

    def loss(
        self, model: PreTrainedModel, batch: Pairs, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss; metrics are the mean `reward_margin` and `nll`, both in nats."""
        chosen, rejected = _pair_log_probs(model, batch)
        losses, margins = dpo_loss(chosen, rejected, *_reference_log_probs(reference, batch), beta=self.beta)
        nll = -(chosen / batch[0].supervised.sum(dim=-1)).mean(dim=0)
        return losses.mean(dim=0) + self.nll * nll, {
            "reward_margin": margins.detach().mean(dim=0),
            "nll": nll.detach(),
        }


def dpo_loss(
    chosen_logps: Float[Tensor, " batch *members"],
    rejected_logps: Float[Tensor, " batch *members"],
    ref_chosen_logps: Float[Tensor, " batch *members"],
    ref_rejected_logps: Float[Tensor, " batch *members"],
    *,
    beta: float | Float[Tensor, "*members"],
) -> tuple[Float[Tensor, " batch *members"], Float[Tensor, " batch *members"]]:
    """DPO losses -log σ(margin) and reward margins of pairs of answers.

    Args:
        chosen_logps: Summed log-probabilities of the preferred answers.
        rejected_logps: Summed log-probabilities of the dispreferred answers.
        ref_chosen_logps: The reference's log-probabilities of the preferred answers.
        ref_rejected_logps: The reference's log-probabilities of the dispreferred answers.
        beta: Inverse temperature β.

    Returns:
        The losses, and the margins β · ((chosen - rejected) - (ref_chosen - ref_rejected)).
    """
    margins = beta * ((chosen_logps - rejected_logps) - (ref_chosen_logps - ref_rejected_logps))
    return -F.logsigmoid(margins), margins


@dataclass(frozen=True)
class JainDPO(PairObjective):
    """DPO as implemented by Jain et al. 2024 (§4.3): each answer has a weight of its own, per token.

    The loss is -log σ(w_preferred · (ℓ_ref - ℓ)(preferred) - w_dispreferred · (ℓ_ref - ℓ)(dispreferred)), ℓ
    the summed negative log-probability over the length. At that scale the sigmoid is nearly linear, so that
    it is `Unlearning` with other weights.
    """

    tag: ClassVar[str] = "PaperDPO"
    member_settings: ClassVar[tuple[str, ...]] = ("data", "w_preferred", "w_dispreferred")
    w_preferred: float = 0.1
    """Weight of the preferred answer's log-ratio."""
    w_dispreferred: float = 0.01
    """Weight of the dispreferred answer's log-ratio."""

    def __post_init__(self) -> None:
        check_positive(w_preferred=self.w_preferred)
        check_not_negative(w_dispreferred=self.w_dispreferred)

    def loss(
        self, model: PreTrainedModel, batch: Pairs, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean loss; the metric `reward_margin` is the mean argument of the sigmoid."""
        chosen, rejected = _pair_log_probs(model, batch)
        ref_chosen, ref_rejected = _reference_log_probs(reference, batch)
        length = batch[0].tokens.shape[-1] - 1
        weighted = self.w_preferred * (chosen - ref_chosen) - self.w_dispreferred * (rejected - ref_rejected)
        margins = weighted / length
        return -F.logsigmoid(margins).mean(dim=0), {"reward_margin": margins.detach().mean(dim=0)}


@dataclass(frozen=True)
class Unlearning(PairObjective):
    """Gradient descent on the preferred answer, ascent on the dispreferred one (Jain et al. 2024, §4.3).

    The loss per request is w_preferred · ℓ(preferred) - w_dispreferred · ℓ(dispreferred), ℓ the summed
    negative log-probability over the sequence's length. The second term has no lower bound.
    """

    tag: ClassVar[str] = "Unlearning"
    member_settings: ClassVar[tuple[str, ...]] = ("data", "w_preferred", "w_dispreferred")
    w_preferred: float = 1.0
    """Weight of the descent."""
    w_dispreferred: float = 0.05
    """Weight of the ascent."""

    def __post_init__(self) -> None:
        check_positive(w_preferred=self.w_preferred)
        check_not_negative(w_dispreferred=self.w_dispreferred)

    def loss(
        self, model: PreTrainedModel, batch: Pairs, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean loss; no further metric is logged."""
        preferred, dispreferred = _pair_log_probs(model, batch)
        length = batch[0].tokens.shape[-1] - 1
        return (self.w_dispreferred * dispreferred - self.w_preferred * preferred).mean(dim=0) / length, {}


def _pair_log_probs(model: PreTrainedModel, batch: Pairs) -> tuple[Tensor, ...]:
    """Log-probabilities of the preferred and of the dispreferred answers, in one forward pass."""
    return sequence_log_probs(model, concatenate(list(batch)))[0].chunk(2)


@torch.no_grad()
def _reference_log_probs(reference: PreTrainedModel, batch: Pairs) -> tuple[Tensor, ...]:
    return _pair_log_probs(reference, batch)
