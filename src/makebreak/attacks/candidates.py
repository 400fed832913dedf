"""Scoring and selection of candidate tokens for many requests at once, with a state that can be resumed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache
from makebreak.attacks.slots import AdversarialSlots, fill_slots
from makebreak.evaluation import RequestFilter, TokenConstraint, score_targets, target_batch_size, target_nll
from makebreak.prompts import target_sequences
from makebreak.store import read_state, report_damage, write_state

_TENSORS = {"ids": "current", "best": "best", "loss": "loss", "hit": "exact_match", "steps": "steps"}
"""Key in a state's file of each tensor of the state."""


@dataclass
class SearchState:
    """State of a search: the present tokens, the best met, and what identifies the search."""

    identity: dict[str, Any]
    """What the search depends on, but for the number of steps, which may be raised."""
    current: Tensor
    """(n, k) present tokens."""
    best: Tensor
    """(n, k) tokens of the least loss."""
    loss: Tensor
    """(n,) that loss, in nats per token."""
    exact_match: Tensor
    """(n,) bool, whether greedy decoding produces the target with the best tokens."""
    steps: Tensor
    """(n,) steps that each request was searched."""
    step: int
    """Steps of the search."""
    history: list[float]
    """Mean of the best losses after each step."""
    n_proposed: int = 0
    """Candidates that were filtered."""
    n_valid: int = 0
    """Candidates that passed the filter."""

    @staticmethod
    def steps_in(path: Path) -> int:
        """Number of steps of the state in a file; 0 if the file is damaged."""
        try:
            return int(read_state(path)["step"])
        except (ValueError, LookupError, TypeError):
            return 0

    @classmethod
    def read(cls, path: Path, fresh: SearchState) -> SearchState:
        """The state in a file; `fresh`, the start of the search, if the file is damaged.

        Args:
            path: The file.
            fresh: The start of the search that the state has to belong to.

        Returns:
            The state from which the search goes on.

        Raises:
            ValueError: If the file has the state of another search.
        """
        try:
            content = read_state(path)
            identity = content["made_of"]
            tensors: dict[str, Any] = {
                name: torch.tensor(content[key], dtype=getattr(fresh, name).dtype)
                for key, name in _TENSORS.items()
            }
            counts = {name: content[name] for name in ("step", "history", "n_proposed", "n_valid")}
        except (ValueError, LookupError, TypeError, RuntimeError):
            report_damage(path, "the search begins anew")
            return fresh
        if identity != fresh.identity:
            raise ValueError(f"{path} is of another attack ({identity}): choose another file, or delete it")
        return cls(identity=identity, **counts, **tensors)

    def write(self, path: Path) -> None:
        """Writes the state to a file."""
        tensors = {key: getattr(self, name).tolist() for key, name in _TENSORS.items()}
        counts = {name: getattr(self, name) for name in ("step", "history", "n_proposed", "n_valid")}
        write_state(path, {"made_of": self.identity} | counts | tensors)


class CandidateScores(NamedTuple):
    """Loss and exact match of (requests, n) candidates; those that are filtered out have infinite loss."""

    loss: Float[Tensor, "requests n"]
    """Loss of the target, in nats per token."""
    exact_match: Bool[Tensor, "requests n"]
    """Whether greedy decoding produces the target."""
    n_proposed: int
    """Candidates that were filtered."""
    n_valid: int
    """Candidates that passed the filter."""


@dataclass(frozen=True)
class CandidateSearch:
    """Requests whose slots are searched."""

    model: PreTrainedModel
    """The model that is attacked."""
    slots: AdversarialSlots
    """Requests with slots."""
    choice: Int[Tensor, " allowed"]
    """Tokens to choose from."""
    is_valid: RequestFilter | None = None
    """Which candidates may be used; None for all."""
    shared: bool = False
    """Whether all requests get the same tokens, selected by their mean loss."""

    @classmethod
    def create(
        cls, model: PreTrainedModel, slots: AdversarialSlots, constraint: TokenConstraint, *, shared: bool
    ) -> CandidateSearch:
        """The search under a constraint; raises ValueError if no token is allowed."""
        embedding: Any = model.get_input_embeddings()
        if constraint.allowed is None:
            choice = torch.arange(len(embedding.weight))
        else:
            choice = torch.from_numpy(np.flatnonzero(constraint.allowed))
        if len(choice) == 0:
            raise ValueError("no token is allowed: expected at least one to choose from")
        return cls(model, slots, choice, constraint.is_valid, shared)

    def start(self, identity: dict[str, Any]) -> SearchState:
        """The state before the first step.

        Args:
            identity: What the search depends on besides its requests, JSON values.

        Returns:
            A state with the tokens in the slots.
        """
        requests, positions = self.slots
        parts = (requests.prompt, requests.prompt_length, requests.instructed, requests.judged)
        content = b"".join(
            part.astype(np.int64).tobytes() for part in (*parts, positions, self.choice.numpy())
        )
        identity = identity | {
            "universal": self.shared,
            "shape": list(positions.shape),
            "requests": hashlib.sha256(content).hexdigest()[:16],
        }
        ids = torch.from_numpy(np.take_along_axis(requests.prompt, positions, axis=1))
        loss, exact_match = target_nll(self.model, requests, "instructed")
        no_steps = torch.zeros(len(ids), dtype=torch.int64)
        return SearchState(identity, ids, ids.clone(), loss, exact_match, no_steps, 0, [])

    def rows(self, state: SearchState) -> Int[Tensor, " requests"]:
        """Indices of the requests that are searched: the unfinished ones, or all for a shared attack."""
        return torch.arange(len(state.loss)) if self.shared else (~state.exact_match).nonzero()[:, 0]

    def first(self, rows: Tensor) -> Tensor:
        """Indices of the requests that candidates are proposed for: one request of a shared attack."""
        return rows[:1] if self.shared else rows

    def select(
        self,
        state: SearchState,
        rows: Int[Tensor, " requests"],
        candidates: Int[Tensor, "m n k"],
        *,
        accepts_worse: bool,
    ) -> None:
        """Scores candidates and updates the state in place.

        Args:
            state: The state.
            rows: Indices of the requests that are searched.
            candidates: Candidates of each of them, or of all.
            accepts_worse: Whether the search continues from the best candidate even if it is worse than the
                present tokens.
        """
        candidates = candidates.expand(len(rows), -1, -1)
        scores = self.score(rows, candidates)
        state.n_proposed += scores.n_proposed
        state.n_valid += scores.n_valid
        losses = scores.loss
        if self.shared:
            losses = losses.mean(dim=0, keepdim=True).expand(len(rows), -1)
        least, which = losses.min(dim=1)
        row = torch.arange(len(rows))
        selected, exact_match = candidates[row, which], scores.exact_match[row, which]
        before = state.loss[rows].mean().expand(len(rows)) if self.shared else state.loss[rows]
        better = least < before
        moves_on = least < torch.inf if accepts_worse else better
        state.current[rows[moves_on]] = selected[moves_on]
        improved = rows[better]
        state.best[improved] = selected[better]
        state.loss[improved] = least[better]
        state.exact_match[improved] = exact_match[better]
        state.steps[rows] += 1

    def score(self, rows: Tensor, candidates: Int[Tensor, "requests n k"]) -> CandidateScores:
        """Loss and exact match of every candidate of these requests."""
        requests, positions = self.slots.requests[rows.numpy()], self.slots.positions[rows.numpy()]
        n_requests, n = candidates.shape[:2]
        losses = torch.full((n_requests * n,), torch.inf)
        matches = torch.zeros(n_requests * n, dtype=torch.bool)
        n_prefix, n_proposed, n_valid = int(positions.min()), 0, 0
        for flat in torch.arange(n_requests * n).split(target_batch_size(self.model, requests)):
            row = flat // n
            slots = AdversarialSlots(requests[row.numpy()], positions[row.numpy()])
            attacked = fill_slots(slots, candidates.flatten(0, 1)[flat].numpy())
            if self.is_valid is not None:
                usable = self.is_valid(attacked)
                n_proposed, n_valid = n_proposed + len(usable), n_valid + int(usable.sum())
                if not usable.any():
                    continue
                flat, row, attacked = flat[usable], row[usable], attacked[usable]
            unique, repeats = row.unique_consecutive(return_inverse=True)
            prompts = torch.from_numpy(requests.prompt[unique.numpy()])
            cache = PrefixCache.of_rows(self.model, prompts, n_prefix).select(repeats)
            with torch.no_grad():
                score = score_targets(self.model, target_sequences(attacked, "instructed"), cache=cache)
            losses[flat], matches[flat] = score.nll.float().cpu(), score.exact_match.cpu()
        shape = (n_requests, n)
        return CandidateScores(losses.reshape(shape), matches.reshape(shape), n_proposed, n_valid)
