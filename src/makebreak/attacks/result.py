"""The protocol of an attack, and its result: the attacked requests, the answers and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int
from transformers import PreTrainedModel

from makebreak.attacks.soft_embeddings import SoftPromptResult
from makebreak.evaluation import Target
from makebreak.prompts import Outcome, Requests

Progress = Callable[..., object]
"""Called as `progress(n, **values)`: n more items are done; values are shown beside the progress bar."""


@dataclass(frozen=True)
class AttackResult:
    """Attacked requests with the answers of a target and their outcomes."""

    name: str
    """Name of the attack in tables."""
    requests: Requests
    """The requests as the attack changed them."""
    outcomes: Int[np.ndarray, " n"]
    """`Outcome` of each answer."""
    answers: Sequence[Any] = ()
    """Answers as `Target.answer` returns them: texts of a language model."""
    soft_prompt: SoftPromptResult | None = None
    """The embeddings behind the requests' ids beyond the vocabulary; None if there are none."""
    positions: Int[np.ndarray, "n k"] | None = None
    """Positions of adversarial tokens in each prompt; None if there are none."""
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Further facts about each request by name: `attack_text`, `retokenization_stable`, `n_candidates` and
    `stable_candidate_share` are shown in the table of a language model's answers."""
    history: Sequence[float] = ()
    """Mean loss at the initial tokens of a search, then the mean of the best losses after each step."""

    @property
    def refuses(self) -> Bool[np.ndarray, " n"]:
        """Whether the target refuses each request."""
        return self.outcomes == Outcome.REFUSE

    @property
    def complies(self) -> Bool[np.ndarray, " n"]:
        """Whether the target complies with each request."""
        return self.outcomes == Outcome.COMPLY

    def attach(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Returns a context in which the model accepts these requests, soft prompts included."""
        return nullcontext() if self.soft_prompt is None else self.soft_prompt.attach(model)

    def __getitem__(self, rows: slice | np.ndarray) -> AttackResult:
        """Requests and outcomes of some rows; ids beyond the vocabulary keep their embeddings."""
        return AttackResult(self.name, self.requests[rows], self.outcomes[rows], soft_prompt=self.soft_prompt)


@runtime_checkable
class Attack(Protocol):
    """An attack on requests that a target refuses, implemented by a frozen dataclass with a name.

    `__call__` may have the further keyword arguments `progress` (a `Progress`) and `folder` (a folder for the
    state of a search, from which an interrupted call resumes); they are given where there are some. An
    attack that serves as a control of others has an attribute `is_control` that is true.
    """

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        ...

    def __call__(self, target: Target, requests: Requests, *, seed: int) -> AttackResult:
        """Attacks the requests and returns them with their outcomes, by `score_attack`."""
        ...


def score_attack(
    name: str,
    target: Target,
    requests: Requests,
    *,
    soft_prompt: SoftPromptResult | None = None,
    progress: Progress | None = None,
    **facts: Any,
) -> AttackResult:
    """Lets a target answer attacked requests and judges the answers.

    Args:
        name: Name of the attack in tables.
        target: The target that is attacked.
        requests: The attacked requests.
        soft_prompt: The embeddings behind ids beyond the vocabulary; None if there are none.
        progress: Called with the number of requests answered since the last call.
        **facts: Further fields of the result: `positions`, `columns` or `history`.

    Returns:
        The requests with their answers and outcomes.
    """
    unknown = np.full(len(requests), Outcome.NEITHER)
    result = AttackResult(name, requests, unknown, soft_prompt=soft_prompt, **facts)
    with result.attach(target.model):
        answers = target.answer(requests, progress)
    return replace(result, answers=answers, outcomes=target.judge(requests, answers))
