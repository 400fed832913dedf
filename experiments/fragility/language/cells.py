"""Cells of the study on a language model: every training's models, attacks on them, then the statistics."""

from __future__ import annotations

from experiments.fragility.language.models import (
    LanguageModelSettings,
    LanguageTraining,
    language_model_tables,
)
from experiments.fragility.language.outcomes import LanguageOutcomeSettings, language_outcome_tables
from experiments.fragility.language.presets import MECHANISMS, LanguagePreset
from experiments.pretrained import model_identity
from makebreak.studies import TableCell


def language_cells(preset: LanguagePreset, world: str, seeds: tuple[int, ...]) -> list[TableCell]:
    """Cells of every seed and mechanism: its models with their predictors, and the attacks on them.

    Args:
        preset: Sizes of the study.
        world: Name of the world.
        seeds: Alignment seeds.

    Returns:
        The cells, without the statistics over all of them.
    """
    identity, cells = model_identity(preset.model), []
    for seed in seeds:
        for name in preset.mechanisms:
            training = LanguageTraining(
                preset.model,
                identity,
                MECHANISMS[name],
                preset.doses,
                preset.batch_size,
                preset.max_per_family,
                preset.generation,
                seed,
            )
            columns = {"world": world, "seed": seed, "mechanism": name}
            settings = LanguageModelSettings(training, preset.n_qualification, preset.requires_qualification)
            models = TableCell("fragility-language-models", language_model_tables, columns, settings)
            attack = LanguageOutcomeSettings(
                training, preset.fine_tuning, preset.n_attacked, preset.n_outcome
            )
            cells += [
                models,
                TableCell(
                    "fragility-language-outcomes", language_outcome_tables, columns, attack, needs=(models,)
                ),
            ]
    return cells
