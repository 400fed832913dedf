"""Inspection finds the refusal that a language model was trained on, and none where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest

from makebreak.cli import main
from makebreak.evaluation import JUDGES
from makebreak.lm import InspectionResult, compare_models, inspect
from makebreak.mechanism import SafeUnsafeRequests, refusal_direction
from makebreak.models import LanguageModel
from makebreak.prompts import text_requests
from makebreak.report import inspection_summary, write_inspection
from makebreak.revisions import cache_revision
from makebreak.settings import GenerationSettings
from makebreak.store import Store
from tests.fixtures.pages import check_loads_nothing
from tests.fixtures.tiny_lm import planted_direction, prompts, save_lm, trained_lm

SETTINGS = GenerationSettings(n_new=6)
FAMILIES = ("harmless", "harmful")


@pytest.fixture(scope="module")
def complying() -> LanguageModel:
    return trained_lm(refuses=False)


@pytest.fixture(scope="module")
def refusing() -> LanguageModel:
    return trained_lm(refuses=True)


@pytest.fixture(scope="module")
def inspection(refusing: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> InspectionResult:
    return inspect(refusing, prompts(), Store(tmp_path_factory.mktemp("store")), SETTINGS)


def test_custom_judge_reads_cached_answers(
    refusing: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    before = inspect(refusing, prompts(), store, SETTINGS)
    monkeypatch.setitem(
        JUDGES, "mine", lambda requests, answers: np.array(["Sure" not in a for a in answers])
    )
    after = inspect(refusing, prompts(), store, SETTINGS)
    assert rate(after.tables["behaviour"], "mine", family="harmful") > 0.9
    assert rate(after.tables["behaviour"], "mine", family="harmless") < 0.1
    assert [row["answer"] for row in before.tables["answers"]] == [
        row["answer"] for row in after.tables["answers"]
    ]
    write_inspection("mine", after, {}, tmp_path / "out")
    pairs = pd.read_csv(tmp_path / "out" / "tables" / "agreement.csv")
    assert set(pairs["judge"]) | set(pairs["other_judge"]) == {*JUDGES, "first token"}
    pairs = pairs[~pairs.isin(["openings", "classifier"]).any(axis=1)]
    assert (pairs["agreement"] > 0.9).all()


def rate(rows: list[dict], judge: str, **where: str) -> float:
    [row] = [row for row in rows if row["judge"] == judge and all(row[k] == v for k, v in where.items())]
    return row["refuse"]


@pytest.mark.parametrize("judge", ["qi2023", "arditi2024"])
def test_trained_model_refuses_harmful_prompts(inspection: InspectionResult, judge: str) -> None:
    assert rate(inspection.tables["behaviour"], judge, family="harmful") > 0.9
    assert rate(inspection.tables["behaviour"], judge, family="harmless") < 0.1


def test_direction_is_found_and_ablation_removes_refusal(
    refusing: LanguageModel, inspection: InspectionResult
) -> None:
    chosen = [row for row in inspection.tables["directions"] if row["is_selected"]]
    assert len(chosen) == 1
    assert all(row["reason"] for row in inspection.tables["directions"] if not row["is_selected"])
    halves = [
        text_requests(refusing.tokenizer, prompts()[f][::2], family=f, unsafe=f == "harmful")
        for f in FAMILIES
    ]
    vector = refusal_direction(refusing.model, SafeUnsafeRequests(*halves), chosen[0]["layer"])
    assert abs(float(vector @ planted_direction()[:, 0] / vector.norm())) > 0.9
    answers = inspection.tables["ablation"]

    def refused(condition: str, family: str) -> float:
        rows = [row for row in answers if (row["condition"], row["family"]) == (condition, family)]
        return sum(row["arditi2024"] and not row["degenerate"] for row in rows) / len(rows)

    assert refused("nothing", "harmful") > 0.9
    assert refused("ablated", "harmful") < 0.3
    assert refused("random ablated", "harmful") > 0.8
    assert refused("nothing", "harmless") < 0.1


@pytest.mark.slow
def test_no_direction_without_refusal(complying: LanguageModel, tmp_path: Path) -> None:
    inspection = inspect(complying, prompts(), Store(tmp_path / "store"), SETTINGS)
    assert "directions" not in inspection.tables
    assert "intervals of the refusal rates on harmful" in inspection.skip_reasons["directions"]
    page = write_inspection("complying", inspection, {}, tmp_path / "out").read_text()
    assert "No refusal direction was computed" in page
    assert rate(inspection.tables["behaviour"], "arditi2024", family="harmful") == 0


def test_cached_steps_are_not_computed_again(
    refusing: LanguageModel, inspection: InspectionResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr("makebreak.lm.inspection.direction_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        inspect(refusing, prompts(), store, SETTINGS)
    modified = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("rows.json")}
    stages = {path.parent.parent.name for path in modified}
    assert stages == {"answers-of-a-family", "utility-of-a-model", "inspect-clusters", "inspect-sensitivity"}
    monkeypatch.undo()
    again = inspect(refusing, prompts(), store, SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in modified} == modified
    assert json.dumps(again.tables["directions"]) == json.dumps(inspection.tables["directions"])
    assert inspection_summary(again) == inspection_summary(inspection)


@cache_revision(1)
def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_compare_names_changes_and_refuses_other_models(
    refusing: LanguageModel, complying: LanguageModel, tmp_path: Path
) -> None:
    messages: list[str] = []
    tables, verdict = compare_models(
        prompts(), Store(tmp_path), SETTINGS, base=complying, tuned=refusing, log=messages.append
    )
    assert "minutes, less for steps that are cached" in messages[0]
    assert set(tables) == {
        "utility",
        "quantities",
        "stitching",
        "mechanisms",
        "answer_rates",
        "request_log_odds",
        "preactivations",
        "update_energy",
        "weighted_energy",
        "kernel_share",
        "input_gain",
        "read_gain",
        "sensitivity",
        "updates",
        "update_projection",
    }
    [part] = [
        row
        for row in tables["update_projection"]
        if (row["matrices"], row["rule"], row["space"]) == ("all", "energy90", "random as left null")
    ]
    assert part["margin_full"] - part["margin_without"] > 1, "the matrices carry refusal"
    assert 0 < part["share_of_margin"] < 1.2
    row = tables["stitching"][0]
    assert row["tuned_margin"] - row["base_margin"] > 5
    log_odds = pd.DataFrame(tables["request_log_odds"]).groupby("family")["change"].mean()
    assert log_odds["harmful"] > 5 > abs(log_odds["harmless"]), "one model refuses harmful requests only"
    assert {row.n_flips for row in verdict.shares} == {tables["answer_rates"][-1]["n"]}
    assert sum(row.share for row in verdict.shares) == pytest.approx(1)
    _, none = compare_models(prompts(), Store(tmp_path), SETTINGS, base=refusing, tuned=refusing)
    assert none.mechanism == "undecided"
    assert none.reason.startswith("too few requests that flip: 0 of 48 requests")
    other = LanguageModel("other", trained_lm(refuses=False, steps=0).model, refusing.tokenizer)
    other.model.model.layers = other.model.model.layers[:-1]
    with pytest.raises(ValueError, match="not checkpoints of one model"):
        compare_models(prompts(), Store(tmp_path), SETTINGS, base=other, tuned=refusing)


def test_inspect_and_compare_write_their_pages(
    refusing: LanguageModel, complying: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {
        name: str(save_lm(m.model, tmp_path / name))
        for name, m in (("base", complying), ("aligned", refusing))
    }
    prompts_file = tmp_path / "prompts.csv"
    rows = zip(*(prompts()[family] for family in ("harmful", "harmless")), strict=True)
    prompts_file.write_text("harmful,harmless\n" + "\n".join(",".join(row) for row in rows))
    common = ["--prompts", str(prompts_file), "--max-new-tokens", "6", "--store", str(tmp_path / "store")]
    capsys.readouterr()
    assert main(["inspect", folders["aligned"], "--out", str(tmp_path / "one"), *common]) == 0
    out, err = capsys.readouterr()
    assert "minutes, less for steps that are cached" in out
    assert "A refusal direction was selected before layer" in out
    assert err == ""
    assert (
        main(["compare", folders["base"], folders["aligned"], "--out", str(tmp_path / "two"), *common]) == 0
    )
    assert "How refusal comes about, by stitching:" in capsys.readouterr().out
    for page, figures in (
        ("one", ["refusals", "clusters", "directions", "ablation"]),
        ("two", ["stitching", "updates", "preactivations", "updates_gate", "preactivations_gate"]),
    ):
        check_loads_nothing((tmp_path / page / "report.html").read_text())
        for figure in figures:
            assert (tmp_path / page / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
