"""Estimates of training time and memory follow from the timed steps."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from experiments import estimate as module
from experiments.estimate import estimate
from experiments.jain2024 import STUDY
from experiments.recipes.composition import SMOKE
from makebreak.recipes import Recipe
from makebreak.studies import trainings


def test_hours_are_steps_times_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a planted machine: 2 s of start-up, .5 s for every step and .01 s for each of its requests."""

    def planted(recipe: Recipe, steps: int, size: int) -> float:
        return 2 + steps * (0.5 + 0.01 * size)

    monkeypatch.setattr(module, "_train_briefly", planted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    runs = trainings(STUDY.cells(STUDY.presets["paper"], "jain2024", (0, 1)))
    text = estimate(runs, "jain2024")
    steps = [(r.alignments[-1].optimisation if r.alignments else r.optimisation).steps for r in runs]
    assert all("s, " in line and "steps of 5.62 s" in line for line in text.splitlines()[:-1])
    assert sum(int(n) for n in re.findall(r"^(\d+) ×", text, flags=re.MULTILINE)) == len(runs)
    assert f"training: {sum(steps) * 5.62 / 3600:.1f} h in all" in text
    assert "extrapolated from batches of 16 and 32" in text


def test_models_of_another_world_alone_are_timed_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = []
    monkeypatch.setattr(module, "_peak_memory", lambda *_: 1.0)
    monkeypatch.setattr(module, "_train_briefly", lambda recipe, *_: worlds.append(recipe.world) or 0.0)
    base, tuned = (SMOKE.recipe("mini", 0, arm) for arm in ("base", "ssft"))
    lines = estimate(
        [base, replace(base, world="hidden"), replace(tuned, world="hidden")], "mini"
    ).splitlines()
    assert set(worlds[: len(worlds) // 2]) == {"mini"}
    assert set(worlds[len(worlds) // 2 :]) == {"hidden"}
    assert [line.split(" ")[:3] for line in lines[:-1]] == [["2", "×", "base:"], ["1", "×", "ssft:"]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [((1.0, 1.5), 1.5 + 0.5 * 30), ((1.0, 1.0), 16.0), ((2.0, 1.0), 16.0)],
)
def test_extrapolation_is_linear_if_rising(values: tuple[float, float], expected: float) -> None:
    assert module._extrapolate(512, [16, 32], list(values)) == pytest.approx(expected)


def test_memory_is_extrapolated_from_two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a planted process: 1 GiB, and 1/8 for each request of the largest step so far."""
    largest = [0]

    def planted(recipe: object, steps: int, size: int) -> float:
        largest[0] = max(largest[0], size)
        return 0.0

    monkeypatch.setattr(module, "_train_briefly", planted)
    monkeypatch.setattr(
        module.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=(1 + largest[0] / 8) * 2**20)
    )
    assert module._peak_memory([None], 512) == pytest.approx(65)


def test_estimate_from_real_steps() -> None:
    lines = estimate(trainings(STUDY.cells(STUDY.presets["smoke"], "mini", (0,))), "mini").splitlines()
    assert len(lines) > 5
    hours, memory = re.fullmatch(
        r"training: ([\d.]+) h in all, at most ([\d.]+) GiB; timed on .*", lines[-1]
    ).groups()
    assert float(hours) < 1
    assert 0.1 < float(memory) < 64
