"""Causal test of where weight updates write: a part of the learnt update is kept, everything else is aligned.

A matrix with base weights W and aligned weights W + ΔW is replaced by W + P ΔW, with P the projector on a
subspace of the *outputs of the base's matrix W itself*: its left null space {v : vᵀW = 0} or its column
space, the complement, by either rank rule. Random (Haar) subspaces of the same two dimensions are the
reference. What the projection keeps is measured by the margin of the answer, as a share of what the update of
the projected matrices is worth: 1 with all of ΔW, 0 with none of it.

A matrix of full row rank has no left null space. It stays aligned, in the rows of the column space too, so
that the two subspaces always divide the same update.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation import first_tokens, is_likeliest, log_odds, next_token_log_probs
from makebreak.geometry import RankRule, Subspace, column_space, random_subspace
from makebreak.models import (
    check_same_shapes,
    matrix_names,
    mlp_input_matrices,
    set_weight_matrix,
    weight_matrix,
)
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision

ALL_MATRICES = "all"
"""Value of the column `matrices` where every matrix of every block is projected."""
RANK_RULES: tuple[RankRule, ...] = ("exact", "energy90")


class UpdateProjectionRow(NamedTuple):
    """What remains of an answer with only a projection of the update; means over draws of the subspace."""

    matrices: str
    """Matrices whose update is projected, in every block: `mlp.W_in`, in gated MLPs also `mlp.W_gate`, or
    `all`, each on the subspace of its own base matrix."""
    rule: str
    """Rule for the rank of the base's matrix: `exact`, or `energy90`, the directions that hold 90 % of the
    energy."""
    space: str
    """Subspace that is kept: `left null`, `column`, `random as left null` or `random as column`."""
    n_matrices: int
    """Number of matrices that are projected: those that changed and have a left null space by the rule."""
    dimension: float | None
    """Dimension of the subspace, mean over matrices; None where no matrix has a left null space, as in all
    columns below."""
    chance: float | None
    """Dimension over the number of outputs, mean over matrices."""
    energy_share: float | None
    """Share of the energy ‖ΔW‖² of the projected matrices that is kept."""
    n_draws: int
    """Number of random subspaces; 1 for a subspace of the base's matrix."""
    margin: float | None
    """Mean log-odds of the answer's first token, nats."""
    share_of_margin: float | None
    """(margin - margin_without) / (margin_full - margin_without); None where those two are equal."""
    share_of_margin_sd: float | None
    """Standard deviation of the share over draws; None for one draw."""
    rate: float | None
    """Share of requests whose likeliest first token is the answer's."""
    share_of_rate: float | None
    """The same as `share_of_margin`, of `rate`; None where the update is worth no request."""
    share_of_rate_sd: float | None
    """Standard deviation of that share over draws; None for one draw."""
    margin_full: float | None
    """Margin of the aligned model."""
    margin_without: float | None
    """Margin with the base's weights in the projected matrices and everything else aligned."""
    rate_full: float | None
    """Rate of the aligned model."""
    rate_without: float | None
    """Rate with the base's weights in the projected matrices and everything else aligned."""


@cache_revision(1)
def update_projection_rows(
    requests: Requests,
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    answer: str = "refused",
    n_draws: int = 20,
    seed: int = 0,
) -> list[UpdateProjectionRow]:
    """Measures how much of an answer each part of the learnt update carries.

    Args:
        requests: Requests whose answer alignment changed; text requests of a language model as well.
        base: The model before alignment.
        tuned: The model after it.
        answer: The answer whose first token is scored, `refused` or `instructed`.
        n_draws: Random subspaces of each dimension, at least 2.
        seed: Seed of the random subspaces.

    Returns:
        One row per set of matrices, rank rule and subspace.

    Raises:
        ValueError: If there are fewer than two draws, or the models' shapes differ.
    """
    check_same_shapes(base=base, tuned=tuned)
    if n_draws < 2:
        raise ValueError(f"{n_draws} draws: expected at least 2, for a standard deviation")
    hybrid = _Hybrid.create(base, tuned, requests, answer)
    rows: list[UpdateProjectionRow] = []
    results: dict[tuple[str, ...], list[UpdateProjectionRow]] = {}
    for rule in RANK_RULES:
        columns = {name: column_space(hybrid.weights[name], rule) for name in hybrid.deltas}
        columns = {name: space for name, space in columns.items() if space.dimension < len(space.basis)}
        for matrices in (*mlp_input_matrices(base), ALL_MATRICES):
            chosen = {
                name: space
                for name, space in columns.items()
                if matrices == ALL_MATRICES or name.endswith(f".{matrices}")
            }
            key = (rule, *chosen)
            if key not in results:  # by exact rank often only W_in has a left null space
                results[key] = _space_rows(hybrid, chosen, n_draws, seed)
            rows += [row._replace(matrices=matrices, rule=rule) for row in results[key]]
    return rows


class _Score(NamedTuple):
    """Margin and rate of an answer."""

    margin: float
    rate: float


@dataclass(frozen=True)
class _Hybrid:
    """A copy of the aligned model whose changed matrices are rewritten."""

    model: PreTrainedModel
    requests: Requests
    target: Tensor
    weights: dict[str, Tensor]
    """The base's weights of the changed matrices."""
    deltas: dict[str, Tensor]
    """Their updates."""

    @classmethod
    def create(
        cls, base: PreTrainedModel, tuned: PreTrainedModel, requests: Requests, answer: str
    ) -> _Hybrid:
        weights, deltas = {}, {}
        for name in matrix_names(base):
            w, aligned = (weight_matrix(each, name).cpu() for each in (base, tuned))
            if not torch.equal(w, aligned):
                weights[name], deltas[name] = w, aligned.double() - w.double()
        return cls(copy.deepcopy(tuned), requests, first_tokens(requests, answer), weights, deltas)

    def score(self, parts: Mapping[str, Tensor]) -> _Score:
        """Score with these parts of the updates; matrices that are not named stay as they are."""
        for name, part in parts.items():
            set_weight_matrix(self.model, name, self.weights[name].double() + part)
        log_p = next_token_log_probs(self.model, self.requests, narrow=True)
        rate = is_likeliest(log_p, self.target).double().mean()
        return _Score(float(log_odds(log_p, self.target).mean()), float(rate))


def _space_rows(
    hybrid: _Hybrid, columns: Mapping[str, Subspace], n_draws: int, seed: int
) -> list[UpdateProjectionRow]:
    """Rows of the four subspaces, for the matrices whose column spaces are given; the hybrid is restored."""
    dimensions = {
        "left null": [len(space.basis) - space.dimension for space in columns.values()],
        "column": [space.dimension for space in columns.values()],
    }
    if not columns:
        spaces = [f"{prefix}{space}" for prefix in ("", "random as ") for space in dimensions]
        return [UpdateProjectionRow("", "", space, 0, None, None, None, 0, *[None] * 10) for space in spaces]
    deltas = {name: hybrid.deltas[name] for name in columns}
    without = hybrid.score({name: torch.zeros_like(delta) for name, delta in deltas.items()})
    random = torch.Generator().manual_seed(seed)
    random_columns = (_random_like(columns, random) for _ in range(n_draws))  # one in memory at a time
    scores = {
        f"{prefix}{space}": results
        for prefix, draws in (("", [columns]), ("random as ", random_columns))
        for space, results in zip(
            dimensions, zip(*(_projected(hybrid, draw) for draw in draws), strict=True), strict=True
        )
    }
    full = hybrid.score(deltas)
    total = sum(float(delta.square().sum()) for delta in deltas.values())
    rows = []
    for space, results in scores.items():
        sizes = dimensions[space.removeprefix("random as ")]
        margins, rates = ([getattr(score, name) for score, _ in results] for name in _Score._fields)
        rows.append(
            UpdateProjectionRow(
                "",
                "",
                space,
                n_matrices=len(columns),
                dimension=mean(sizes),
                chance=mean(k / len(s.basis) for k, s in zip(sizes, columns.values(), strict=True)),
                energy_share=mean(energy for _, energy in results) / total,
                n_draws=len(results),
                margin=mean(margins),
                **_share("margin", margins, full.margin, without.margin),
                rate=mean(rates),
                **_share("rate", rates, full.rate, without.rate),
                margin_full=full.margin,
                margin_without=without.margin,
                rate_full=full.rate,
                rate_without=without.rate,
            )
        )
    return rows


def _random_like(columns: Mapping[str, Subspace], random: torch.Generator) -> dict[str, Subspace]:
    """A random subspace of the dimension of each column space; its complement is that of the null space."""
    seeds = torch.randint(2**62, (len(columns),), generator=random).tolist()
    return {
        name: random_subspace(len(space.basis), space.dimension, seed)
        for (name, space), seed in zip(columns.items(), seeds, strict=True)
    }


def _projected(hybrid: _Hybrid, spaces: Mapping[str, Subspace]) -> tuple[tuple[_Score, float], ...]:
    """Score and energy of the updates' parts in the complements of subspaces, and in the subspaces."""
    inside: dict[str, Float[Tensor, "d_out d_in"]] = {
        name: space.basis @ (space.basis.T @ hybrid.deltas[name]) for name, space in spaces.items()
    }
    outside = {name: hybrid.deltas[name] - part for name, part in inside.items()}
    return tuple(
        (hybrid.score(parts), sum(float(part.square().sum()) for part in parts.values()))
        for parts in (outside, inside)
    )


def _share(name: str, values: Sequence[float], full: float, without: float) -> dict[str, float | None]:
    """Mean and standard deviation of the shares of what the update is worth, by column."""
    if full == without:
        return {f"share_of_{name}": None, f"share_of_{name}_sd": None}
    shares = [(value - without) / (full - without) for value in values]
    return {
        f"share_of_{name}": mean(shares),
        f"share_of_{name}_sd": stdev(shares) if len(shares) > 1 else None,
    }
