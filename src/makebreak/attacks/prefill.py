"""Prefill attacks: the first tokens of an answer are forced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int
from transformers import PreTrainedModel

from makebreak.attacks.result import AttackResult, Progress, score_attack
from makebreak.evaluation import ChatTarget, Target, batches, score_targets
from makebreak.prompts import Requests, TextRequests, target_sequences, with_prefill
from makebreak.settings import AttackSettings


@dataclass(frozen=True)
class Prefill:
    """Attack that forces the first tokens of the target as the beginning of the answer."""

    tag: ClassVar[str] = "Prefill"
    n_tokens: int = 5
    """Number of forced tokens; a shorter target is forced whole."""
    revision: ClassVar[int] = 3

    @classmethod
    def from_settings(cls, settings: AttackSettings) -> list[Prefill]:
        """One attack per number of forced tokens, from 1 on."""
        return [cls(n_tokens) for n_tokens in range(1, settings.prefill + 1)]

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        return f"prefill {self.n_tokens}"

    def __call__(
        self, target: Target, requests: TextRequests, *, seed: int, progress: Progress | None = None
    ) -> AttackResult:
        """Forces the tokens and returns the requests, whose targets are what remains, with their outcomes.

        Args:
            target: A language model.
            requests: Requests in text, with targets.
            seed: Ignored.
            progress: Called with the number of requests answered since the last call.

        Returns:
            The requests with their forced tokens.

        Raises:
            ValueError: If the target is no language model.
        """
        if not isinstance(target, ChatTarget):
            raise ValueError(
                f"{self.name} on a {type(target).__name__}: expected a ChatTarget; in a world, "
                "min_prefill_length says exactly how many tokens have to be forced"
            )
        attacked = prefill_targets(requests, np.minimum(self.n_tokens, requests.judged[:, 1]))
        return score_attack(self.name, target, attacked, progress=progress)


def prefill_targets(requests: TextRequests, n_forced: Int[np.ndarray, " n"]) -> TextRequests:
    """Moves the first tokens of each target to the end of its prompt.

    Args:
        requests: Requests with targets.
        n_forced: Number of target tokens to force for each request.

    Returns:
        Requests whose targets are what remains of them, which may be nothing; the span `prefill` is the
        forced tokens.

    Raises:
        ValueError: If a target has fewer tokens than are to be forced.
    """
    if (n_forced > requests.judged[:, 1]).any():
        raise ValueError(
            f"{int(n_forced.max())} tokens to force: targets have {requests.judged[:, 1].min()} or more; "
            "force at most the whole of each target"
        )
    remaining = np.zeros_like(requests.instructed)
    for i, forced in enumerate(n_forced.tolist()):
        remaining[i, : remaining.shape[1] - forced] = requests.instructed[i, forced:]
    judged = np.stack([np.zeros_like(n_forced), requests.judged[:, 1] - n_forced], axis=1)
    start = requests.prompt_length
    spans = {**requests.spans, "prefill": np.stack([start, start + n_forced], axis=1)}
    return replace(with_prefill(requests, n_forced), instructed=remaining, judged=judged, spans=spans)


def min_prefill_length(model: PreTrainedModel, requests: Requests) -> np.ndarray:
    """Returns how many tokens of each instructed answer must be forced until the model gives the rest.

    The number is 0 if the model gives the answer by itself, and the answer's length if it errs at the last
    token even then. The result is exact and needs one pass: greedy decoding after j forced tokens produces
    the rest if each of its tokens is the likeliest.

    Args:
        model: A causal language model.
        requests: The requests.

    Returns:
        (n,) numbers of tokens.
    """
    lengths = []
    for batch in batches(requests, model):
        targets = target_sequences(batch, "instructed")
        mask = targets.supervised[:, 1:]
        with torch.no_grad():
            wrong = torch.zeros(mask.shape, dtype=torch.long)
            wrong[mask] = (~score_targets(model, targets).correct).long().cpu()
        column = torch.arange(mask.shape[1])
        last_error = torch.where(wrong.bool(), column, -1).max(dim=1).values
        lengths.append((last_error + 1 - targets.decision).clamp(min=0))
    return torch.cat(lengths).numpy()
