"""Null share of MLP pre-activations: their energy in the left null space of the base's input matrix.

z is W·a, the pre-activation without its bias, at the end of text. Its null share is ‖P_N z‖² / ‖z‖² with P_N
the projector on the left null space of the *base's* W; the quantity `delta` is the same for ΔW·a, what the
update adds. The controls are random subspaces of the same dimension and the same vectors with permuted
entries, each drawn `N_DRAWS` times, and the null space of another pretraining seed's matrix. Shares are to be
compared layer by layer: in a first layer families may not differ at the end of text at all.

W is the matrix that reads the MLP's input: `mlp.W_in` and, in gated MLPs, `mlp.W_gate` too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import RankRule, Subspace, left_null_space, random_subspace, subspace_share
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import check_same_shapes, mlp_input_matrices, n_layers, weight_matrix
from makebreak.prompts import OUTCOMES, Requests
from makebreak.seeds import layer_seed

N_DRAWS = 5
"""Random subspaces, and random permutations of the entries."""
RULES: tuple[RankRule, ...] = ("exact", "energy90")


class NullShareRow(NamedTuple):
    """Null share of one quantity of one matrix for one family and outcome, means over requests."""

    layer: int
    """Layer of the MLP."""
    matrix: str
    """Matrix that reads the MLP's input, `mlp.W_in` or, in gated MLPs, `mlp.W_gate`."""
    family: str
    """Family of the requests."""
    rule: str
    """Rule for the rank of W: `exact`, or `energy90`, the directions that hold 90 % of the energy."""
    quantity: str
    """`pre` for W·a with the tuned matrix, `delta` for ΔW·a."""
    outcome: str
    """Outcome of the requests, or `all`."""
    n: int
    """Number of requests."""
    chance: float
    """Dimension of the null space over d_mlp, the share of a random vector."""
    share: float | None
    """Share of the energy in the base's left null space; None where that is empty."""
    random_share: float | None
    """The same for random subspaces of equal dimension, mean over draws."""
    other_seed_share: float | None
    """The same for the null space of a base of another pretraining seed; None where no such base is given."""
    permuted_share: float | None
    """`share` of the same vectors with permuted entries, mean over draws of the permutation."""
    random_share_sd: float | None
    """Standard deviation of `random_share` over draws."""
    permuted_share_sd: float | None
    """Standard deviation of `permuted_share` over draws."""


class _Spaces(NamedTuple):
    """Subspaces of one matrix by one rank rule."""

    null: Subspace
    random: list[Subspace]
    other_seed: Subspace | None


def null_share_rows(
    requests: Mapping[str, Requests],
    outcomes: Mapping[str, np.ndarray],
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    other_base: PreTrainedModel | None = None,
    seed: int,
) -> list[NullShareRow]:
    """Shares of the energy of W·a and ΔW·a in the left null space of the base's W, by layer and matrix.

    Args:
        requests: Requests by family.
        outcomes: Outcome of each of the tuned model's answers as an index into OUTCOMES, (n,) by family.
        base: The model before alignment.
        tuned: The model after it.
        other_base: A base of another pretraining seed, for a control.
        seed: Seed of the random subspaces and of the permutations.

    Returns:
        One row per layer, matrix, family, rank rule, quantity and outcome that occurs.
    """
    check_same_shapes(base=base, tuned=tuned)
    layers = range(n_layers(tuned))
    matrices = [(layer, matrix) for matrix in mlp_input_matrices(tuned) for layer in layers]
    sites = [f"blocks.{layer}.mlp.hook_in" for layer in layers]
    spaces = {
        (layer, matrix): _spaces(base, other_base, f"blocks.{layer}.{matrix}", layer_seed(seed, i))
        for i, (layer, matrix) in enumerate(matrices)
    }
    rows = []
    for family, batch in requests.items():
        masks = _outcome_masks(outcomes[family])
        inputs = end_of_text_activations(tuned, batch, sites)
        for layer, matrix in sorted(matrices, key=lambda pair: pair[0]):
            a, name = inputs[layer], f"blocks.{layer}.{matrix}"
            w, w_base = (weight_matrix(each, name).cpu() for each in (tuned, base))
            generator = torch.Generator().manual_seed(seed)
            orders = [torch.randperm(len(w), generator=generator) for _ in range(N_DRAWS)]
            quantities = {"pre": a @ w.T}
            if bool((w != w_base).any()):
                quantities["delta"] = a @ (w - w_base).T
            for rule, subspaces in spaces[layer, matrix].items():
                for quantity, z in quantities.items():
                    shares = _shares(z, subspaces, orders)
                    for outcome, mask in masks:
                        key = (layer, matrix, family, rule, quantity, outcome, int(mask.sum()))
                        rows.append(NullShareRow(*key, subspaces.null.chance, **_columns(shares, mask)))
    return rows


def _spaces(
    base: PreTrainedModel, other_base: PreTrainedModel | None, name: str, seed: int
) -> dict[RankRule, _Spaces]:
    """The base's left null space and its controls, by rank rule."""
    weight = weight_matrix(base, name).cpu()
    spaces: dict[RankRule, _Spaces] = {}
    for rule in RULES:
        null = left_null_space(weight, rule)
        generator = torch.Generator().manual_seed(seed)
        seeds = torch.randint(2**62, (N_DRAWS,), generator=generator).tolist()
        random = [random_subspace(len(weight), null.dimension, each) for each in seeds]
        other = None if other_base is None else left_null_space(weight_matrix(other_base, name).cpu(), rule)
        spaces[rule] = _Spaces(null, random, other)
    return spaces


class _Shares(NamedTuple):
    """Shares of every vector; None where a subspace has dimension 0."""

    null: Tensor | None
    other_seed: Tensor | None
    random: list[Tensor | None]
    permuted: list[Tensor | None]


def _shares(z: Tensor, spaces: _Spaces, orders: Sequence[Tensor]) -> _Shares:
    """Shares of every vector in the null space and in the controls, and with permuted entries."""
    return _Shares(
        subspace_share(z, spaces.null),
        None if spaces.other_seed is None else subspace_share(z, spaces.other_seed),
        [subspace_share(z, space) for space in spaces.random],
        [subspace_share(z[:, order], spaces.null) for order in orders],
    )


def _columns(shares: _Shares, mask: np.ndarray) -> dict[str, float | None]:
    """Means over some requests, of controls with the standard deviation over draws."""

    def means(draws: Sequence[Tensor | None]) -> list[float]:
        return [float(share[mask].mean()) for share in draws if share is not None]

    columns: dict[str, float | None] = {}
    for name, draws in (("random_share", means(shares.random)), ("permuted_share", means(shares.permuted))):
        columns[name] = mean(draws) if draws else None
        columns[f"{name}_sd"] = stdev(draws) if draws else None
    for name, share in (("share", shares.null), ("other_seed_share", shares.other_seed)):
        columns[name] = None if share is None else float(share[mask].mean())
    return columns


def _outcome_masks(outcomes: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A mask of all requests, and one for each outcome that occurs."""
    masks = [("all", np.ones(len(outcomes), dtype=bool))]
    masks += [(name, outcomes == i) for i, name in enumerate(OUTCOMES)]
    return [(name, mask) for name, mask in masks if mask.any()]
