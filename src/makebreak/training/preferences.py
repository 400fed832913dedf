"""How is a model made safe by pairs of answers? One is raised, the other lowered, on the same prompt.

The pairs are those of Jain et al. 2024, §4.3: on safe requests the instructed answer against the null, on unsafe
ones the null against the instructed answer; supervised is the judged segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_not_negative, check_positive
from makebreak.requests import Sequences, World
from makebreak.training.data import Data, join
from makebreak.training.losses import log_probabilities

Pairs = tuple[Sequences, Sequences]


@dataclass(frozen=True)
class DPO:
    """Direct preference optimisation on summed log-probabilities (Rafailov et al. 2023, eq. 7).

    The reference is the model that the alignment starts from; every request is drawn once, and its reference
    log-probabilities are computed then, once. nll: weight of the preferred answer's negative log-probability per token
    beside it (Pang et al. 2024, eq. 1), which keeps both answers from sinking together.
    """

    data: Data = Data()
    beta: float = 0.1
    nll: float = 0.0

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        check_not_negative(nll=self.nll)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Pairs:
        return self.data.pairs(world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Pairs, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        chosen, rejected = _chunks(model, batch)
        losses, margins = dpo_loss(chosen, rejected, *_reference(start, batch), beta=self.beta)
        nll = -(chosen / batch[0].supervised.sum(dim=1)).mean()
        return losses.mean() + self.nll * nll, {"reward_margin": margins.mean().item(), "nll": nll.item()}


def dpo_loss(
    chosen: Float[Tensor, " batch"],
    rejected: Float[Tensor, " batch"],
    reference_chosen: Float[Tensor, " batch"],
    reference_rejected: Float[Tensor, " batch"],
    *,
    beta: float,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """-log σ(β · ((chosen - rejected) - (reference chosen - reference rejected))) and the reward margins inside."""
    margins = beta * ((chosen - rejected) - (reference_chosen - reference_rejected))
    return -F.logsigmoid(margins), margins


@dataclass(frozen=True)
class PaperDPO:
    """DPO as Jain et al. 2024 coded it (§4.3): each answer has a weight of its own, over the sequence's length.

    -log σ(w_preferred · (ℓ_ref - ℓ)(preferred) - w_dispreferred · (ℓ_ref - ℓ)(dispreferred)), ℓ the summed negative
    log-probability over the length. At that scale the sigmoid is nearly linear: `Unlearning` with other weights.
    """

    data: Data = Data()
    w_preferred: float = 0.1
    w_dispreferred: float = 0.01

    def __post_init__(self) -> None:
        check_positive(w_preferred=self.w_preferred)
        check_not_negative(w_dispreferred=self.w_dispreferred)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Pairs:
        return self.data.pairs(world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Pairs, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        gained = [
            now - before for now, before in zip(_chunks(model, batch), _reference(start, batch), strict=True)
        ]
        margins = (self.w_preferred * gained[0] - self.w_dispreferred * gained[1]) / (
            batch[0].tokens.shape[1] - 1
        )
        return -F.logsigmoid(margins).mean(), {"reward_margin": margins.mean().item()}


@dataclass(frozen=True)
class Unlearning:
    """Descent on the preferred answer, ascent on the other one (Jain et al. 2024, §4.3).

    Per request w_preferred · ℓ(preferred) - w_dispreferred · ℓ(dispreferred), ℓ the summed negative
    log-probability over the sequence's length. The second term has no lower bound.
    """

    data: Data = Data()
    w_preferred: float = 1.0
    w_dispreferred: float = 0.05

    def __post_init__(self) -> None:
        check_positive(w_preferred=self.w_preferred)
        check_not_negative(w_dispreferred=self.w_dispreferred)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Pairs:
        return self.data.pairs(world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Pairs, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        preferred, dispreferred = _chunks(model, batch)
        length = batch[0].tokens.shape[1] - 1
        return (self.w_dispreferred * dispreferred - self.w_preferred * preferred).mean() / length, {}


def _chunks(model: PreTrainedModel, batch: Pairs) -> tuple[Tensor, ...]:
    """Log-probabilities of the preferred and of the dispreferred answers, in one pass."""
    return log_probabilities(model, join(list(batch)))[0].chunk(2)


def _reference(start: PreTrainedModel, batch: Pairs) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return _chunks(start, batch)
