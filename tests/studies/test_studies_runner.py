"""A small study run by the framework: its trainings, tasks, tables, claims and page."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from makebreak.claims import Claim, NotRun, by_seed
from makebreak.model_zoo import SafetyMeasure, weight_change
from makebreak.models import MODEL_SIZES, load_model
from makebreak.recipes import Alignment, Recipe
from makebreak.report import write_study
from makebreak.revisions import cache_revision
from makebreak.store import NotCached, Store
from makebreak.studies import (
    Cell,
    Figure,
    Inputs,
    MeasureCell,
    Request,
    Study,
    TableCell,
    collect,
    load_study,
    missing_tasks,
    trainings,
)
from makebreak.studies import runner as studies_runner
from makebreak.training import SSFT, Optimisation, Pretraining

STEPS = Optimisation(2, 1e-3, batch_size=4)
REQUEST = Request("toy_study", "smoke", "mini", (0, 1))


@dataclass(frozen=True)
class Preset:
    name: str = "smoke"
    worlds: tuple[str, ...] = ("mini",)
    seeds: tuple[int, ...] = (0, 1)


class ChangeRow(NamedTuple):
    norm: float


class TotalRow(NamedTuple):
    total: float


@cache_revision(1)
def change_tables(inputs: Inputs) -> Mapping[str, Iterable[Any]]:
    """Norm of the update, scaled by a setting."""
    base, tuned = (load_model(folder) for folder in inputs.models)
    return {"changes": [ChangeRow(inputs.settings["scale"] * weight_change(base=base, tuned=tuned))]}


@cache_revision(1)
def total_tables(inputs: Inputs) -> Mapping[str, Iterable[Any]]:
    """Sum of the norms of the cells that it needs."""
    return {"totals": [TotalRow(sum(tables["changes"][0]["norm"] for tables in inputs.tables))]}


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Two norms, their sum and one measure for every seed."""
    result: list[Cell] = []
    for seed in seeds:
        base = Recipe(world, MODEL_SIZES["tiny"], Pretraining(), STEPS, (), seed)
        tuned = Recipe(world, MODEL_SIZES["tiny"], Pretraining(), STEPS, (Alignment(SSFT(), STEPS),), seed)
        columns = {"seed": seed, "arm": "ssft"}
        norms = tuple(
            TableCell("toy-changes", change_tables, columns, {"scale": scale}, (base, tuned))
            for scale in (1.0, 2.0)
        )
        result += [*norms, TableCell("toy-totals", total_tables, columns, {}, needs=norms)]
        result.append(MeasureCell(columns, tuned, (SafetyMeasure(8),), (SafetyMeasure(8),)))
    return result


def draw(tables: Mapping[str, pd.DataFrame], preset: Preset) -> Any:
    """A line."""
    _, ax = plt.subplots()
    ax.plot(tables["changes"].norm)
    return ax


def means(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean norm."""
    return pd.DataFrame({"norm": [tables["changes"].norm.mean()]})


def never(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A table that no preset has."""
    raise NotRun("no such rows")


STUDY = Study(
    name="toy",
    title="A small study",
    paper="none",
    question="Do weights change?",
    presets={"smoke": Preset()},
    cells=cells,
    claims=(
        Claim(
            id="T1",
            role="primary",
            statement="Alignment changes the weights",
            quantity="‖ΔW‖",
            value=lambda tables: by_seed(tables, "changes", "norm"),
        ),
        Claim(id="T2", statement="Nothing", value=lambda tables: by_seed(tables, "changes", "norm", arm="x")),
    ),
    answer=lambda claims: [f"The change is {claims['T1'].estimate:.2f}."],
    figures=(
        Figure("norms", "Norms", "One dot per model.", draw),
        Figure("none", "None", "", draw, requires=("absent",)),
    ),
    facts=lambda preset, world: {"world": world},
    derived={"means": means, "never": never},
    summaries={"Means": lambda tables: tables["means"], "Never": never},
)


@pytest.fixture(autouse=True)
def toy_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("toy_study")
    module.STUDY = STUDY  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_study", module)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that the tasks of the study have filled."""
    root = tmp_path_factory.mktemp("store")
    module = ModuleType("toy_study")
    module.STUDY = STUDY  # type: ignore[attr-defined]
    sys.modules["toy_study"] = module
    for wave in missing_tasks(REQUEST, root, workers=1):
        for task in wave:
            _, _, name = task.function.partition(":")
            getattr(studies_runner, name)(*json.loads(json.dumps(task.arguments)))
    return Store(root, read_only=True)


def test_tasks_compute_everything(store: Store) -> None:
    """What the tasks leave in the store is complete, so that nothing is missing afterwards."""
    assert missing_tasks(REQUEST, store.root, workers=1) == []
    results = collect(STUDY, cells(Preset(), "mini", (0, 1)), store)
    assert set(results.tables) == {"behaviour", "changes", "totals", "zoo", "means"}


def test_tables_begin_with_the_columns_of_their_cells(store: Store) -> None:
    tables = collect(STUDY, cells(Preset(), "mini", (0, 1)), store).tables
    changes = tables["changes"]
    assert list(changes.columns) == ["seed", "arm", "norm"]
    assert changes.norm[1] == pytest.approx(2 * changes.norm[0])
    assert tables["totals"].total.tolist() == pytest.approx(changes.groupby("seed").norm.sum().tolist())
    assert "never" not in tables


def test_waves_train_what_is_shared_first(tmp_path: Path) -> None:
    """Bases, aligned models, cells, then the cells that need others."""
    waves = missing_tasks(REQUEST, tmp_path, workers=4)
    functions = [{task.function.partition(":")[2] for task in wave} for wave in waves]
    assert functions == [{"train_recipes"}, {"train_recipes"}, {"compute_cells"}, {"compute_cells"}]
    assert [len(wave) for wave in waves] == [2, 2, 6, 2]  # the other base of each seed is that of the other


def test_trainings_are_listed_once() -> None:
    recipes = trainings(cells(Preset(), "mini", (0, 1)))
    assert [len(recipe.alignments) for recipe in recipes] == [0, 0, 1, 1]
    assert len(recipes) == len(set(recipes))


def test_nothing_is_computed_in_a_read_only_store(tmp_path: Path) -> None:
    with pytest.raises(NotCached):
        collect(STUDY, cells(Preset(), "mini", (0, 1)), Store(tmp_path, read_only=True))


def test_page_names_what_was_found(store: Store, tmp_path: Path) -> None:
    results = collect(STUDY, cells(Preset(), "mini", (0, 1)), store)
    page = write_study(STUDY, results, Preset(), "mini", tmp_path).read_text()
    for text in ("Do weights change?", "Alignment changes the weights", "Norms", "The change is"):
        assert text in page
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["norms.pdf", "norms.png"]


def test_a_module_without_a_study_is_named() -> None:
    with pytest.raises(ValueError, match="module json has no STUDY"):
        load_study("json")
