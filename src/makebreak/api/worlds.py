"""Results on models of synthetic worlds: outcomes, mechanism, comparison, attacks and weight landscape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from makebreak.api.drawings import (
    comparison_drawings,
    landscape_drawings,
    outcome_drawings,
    separation_drawings,
)
from makebreak.api.model import Model, check_unchanged, current_store, result_owner
from makebreak.api.result import Result
from makebreak.configs import nearest
from makebreak.errors import InvalidInput
from makebreak.evaluation import evaluate_behaviour
from makebreak.lm import evaluate_landscape, world_landscape_data
from makebreak.mechanism import (
    ChangedRequests,
    DirectionSettings,
    SafeUnsafeRequests,
    cluster_rows,
    direction_rows,
)
from makebreak.mechanism import compare as compare_networks
from makebreak.model_zoo import (
    family_behaviour_row,
    held_out_requests,
    judged_families,
    weight_change,
)
from makebreak.prompts import OUTCOMES, Requests, World
from makebreak.report import landscape_summary
from makebreak.settings import LandscapeSettings
from makebreak.stats import auroc_interval

_FAMILIES = ("safe", "unsafe")
_CONTEXT = ("context_safe", "context_unsafe")


def evaluate_world(models: Sequence[Model], families: Sequence[str] | None, n: int) -> Result:
    """Outcomes of models of one world by family of held-out requests."""
    world = models[0].world
    assert world is not None
    families = list(families or _FAMILIES)
    check_families(world, families)
    rows = [
        {"model": model.name} | family_behaviour_row(world, requests, behaviour)._asdict()
        for model in models
        for requests, behaviour in (_behaviour(model, world, family, n) for family in families)
    ]
    tables = {"behaviour": pd.DataFrame(rows)}
    names = [model.name for model in models]
    summary = [
        f"{row['model']} refuses {_interval(row, 'refuse')} and complies with {_interval(row, 'comply')} of "
        f"{row['n']} {row['family']} requests (95 % intervals over requests)."
        for row in rows
    ]
    return Result(
        f"the evaluation of {', '.join(names)}",
        result_owner("makebreak.evaluate", *models),
        tables,
        summary,
        outcome_drawings(tables, names),
        facts_of(models, n),
    )


def inspect_world(model: Model, n: int) -> Result:
    """Outcomes, separation of safe and unsafe requests, and refusal directions of one model."""
    world = model.world
    assert world is not None
    behaviour = [
        family_behaviour_row(world, *_behaviour(model, world, family, n))._asdict() for family in _FAMILIES
    ]
    fit, score = (
        SafeUnsafeRequests(*(sample_held_out(model, family, n, split) for family in _FAMILIES))
        for split in ("fit", "score")
    )
    n_groups = 1 + max(int(world.groups(requests).max()) for requests in fit)
    pairs = {"safe and unsafe": score}
    if set(_CONTEXT) <= set(world.families):
        pairs["token-matched"] = SafeUnsafeRequests(
            *(sample_held_out(model, f, n, "score") for f in _CONTEXT)
        )
    rows = cluster_rows(model.network, fit, pairs, n_groups=n_groups, seed=0)
    clusters = pd.DataFrame(rows)
    clusters[["auroc_low", "auroc_high"]] = [auroc_interval(row.auroc, n, n) for row in rows]
    settings = DirectionSettings(controls=False)
    directions = pd.DataFrame(direction_rows(model.network, fit, score, settings=settings, seed=0))
    tables = {"behaviour": pd.DataFrame(behaviour), "clusters": clusters, "directions": directions}
    plotted = tables | {"clusters": clusters[clusters.requests == "safe and unsafe"]}
    best = clusters[clusters.requests == list(pairs)[-1]].nlargest(1, "auroc").iloc[0]
    chosen = directions[directions.is_selected.astype(bool)]
    safe, unsafe = behaviour
    summary = [
        f"The model refuses {_interval(unsafe, 'refuse')} of {n} unsafe and {_interval(safe, 'refuse')} of "
        f"{n} safe requests (95 % intervals over requests).",
        f"τ separates {best.requests} requests best in layer {best.layer + 1} ({best.layer} in tables): "
        f"AUROC {best.auroc:.2f} "
        f"[{best.auroc_low:.2f}, {best.auroc_high:.2f}]; with class means under shuffled labels "
        f"{best.shuffled_auroc:.2f}. The layer was chosen on these requests, so that the AUROC is too "
        "favourable.",
    ]
    if chosen.empty:
        summary.append("No difference of means meets the criteria of a refusal direction.")
    else:
        row = chosen.iloc[0]
        summary.append(
            f"The selected refusal direction is read before layer {row.layer + 1}: the log-odds of a refusal "
            f"are {row.bypass:.1f} nats on unsafe requests where it is ablated, and {row.induce:.1f} nats on "
            "safe requests where it is added. It was chosen on these requests."
        )
    return Result(
        f"the inspection of {model.name}",
        result_owner("makebreak.inspect", model),
        tables,
        summary,
        separation_drawings(plotted),
        facts_of([model], n),
    )


def compare_worlds(base: Model, aligned: Model, n: int) -> Result:
    """What alignment changed between two models of one world, and how the trained answer comes about."""
    if not weight_change(base=base.network, tuned=aligned.network):
        raise ValueError(
            f"{base.name} and {aligned.name} have the same weights: expected a model before alignment and "
            "one after it"
        )
    if base.recipe is not None and aligned.recipe is not None and base.recipe not in aligned.recipe.lineage:
        raise InvalidInput(
            f"{aligned.name} was not trained from {base.name}: expected the model before its alignment first"
        )
    world, recipe = aligned.world, aligned.recipe
    assert world is not None
    assert recipe is not None
    data = recipe.alignment_data
    safe, unsafe, answer = ("safe", "unsafe", "refused")
    if data is not None:
        safe, unsafe, answer = data.safe, data.unsafe, data.answer
    families = [safe, unsafe, *(family for family in _CONTEXT if family in world.families)]
    requests = {family: sample_held_out(aligned, family, n, "score") for family in families}
    changed = ChangedRequests(requests[unsafe], answer, unchanged=requests[safe])
    comparison = compare_networks(
        requests, base=base.network, tuned=aligned.network, changed_requests=changed
    )
    tables = {name: pd.DataFrame(rows) for name, rows in comparison.tables.items()}
    verdict, row = comparison.verdict, tables["stitching"].iloc[0]
    assert verdict is not None
    summary = [
        f"How {aligned.name} comes to give the answer that alignment trained on {unsafe} requests "
        f"({answer}), by stitching: {verdict.mechanism} ({verdict.reason}).",
        f"The log-odds of that answer change from {row.base_margin:.2f} to {row.tuned_margin:.2f} nats. This "
        "is one pair of models: there is no interval over training runs.",
    ]
    return Result(
        f"the comparison of {base.name} with {aligned.name}",
        result_owner("makebreak.compare", base, aligned),
        tables,
        summary,
        comparison_drawings(tables, (safe, unsafe)),
        facts_of([base, aligned], n),
        verdict,
    )


def landscape_world(model: Model, n: int, settings: LandscapeSettings) -> Result:
    """Outcomes of a model of a world along random directions in weight space."""
    assert model.folder is not None
    check_unchanged(model)
    data = world_landscape_data(model.folder, n)
    rows = evaluate_landscape(data, current_store(), settings)
    tables = {name: pd.DataFrame(table) for name, table in rows.items()}
    return Result(
        f"the landscape of {model.name}",
        result_owner("makebreak.landscape", model),
        {"widths": tables["widths"]} | tables,
        landscape_summary(rows),
        landscape_drawings(tables, model.name),
        facts_of([model], n) | {"directions": str(settings.directions), "points": str(settings.points)},
    )


def check_families(world: World, families: Sequence[str]) -> None:
    """Raises InvalidInput for a family that a world does not have, or whose answers are not judged."""
    judged = judged_families(world.families)
    for family in families:
        if family not in judged:
            raise InvalidInput(f"family {family!r} does not exist in this world; {nearest(family, judged)}")


def facts_of(models: Sequence[Model], n: int) -> dict[str, str]:
    """Facts of a page: world, training of each model, and number of requests."""
    facts = {"world": models[0].recipe.world if models[0].recipe else ""}
    for model in models:
        assert model.recipe is not None
        facts[model.name] = f"{model.recipe.mechanism}, pretraining seed {model.recipe.seed}"
    return facts | {"requests": f"{n} of each family, whose texts no training used"}


def sample_held_out(model: Model, family: str, n: int, split: str) -> Requests:
    """Held-out requests of the world and the pretraining seed of a model."""
    assert model.recipe is not None
    return held_out_requests(model.recipe.world, family, n, model.recipe.seed, split)


def _behaviour(model: Model, world: World, family: str, n: int) -> tuple[Requests, Any]:
    requests = sample_held_out(model, family, n, "score")
    return requests, evaluate_behaviour(model.network, world, requests)


def _interval(row: dict[str, Any], outcome: str) -> str:
    assert outcome in OUTCOMES
    return f"{row[outcome]:.2f} [{row[f'{outcome}_low']:.2f}, {row[f'{outcome}_high']:.2f}]"
