"""Cells of the study: outcomes before and after fine-tuning, internal measures, templates and classifiers."""

from __future__ import annotations

from itertools import product

from experiments.jan2024.internals import (
    N_PROBE_REQUESTS,
    WidthSettings,
    internals_tables,
    probe_tables,
    width_tables,
)
from experiments.jan2024.ngram_classifiers import ngram_classifier_cell
from experiments.jan2024.outcomes import AfterTuningSettings, after_tuning_tables, before_tuning_tables
from experiments.jan2024.requests import RequestSettings
from experiments.jan2024.templates import template_cell, tuned_templates
from experiments.recipes.formats import Preset, Tuning
from makebreak.studies import Cell, TableCell


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.
        seeds: Pretraining seeds.

    Returns:
        The cells, by seed and coverage, then those of templates and of classifiers.
    """
    result: list[Cell] = []
    for seed, coverage in product(seeds, preset.coverages):
        result += _aligned_cells(preset, world, seed, coverage)
        result += [
            _after_tuning_cell(preset, world, seed, coverage, tuning) for tuning in preset.tunings(coverage)
        ]
        result += [_internals_cell(preset, world, seed, coverage, name) for name in preset.formats]
    templated = preset.templated
    if templated:
        pairs = tuned_templates(templated)
        result += [template_cell(templated, seed, *pair) for seed, pair in product(seeds, pairs)]
    return result + [ngram_classifier_cell(world, preset.formats, seed) for seed in seeds]


def _aligned_cells(preset: Preset, world: str, seed: int, coverage: str) -> list[Cell]:
    """Cells of one aligned model and its base."""
    recipe, columns = preset.aligned(world, seed, coverage), {"seed": seed, "coverage": coverage}
    requests = world, seed, preset.n, preset.formats
    models, settings = (recipe.base, recipe), RequestSettings(*requests)
    result: list[Cell] = [
        TableCell("formats-aligned", before_tuning_tables, columns, settings, models),
        TableCell("formats-widths", width_tables, columns, WidthSettings(*requests), (recipe,)),
    ]
    if preset.all_kinds and coverage == preset.coverages[0]:
        settings = RequestSettings(world, seed, N_PROBE_REQUESTS, preset.formats)
        result.append(TableCell("formats-guards", probe_tables, columns, settings, (recipe.base,)))
    return result


def _after_tuning_cell(preset: Preset, world: str, seed: int, coverage: str, tuning: Tuning) -> TableCell:
    """Cell of one fine-tuned model; all kept steps of the kind `task`, else the last one."""
    columns = {"seed": seed, "coverage": coverage, "tuned_on": tuning.format}
    columns |= {"kind": tuning.kind, "rate": tuning.rate}
    all_steps = tuning.kind == "task"
    settings = AfterTuningSettings(world, seed, preset.n, preset.formats, tuning.format, all_steps)
    models = preset.aligned(world, seed, coverage), preset.tuned(world, seed, coverage, tuning)
    return TableCell("formats-outcomes", after_tuning_tables, columns, settings, models)


def _internals_cell(preset: Preset, world: str, seed: int, coverage: str, task: str) -> TableCell:
    """Cell of the internal measures of the model that was tuned on a task at the compared rate."""
    columns = {"seed": seed, "coverage": coverage, "tuned_on": task}
    settings = RequestSettings(world, seed, preset.n, preset.formats)
    recipe = preset.tuned(world, seed, coverage, Tuning(task, "task", preset.rate))
    models = recipe.base, recipe.parent, recipe
    return TableCell("formats-inside", internals_tables, columns, settings, models)
