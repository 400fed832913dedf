"""A run in leases: three stores and a small budget each, joined by a portable folder alone."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import outputs, runner
from experiments.command import UNFINISHED, main
from experiments.outputs import Run
from experiments.recipes.composition import SMOKE
from experiments.runner import RunSettings, run_study, select_results
from makebreak import budget
from makebreak.portable import SizeLimits
from makebreak.recipes import Recipe, build, building
from makebreak.store import RECORD_FILE, Store, check_not_omitted, omitted_files, record, write_json
from makebreak.studies import Cell, CellTables, Study
from makebreak.training import loop

BASE = SMOKE.recipe("mini", 0, "base")
LIMITS = SizeLimits(total=2**20, file=2**17)
WEIGHTS, STEP = "model.safetensors", "checkpoints/000010/model.safetensors"
BUDGET = 25.0


@dataclass(frozen=True, eq=False)
class WorkCell:
    """A cell of `Work`."""

    work: Work
    name: str
    columns: Mapping[str, Any] = field(default_factory=lambda: {"seed": 0})
    recipes: tuple[Recipe, ...] = ()
    needs: tuple[Cell, ...] = ()

    def compute(self, store: Store) -> CellTables:
        return self.work.compute(self.name, store)


class Work:
    """A study of two made models, one trained one, and a row of each; every computation takes 10 s.

    A training takes a second a step, and writes a checkpoint after each.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.made, self.steps = 0.0, [], []
        write_checkpoint, train = loop.write_checkpoint, building.train
        monkeypatch.setattr(budget, "time", SimpleNamespace(time=lambda: self.now))

        def write(*args: Any) -> None:
            write_checkpoint(*args)
            self.now += 1
            self.steps.append(args[3])

        def train_in_seconds(*args: Any) -> Any:
            return train(*args[:-1], replace(args[-1], checkpoint_seconds=0.0))

        monkeypatch.setattr(loop, "write_checkpoint", write)
        monkeypatch.setattr(building, "train", train_in_seconds)

    def count(self, name: str) -> None:
        self.now += 10
        self.made.append(name)

    def model(self, store: Store, name: str, *parents: Path) -> Path:
        def make(folder: Path) -> None:
            for parent in parents:
                check_not_omitted(parent / WEIGHTS)
                assert (parent / WEIGHTS).exists()
            self.count(name)
            (folder / STEP).parent.mkdir(parents=True)
            (folder / WEIGHTS).write_bytes(random.Random(name).randbytes(200_000))
            (folder / STEP).write_bytes(random.Random(name + "step").randbytes(200_000))

        return store.build("alignment", revision=1, config={"name": name}, parents=parents, make=make)

    def rows(self, store: Store, name: str, model: Path, weights: str = STEP) -> tuple[list[Any], Path]:
        def make(folder: Path) -> None:
            content = (model / weights).read_bytes()
            self.count(f"{name} rows")
            write_json(folder / "rows.json", [{"name": name, "sum": sum(content)}])

        config = {"name": name}
        folder = store.build("measure-sum", revision=1, config=config, parents=[model], make=make)
        return json.loads((folder / "rows.json").read_text()), folder

    def compute(self, name: str, store: Store) -> CellTables:
        """The second model is made from the first."""
        if name == "trained":
            model = build(BASE, store)
            rows, folder = self.rows(store, name, model, WEIGHTS)
        else:
            model = self.model(store, "first")
            if name == "second":
                model = self.model(store, "second", model)
            rows, folder = self.rows(store, name, model)
        return CellTables({"sums": rows}, (model, folder))

    def of(self, folder: Path) -> Run:
        trained = WorkCell(self, "trained", recipes=(BASE,))
        study = Study(
            name="sums",
            title="Sums of bytes",
            paper="Nobody 2024",
            question="How large are sums?",
            presets={"smoke": SMOKE},
            cells=lambda *_: [WorkCell(self, "first"), WorkCell(self, "second"), trained],
            claims=(),
            answer=lambda _: [],
        )
        for name in ("store", "out"):
            (folder / name).mkdir(parents=True)
        settings = (SMOKE, "mini", (0,), folder / "store", folder / "out")
        return Run("sums", __name__, study, *settings, {"study": "sums"})


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def results(store: Path) -> dict[str, dict[str, str]]:
    """Hashes of the files of every finished result."""
    return {p.parent.name: record(p.parent)["files"] for p in store.glob(f"*/*/{RECORD_FILE}")}


def test_three_leases_equal_one_run(work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bit for bit, within the limits at the end of every lease, and without computing anything twice."""
    assert run_study(work.of(tmp_path / "whole"), RunSettings("none", 1))
    whole = (work.made, work.steps)
    assert whole[0] == ["first", "first rows", "second", "second rows", "trained rows"]
    assert whole[1] == list(range(1, BASE.optimisation.steps))
    work.made, work.steps = [], []

    portable, complete, n_leases = tmp_path / "portable", False, 0
    settings = RunSettings("none", 1, budget=BUDGET, portable=portable, limits=LIMITS)
    while not complete:
        lease = tmp_path / f"lease{n_leases}"
        complete = run_study(work.of(lease), settings)
        sizes = [path.stat().st_size for path in portable.iterdir()]
        assert max(sizes) <= LIMITS.file
        assert sum(sizes) <= LIMITS.total
        assert (lease / "out" / "report.html").exists() is complete
        assert len(list((lease / "store").glob("*/*.partial"))) == (n_leases == 1)
        assert n_leases < 3
        n_leases += 1
    assert n_leases == 3
    assert (work.made, work.steps) == whole, "every unit and every step of training once"
    assert results(lease / "store") == results(tmp_path / "whole/store")
    for name in ("tables/sums.csv", "report.html", "claims.json"):
        assert (lease / "out" / name).read_bytes() == (tmp_path / "whole/out" / name).read_bytes()
    first = next(
        p for p in (lease / "store/alignment").glob("*/") if record(p)["config"] == {"name": "first"}
    )
    assert omitted_files(first) == {WEIGHTS, STEP}, "nothing needed its weights in the last lease"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("unfinished")]
    assert [line.split(" in ")[0] for line in lines] == [
        "unfinished: 3 results were computed",
        "unfinished: 1 results were computed",
    ]
    assert "2 of 3 cells are left; run the same command again to go on" in lines[0]


def test_an_interrupt_packs_what_is_there(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C and SIGTERM; and a lease that cannot keep its limits leaves the folder as it was."""
    settings = RunSettings("none", 1, portable=tmp_path / "portable", limits=LIMITS)
    count = work.count

    def interrupted(name: str) -> None:
        if name == "second rows":
            os.kill(os.getpid(), signal.SIGTERM)
        count(name)

    monkeypatch.setattr(work, "count", interrupted)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_study(work.of(tmp_path / "a"), settings)
    assert signal.getsignal(signal.SIGTERM) == handler
    monkeypatch.setattr(work, "count", count)
    assert run_study(work.of(tmp_path / "b"), settings)
    assert Counter(work.made).most_common(1)[0][1] == 1


def test_selection(tmp_path: Path) -> None:
    """An unfinished cell needs the final weights of what it opens, and the steps of what it measures."""
    base, model, row, done = (tmp_path / name for name in ("a/base", "a/model", "m/row", "a/done"))
    cells = [
        runner.DryRun((done, row), None, ()),
        runner.DryRun((base, model), tmp_path / "measure/x", (model, base)),
        runner.DryRun((base,), tmp_path / "alignment/y", (base,)),
    ]
    (tmp_path / "alignment/y.partial").mkdir(parents=True)
    selection = select_results(cells)
    assert set(selection.results) == {base, model, row, done}
    assert selection.weights == {base, model}
    assert selection.steps == {base, model}
    assert list(selection.unfinished) == [tmp_path / "alignment/y.partial"]


def test_unchanged_results_are_kept(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As long as request, code, store and files are what they were."""
    run = work.of(tmp_path)
    request = {"study": "sums", "preset": "smoke", "engine": None}
    monkeypatch.setattr(outputs, "_CUDA_DRIVER", tmp_path / "no driver")
    assert not outputs.print_unchanged(run.out, request, run.store)
    assert run_study(replace(run, request=request), RunSettings("none", 1))
    capsys.readouterr()
    assert outputs.print_unchanged(run.out, request, run.store)
    assert "sums at smoke, world mini, seeds 0: 1 models" in capsys.readouterr().out
    assert not outputs.print_unchanged(run.out, request | {"preset": "mini"}, run.store)
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "code_digest", lambda: "other")
        assert not outputs.print_unchanged(run.out, request, run.store)
    with monkeypatch.context() as patch:  # the engine by default may be another one
        patch.setattr(outputs, "_CUDA_DRIVER", run.out)
        assert not outputs.print_unchanged(run.out, request, run.store)
    page = (run.out / "report.html").read_bytes()
    (run.out / "report.html").write_bytes(page + b" ")
    assert not outputs.print_unchanged(run.out, request, run.store)
    (run.out / "report.html").write_bytes(page)
    assert outputs.print_unchanged(run.out, request, run.store)
    row = next(run.store.glob("measure-sum/*/rows.json"))
    row.write_bytes(row.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"rows.json is truncated or was changed"):
        outputs.print_unchanged(run.out, request, run.store)
    for path in row.parent.iterdir():
        path.unlink()
    row.parent.rmdir()
    assert not outputs.print_unchanged(run.out, request, run.store)


def test_status_and_errors_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget that is over at once makes nothing, writes no page, and ends with status 3."""
    folders = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    portable = ["--portable", str(tmp_path / "portable")]
    assert main(["jain2024", "--preset", "smoke", *folders, *portable, "--budget", "1e-9"]) == UNFINISHED == 3
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith("unfinished: 0 results were computed in")
    assert "cells are left; run again with a longer --budget to go on" in out[1]
    assert out[2].startswith(f"portable: {tmp_path / 'portable'} (0.0 MiB, 0 results")
    assert not (tmp_path / "out").exists()
    assert json.loads((tmp_path / "portable/manifest.json").read_text())["owner"]["study"] == "jain2024"
    for words, message in (
        (["--budget", "0"], "budget = 0.0: expected a positive number"),
        (["--portable-mib", "0"], "limits of"),
        (["--seeds", "1", *portable], "belongs to the run"),
    ):
        assert main(["jain2024", "--preset", "smoke", *folders, *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["real", "--preset", "smoke", *folders, *portable]) == 2
    assert "--portable is for studies that train small models" in capsys.readouterr().err
