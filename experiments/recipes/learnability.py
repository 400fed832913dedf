"""Check that a world's branches can be told apart by a classifier of the study's architecture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from experiments.recipes.composition import Preset
from makebreak.activations import forward
from makebreak.model_zoo import Measurement, Subject, measure
from makebreak.store import Store
from makebreak.training import ModeShares

MIN_LABEL_ACCURACY = 0.95
"""Accuracy on each branch from which a world counts as learnable."""
GATE_SEED = 1003
"""Pretraining seed of the classifier, which no tuned or reported model has."""
_LABELS = ModeShares(text=0.0, full=0.0, first=0.0, second=0.0, outputs=0.0, label=1.0)
_BRANCHES = ("safe_on_safe_branch", "unsafe_on_unsafe_branch")


@dataclass(frozen=True)
class LabelAccuracy:
    """Accuracy of the most likely label after the text, among all labels of the world.

    Columns: `label.FAMILY` for one family of each branch, and `label`, the smaller of both.
    """

    name: ClassVar[str] = "label-accuracy"
    revision: ClassVar[int] = 1
    n: int = 1000
    """Number of requests per family."""

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        requests_by_family = {family: subject.sample(family, self.n) for family in _BRANCHES}
        true_labels = {
            family: torch.from_numpy(requests.truth["label"])
            for family, requests in requests_by_family.items()
        }
        labels = torch.cat([values.unique() for values in true_labels.values()])
        columns: dict[str, float | None] = {}
        accuracies = []
        for family, requests in requests_by_family.items():
            last = torch.from_numpy(requests.spans["text"][:, 1]) - 1
            with torch.no_grad():
                logits = forward(subject.model, torch.from_numpy(requests.prompt)).logits
            label_logits = logits[torch.arange(len(last)), last].cpu()[:, labels]
            predicted = labels[label_logits.argmax(dim=1)]
            accuracies.append(float((predicted == true_labels[family]).double().mean()))
            columns[f"label.{family}"] = accuracies[-1]
        return Measurement(columns | {"label": min(accuracies)})


def check_learnable(preset: Preset, world: str, store: Store) -> Measurement | None:
    """Checks that a classifier of the study's architecture can tell a world's branches apart.

    Without that nothing about safety can be learnt in the world.

    Args:
        preset: Sizes of the study; `gate` says how long the classifier is trained.
        world: Name of the world.
        store: Where the classifier is kept.

    Returns:
        Its accuracy on held-out texts; None for a world without a gate.

    Raises:
        ValueError: If the accuracy on a branch is below `MIN_LABEL_ACCURACY`.
    """
    if world not in preset.gate:
        return None
    recipe = preset.recipe(world, GATE_SEED, "base")
    labels_only = replace(recipe.pretraining, modes_start=_LABELS, modes_end=_LABELS)
    recipe = replace(recipe, pretraining=labels_only, optimisation=preset.gate[world])
    [(measurement, _)] = measure(store, recipe, LabelAccuracy())
    accuracy = measurement.columns["label"] or 0.0
    if accuracy < MIN_LABEL_ACCURACY:
        raise ValueError(
            f"world {world!r} cannot be learnt by this model: a classifier of its architecture names the "
            f"branch of {accuracy:.3f} of held-out texts after {recipe.optimisation.steps} steps, expected "
            f"{MIN_LABEL_ACCURACY} or more; train it longer or enlarge it"
        )
    return measurement
