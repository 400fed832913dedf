"""Is an estimate what its timed steps say, for every training of a run?"""

from __future__ import annotations

import importlib
import re

import pytest
import torch

from experiments.jain2024 import PRESETS, estimate, trainings
from makebreak.recipes import Recipe

MODULE = importlib.import_module("experiments.jain2024.estimate")  # the package has a function of this name


def test_hours_are_steps_times_seconds_scaled_to_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted machine: 2 s to begin, .01 s for each request of a step."""

    def planted(recipe: Recipe, world: str, steps: int, size: int) -> float:
        return 2 + 0.01 * steps * size

    monkeypatch.setattr(MODULE, "_train", planted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    preset = PRESETS["paper"]
    told = estimate(preset, "jain2024", (0, 1))
    runs = trainings(preset, "jain2024", (0, 1))
    steps = [(r.alignments[-1].optimisation if r.alignments else r.optimisation).steps for r in runs]
    assert all("s, " in line and "steps of 5.12 s" in line for line in told.splitlines()[:-1])
    assert sum(int(n) for n in re.findall(r"^(\d+) ×", told, flags=re.MULTILINE)) == len(runs)
    assert f"training: {sum(steps) * 5.12 / 3600:.1f} h in all" in told
    assert "scaled up from batches of 16" in told


def test_an_estimate_of_real_steps() -> None:
    told = estimate(PRESETS["smoke"], "mini", (0,)).splitlines()
    assert len(told) > 5
    hours, memory = re.fullmatch(r"training: ([\d.]+) h in all, at most ([\d.]+) GiB; timed on .*", told[-1]).groups()
    assert float(hours) < 1
    assert 0.1 < float(memory) < 64
