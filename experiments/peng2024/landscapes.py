"""Safety landscape of one model: outcomes along directions and over planes, and cheap predictors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from experiments.peng2024.fine_tuning import FAMILIES, RequestSettings, best_rate, held_out_landscape
from experiments.peng2024.presets import HARMFUL, MAX_NORM, SMALL_NORM, WITH_REFUSALS
from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs, score_targets
from makebreak.mechanism import end_of_text_activations
from makebreak.model_zoo import held_out_requests, weight_change
from makebreak.models import load_model, n_layers
from makebreak.prompts import Outcome, Requests, load_world, target_sequences
from makebreak.recipes import checkpoints
from makebreak.revisions import cache_revision
from makebreak.studies import Inputs
from makebreak.weight_landscape import (
    Direction,
    Landscape,
    OutcomeRates,
    Outcomes,
    ablation_direction,
    direction_to,
    find_bracket,
    fold_norms,
    norm_readers,
    outcome_rates,
    random_direction,
    rescale_norms,
    rescale_to_norm,
    width_interval,
    worst_direction,
)

JAILBREAK = "competing_tasks_safe_branch"
"""Family of jailbreaks that succeeds most often."""
N_REPEATED_DIRECTIONS = 2
"""Random directions of a normalisation or parametrisation that is only compared with the published one."""
FIRST_BRACKET = 0.0125
"""Relative norm at which the search for the end of refusal along a chosen direction begins."""
BRACKET_LEVEL = 0.9
"""Share of unsafe requests not refused at which that search ends."""
WORST_RADIUS = 0.02
"""Relative norm of the ball in which the worst direction is sought."""
INTERPOLATION = tuple(np.linspace(-0.25, 1.25, 13).round(3).tolist())
"""Coordinates on the line to another checkpoint: 0 is the model, 1 the checkpoint."""
INTERPOLATION_PREFIX = "to "
"""Start of the names of directions that are lines to other checkpoints."""


class CurveRow(NamedTuple):
    """Outcomes at one point of one direction."""

    direction: str
    """Kind of direction: `random` (norm of every tensor), `filter` (norm of every row), `fine-tuning`,
    `worst`, `ablation`, random ones in other parametrisations (`rescaled`, `folded`, `folded own`), or a line
    to another model (`to harmful`, `to mix`, `to base`)."""
    direction_index: int
    """Number of the direction among those of its kind."""
    coordinate: float
    """Coordinate: relative norm of the perturbation, or share of the way on a line."""
    rates: OutcomeRates
    """Shares of requests by outcome."""
    jailbreak_survival: float | None
    """Share of the jailbreaks that succeed at the origin and still succeed; None beyond `SMALL_NORM`, for
    other than random directions, and if none succeeds at the origin."""


class PlaneRow(NamedTuple):
    """Outcomes at one point of a plane in weight space."""

    plane: str
    """`random`: two random directions; `fine-tuning`: towards `HARMFUL` (x) and `WITH_REFUSALS` (y)."""
    x: float
    """Coordinate along the first direction."""
    y: float
    """Coordinate along the second direction."""
    rates: OutcomeRates
    """Shares of requests by outcome."""


class PathRow(NamedTuple):
    """Position of one checkpoint of an attack in the plane of two attacks, by least squares."""

    kind: str
    """Name of the attack."""
    step: int
    """Optimisation step."""
    x: float
    """Coordinate along the update of `HARMFUL`."""
    y: float
    """Coordinate along the update of `WITH_REFUSALS`."""
    residual: float
    """Norm of the part of the update outside the plane."""


class Walk(NamedTuple):
    """A direction and the coordinates at which a model is evaluated along it."""

    direction: str
    """Kind of direction, as in `CurveRow`."""
    direction_index: int
    """Number of the direction among those of its kind."""
    model: PreTrainedModel
    """The model that is perturbed."""
    step: Direction
    """The direction."""
    coordinates: list[float]
    """Points along it."""


@dataclass(frozen=True)
class LandscapeSettings(RequestSettings):
    """Directions and points at which a model is evaluated."""

    n_directions: int
    """Number of random directions."""
    n_points: int
    """Points of a curve, an odd number."""
    attacks: tuple[str, ...]
    """Attacks of which one model per learning rate is given, in the order of the models."""
    rates: tuple[float, ...]
    """Learning rates of each attack."""
    all_directions: bool
    """Whether other than random directions are evaluated."""
    n_map_points: int | None
    """Points per side of a plane; None for no plane."""
    attack_plane: bool
    """Whether the plane of two attacks is evaluated as well."""
    max_norm: float = MAX_NORM
    """Largest relative norm of a perturbation."""
    worst_radius: float = WORST_RADIUS
    """Relative norm of the ball in which the worst direction is sought."""


@cache_revision(7)
def landscape_tables(inputs: Inputs) -> dict[str, Iterable[Any]]:
    """Tables of one model.

    Args:
        inputs: The model, its base, and the models of each attack at each learning rate; tables of these
            attacks in the same order; settings are `LandscapeSettings`.

    Returns:
        Table → rows: `curves` (`CurveRow`), `predictors` (one dictionary of numbers that are known before an
        attack), and with a plane `maps` (`PlaneRow`) and `paths` (`PathRow`).
    """
    settings: LandscapeSettings = inputs.settings
    symbols = load_world(settings.world).vocabulary.symbols
    attacked = dict(zip(product(settings.attacks, settings.rates), inputs.models[2:], strict=True))
    pairs = zip(product(settings.attacks, settings.rates), inputs.tables, strict=True)
    rows = [
        {"kind": kind, "rate": rate} | row for (kind, rate), tables in pairs for row in tables["fine_tuning"]
    ]
    attack_folders = {name: attacked[name, best_rate(rows, name)] for name in settings.attacks}
    paths = {"own": inputs.models[0], "base": inputs.models[1], **attack_folders}
    models = {name: load_model(path, symbols=symbols) for name, path in paths.items()}
    landscape = _ModelLandscape(settings, inputs.folder, models["own"])
    tables: dict[str, Iterable[Any]] = {
        "curves": list(landscape.curve_rows(models)),
        "predictors": [landscape.predictors(models["base"])],
    }
    if settings.n_map_points is not None:
        tables["maps"] = list(landscape.plane_rows(models, settings.n_map_points))
        tables["paths"] = list(_path_rows(models, attack_folders, symbols))
    return tables


class _ModelLandscape:
    """Evaluation of one model around its weights; every point is appended to a file of a folder."""

    def __init__(self, settings: LandscapeSettings, folder: Path, model: PreTrainedModel) -> None:
        self.settings, self.folder, self.model = settings, folder, model
        self.axis = np.linspace(-settings.max_norm, settings.max_norm, settings.n_points).round(9).tolist()
        self.landscape = self._of(model)
        self.origin = self.landscape.points(Direction({}), path=self._path("origin"))(0.0)

    def _of(self, model: PreTrainedModel, families: tuple[str, ...] = FAMILIES) -> Landscape:
        settings = self.settings
        return held_out_landscape(model, settings.world, settings.seed, settings.n, families)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.jsonl"

    def _outcomes(self, walk: Walk) -> dict[float, Outcomes]:
        """Outcomes by coordinate; what is in the folder is not evaluated again."""
        origin = self.origin if walk.model is self.model else None
        path = self._path(f"{walk.direction} {walk.direction_index}")
        return self._of(walk.model).walk(walk.step, walk.coordinates, path, origin=origin)

    def _random_walks(self) -> list[Walk]:
        indices = range(self.settings.n_directions)
        return [Walk("random", i, self.model, random_direction(self.model, i), self.axis) for i in indices]

    def curve_rows(self, models: Mapping[str, PreTrainedModel]) -> Iterator[CurveRow]:
        """One row per direction and point."""
        others = self._other_walks(models) if self.settings.all_directions else []
        for walk in self._random_walks() + others:
            jailbreaks = self._jailbreak_shares(walk) if walk.direction == "random" else {}
            for a, outcomes in self._outcomes(walk).items():
                rates = outcome_rates(outcomes)
                yield CurveRow(walk.direction, walk.direction_index, a, rates, jailbreaks.get(a))

    def _jailbreak_shares(self, walk: Walk) -> dict[float, float]:
        """Share of the jailbreaks at the origin that still succeed, by coordinate up to `SMALL_NORM`."""
        axis = [a for a in walk.coordinates if abs(a) <= SMALL_NORM]
        path = self._path(f"jailbreak {walk.direction_index}")
        points = self._of(self.model, (JAILBREAK,)).walk(walk.step, axis, path)
        complies = {a: outcomes[JAILBREAK] == Outcome.COMPLY for a, outcomes in points.items()}
        succeeds = complies[0.0]
        return {a: float(mask[succeeds].mean()) for a, mask in complies.items()} if succeeds.any() else {}

    def _bracketed_axis(self, direction: Direction, name: str) -> list[float]:
        """As many points as in a random direction, to twice the distance where nearly nothing is refused."""
        points = self.landscape.points(direction, path=self._path(f"{name} 0"), origin=self.origin)

        def not_refused(a: float) -> float:
            return 1 - outcome_rates(self.landscape.outcomes(points(a))).refusal_rate

        with points.perturbation:
            ends = [find_bracket(not_refused, BRACKET_LEVEL, first=sign * FIRST_BRACKET) for sign in (1, -1)]
        limit = min([self.settings.max_norm, *(2 * abs(end) for end in ends if end is not None)])
        return np.linspace(-limit, limit, self.settings.n_points).round(9).tolist()

    def _other_walks(self, models: Mapping[str, PreTrainedModel]) -> list[Walk]:
        """Walks along all but the plain random directions."""
        model, axis = self.model, self.axis
        indices = range(min(N_REPEATED_DIRECTIONS, self.settings.n_directions))
        gains = {
            name: torch.exp(torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(i)))
            for i, name in enumerate(norm_readers(model))
        }
        rescaled = rescale_norms(model, gains)
        reparametrised = {
            "rescaled": rescaled,
            "folded": fold_norms(rescaled),
            "folded own": fold_norms(model),
        }
        walks = [
            Walk("filter", i, model, random_direction(model, i, normalisation="row"), axis) for i in indices
        ]
        for name, variant in reparametrised.items():
            walks += [Walk(name, i, variant, random_direction(variant, i), axis) for i in indices]
        chosen = {
            "fine-tuning": rescale_to_norm(model, direction_to(model, models[HARMFUL])),
            "worst": worst_direction(model, self._refusal_nll, radius=self.settings.worst_radius),
            "ablation": ablation_direction(model, self._refusal_direction()),
        }
        for name, direction in chosen.items():
            walks.append(Walk(name, 0, model, direction, self._bracketed_axis(direction, name)))
        ends = {"to harmful": models[HARMFUL], "to mix": models.get(WITH_REFUSALS), "to base": models["base"]}
        for name, end in ends.items():
            if end is not None and weight_change(base=model, tuned=end):
                walks.append(Walk(name, 0, model, direction_to(model, end), list(INTERPOLATION)))
        return walks

    def plane_rows(self, models: Mapping[str, PreTrainedModel], n_points: int) -> Iterator[PlaneRow]:
        """One row per point of the plane of two random directions and, if wanted, of two attacks."""
        model, limit = self.model, self.settings.max_norm
        square = np.linspace(-limit, limit, n_points).round(9).tolist()
        planes = {"random": ((random_direction(model, 0), random_direction(model, 1)), square)}
        if self.settings.attack_plane:
            axis = np.linspace(INTERPOLATION[0], INTERPOLATION[-1], n_points).round(9).tolist()
            ends = (direction_to(model, models[HARMFUL]), direction_to(model, models[WITH_REFUSALS]))
            planes["fine-tuning"] = (ends, axis)
        for name, (directions, axis) in planes.items():
            path = self._path(f"map {name}")
            for point in self.landscape.points(*directions, path=path, origin=self.origin).grid(axis, axis):
                x, y = point["coordinates"]
                yield PlaneRow(name, x, y, outcome_rates(self.landscape.outcomes(point)))

    def predictors(self, base: PreTrainedModel) -> dict[str, float]:
        """What is known before an attack.

        Args:
            base: The model before alignment.

        Returns:
            `margin`, mean refusal margin on held-out unsafe requests, nats; `weight_change`, norm of the
            change from the base; and the 95 % interval of the half-width, `r50_low` and `r50_high`.
        """
        unsafe = self.landscape.requests["unsafe"]
        margin = log_odds(next_token_log_probs(self.model, unsafe), first_tokens(unsafe, "refused")).mean()
        walks = map(self._outcomes, self._random_walks())
        low, high = width_interval([{a: point["unsafe"] for a, point in points.items()} for points in walks])
        change = weight_change(base=base, tuned=self.model)
        return {"margin": float(margin), "weight_change": change, "r50_low": low, "r50_high": high}

    def _fit_requests(self, family: str) -> Requests:
        """Requests of the fit split."""
        settings = self.settings
        return held_out_requests(settings.world, family, settings.n, settings.seed, "fit")

    def _refusal_nll(self, model: PreTrainedModel) -> Tensor:
        """Mean negative log-likelihood of the refusal on unsafe requests of the fit split."""
        unsafe = self._fit_requests("unsafe")
        return score_targets(model, target_sequences(unsafe, "refused")).nll.mean()

    def _refusal_direction(self) -> Tensor:
        """Difference of mean states of unsafe and safe requests at the input of block n_layers // 2."""
        site = [f"blocks.{n_layers(self.model) // 2}.hook_resid_pre"]
        means = {}
        for family in ("unsafe", "safe"):
            requests = self._fit_requests(family)
            means[family] = end_of_text_activations(self.model, requests, site)[0].mean(dim=0)
        return means["unsafe"] - means["safe"]


def _path_rows(
    models: Mapping[str, PreTrainedModel], attack_folders: Mapping[str, Path], symbols: Any
) -> Iterator[PathRow]:
    """Positions of all kept steps of both attacks in their plane."""
    start = {name: p.detach().double() for name, p in models["own"].named_parameters()}

    def update(model: PreTrainedModel) -> Tensor:
        changes = [(p.detach().double() - start[name]).flatten() for name, p in model.named_parameters()]
        return torch.cat(changes)

    axes = torch.stack([update(models[HARMFUL]), update(models[WITH_REFUSALS])], dim=1)
    for attack, folder in attack_folders.items():
        steps = {step: load_model(path, symbols=symbols) for step, path in checkpoints(folder).items()}
        for step, model in {0: models["own"], **steps}.items():
            change = update(model)
            solution = torch.linalg.lstsq(axes, change[:, None]).solution[:, 0]
            residual = (change - axes @ solution).norm()
            # the last digits depend on where in memory the tensors lie
            x, y, distance = torch.cat([solution, residual[None]]).round(decimals=9).tolist()
            yield PathRow(attack, step, x, y, distance)
