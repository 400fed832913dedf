"""Measures of behaviour, taken of many models at once and stored as those of single models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from makebreak.evaluation import stack_behaviours, stack_kl_to_base
from makebreak.model_zoo.behaviour import FamilyMeasure, SafetyMeasure
from makebreak.model_zoo.measure import Subject, load_subject, measure
from makebreak.models import stack_models
from makebreak.recipes import Recipe
from makebreak.store import Store, is_cached

_MOST_MEMBERS = 256


def measure_all(store: Store, recipes: Iterable[Recipe], *measures: SafetyMeasure | FamilyMeasure) -> None:
    """Takes measures of the last step of many models, whose answers are computed in stacks.

    Results lie where `measure` stores them and equal its own up to rounding.

    Args:
        store: Where models and measurements are kept; models must be there (`recipes.build_all`).
        recipes: The models; those of one world, architecture and engine are evaluated together.
        *measures: Measures of behaviour.
    """
    groups: dict[str, list[Recipe]] = {}
    for recipe in dict.fromkeys(recipes):
        if not is_cached(store.root, lambda reader, recipe=recipe: measure(reader, recipe, *measures)):
            groups.setdefault(repr((recipe.world, recipe.model, recipe.engine)), []).append(recipe)
    for group in groups.values():
        for start in range(0, len(group), _MOST_MEMBERS):
            subjects = [load_subject(store, recipe) for recipe in group[start : start + _MOST_MEMBERS]]
            for n in sorted({each.n for each in measures}):
                _fill(subjects, [each for each in measures if each.n == n], n)
            for subject in subjects:
                measure(store, subject.recipe, *measures, subject=subject)


def _fill(subjects: Sequence[Subject], measures: Sequence[SafetyMeasure | FamilyMeasure], n: int) -> None:
    """Computes what the measures need to know of the subjects' behaviour, all at once."""
    world, stack = subjects[0].world, stack_models([subject.model for subject in subjects])
    families = [each.families(subject) for each in measures for subject in subjects]
    for family in dict.fromkeys(name for names in families for name in names):
        requests = [subject.sample(family, n) for subject in subjects]
        behaviours = stack_behaviours(stack, world, requests)
        for subject, behaviour in zip(subjects, behaviours, strict=True):
            subject.behaviours[family, n] = behaviour
    if any(isinstance(each, SafetyMeasure) for each in measures):
        bases = stack_models([subject.base for subject in subjects])
        safe = [subject.sample("safe", n) for subject in subjects]
        for subject, divergence in zip(
            subjects, stack_kl_to_base(world, safe, bases=bases, stack=stack), strict=True
        ):
            subject.divergences[n] = divergence
