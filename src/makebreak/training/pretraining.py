"""Pretraining of base models on texts and composed tasks, in the mixture of modes of Jain et al. 2024."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_probability
from makebreak.prompts import Requests, Sequences, World, interval_mask, sample_batch, sequences
from makebreak.training.data import split_steps
from makebreak.training.losses import sequence_log_probs
from makebreak.training.objective import Objective


class ModeShares(NamedTuple):
    """Shares of the six modes in which a request is shown in pretraining; they sum to 1."""

    text: float
    """Language modelling of the text alone, with the task tokens hidden."""
    full: float
    """The text and all outputs are supervised."""
    first: float
    """The text and the first output are supervised."""
    second: float
    """The second output alone is supervised."""
    outputs: float
    """All outputs are supervised, not the text (a mode of ours)."""
    label: float
    """The text's label is supervised in place of the end of text, and nothing else (a mode of ours)."""


TEXT, FULL, FIRST, SECOND, OUTPUTS, LABEL = range(len(ModeShares._fields))
JAIN_MODES_START = ModeShares(text=0.5, full=0.1, first=0.2, second=0.2, outputs=0.0, label=0.0)
"""Shares at the start of pretraining in the released script of Jain et al. 2024."""
JAIN_MODES_END = ModeShares(text=0.1, full=0.2, first=0.3, second=0.4, outputs=0.0, label=0.0)
"""Shares at the end of pretraining in the released script of Jain et al. 2024."""
_CONSTANT_SHARE = 0.1
"""Share of the steps at the start during which the shares of the modes stay at `modes_start`."""


@dataclass(frozen=True)
class Pretraining(Objective):
    """Next-token training on requests of one family, each shown in one of six modes.

    The shares of the modes stay at `modes_start` for the first tenth of the steps, then go linearly to
    `modes_end`.
    """

    tag: ClassVar[str] = "Pretraining"
    member_settings: ClassVar[tuple[str, ...]] = ("family", "modes_start", "modes_end")
    family: str = "pretraining"
    """Family of the requests."""
    modes_start: ModeShares = JAIN_MODES_START
    """Shares of the modes at the start."""
    modes_end: ModeShares = JAIN_MODES_END
    """Shares of the modes at the last step."""
    mean_over: Literal["tokens", "requests"] = "tokens"
    """What has equal weight in the loss: supervised tokens (as in Jain et al. 2024) or requests."""

    def __post_init__(self) -> None:
        for name, shares in (("modes_start", self.modes_start), ("modes_end", self.modes_end)):
            for share in shares:
                check_probability(name, share)
            if abs(sum(shares) - 1) > 1e-6:
                raise ValueError(f"{name} = {tuple(shares)}: expected six shares that sum to 1")

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        """Returns the requests of a step, each in a mode that is drawn with the shares of that step."""
        requests = sample_batch(world, self.family, size, step=step, seed=seed)
        return mode_sequences(world, requests, self._modes(size, step, steps, seed))

    def batches(self, world: World, *, size: int, steps: range, n_steps: int, seed: int) -> list[Sequences]:
        """Returns the batches of consecutive steps, whose requests are drawn together."""
        n = size * len(steps)
        requests = world.sample(self.family, n, seed=seed, start=size * steps.start)
        modes = np.concatenate([self._modes(size, step, n_steps, seed) for step in steps])
        return split_steps([mode_sequences(world, requests, modes)], len(steps))

    def _modes(self, size: int, step: int, steps: int, seed: int) -> np.ndarray:
        """Mode of each request of a step, (size,)."""
        progress = max(step / max(steps, 1) - _CONSTANT_SHARE, 0.0) / (1 - _CONSTANT_SHARE)
        progress = min(progress, 1.0)
        shares = np.array(self.modes_start) * (1 - progress) + np.array(self.modes_end) * progress
        return np.random.default_rng((seed, step)).choice(len(shares), size, p=shares / shares.sum())

    def loss(
        self, model: PreTrainedModel, batch: Sequences, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean cross-entropy over tokens or requests, in nats; no further metric is logged."""
        sums, counts = sequence_log_probs(model, batch)
        if self.mean_over == "tokens":
            return -sums.sum(dim=0) / counts.sum(dim=0), {}
        supervised = counts > 0  # a request with one output has no token in the mode `second`
        return -(sums / counts.clamp(min=1)).sum(dim=0) / supervised.sum(dim=0), {}

    def describe(self) -> str:
        """`continued`: among the stages after pretraining it is the control of continued pretraining."""
        return "continued"


def mode_sequences(world: World, requests: Requests, mode: np.ndarray) -> Sequences:
    """Converts requests to training sequences; a request's mode selects its supervised tokens.

    Args:
        world: The world that the requests are from.
        requests: Requests with spans `text`, `eot`, `tasks`, `output1` and perhaps `output2`.
        mode: (n,) index into the fields of `ModeShares`.

    Returns:
        Whole sequences; in the mode `text` the task tokens are padding, in `label` the end-of-text
        token is replaced by the text's label, the only supervised token.
    """
    whole = sequences(world, requests, "instructed", whole=True)
    width = whole.tokens.shape[1]
    spans = {name: interval_mask(span[:, 0], span[:, 1], width) for name, span in requests.spans.items()}
    of_mode = torch.from_numpy(mode)[:, None]
    text = spans["text"] | spans["eot"]
    second = spans.get("output2", torch.zeros_like(text))
    supervised = text & _any_of(of_mode, TEXT, FULL, FIRST)
    supervised |= spans["output1"] & _any_of(of_mode, FULL, FIRST, OUTPUTS)
    supervised |= second & _any_of(of_mode, FULL, SECOND, OUTPUTS)
    supervised |= spans["eot"] & _any_of(of_mode, LABEL)
    tokens = whole.tokens.masked_fill(spans["tasks"] & (of_mode == TEXT), world.vocabulary.id("<pad>"))
    if (mode == LABEL).any():  # not every world names the class of a text by a token
        label = torch.from_numpy(requests.truth["label"])[:, None]
        tokens = torch.where(spans["eot"] & (of_mode == LABEL), label, tokens)
    return Sequences(tokens, supervised, whole.decision)


def _any_of(mode: Tensor, *modes: int) -> Tensor:
    return torch.isin(mode, torch.tensor(modes))
