"""Is a world fair? What n-gram readers see of "unsafe", and whether a network of the same architecture can see it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch

from experiments.jain2024.presets import TUNING_SEEDS, Preset
from makebreak.artifacts import Store, write_json
from makebreak.requests import load_world
from makebreak.zoo import Measured, Subject, measure
from synthetic.detectability import detectability

NEEDED = 0.95
GATE_SEED = 1003  # of no base that is tuned or reported
_LABELS = (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
_BRANCHES = ("safe_on_safe_branch", "unsafe_on_unsafe_branch")


@dataclass(frozen=True)
class LabelAccuracy:
    """How often the likeliest of all labels after the text is its own: a column per branch, and the lesser of both."""

    name: ClassVar[str] = "label-accuracy"
    revision: ClassVar[int] = 1
    n: int = 1000

    def __call__(self, subject: Subject) -> Measured:
        columns: dict[str, float | None] = {}
        asked = {family: subject.asked(family, self.n) for family in _BRANCHES}
        labels = torch.from_numpy(subject.asked(_BRANCHES[0], self.n).truth["label"]).unique()
        labels = torch.cat([labels, torch.from_numpy(asked[_BRANCHES[1]].truth["label"]).unique()])
        for family, requests in asked.items():
            last = torch.from_numpy(requests.spans["text"][:, 1]) - 1
            with torch.no_grad():
                logits = subject.model(input_ids=torch.from_numpy(requests.prompt)).logits
            told = labels[logits[torch.arange(len(last)), last][:, labels].argmax(dim=1)]
            columns[f"label.{family}"] = float(
                (told == torch.from_numpy(requests.truth["label"])).double().mean()
            )
        return Measured(columns | {"label": min(value for value in columns.values() if value is not None)})


def readers(world: str, store: Store, *, n: int) -> tuple[pd.DataFrame, Path]:
    """How every family looks to readers of text, of tasks and of both, by order of n-gram, and where that is kept."""

    def make(folder: Path) -> None:
        write_json(folder / "rows.json", detectability(load_world(world), n_requests=n, seed=TUNING_SEEDS[0]))

    config = {"world_is": load_world(world).fingerprint, "n": n}
    folder = store.build("detectability", revision=1, config=config, make=make)
    return pd.DataFrame(json.loads((folder / "rows.json").read_text())), folder


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Raises ValueError as `check` does, for a study's world and the others in it."""
    for learnt in (world, *preset.others(world)):
        check(preset, learnt, store)


def check(preset: Preset, world: str, store: Store) -> Measured | None:
    """What a classifier, trained on a tuning seed, gets right on held-out texts; None for a world without a gate.

    Raises ValueError where it is below `NEEDED` on a branch: nothing about safety can be learnt there.
    """
    if world not in preset.gate:
        return None
    recipe = preset.recipe(world, GATE_SEED, "base")
    labels_only = replace(recipe.pretraining, modes_start=_LABELS, modes_end=_LABELS)
    recipe = replace(recipe, pretraining=labels_only, optimisation=preset.gate[world])
    [(found, _)] = measure(store, recipe, LabelAccuracy())
    if (found.columns["label"] or 0.0) < NEEDED:
        told = f"{found.columns['label']:.3f} of held-out texts after {recipe.optimisation.steps} steps"
        raise ValueError(
            f"world {world!r} cannot be learnt by this model: a classifier of its architecture names {told}, "
            f"expected {NEEDED} or more; train it longer or enlarge it"
        )
    return found
