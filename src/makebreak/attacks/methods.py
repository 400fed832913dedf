"""Attacks by optimised soft prompts and by adversarial tokens, with their random controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from makebreak.attacks.result import AttackResult, score_attack
from makebreak.attacks.slots import SlotLocation, fill_slots, insert_slots
from makebreak.attacks.soft_prompt import (
    Penalty,
    SoftPromptSettings,
    insert_soft_prompt,
    optimise_soft_prompt,
    random_soft_prompt,
)
from makebreak.attacks.token_search import SearchOptions, TokenSearchSettings, search_tokens
from makebreak.prompts import Requests


@dataclass(frozen=True)
class SoftPromptAttack:
    """Attack by a soft prompt.

    A universal one is optimised on every second request and scored on the others.
    """

    settings: SoftPromptSettings
    """Settings of the optimisation."""
    optimise: bool = True
    """False for the control: vectors in random directions on the surface of the same ball."""
    penalty: Penalty | None = None
    """Added to the loss of an adaptive attack, for example a monitor's score; None for no penalty."""
    label: str = ""
    """Name in tables; empty for a name made from the settings."""

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        kind = "soft" if self.optimise else "random soft"
        universal = " universal" if self.settings.universal else ""
        return self.label or f"{kind} {self.settings.n_tokens}{universal}"

    def __call__(self, model: PreTrainedModel, requests: Requests, *, seed: int) -> AttackResult:
        """Optimises the soft prompt and returns the attacked requests with their outcomes."""
        train, test = _train_test_split(requests, self.settings.universal)
        if self.optimise:
            result = optimise_soft_prompt(model, train, self.settings, seed=seed, penalty=self.penalty)
        else:
            result = random_soft_prompt(model, train, self.settings, seed=seed)
        if self.settings.universal:
            vectors = result.vectors[: self.settings.n_tokens][None]
            result = insert_soft_prompt(model, test, self.settings, vectors)
        return score_attack(self.name, model, result.requests, result)


@dataclass(frozen=True)
class TokenSearchAttack:
    """Attack by tokens in slots.

    A universal one is searched on every second request and scored on the others.
    """

    settings: TokenSearchSettings
    """Settings of the search."""
    n_tokens: int
    """Number of slots."""
    token: int
    """Id that fills the slots at first."""
    where: SlotLocation = "suffix"
    """Location of the slots in the prompt."""
    allowed: tuple[int, ...] | None = None
    """Ids to choose from; None for the whole vocabulary."""

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        names = {"gradient": "gcg", "search": "random search", "random": "random tokens"}
        return f"{names[self.settings.method]} {self.n_tokens}" + (
            " universal" if self.settings.universal else ""
        )

    def __call__(self, model: PreTrainedModel, requests: Requests, *, seed: int) -> AttackResult:
        """Searches the tokens and returns the attacked requests with their outcomes."""
        allowed = None
        if self.allowed is not None:
            allowed = np.zeros(model.config.vocab_size, dtype=bool)
            allowed[list(self.allowed)] = True
        n_ctx = getattr(model.config, "max_position_embeddings", None)
        train, test = (
            insert_slots(part, self.n_tokens, self.where, token=self.token, n_ctx=n_ctx)
            for part in _train_test_split(requests, self.settings.universal)
        )
        options = SearchOptions(allowed=allowed)
        attacked = search_tokens(model, train, self.settings, seed=seed, options=options).requests
        if self.settings.universal:
            ids = np.take_along_axis(attacked.prompt, train.positions, axis=1)[:1]
            attacked = fill_slots(test, np.broadcast_to(ids, test.positions.shape))
        return score_attack(self.name, model, attacked)


def _train_test_split(requests: Requests, universal: bool) -> tuple[Requests, Requests]:
    """Requests to optimise an attack on and to score it on: halves if it is universal, else all for both."""
    if universal and len(requests) < 2:
        raise ValueError(
            f"a universal attack on {len(requests)} requests: expected at least 2, "
            "of which half serve to optimise it"
        )
    return (requests[::2], requests[1::2]) if universal else (requests, requests)
