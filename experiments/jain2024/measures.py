"""Measures of every arm and checkpoint of the study."""

from __future__ import annotations

from experiments.jain2024.activation_measures import ClusterMeasure, ProbeMeasure
from experiments.jain2024.attack_measures import AttackMeasure
from experiments.jain2024.detectability_measure import DetectabilityMeasure
from experiments.jain2024.position_measures import AnswerPositionMeasure
from experiments.jain2024.published_measure import PublishedTauMeasure
from experiments.jain2024.training_measures import ConstrainedMeasure, ExtrapolationMeasure
from experiments.jain2024.update_measures import (
    N_PROJECTION_DRAWS,
    LocalisationMeasure,
    UpdateMeasure,
    UpdateProjectionMeasure,
)
from experiments.recipes.composition import (
    CONSTRAINED_ARMS,
    DOSE_ARMS,
    EXTRAPOLATED_ARMS,
    MATCHED_CONTROLS,
    METHODS,
    Preset,
)
from makebreak.model_zoo import FamilyMeasure, Measure, SafetyMeasure

FEW_DRAWS = 5
"""The same in quick presets."""


def final_measures(preset: Preset, arm: str) -> tuple[Measure, ...]:
    """All measures of a finished model of an arm."""
    n = preset.n_requests
    measures: tuple[Measure, ...] = (SafetyMeasure(n), FamilyMeasure(n), ClusterMeasure(n), UpdateMeasure(n))
    if preset.published:
        measures += (PublishedTauMeasure(n),)
    if arm in ("base", *METHODS):
        measures += attack_measures(preset)
    if arm in METHODS:
        measures += (LocalisationMeasure(n), ProbeMeasure(n), AnswerPositionMeasure(n))
    if arm in METHODS or (arm in MATCHED_CONTROLS and preset.thorough):
        measures += (UpdateProjectionMeasure(n, N_PROJECTION_DRAWS if preset.thorough else FEW_DRAWS),)
    if arm in CONSTRAINED_ARMS and preset.thorough:
        measures += (ConstrainedMeasure(n),)
    if arm in EXTRAPOLATED_ARMS:
        measures += (ExtrapolationMeasure(n),)
    return measures


def attack_measures(preset: Preset) -> tuple[Measure, ...]:
    """All measures of a model of another world than the study's own."""
    if preset.thorough:
        attacks = AttackMeasure(preset.n_requests, preset.n_attacked)
    else:
        attacks = AttackMeasure(preset.n_requests, preset.n_attacked, steps=4, candidates=16)
    return (attacks, DetectabilityMeasure(preset.n_requests))


def checkpoint_measures(preset: Preset, arm: str, *, early: bool = False) -> tuple[Measure, ...]:
    """Measures of the checkpoints before the last one.

    Args:
        preset: Sizes of the study.
        arm: Arm of the model.
        early: Whether the checkpoint is one of the many early ones (`Preset.extra_checkpoints`), whose
            updates are not measured.

    Returns:
        The measures.
    """
    n = preset.n_requests
    if arm in DOSE_ARMS:
        return (SafetyMeasure(n), ClusterMeasure(n))
    if arm in METHODS and preset.thorough:
        return (SafetyMeasure(n), ClusterMeasure(n), *(() if early else (UpdateMeasure(n),)))
    return (SafetyMeasure(n),)
