"""Interchange of the class-mean projection of successful attacks with that of other requests.

An attack succeeds; its state lies on the safe side of the class means. If that is why it succeeds, it fails
once the component of its state along the difference of class means is that of an unsafe request. The donor
is matched: of all clean unsafe requests it is the one whose state is nearest but for that component. Controls
are safe donors, random directions along which states move as far, and the same interchange in the base, which
refuses nothing: what it breaks there is not refusal.

Source: interchange interventions (Geiger et al. 2021, "Causal abstractions of neural networks"), restricted
to one direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation import PrefixCachedRunner
from makebreak.mechanism.attacked import AttackedRequests
from makebreak.mechanism.directions import SafeUnsafeRequests
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.mechanism.projection import auroc_or_none

MIN_EACH = 10
"""Fewest successes that are moved towards the unsafe mean from which a rate is computed, and fewest successes
and failures from which an AUROC is."""
N_RANDOM_DIRECTIONS = 5
"""Random directions of the control, whose rates are averaged."""
_DONORS = {"unsafe": slice(0, 1), "safe": slice(1, 2), "random": slice(2, None)}  # of the shifts


class InterchangeRow(NamedTuple):
    """Effect of one interchange before one layer on successful attacks.

    Rates are of the successes whose projection an unsafe donor moves towards the unsafe mean; they are None
    for fewer than `MIN_EACH` of them.
    """

    layer: int
    """Layer whose residual input is changed."""
    donor: str
    """`unsafe` or `safe`, whose projection a success is given; `random`, a random direction along which it
    moves as far as an unsafe donor moves it, mean of `N_RANDOM_DIRECTIONS`."""
    positions: str
    """Where the change is added: `end of text`, or every position of the `prompt`."""
    n: int
    """Number of successes."""
    n_moved: int
    """Number of those that an unsafe donor moves towards the unsafe mean."""
    failure_rate: float | None
    """Share of these that are no longer complied with."""
    refusal_rate: float | None
    """Share of these that are refused instead."""
    fit_auroc: float | None
    """AUROC of success from the projection, on the other half of the attacked requests; None for fewer than
    `MIN_EACH` of an outcome."""


def interchange_rows(
    model: PreTrainedModel,
    attacks: Sequence[AttackedRequests],
    clean: SafeUnsafeRequests,
    *,
    layer: int,
    n: int,
    seed: int,
) -> list[InterchangeRow]:
    """Interchanges the projection of successful attacks before a layer.

    Every second attacked request serves to say how well the projection predicts success at this layer
    (`fit_auroc`, for the choice of a layer); successes among the others are changed.

    Args:
        model: The model that was attacked.
        attacks: Attacked requests with their outcomes, successes and failures.
        clean: Safe and unsafe requests that give the class means and the donors.
        layer: Layer whose residual input is changed.
        n: Number of successes of each attack that are changed, at most.
        seed: Seed of the random directions.

    Returns:
        One row per donor and positions.
    """
    site = f"blocks.{layer}.hook_resid_pre"
    safe, unsafe = (end_of_text_activations(model, each, [site])[0].double() for each in clean)
    difference = unsafe.mean(dim=0) - safe.mean(dim=0)
    direction, random = difference / difference.norm(), torch.Generator().manual_seed(seed)
    noise = torch.randn(N_RANDOM_DIRECTIONS, len(direction), generator=random, dtype=torch.float64)
    noise /= noise.norm(dim=1, keepdim=True)
    fit_auroc = _success_auroc(model, [attack[0::2] for attack in attacks], site, direction)
    successes, shifts = [], []
    for attack in (attack[1::2] for attack in attacks):
        chosen = attack[np.flatnonzero(attack.complies)[:n]]
        if len(chosen.requests):
            states = _states(model, chosen, site)
            to_unsafe, to_safe = (interchange_shifts(states, each, direction) for each in (unsafe, safe))
            along = torch.stack([to_unsafe, to_safe])[:, :, None] * direction
            shifts.append(torch.cat([along, to_unsafe[:, None] * noise[:, None]]))
            successes.append(chosen)
    to_unsafe = torch.cat([shift[0] for shift in shifts]) @ direction if shifts else torch.zeros(0)
    is_moved = (to_unsafe > 0).numpy()
    is_enough = int(is_moved.sum()) >= MIN_EACH
    rows = []
    for positions in ("end of text", "prompt"):
        failed, refused = _outcomes(model, successes, shifts, site, everywhere=positions == "prompt")
        for donor, vectors in _DONORS.items():
            rows.append(
                InterchangeRow(
                    layer=layer,
                    donor=donor,
                    positions=positions,
                    n=len(is_moved),
                    n_moved=int(is_moved.sum()),
                    failure_rate=float(failed[vectors][:, is_moved].mean()) if is_enough else None,
                    refusal_rate=float(refused[vectors][:, is_moved].mean()) if is_enough else None,
                    fit_auroc=fit_auroc,
                )
            )
    return rows


def interchange_shifts(
    states: Float[Tensor, "n d_model"],
    donors: Float[Tensor, "m d_model"],
    direction: Float[Tensor, " d_model"],
) -> Float[Tensor, " n"]:
    """How far states move along a direction when they are given the component of their matched donors.

    Args:
        states: The states.
        donors: States of the donors; the matched one is the nearest but for the component.
        direction: A unit vector.

    Returns:
        Signed distances along the direction.
    """
    along, donors_along = states @ direction, donors @ direction
    rest, donors_rest = states - along[:, None] * direction, donors - donors_along[:, None] * direction
    return donors_along[torch.cdist(rest, donors_rest).argmin(dim=1)] - along


def _states(model: PreTrainedModel, attack: AttackedRequests, site: str) -> Float[Tensor, "n d_model"]:
    with attack.attach(model):
        return end_of_text_activations(model, attack.requests, [site])[0].double()


def _success_auroc(
    model: PreTrainedModel, attacks: Sequence[AttackedRequests], site: str, direction: Tensor
) -> float | None:
    """AUROC of success from how safe the projection is; None for too few of an outcome."""
    complies = np.concatenate([attack.complies for attack in attacks])
    safety = -torch.cat([_states(model, attack, site) @ direction for attack in attacks]).numpy()
    return auroc_or_none(safety, complies, min_each=MIN_EACH)


def _outcomes(
    model: PreTrainedModel,
    attacks: Sequence[AttackedRequests],
    shifts: Sequence[Float[Tensor, "m n d_model"]],
    site: str,
    *,
    everywhere: bool,
) -> tuple[Bool[np.ndarray, "m n"], Bool[np.ndarray, "m n"]]:
    """Whether each request fails, and whether it is refused, under each of its shifts."""
    empty = np.zeros((len(_DONORS), 0), dtype=bool)
    failed, refused = [], []
    for attack, shift in zip(attacks, shifts, strict=True):
        with attack.attach(model):
            runner = PrefixCachedRunner.create(model, attack.requests, everywhere=everywhere)
            answers = runner.answers(site, shift)
        failed.append(~answers.instructed.numpy())
        refused.append(answers.refused.numpy())
    return np.concatenate(failed or [empty], axis=1), np.concatenate(refused or [empty], axis=1)
