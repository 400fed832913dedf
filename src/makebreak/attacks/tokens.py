"""Which tokens, put into a request, make a model answer what it should refuse?

Greedy coordinate gradient (GCG; Zou et al. 2023) over many requests at once, and beside it what the gradient has to
beat at the same number of candidates: substitutions at random, and tokens at random.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import Cache, PreTrainedModel

from makebreak.artifacts import write_json
from makebreak.attacks.placing import Placed, written
from makebreak.attacks.soft import check_gradients, soft_tokens
from makebreak.behaviour import LEAST_PREFIX, aim, at_once, behind, near, prefix
from makebreak.configs import check_positive
from makebreak.requests import Requests, target_sequences

How = Literal["gradient", "search", "random"]
Keep = Callable[[Requests], Bool[np.ndarray, " n"]]
"""Which of these candidates may be asked at all: those whose tokens survive being written out and read again."""
_TOKENS = 16_384  # of a forward over candidates
_TOP = 32


@dataclass(frozen=True)
class TokenAttack:
    """how: where candidates come from. `gradient`: swaps of one token among the `top` that lower the loss most to first
    order; the best candidate is gone on from, even if it is worse. `search`: swaps of one token at random, gone on from
    if better. `random`: all tokens at random. candidates: per request and step. universal: one attack for all requests,
    judged by their mean loss.

    top: tokens per position that the gradient proposes, never more than a quarter of the allowed tokens (at least 1):
    a gradient that proposes nearly all of them is a random search. None, the default, is 32 or that quarter, the
    smaller of the two. `attack_tokens` raises ValueError for a `top` above 1 that is half of the allowed tokens or more.
    """

    how: How = "gradient"
    steps: int = 50
    candidates: int = 64
    top: int | None = None
    universal: bool = False

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, candidates=self.candidates)
        if self.top is not None:
            check_positive(top=self.top)
        if self.how not in ("gradient", "search", "random"):
            raise ValueError(f"how = {self.how!r}: expected 'gradient', 'search' or 'random'")

    def n_proposed(self, n_allowed: int) -> int:
        """Tokens per position that the gradient proposes, out of this many that are allowed.

        Raises ValueError where `top` is above 1 and half of the allowed tokens or more.
        """
        if self.top is not None and self.top > 1 and 2 * self.top >= n_allowed:
            raise ValueError(
                f"top = {self.top} of {n_allowed} allowed tokens is no choice by the gradient: expected at most "
                f"{max(n_allowed // 4, 1)}, a quarter; lower it, or leave it out"
            )
        return max(min(_TOP if self.top is None else self.top, n_allowed // 4), 1)


@dataclass(frozen=True)
class Attacked:
    """requests: with the best tokens met. loss: of the target at these tokens, nats per token, computed again. hit:
    whether greedy decoding gives the target. steps: taken until then. history: mean of the best losses, after each
    step."""

    requests: Requests
    at: np.ndarray
    loss: Float[Tensor, " n"]
    hit: Bool[Tensor, " n"]
    steps: np.ndarray
    history: list[float]


def attack_tokens(
    model: PreTrainedModel,
    placed: Placed,
    settings: TokenAttack,
    *,
    seed: int,
    allowed: Bool[np.ndarray, " d_vocab"] | None = None,
    keep: Keep | None = None,
    kept: Path | None = None,
    seen: Callable[[float], object] = lambda _: None,
) -> Attacked:
    """The tokens at `placed.at` that bring each request's instructed answer nearest; a request that gives it is done.

    allowed: tokens to choose from; all by default. kept: a file that an interrupted attack goes on from. seen: told the
    mean of the best losses after every step. Raises ValueError where no token is allowed, the model gives every target
    already, has no gradients, or `kept` is of another attack.
    """
    embedding: Any = model.get_input_embeddings()
    choice = (
        torch.arange(len(embedding.weight)) if allowed is None else torch.from_numpy(np.flatnonzero(allowed))
    )
    if len(choice) == 0:
        raise ValueError("no token is allowed: expected at least one to choose from")
    if settings.how == "gradient":
        check_gradients(model)
    state = _State.start(model, placed, settings, seed, choice)
    if state.hit.all():
        raise ValueError(f"the model gives all {len(placed.at)} targets already: there is nothing to attack")
    if kept is not None and kept.is_file():
        state = _State.read(kept, state)
    for step in range(state.step, settings.steps):
        rows = (~state.hit).nonzero()[:, 0] if not settings.universal else torch.arange(len(placed.at))
        if state.hit.all():
            break
        random = torch.Generator().manual_seed(seed * 1_000_003 + step)
        _step(model, placed, settings, state, rows, choice, keep, random)
        state.step = step + 1
        state.history.append(float(state.loss.mean()))
        if kept is not None:
            state.write(kept)
        seen(state.history[-1])
    requests = written(placed, state.best.numpy())
    loss, hit = near(model, requests, "instructed")
    return Attacked(requests, placed.at, loss, hit, state.steps.numpy(), state.history)


@dataclass
class _State:
    """ids: (n, k) gone on from. best, loss, hit: the best met. steps: taken until hit."""

    made_of: dict[str, Any]
    ids: Tensor
    best: Tensor
    loss: Tensor
    hit: Tensor
    steps: Tensor
    step: int
    history: list[float]

    @classmethod
    def start(
        cls, model: PreTrainedModel, placed: Placed, settings: TokenAttack, seed: int, choice: Tensor
    ) -> _State:
        ids = torch.from_numpy(np.take_along_axis(placed.requests.prompt, placed.at, axis=1))
        loss, hit = near(model, placed.requests, "instructed")
        asked = placed.requests
        parts = (asked.prompt, asked.prompt_length, asked.instructed, asked.judged, placed.at, choice.numpy())
        digest = hashlib.sha256(b"".join(part.astype(np.int64).tobytes() for part in parts)).hexdigest()
        top = settings.n_proposed(len(choice)) if settings.how == "gradient" else settings.top or _TOP
        made_of = asdict(settings) | {"top": top, "seed": seed}
        made_of |= {"shape": list(ids.shape), "requests": digest[:16]}
        del made_of["steps"]  # it may go on for longer
        return cls(made_of, ids, ids.clone(), loss, hit, torch.zeros(len(ids), dtype=torch.int64), 0, [])

    @classmethod
    def read(cls, path: Path, fresh: _State) -> _State:
        found = json.loads(path.read_text())
        if found["made_of"] != fresh.made_of:
            raise ValueError(
                f"{path} is of another attack ({found['made_of']}): choose another file, or delete it"
            )
        tensors = {name: torch.tensor(found[name], dtype=getattr(fresh, name).dtype) for name in cls._TENSORS}
        return cls(made_of=found["made_of"], step=found["step"], history=found["history"], **tensors)

    def write(self, path: Path) -> None:
        tensors = {name: getattr(self, name).tolist() for name in self._TENSORS}
        write_json(path, {"made_of": self.made_of, "step": self.step, "history": self.history} | tensors)

    _TENSORS = ("ids", "best", "loss", "hit", "steps")


def _step(
    model: PreTrainedModel,
    placed: Placed,
    settings: TokenAttack,
    state: _State,
    rows: Tensor,
    choice: Tensor,
    keep: Keep | None,
    random: torch.Generator,
) -> None:
    """New candidates for some requests, the best of them gone on from; `state` is changed."""
    own, n = (rows[:1] if settings.universal else rows), settings.candidates
    current = state.ids[own]
    if settings.how == "random":
        made = choice[torch.randint(len(choice), (len(own), n, current.shape[1]), generator=random)]
    else:
        offered = (
            _offered(model, placed, settings, state, rows, choice) if settings.how == "gradient" else None
        )
        made = _swapped(current, offered, choice, n, random)
    requests, at = placed.requests[rows.numpy()], placed.at[rows.numpy()]
    made = made.expand(len(rows), -1, -1)
    losses, hits = _try(model, requests, at, made, keep)
    if settings.universal:
        losses, hits = losses.mean(dim=0, keepdim=True).expand(len(rows), -1), hits
    least, which = losses.min(dim=1)
    taken = made[torch.arange(len(rows)), which]
    hit = hits[torch.arange(len(rows)), which]
    goes_on = least < torch.inf if settings.how == "gradient" else least < _of(state, rows, settings)
    state.ids[rows[goes_on]] = taken[goes_on]
    better = least < _of(state, rows, settings)
    state.best[rows[better]], state.loss[rows[better]] = taken[better], least[better]
    state.hit[rows[better]] = hit[better]
    state.steps[rows] += 1


def _of(state: _State, rows: Tensor, settings: TokenAttack) -> Tensor:
    return state.loss[rows].mean().expand(len(rows)) if settings.universal else state.loss[rows]


def _offered(
    model: PreTrainedModel, placed: Placed, settings: TokenAttack, state: _State, rows: Tensor, choice: Tensor
) -> Tensor:
    """(requests, k, top) tokens whose place in the loss is steepest downhill, by the gradient of one-hot tokens."""
    embedding: Any = model.get_input_embeddings()
    with torch.no_grad():  # some scale what they look up
        start, table = (embedding(ids.to(model.device)) for ids in (state.ids[rows], choice))
    n, k = len(rows), placed.at.shape[1]
    at = placed.at[rows.numpy()]
    # tokens under names of their own, so that each has a gradient of its own
    named = written(
        Placed(placed.requests[rows.numpy()], at), len(embedding.weight) + np.arange(n * k).reshape(n, k)
    )
    gradients = []
    for part in torch.arange(n).split(max(_TOKENS // 4 // named.prompt.shape[1], 1)):
        vectors = start.flatten(0, 1).requires_grad_()
        with soft_tokens(model, vectors, held=False):
            loss = aim(model, target_sequences(named[part.numpy()], "instructed")).nll.sum()
        gradients.append(torch.autograd.grad(loss, vectors)[0].unflatten(0, (n, k))[part])
    gradient = torch.cat(gradients)
    if settings.universal:
        gradient = gradient.mean(dim=0, keepdim=True)
    slope = -(gradient.float() @ table.float().T)
    return choice[slope.topk(settings.n_proposed(len(choice)), dim=-1).indices.cpu()]


def _swapped(
    current: Tensor, offered: Tensor | None, choice: Tensor, n: int, random: torch.Generator
) -> Tensor:
    """(requests, n, k) the current tokens with one of them swapped."""
    r, k = current.shape
    made = current[:, None].repeat(1, n, 1)
    place = torch.randint(k, (r, n), generator=random)
    if offered is None:
        new = choice[torch.randint(len(choice), (r, n), generator=random)]
    else:
        drawn = torch.randint(offered.shape[-1], (r, n), generator=random)
        new = offered[torch.arange(r)[:, None], place, drawn]
    return made.scatter(2, place[..., None], new[..., None])


def _try(
    model: PreTrainedModel, requests: Requests, at: np.ndarray, made: Tensor, keep: Keep | None
) -> tuple[Tensor, Tensor]:
    """(requests, n) loss and hit of every candidate; of those that may not be asked, the loss is infinite."""
    n, m = made.shape[:2]
    losses, hits = torch.full((n * m,), torch.inf), torch.zeros(n * m, dtype=torch.bool)
    first, size = int(at.min()), at_once(model, requests)
    for flat in torch.arange(n * m).split(size):
        row = flat // m
        many = written(Placed(requests[row.numpy()], at[row.numpy()]), made.flatten(0, 1)[flat].numpy())
        if keep is not None:
            asked = keep(many)
            if not asked.any():
                continue
            flat, row, many = flat[asked], row[asked], many[asked]
        batch = target_sequences(many, "instructed")
        with torch.no_grad():
            if first < LEAST_PREFIX:
                found = aim(model, batch)
            else:
                found = aim(model, behind(batch, first), before=_repeated(model, requests, row, first))
        losses[flat], hits[flat] = found.nll.float().cpu(), found.hit.cpu()
    return losses.reshape(n, m), hits.reshape(n, m)


def _repeated(model: PreTrainedModel, requests: Requests, row: Tensor, first: int) -> Cache:
    """Keys and values of what stands before every attack, computed once per request, repeated for its candidates."""
    once, again = row.unique_consecutive(return_inverse=True)
    cache: Any = prefix(model, requests[once.numpy()], first)
    cache.batch_select_indices(again.to(model.device))
    return cache
