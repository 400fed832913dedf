"""Searches over the tokens in slots of many requests at once, by a number of candidates per step.

The methods differ in how they propose candidates: by the gradient (`gcg`), by a random swap
(`random_search`) or entirely at random (`random_tokens`). The latter two are the baselines of the gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.attacks.candidates import CandidateSearch, SearchState
from makebreak.attacks.result import AttackResult, Progress, score_attack
from makebreak.attacks.slots import AdversarialSlots, SlotLocation, fill_slots, insert_slots
from makebreak.configs import check_positive
from makebreak.evaluation import Target, TokenConstraint, target_nll
from makebreak.prompts import Requests
from makebreak.seeds import step_seed
from makebreak.settings import AttackSizes

_STATE_FILE = "search.json"


class AdversarialTokens(NamedTuple):
    """Tokens for the slots of requests: m is their number, or 1 if all get the same."""

    ids: Int[np.ndarray, "m k"]
    """Token ids."""
    steps: Int[np.ndarray, " m"] | None = None
    """Steps of the search until the target was produced, or all steps; None without a search."""
    history: Sequence[float] = ()
    """Mean loss at the initial tokens, then the mean of the best losses after each step."""
    valid_share: float | None = None
    """Share of the proposed candidates that were valid; None if every request is."""


@dataclass(frozen=True)
class SearchOptions:
    """Scope of a search, and where it records its progress."""

    constraint: TokenConstraint = field(default_factory=TokenConstraint)
    """Tokens to choose from, and which requests are valid."""
    shared: bool = False
    """Whether all requests get the same tokens, selected by their mean loss."""
    checkpoint_path: Path | None = None
    """JSON file with the state of the search, from which an interrupted search resumes; None for no file."""
    progress: Callable[[float], object] = lambda _: None
    """Called with the mean of the best losses after every step."""


@dataclass(frozen=True)
class TokenSearch(ABC):
    """Attack by tokens that are searched for each request."""

    n_tokens: int = 16
    """Number of slots."""
    steps: int = 50
    """Steps per request; a request stops early once greedy decoding produces its target."""
    candidates: int = 64
    """Candidates per request and step."""
    where: SlotLocation = "suffix"
    """Location of the slots in the prompt."""
    token: int | None = None
    """Id that fills the slots at first; None for the first initial token of the target with which all
    requests are valid, or else most."""
    label: str = ""
    """Name in tables; empty for a name made from the settings."""
    method: ClassVar[str]
    title: ClassVar[str]
    accepts_worse: ClassVar[bool] = False
    is_control: ClassVar[bool] = False
    revision: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_positive(n_tokens=self.n_tokens, steps=self.steps, candidates=self.candidates)

    @classmethod
    def from_settings(cls, settings: AttackSizes) -> list[TokenSearch]:
        """The attack of the given sizes."""
        sizes = (settings.attack_tokens, settings.steps, settings.candidates)
        return [cls(*sizes, settings.where, label=cls.title)]

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        return self.label or f"{self.title.lower()} {self.n_tokens}"

    @abstractmethod
    def propose(
        self, search: CandidateSearch, current: Tensor, rows: Tensor, random: torch.Generator
    ) -> Int[Tensor, "requests n k"]:
        """Proposes candidate tokens.

        Args:
            search: The search, with the tokens to choose from.
            current: (n_all, k) present tokens of all requests.
            rows: Indices of the requests that are searched; of a shared attack, of all requests.
            random: Source of random numbers.

        Returns:
            Candidates of each of these requests; of a shared attack, one set for all.
        """

    def check_model(self, model: PreTrainedModel) -> None:  # noqa: B027 (most methods work for every model)
        """Raises ValueError if the method does not work for a model."""

    def n_proposals(self, n_allowed: int) -> int | None:
        """Tokens per slot that a gradient proposes among `n_allowed`; None for a method without gradient."""
        return None

    def __call__(
        self,
        target: Target,
        requests: Requests,
        *,
        seed: int,
        progress: Progress | None = None,
        folder: Path | None = None,
    ) -> AttackResult:
        """Searches the tokens and returns the attacked requests with their outcomes."""
        tokens = self.optimise(target, requests, seed=seed, progress=progress, folder=folder)
        return self.apply(target, requests, tokens)

    def optimise(
        self,
        target: Target,
        requests: Requests,
        *,
        seed: int,
        shared: bool = False,
        progress: Progress | None = None,
        folder: Path | None = None,
    ) -> AdversarialTokens:
        """Searches the tokens that minimise the loss of each request's instructed answer.

        Args:
            target: The target that is attacked.
            requests: The requests.
            seed: Seed of the candidates.
            shared: Whether all requests get the same tokens.
            progress: Called after every step, with the loss.
            folder: Folder with the state of the search, from which an interrupted search resumes.

        Returns:
            The best tokens; the initial ones if the target produces every answer with them.
        """
        model, slots = target.model, self.insert(target, requests)
        rows = slice(0, 1) if shared else slice(None)
        initial = target_nll(model, slots.requests, "instructed")
        history = [float(initial.nll.mean())]
        if initial.exact_match.all():
            ids = np.take_along_axis(slots.requests.prompt, slots.positions, axis=1)[rows]
            return AdversarialTokens(ids, np.zeros(len(ids), dtype=np.int64), history)

        def after_step(loss: float) -> None:
            if progress is not None:
                progress(1, loss=f"{loss:.2f}")

        path = None if folder is None else folder / _STATE_FILE
        if path is not None and path.is_file() and progress is not None:
            progress(SearchState.steps_in(path))
        options = SearchOptions(target.constraint, shared, path, after_step)
        result = search_tokens(model, slots, self, seed=seed, options=options)
        ids = np.take_along_axis(result.requests.prompt, slots.positions, axis=1)[rows]
        return AdversarialTokens(ids, result.steps[rows], history + result.history, result.valid_share)

    def apply(
        self,
        target: Target,
        requests: Requests,
        tokens: AdversarialTokens,
        progress: Progress | None = None,
    ) -> AttackResult:
        """Fills the slots of requests and returns these with their outcomes.

        Args:
            target: The target that is attacked.
            requests: The requests.
            tokens: Tokens of each request, or of all.
            progress: Called with the number of requests answered since the last call.

        Returns:
            The attacked requests, with the number of candidates that were evaluated for each.
        """
        slots, n = self.insert(target, requests), len(requests)
        attacked = fill_slots(slots, np.broadcast_to(tokens.ids, slots.positions.shape))
        columns: dict[str, list[Any]] = {}
        if tokens.steps is not None:
            n_candidates = np.broadcast_to(tokens.steps, (n,)) * self.candidates
            columns["n_candidates"] = n_candidates.tolist()
            columns["stable_candidate_share"] = [tokens.valid_share] * n
        return score_attack(
            self.name,
            target,
            attacked,
            progress=progress,
            positions=slots.positions,
            columns=columns,
            history=tokens.history,
        )

    def insert(self, target: Target, requests: Requests) -> AdversarialSlots:
        """Returns the requests with the initial token in their slots; raises ValueError if there is none."""
        n_ctx = getattr(target.model.config, "max_position_embeddings", None)
        constraint = target.constraint
        tokens = constraint.initial if self.token is None else (self.token,)
        if not tokens:
            raise ValueError("token = None: this target names no initial token; give its id")
        best, most = None, -1
        for token in tokens:
            slots = insert_slots(requests, self.n_tokens, self.where, token=token, n_ctx=n_ctx)
            if len(tokens) == 1 or constraint.is_valid is None:
                return slots
            n_valid = int(constraint.is_valid(slots.requests).sum())
            if n_valid > most:
                best, most = slots, n_valid
            if n_valid == len(requests):
                break
        assert best is not None  # there is at least one token
        return best


@dataclass(frozen=True)
class TokenSearchResult:
    """Best tokens that a search met."""

    requests: Requests
    """The requests with these tokens."""
    positions: Int[np.ndarray, "n k"]
    """Positions of the slots in each prompt."""
    loss: Tensor
    """(n,) loss of the target with these tokens, in nats per token, computed anew."""
    exact_match: Tensor
    """(n,) bool, whether greedy decoding produces the target."""
    steps: Int[np.ndarray, " n"]
    """Steps until the target was produced, or all steps."""
    history: list[float]
    """Mean of the best losses after each step."""
    valid_share: float | None
    """Share of the proposed candidates that were valid; None without a filter."""


def search_tokens(
    model: PreTrainedModel,
    slots: AdversarialSlots,
    attack: TokenSearch,
    *,
    seed: int,
    options: SearchOptions | None = None,
) -> TokenSearchResult:
    """Searches the tokens in the slots that minimise the loss of each request's instructed answer.

    Args:
        model: The model that is attacked.
        slots: Requests with slots; the search starts from the tokens in them.
        attack: Method and sizes of the search.
        seed: Seed of the candidates.
        options: Constraint, scope, checkpoint and progress; None for the defaults.

    Returns:
        The best tokens of every request.

    Raises:
        ValueError: If no token is allowed, the method does not work for the model, the model produces every
            target already, or the checkpoint belongs to another search. A damaged checkpoint is none: the
            search begins anew, and says so.
    """
    options = options or SearchOptions()
    search = CandidateSearch.create(model, slots, options.constraint, shared=options.shared)
    attack.check_model(model)
    identity = {"how": attack.method, "candidates": attack.candidates, "seed": seed}
    state = search.start(identity | {"top": attack.n_proposals(len(search.choice))})
    if state.exact_match.all():
        raise ValueError(
            f"the model gives all {len(slots.positions)} targets already: there is nothing to attack"
        )
    if options.checkpoint_path is not None and options.checkpoint_path.exists():
        state = SearchState.read(options.checkpoint_path, state)
    for step in range(state.step, attack.steps):
        if state.exact_match.all():
            break
        random = torch.Generator().manual_seed(step_seed(seed, step))
        rows = search.rows(state)
        candidates = attack.propose(search, state.current, rows, random)
        search.select(state, rows, candidates, accepts_worse=attack.accepts_worse)
        state.step = step + 1
        state.history.append(float(state.loss.mean()))
        if options.checkpoint_path is not None:
            state.write(options.checkpoint_path)
        options.progress(state.history[-1])
    requests = fill_slots(slots, state.best.numpy())
    loss, exact_match = target_nll(model, requests, "instructed")
    return TokenSearchResult(
        requests,
        slots.positions,
        loss,
        exact_match,
        state.steps.numpy(),
        state.history,
        state.n_valid / state.n_proposed if state.n_proposed else None,
    )


def swap_tokens(
    tokens: Int[Tensor, "requests k"], slot: Int[Tensor, "requests n"], new: Int[Tensor, "requests n"]
) -> Int[Tensor, "requests n k"]:
    """Candidates that differ from the present tokens in one slot each."""
    return tokens[:, None].repeat(1, slot.shape[1], 1).scatter(2, slot[..., None], new[..., None])
