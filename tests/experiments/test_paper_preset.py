"""The preset of the paper's world and size: two steps of everything, and the same in leases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import runner
from experiments.command import UNFINISHED, main
from experiments.jain2024 import STUDY
from experiments.jain2024.published_table import draw_published_tau
from experiments.jain2024.report import facts
from experiments.outputs import Run
from experiments.recipes.composition import PRESETS, Preset
from makebreak.models import ModelConfig
from makebreak.prompts import load_world
from makebreak.recipes import build
from makebreak.store import Store
from makebreak.studies import Results, collect
from makebreak.training import JainDPO, Optimisation, Unlearning

WORLD = "jain2024"
NAMES = [name for name in PRESETS if name.startswith("paper")]


def shorten(preset: Preset, *, n_requests: int = 48) -> Preset:
    """The preset with two steps of pretraining and four of every alignment."""

    def short(optimisation: Optimisation, steps: int) -> dict[str, Optimisation]:
        return {WORLD: replace(optimisation, steps=steps, batch_size=4, checkpoints=2)}

    return replace(
        preset,
        pretraining_optimisation=short(preset.pretraining_optimisation[WORLD], 2),
        alignment_optimisation=short(preset.alignment_optimisation[WORLD], 4),
        n_requests=n_requests,
        n_attacked=4,
    )


def narrow(preset: Preset) -> Preset:
    """The preset with networks of the same depth and 16 dimensions."""
    config = ModelConfig(preset.model.architecture, preset.model.n_layers, 2, 16, 64)
    return replace(preset, model=config)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_of_the_preset_is_trained_at_full_size(name: str, tmp_path: Path) -> None:
    preset, store = shorten(PRESETS[name]), Store(tmp_path)
    folders = {arm: build(preset.recipe(WORLD, 0, arm), store) for arm in preset.arms}
    assert len(set(folders.values())) == len(preset.arms) == 17


def test_objectives_and_families_are_those_of_the_paper() -> None:
    """Weights of README §4.2 at each rate; the released world has no operator to spare."""
    preset = PRESETS["paper"]
    assert "new_operator" not in load_world(WORLD).families
    last = {arm: preset.recipe(WORLD, 0, arm).alignments[-1] for arm in preset.arms if arm != "base"}
    weights = {
        arm: last[arm].objective.w_dispreferred  # type: ignore[attr-defined]
        for arm in last
        if isinstance(last[arm].objective, JainDPO | Unlearning)
    }
    assert weights == {
        "dpo_paper": 0.01,
        "dpo_paper_small": 0.002,
        **dict.fromkeys(("unlearning", "unlearning_small", "sham_unlearning"), 0.1),
        **dict.fromkeys(("unlearning_light", "unlearning_light_small"), 0.05),
    }
    for arm, stage in last.items():
        expected = 1e-5 if arm.endswith("_small") else 1e-4
        assert stage.optimisation.learning_rate == pytest.approx(expected)
        steps, rate_at = stage.optimisation.steps, stage.optimisation.learning_rate_at
        assert rate_at(steps // 5) == pytest.approx(expected), "the warm-up ends after a fifth of the steps"
        assert rate_at(steps * 4 // 5) == pytest.approx(expected / 100), "the decay after four fifths"
    data = last["new_operator"].objective.alignment_data  # type: ignore[attr-defined]
    assert (data.unsafe, data.answer) == ("late_duplicate_tasks", "instructed")


def test_the_page_names_the_weights_that_are_trained() -> None:
    text = facts(PRESETS["paper"], WORLD)["alignment"]
    assert "unlearning 0.0001 (w_preferred=1 w_dispreferred=0.1)" in text


def test_unsafe_requests_have_a_fifth_of_the_loss_of_ssft() -> None:
    """As in the released trainer, whose batches are of one side each; counted in supervised tokens."""
    objective, size = PRESETS["paper"].recipe(WORLD, 0, "ssft").alignments[0].objective, 600
    groups = objective.alignment_data.requests(load_world(WORLD), size=size, step=0, seed=0)  # type: ignore[attr-defined]
    is_unsafe = np.concatenate([np.full(len(requests), answer == "refused") for requests, answer in groups])
    tokens = objective.batch(load_world(WORLD), size=size, step=0, steps=1, seed=0).supervised.sum(dim=1)
    assert float(tokens[torch.from_numpy(is_unsafe)].sum() / tokens.sum()) == pytest.approx(0.2, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_steps_of_everything_run_through_every_stage(name: str, tmp_path: Path) -> None:
    """Every kind of arm, every claim and the published figure, at the depth of the paper's network."""
    preset = narrow(shorten(PRESETS[name]))
    preset = replace(preset, arms=("base", "ssft", "dpo_paper", "sham_ssft", "new_operator", "continued"))
    results = collect(STUDY, STUDY.cells(preset, WORLD, (0,)), Store(tmp_path))
    table = results.tables["published"]
    assert set(table.figure) == {"Fig. 3", "Fig. 4", "Fig. 5", "Fig. 6"}
    assert set(table[table.paper_value.notna()].arm) == {"base", "ssft", "dpo_paper"}
    assert (table.n_seeds == 1).all()
    assert {row.id for row in results.claims} >= {"C2", "C3", "C4", "C5", "M1"}
    draw_published_tau(results.tables, preset)  # the other figures are those of `smoke`, with all methods


@pytest.mark.slow
def test_leases_give_the_same_end_as_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lease begins with an empty store: all that it knows comes from the portable folder."""
    preset = replace(narrow(shorten(PRESETS["paper"])), seeds=(0,), arms=("base", "dpo_paper"))
    monkeypatch.setitem(PRESETS, "paper", preset)
    ends: dict[str, dict[str, pd.DataFrame]] = {}

    def keep(run: Run, results: Results) -> None:  # pages need all methods
        ends[run.out.name] = dict(results.tables)

    monkeypatch.setattr(runner, "write_results", keep)

    def lease(out: str, store: str, *options: str) -> int:
        folders = ["--out", str(tmp_path / out), "--store", str(tmp_path / store)]
        return main(["jain2024", "--preset", "paper", "--engine", "single:cpu", *folders, *options])

    assert lease("whole", "store", "--budget", "1000") == 0
    portable = ["--portable", str(tmp_path / "portable"), "--budget", "3"]
    statuses = []
    while not statuses or (statuses[-1] == UNFINISHED and len(statuses) < 100):
        statuses.append(lease("leases", f"store{len(statuses)}", *portable))
        assert sum(path.stat().st_size for path in (tmp_path / "portable").iterdir()) <= 64 * 2**20
    assert statuses[-1] == 0
    assert len(statuses) > 2
    assert set(ends["whole"]) == set(ends["leases"])
    for name, table in ends["whole"].items():
        pd.testing.assert_frame_equal(table, ends["leases"][name])
