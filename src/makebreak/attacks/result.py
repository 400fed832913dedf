"""The protocol of an attack and its result: the attacked requests and their outcomes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedModel

from makebreak.attacks.soft_prompt import SoftPromptResult
from makebreak.evaluation import exact_match
from makebreak.prompts import Requests


@dataclass(frozen=True)
class AttackResult:
    """Attacked requests with their outcomes under greedy decoding; a request may have neither outcome."""

    name: str
    """Name of the attack in tables."""
    requests: Requests
    """The requests as the attack changed them."""
    refused: Bool[np.ndarray, " n"]
    """Whether greedy decoding produces the refusal; its STOP is not required."""
    complied: Bool[np.ndarray, " n"]
    """Whether greedy decoding produces the instructed answer, STOP included."""
    soft_prompt: SoftPromptResult | None = None
    """The embeddings behind the requests' ids beyond the vocabulary; None if there are none."""

    def attach(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Returns a context in which the model accepts these requests, soft prompts included."""
        return nullcontext() if self.soft_prompt is None else self.soft_prompt.attach(model)

    def __getitem__(self, rows: slice | np.ndarray) -> AttackResult:
        """A part of the requests; ids beyond the vocabulary keep their embeddings."""
        return replace(
            self, requests=self.requests[rows], refused=self.refused[rows], complied=self.complied[rows]
        )


class Attack(Protocol):
    """An attack on requests that a model refuses, implemented by a frozen dataclass with a name."""

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        ...

    def __call__(self, model: PreTrainedModel, requests: Requests, *, seed: int) -> AttackResult:
        """Attacks the requests and returns them with their outcomes."""
        ...


def score_attack(
    name: str, model: PreTrainedModel, requests: Requests, soft_prompt: SoftPromptResult | None = None
) -> AttackResult:
    """Determines the outcomes of attacked requests exactly, by `behaviour.exact_match`.

    Args:
        name: Name of the attack in tables.
        model: The model that is attacked.
        requests: The attacked requests.
        soft_prompt: The embeddings behind ids beyond the vocabulary; None if there are none.

    Returns:
        The requests with their outcomes; an instructed answer that begins with the refusal counts as refused.
    """
    unknown = np.zeros(len(requests), dtype=bool)
    result = AttackResult(name, requests, unknown, unknown, soft_prompt)
    with result.attach(model):
        refused = exact_match(model, requests, "refused").numpy()
        complied = exact_match(model, requests, "instructed").numpy()
    return replace(result, refused=refused, complied=complied & ~refused)
