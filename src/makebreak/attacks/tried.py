"""What came of an attack? The attacked requests, and which of them the model refused or answered as instructed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool
from transformers import PreTrainedModel

from makebreak.attacks.placing import Where, place, written
from makebreak.attacks.soft import Penalty, Softened, SoftTokens, random_vectors, soften, softened
from makebreak.attacks.tokens import TokenAttack, attack_tokens
from makebreak.behaviour import aim, batches, gives
from makebreak.requests import Requests, target_sequences


@dataclass(frozen=True)
class Tried:
    """refused, complied: (n,) whether greedy decoding gives the refusal (STOP is not required), or the instructed
    answer, its STOP included; neither is left.

    softened: the vectors that the requests' ids beyond the vocabulary stand for, where there are any.
    """

    name: str
    requests: Requests
    refused: Bool[np.ndarray, " n"]
    complied: Bool[np.ndarray, " n"]
    softened: Softened | None = None

    def inside(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """A context in which the model can read these requests."""
        return nullcontext() if self.softened is None else self.softened.inside(model)

    def __getitem__(self, rows: slice | np.ndarray) -> Tried:
        """A part of the requests; their ids still stand for the same vectors."""
        return replace(
            self, requests=self.requests[rows], refused=self.refused[rows], complied=self.complied[rows]
        )


class Attack(Protocol):
    """A frozen dataclass that does something to requests which a model refuses; one file, and all else follows."""

    @property
    def name(self) -> str: ...

    def __call__(self, model: PreTrainedModel, requests: Requests, *, seed: int) -> Tried: ...


def tried(name: str, model: PreTrainedModel, requests: Requests, softened: Softened | None = None) -> Tried:
    """Requests as they are asked now, judged exactly."""
    found = Tried(
        name, requests, np.zeros(len(requests), dtype=bool), np.zeros(len(requests), dtype=bool), softened
    )
    with found.inside(model):
        refused, complied = (gives(model, requests, answer).numpy() for answer in ("refused", "instructed"))
    return replace(found, refused=refused, complied=complied & ~refused)


@dataclass(frozen=True)
class BySoftTokens:
    """Soft tokens; universal ones are found on every second request and tried on the others. optimised: False for the
    control, random directions on the ball's surface.
    """

    settings: SoftTokens
    optimised: bool = True
    penalty: Penalty | None = None
    label: str = ""

    @property
    def name(self) -> str:
        kind = "soft" if self.optimised else "random soft"
        return self.label or f"{kind} {self.settings.n_tokens}" + (
            " universal" if self.settings.universal else ""
        )

    def __call__(self, model: PreTrainedModel, requests: Requests, *, seed: int) -> Tried:
        made_on, asked = _halves(requests, self.settings.universal)
        if self.optimised:
            found = soften(model, made_on, self.settings, seed=seed, penalty=self.penalty)
        else:
            found = random_vectors(model, made_on, self.settings, seed=seed)
        if self.settings.universal:
            found = softened(model, asked, self.settings, found.vectors[: self.settings.n_tokens][None])
        return tried(self.name, model, found.requests, found)


@dataclass(frozen=True)
class ByTokens:
    """Typed tokens, at `n_tokens` positions that are filled with `token` at first; from `allowed` ones, all if None.
    Universal ones are found on every second request and tried on the others.
    """

    settings: TokenAttack
    n_tokens: int
    token: int
    where: Where = "suffix"
    allowed: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        how = {"gradient": "gcg", "search": "random search", "random": "random tokens"}[self.settings.how]
        return f"{how} {self.n_tokens}" + (" universal" if self.settings.universal else "")

    def __call__(self, model: PreTrainedModel, requests: Requests, *, seed: int) -> Tried:
        mask = None
        if self.allowed is not None:
            mask = np.zeros(model.config.vocab_size, dtype=bool)
            mask[list(self.allowed)] = True
        n_ctx = getattr(model.config, "max_position_embeddings", None)
        made_on, asked = (
            place(part, self.n_tokens, self.where, token=self.token, n_ctx=n_ctx)
            for part in _halves(requests, self.settings.universal)
        )
        found = attack_tokens(model, made_on, self.settings, seed=seed, allowed=mask).requests
        if self.settings.universal:
            ids = np.take_along_axis(found.prompt, made_on.at, axis=1)[:1]
            found = written(asked, np.broadcast_to(ids, asked.at.shape))
        return tried(self.name, model, found)


def _halves(requests: Requests, universal: bool) -> tuple[Requests, Requests]:
    """What an attack is made on, and what it is tried on: a universal one on requests that it has not seen."""
    if universal and len(requests) < 2:
        raise ValueError(
            f"a universal attack on {len(requests)} requests: expected at least 2, half to find it on"
        )
    return (requests[::2], requests[1::2]) if universal else (requests, requests)


def refusal_depth(model: PreTrainedModel, requests: Requests) -> np.ndarray:
    """(n,) how many tokens of the instructed answer have to be forced until greedy decoding goes on with the rest.

    0 where it gives the answer by itself; the answer's length where it errs at the last token even then. Exact, in one
    pass: what comes behind j forced tokens is the answer's rest just where each of its tokens is the likeliest.
    """
    depths = []
    for part in batches(requests):
        batch = target_sequences(part, "instructed")
        where = batch.supervised[:, 1:]
        with torch.no_grad():
            wrong = torch.zeros(where.shape, dtype=torch.long)
            wrong[where] = (~aim(model, batch).right).long().cpu()
        column = torch.arange(where.shape[1])
        last = torch.where(wrong.bool(), column, -1).max(dim=1).values
        depths.append((last + 1 - batch.decision).clamp(min=0))
    return torch.cat(depths).numpy()
