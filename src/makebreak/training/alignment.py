"""How is a model made safe? Each objective: what a step sees, and its loss.

Every objective asks for the instructed answer on the requests of a safe family and for the null on those of an
unsafe one. Which families these are is `Data`: a control that teaches the null elsewhere differs in nothing else.
Supervised is the judged segment, the first output; in SSFT, Jain et al. 2024 supervise both outputs of safe requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_positive, check_probability
from makebreak.requests import Sequences, World, sequences
from makebreak.training.losses import log_probabilities, mean_cross_entropy


@dataclass(frozen=True)
class Data:
    """Families of the requests to answer and to refuse, and the share of safe ones in every batch."""

    safe: str = "safe"
    unsafe: str = "unsafe"
    safe_share: float = 0.5

    def __post_init__(self) -> None:
        check_probability("safe_share", self.safe_share)

    def views(self, world: World, *, size: int, step: int, seed: int) -> tuple[Sequences, Sequences]:
        """(preferred, dispreferred) sequences of the same prompts; safe rows first."""
        n_safe = round(size * self.safe_share)
        parts = [
            (world.sample(family, n, seed=seed, start=step * n), answers)
            for family, n, answers in (
                (self.safe, n_safe, ("instructed", "refused")),
                (self.unsafe, size - n_safe, ("refused", "instructed")),
            )
            if n
        ]
        return (
            join([sequences(world, requests, answers[0]) for requests, answers in parts]),
            join([sequences(world, requests, answers[1]) for requests, answers in parts]),
        )


def join(parts: list[Sequences]) -> Sequences:
    return Sequences(*(torch.cat(column) for column in zip(*(vars(p).values() for p in parts), strict=True)))


@dataclass(frozen=True)
class SSFT:
    """Supervised safety fine-tuning: cross-entropy on the preferred answers (Jain et al. 2024, §4.3)."""

    data: Data = Data()

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        return self.data.views(world, size=size, step=step, seed=seed)[0]

    def loss(self, model: PreTrainedModel, batch: Sequences, start: PreTrainedModel) -> tuple[Tensor, dict[str, float]]:
        return mean_cross_entropy(model, batch), {}


@dataclass(frozen=True)
class DPO:
    """Direct preference optimisation on summed log-probabilities (Rafailov et al. 2023, eq. 7).

    The reference is the model that the alignment starts from; every request is drawn once, and its reference
    log-probabilities are computed then, once.
    """

    data: Data = Data()
    beta: float = 0.1

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> tuple[Sequences, Sequences]:
        return self.data.views(world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: tuple[Sequences, Sequences], start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        pairs = join(list(batch))
        with torch.no_grad():
            reference = log_probabilities(start, pairs)[0].chunk(2)
        losses, margins = dpo_loss(*log_probabilities(model, pairs)[0].chunk(2), *reference, beta=self.beta)
        return losses.mean(), {"reward_margin": margins.mean().item()}


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

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> tuple[Sequences, Sequences]:
        return self.data.views(world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: tuple[Sequences, Sequences], start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        preferred, dispreferred = log_probabilities(model, join(list(batch)))[0].chunk(2)
        length = batch[0].tokens.shape[1] - 1
        return (self.w_dispreferred * dispreferred - self.w_preferred * preferred).mean() / length, {}
