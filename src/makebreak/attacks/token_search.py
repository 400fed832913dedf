"""Discrete token attacks: greedy coordinate gradient (GCG; Zou et al. 2023) over many requests at once.

Random search and random tokens at the same number of candidates are the baselines of the gradient.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache
from makebreak.attacks.slots import AdversarialSlots, fill_slots
from makebreak.attacks.soft_prompt import check_gradients, soft_prompt_embeddings
from makebreak.configs import check_positive
from makebreak.evaluation import (
    score_targets,
    target_batch_size,
    target_nll,
)
from makebreak.prompts import Requests, target_sequences
from makebreak.seeds import step_seed
from makebreak.store import write_json

SearchMethod = Literal["gradient", "search", "random"]
"""Source of the candidates of a token search."""
CandidateFilter = Callable[[Requests], Bool[np.ndarray, " n"]]
"""A function that says which candidate requests may be used, for example those that are
retokenisation-stable."""
_TOKENS_WITH_GRADIENT = 4096
"""Most prompt tokens of one forward and backward pass."""
_TOPK = 32
_STATE_KEYS = {"ids": "current", "best": "best", "loss": "loss", "hit": "exact_match", "steps": "steps"}
"""Key in a state's file of each tensor of the state; the keys stay, so that older files can be read."""


@dataclass(frozen=True)
class TokenSearchSettings:
    """Settings of a token search."""

    method: SearchMethod = "gradient"
    """`gradient` (GCG) swaps one token for one of the `topk` that lower the loss most to first order, and
    continues from the best candidate even if it is worse. `search` swaps one token at random and continues
    from a better candidate only. `random` draws all tokens at random."""
    steps: int = 50
    """Steps per request; a request stops early once greedy decoding produces its target."""
    candidates: int = 64
    """Candidates per request and step."""
    topk: int | None = None
    """Tokens per slot that the gradient proposes, never more than a quarter of the allowed tokens (at least
    1): a gradient that proposes nearly all of them is a random search. None, the default, is 32 or that
    quarter, the smaller of the two. `search_tokens` raises ValueError for a `topk` above 1 that is half of
    the allowed tokens or more."""
    universal: bool = False
    """Whether all requests get the same tokens, selected by their mean loss."""

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, candidates=self.candidates)
        if self.topk is not None:
            check_positive(topk=self.topk)
        if self.method not in ("gradient", "search", "random"):
            raise ValueError(f"method = {self.method!r}: expected 'gradient', 'search' or 'random'")

    def n_proposals(self, n_allowed: int) -> int:
        """Returns how many tokens the gradient proposes per slot.

        Args:
            n_allowed: Number of allowed tokens.

        Returns:
            `topk` or its default, at most a quarter of the allowed tokens and at least 1.

        Raises:
            ValueError: If `topk` is above 1 and half of the allowed tokens or more.
        """
        if self.topk is not None and self.topk > 1 and 2 * self.topk >= n_allowed:
            raise ValueError(
                f"topk = {self.topk} of {n_allowed} allowed tokens makes GCG a random search: expected at "
                f"most {max(n_allowed // 4, 1)}, a quarter; lower topk or leave it out"
            )
        return max(min(_TOPK if self.topk is None else self.topk, n_allowed // 4), 1)


@dataclass(frozen=True)
class SearchOptions:
    """Which tokens a search may use, and where it records its progress."""

    allowed: Bool[np.ndarray, " d_vocab"] | None = None
    """Tokens to choose from; None for the whole vocabulary."""
    candidate_filter: CandidateFilter | None = None
    """Which candidates may be used; None for all."""
    checkpoint_path: Path | None = None
    """JSON file with the state of the search, from which an interrupted search resumes; None for no file."""
    progress: Callable[[float], object] = lambda _: None
    """Called with the mean of the best losses after every step."""


@dataclass(frozen=True)
class TokenSearchResult:
    """Best tokens that a search met."""

    requests: Requests
    """The requests with these tokens."""
    positions: np.ndarray
    """(n, k) positions of the slots in each prompt."""
    loss: Float[Tensor, " n"]
    """Loss of the target with these tokens, in nats per token, computed anew."""
    exact_match: Bool[Tensor, " n"]
    """Whether greedy decoding produces the target."""
    steps: np.ndarray
    """(n,) steps until the target was produced, or all steps."""
    history: list[float]
    """Mean of the best losses after each step."""


def search_tokens(
    model: PreTrainedModel,
    slots: AdversarialSlots,
    settings: TokenSearchSettings,
    *,
    seed: int,
    options: SearchOptions | None = None,
) -> TokenSearchResult:
    """Searches the tokens in the slots that minimise the loss of each request's instructed answer.

    Args:
        model: The model that is attacked.
        slots: Requests with slots; the search starts from the tokens in them.
        settings: Settings of the search.
        seed: Seed of the candidates.
        options: Allowed tokens, filter, checkpoint and progress; None for the defaults.

    Returns:
        The best tokens of every request.

    Raises:
        ValueError: If no token is allowed, `topk` is too large for the allowed tokens, the model produces
            every target already or gives no gradients, or the checkpoint belongs to another search.
    """
    options = options or SearchOptions()
    embedding: Any = model.get_input_embeddings()
    if options.allowed is None:
        choice = torch.arange(len(embedding.weight))
    else:
        choice = torch.from_numpy(np.flatnonzero(options.allowed))
    if len(choice) == 0:
        raise ValueError("no token is allowed: expected at least one to choose from")
    search = _Search(model, slots, settings, choice, options.candidate_filter)
    if settings.method == "gradient":
        check_gradients(model)
    state = search.start(seed)
    if state.exact_match.all():
        raise ValueError(
            f"the model gives all {len(slots.positions)} targets already: there is nothing to attack"
        )
    if options.checkpoint_path is not None and options.checkpoint_path.is_file():
        state = _State.read(options.checkpoint_path, state)
    for step in range(state.step, settings.steps):
        if state.exact_match.all():
            break
        search.step(state, torch.Generator().manual_seed(step_seed(seed, step)))
        state.step = step + 1
        state.history.append(float(state.loss.mean()))
        if options.checkpoint_path is not None:
            state.write(options.checkpoint_path)
        options.progress(state.history[-1])
    requests = fill_slots(slots, state.best.numpy())
    loss, exact_match = target_nll(model, requests, "instructed")
    return TokenSearchResult(requests, slots.positions, loss, exact_match, state.steps.numpy(), state.history)


@dataclass
class _State:
    """State of a search: the current tokens, the best met, and what identifies the search."""

    identity: dict[str, Any]
    current: Tensor
    best: Tensor
    loss: Tensor
    exact_match: Tensor
    steps: Tensor
    step: int
    history: list[float]

    @classmethod
    def read(cls, path: Path, fresh: _State) -> _State:
        """The state in a file; `fresh` is the start of the search that it has to belong to."""
        content = json.loads(path.read_text())
        if content["made_of"] != fresh.identity:
            raise ValueError(
                f"{path} is of another attack ({content['made_of']}): choose another file, or delete it"
            )
        tensors = {
            name: torch.tensor(content[key], dtype=getattr(fresh, name).dtype)
            for key, name in _STATE_KEYS.items()
        }
        return cls(identity=content["made_of"], step=content["step"], history=content["history"], **tensors)

    def write(self, path: Path) -> None:
        """Writes the state to a file."""
        tensors = {key: getattr(self, name).tolist() for key, name in _STATE_KEYS.items()}
        write_json(path, {"made_of": self.identity, "step": self.step, "history": self.history} | tensors)


class _Scores(NamedTuple):
    """Loss and exact match of (requests, n) candidates; those that are filtered out have infinite loss."""

    loss: Float[Tensor, "requests n"]
    exact_match: Bool[Tensor, "requests n"]


@dataclass(frozen=True)
class _Search:
    """One search: proposes candidates, scores them and selects."""

    model: PreTrainedModel
    slots: AdversarialSlots
    settings: TokenSearchSettings
    choice: Int[Tensor, " allowed"]
    candidate_filter: CandidateFilter | None = None

    def start(self, seed: int) -> _State:
        """The state before the first step."""
        requests, positions = self.slots
        ids = torch.from_numpy(np.take_along_axis(requests.prompt, positions, axis=1))
        loss, exact_match = target_nll(self.model, requests, "instructed")
        no_steps = torch.zeros(len(ids), dtype=torch.int64)
        return _State(self._identity(seed), ids, ids.clone(), loss, exact_match, no_steps, 0, [])

    def _identity(self, seed: int) -> dict[str, Any]:
        """What identifies a search in its file: all but the number of steps, which may be raised."""
        requests, positions = self.slots
        parts = (requests.prompt, requests.prompt_length, requests.instructed, requests.judged)
        content = b"".join(
            part.astype(np.int64).tobytes() for part in (*parts, positions, self.choice.numpy())
        )
        settings = self.settings
        topk = settings.topk or _TOPK
        if settings.method == "gradient":
            topk = settings.n_proposals(len(self.choice))
        return {
            "how": settings.method,
            "candidates": settings.candidates,
            "top": topk,
            "universal": settings.universal,
            "seed": seed,
            "shape": list(positions.shape),
            "requests": hashlib.sha256(content).hexdigest()[:16],
        }

    def step(self, state: _State, random: torch.Generator) -> None:
        """Proposes candidates for the unfinished requests, scores them and updates the state in place."""
        universal = self.settings.universal
        rows = torch.arange(len(state.loss)) if universal else (~state.exact_match).nonzero()[:, 0]
        candidates = self.candidates(state.current, rows, random).expand(len(rows), -1, -1)
        scores = self.score(rows, candidates)
        losses = scores.loss.mean(dim=0, keepdim=True).expand(len(rows), -1) if universal else scores.loss
        least, which = losses.min(dim=1)
        row = torch.arange(len(rows))
        selected, exact_match = candidates[row, which], scores.exact_match[row, which]
        before = state.loss[rows].mean().expand(len(rows)) if universal else state.loss[rows]
        better = least < before
        moves_on = least < torch.inf if self.settings.method == "gradient" else better
        state.current[rows[moves_on]] = selected[moves_on]
        improved = rows[better]
        state.best[improved] = selected[better]
        state.loss[improved] = least[better]
        state.exact_match[improved] = exact_match[better]
        state.steps[rows] += 1

    def candidates(
        self, current: Tensor, rows: Tensor, random: torch.Generator
    ) -> Int[Tensor, "requests n k"]:
        """Candidate tokens of these requests; of a universal attack, those of one request stand for all."""
        tokens = current[rows[:1] if self.settings.universal else rows]
        n, (n_requests, k) = self.settings.candidates, tokens.shape
        if self.settings.method == "random":
            return self.choice[torch.randint(len(self.choice), (n_requests, n, k), generator=random)]
        proposals = self.proposals(current, rows) if self.settings.method == "gradient" else None
        slot = torch.randint(k, (n_requests, n), generator=random)
        if proposals is None:
            new = self.choice[torch.randint(len(self.choice), (n_requests, n), generator=random)]
        else:
            rank = torch.randint(proposals.shape[-1], (n_requests, n), generator=random)
            new = proposals[torch.arange(n_requests)[:, None], slot, rank]
        return tokens[:, None].repeat(1, n, 1).scatter(2, slot[..., None], new[..., None])

    def proposals(self, current: Tensor, rows: Tensor) -> Int[Tensor, "requests k topk"]:
        """Tokens with the steepest descent of the loss per slot, by the gradient of one-hot tokens."""
        model, n, k = self.model, len(rows), current.shape[1]
        embedding: Any = model.get_input_embeddings()
        with torch.no_grad():  # through the module, as some models scale their embeddings
            start = embedding(current[rows].to(model.device))
            table = embedding(self.choice.to(model.device))
        # every slot gets an id of its own, and thereby a gradient of its own
        slots = AdversarialSlots(self.slots.requests[rows.numpy()], self.slots.positions[rows.numpy()])
        requests = fill_slots(slots, len(embedding.weight) + np.arange(n * k).reshape(n, k))
        gradients = []
        for part in torch.arange(n).split(max(_TOKENS_WITH_GRADIENT // requests.prompt.shape[1], 1)):
            vectors = start.flatten(0, 1).requires_grad_()
            with soft_prompt_embeddings(model, vectors, share_position=False):
                batch = target_sequences(requests[part.numpy()], "instructed")
                loss = score_targets(model, batch).nll.sum()
            gradients.append(torch.autograd.grad(loss, vectors)[0].unflatten(0, (n, k))[part])
        gradient = torch.cat(gradients)
        if self.settings.universal:
            gradient = gradient.mean(dim=0, keepdim=True)
        descent = -(gradient.float() @ table.float().T)
        topk = self.settings.n_proposals(len(self.choice))
        return self.choice[descent.topk(topk, dim=-1).indices.cpu()]

    def score(self, rows: Tensor, candidates: Int[Tensor, "requests n k"]) -> _Scores:
        """Loss and exact match of every candidate of these requests."""
        requests, positions = self.slots.requests[rows.numpy()], self.slots.positions[rows.numpy()]
        n_requests, n = candidates.shape[:2]
        losses = torch.full((n_requests * n,), torch.inf)
        matches = torch.zeros(n_requests * n, dtype=torch.bool)
        n_prefix = int(positions.min())
        for flat in torch.arange(n_requests * n).split(target_batch_size(self.model, requests)):
            row = flat // n
            slots = AdversarialSlots(requests[row.numpy()], positions[row.numpy()])
            attacked = fill_slots(slots, candidates.flatten(0, 1)[flat].numpy())
            if self.candidate_filter is not None:
                usable = self.candidate_filter(attacked)
                if not usable.any():
                    continue
                flat, row, attacked = flat[usable], row[usable], attacked[usable]
            unique, repeats = row.unique_consecutive(return_inverse=True)
            prompts = torch.from_numpy(requests.prompt[unique.numpy()])
            cache = PrefixCache.of_rows(self.model, prompts, n_prefix).select(repeats)
            with torch.no_grad():
                score = score_targets(self.model, target_sequences(attacked, "instructed"), cache=cache)
            losses[flat], matches[flat] = score.nll.float().cpu(), score.exact_match.cpu()
        return _Scores(losses.reshape(n_requests, n), matches.reshape(n_requests, n))
