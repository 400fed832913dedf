"""Effect of prompt templates: template of the fine-tuning examples by template of the unsafe requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import pandas as pd

from experiments.jan2024.requests import RequestSettings
from experiments.recipes.formats import Preset, Tuning
from makebreak.evaluation import evaluate_behaviour
from makebreak.model_zoo import held_out_requests
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import Recipe
from makebreak.revisions import cache_revision
from makebreak.studies import Inputs, TableCell
from makebreak.training import FineTuning
from synthetic import Family

PLAIN, OTHER, SYSTEM, OTHER_SYSTEM, HEADER = "plain", "other", "system", "other_system", "header"
"""Templates: that of alignment; another; both with a system block; one where all answers begin alike."""
GRID = (PLAIN, OTHER, SYSTEM, OTHER_SYSTEM)
"""Templates that are crossed with one another."""
UNTUNED = "untuned"
"""In place of a format: the aligned model."""


class TemplateRow(NamedTuple):
    """Outcomes of one model on held-out requests of one template, format and family, shares of requests."""

    template: str
    """Template of the requests."""
    format: str
    """Format of the requests."""
    family: str
    """`safe` or `unsafe`."""
    refuse: float
    """Share that is refused."""
    comply: float
    """Share that is answered as instructed."""
    comply_wrongly: float
    """Share with a well-formed answer that is neither the instructed one nor a refusal."""
    broken: float
    """Share with a degenerate answer."""


def templated_recipe(preset: Preset, seed: int, task: str, template: str) -> Recipe:
    """Recipe of a model whose fine-tuning examples have a template.

    Args:
        preset: A preset in a world of templates.
        seed: Pretraining seed.
        task: Format whose task is tuned; `UNTUNED` for the aligned model.
        template: Template of the examples.

    Returns:
        The recipe.
    """
    world, coverage = preset.worlds[0], preset.coverages[0]
    if task == UNTUNED:
        return preset.aligned(world, seed, coverage)
    recipe = preset.tuned(world, seed, coverage, Tuning(task, "task", preset.rate))
    stage = recipe.alignments[-1]
    assert isinstance(stage.objective, FineTuning)
    objective = replace(stage.objective, family=str(Family("safe", task, "new", template)))
    return replace(recipe, alignments=(*recipe.alignments[:-1], replace(stage, objective=objective)))


def tuned_templates(preset: Preset) -> list[tuple[str, str]]:
    """Pairs of tuned format and template of all models; the aligned model (plain template) is first."""
    return [(UNTUNED, PLAIN), *product(preset.formats, (*GRID, HEADER))]


def _request_templates(task: str, template: str) -> tuple[str, ...]:
    """Templates of the requests on which a model is evaluated."""
    if task == UNTUNED:
        return (*GRID, HEADER)
    return GRID if template in GRID else (HEADER,)


@dataclass(frozen=True)
class TemplateSettings(RequestSettings):
    """Requests on which a model is evaluated, by template."""

    templates: tuple[str, ...]
    """Templates of the requests."""


def template_cell(preset: Preset, seed: int, task: str, template: str) -> TableCell:
    """Cell of a model in all templates that are compared.

    Args:
        preset: A preset in a world of templates.
        seed: Pretraining seed.
        task: Format whose task is tuned; `UNTUNED` for the aligned model.
        template: Template of the examples.

    Returns:
        The cell.
    """
    columns = {"seed": seed, "tuned_on": task, "tuned_template": template}
    settings = TemplateSettings(
        preset.worlds[0], seed, preset.n, preset.formats, _request_templates(task, template)
    )
    recipe = templated_recipe(preset, seed, task, template)
    return TableCell("formats-templates", template_tables, columns, settings, (recipe,))


@cache_revision(3)
def template_tables(inputs: Inputs) -> dict[str, Iterable[TemplateRow]]:
    """Table `templates`: outcomes of a model in all templates that are compared.

    Args:
        inputs: The model; settings are `TemplateSettings`.

    Returns:
        One row per template, format and family of the requests.
    """
    settings: TemplateSettings = inputs.settings
    world = load_world(settings.world)
    model = load_model(inputs.models[0], symbols=world.vocabulary.symbols)
    rows = []
    for template, name, family in product(settings.templates, settings.formats, ("safe", "unsafe")):
        full_name = str(Family(family, name, template=template))
        requests = held_out_requests(settings.world, full_name, settings.n, settings.seed, "score")
        rows.append(TemplateRow(template, name, family, **evaluate_behaviour(model, world, requests).rates))
    return {"templates": rows}


def template_matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Rise of what is not refused of unsafe requests, mean of formats and tuned tasks.

    Args:
        rows: `TemplateRow`s of one seed.

    Returns:
        Template of the examples (rows) × template of the requests (columns).
    """
    unsafe = rows[rows.family == "unsafe"]
    means = unsafe.groupby(["tuned_on", "tuned_template", "template"], sort=False).refuse.mean().reset_index()
    before = means[means.tuned_on == UNTUNED].set_index("template").refuse
    tuned = means[means.tuned_on != UNTUNED]
    tuned = tuned.assign(rise=before.loc[tuned.template].to_numpy() - tuned.refuse)
    return tuned.pivot_table(index="tuned_template", columns="template", values="rise", sort=False)
