"""Transfer matrices, claims on planted tables, and the study from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from experiments.command import main
from experiments.jan2024 import STUDY, outcomes
from experiments.jan2024.report import answer
from experiments.jan2024.requests import RequestSettings
from experiments.jan2024.templates import GRID, HEADER, OTHER, PLAIN, UNTUNED, templated_recipe
from experiments.jan2024.transfer import at_users_rate, transfer_at_equal_kl, transfer_matrix
from experiments.recipes.formats import ANSWER_TOKENS, KINDS, PRESETS, RETAIN, TEMPLATED, Tuning
from makebreak.claims import ClaimRow, evaluate_claims
from makebreak.defences import MixedFineTuning
from makebreak.evaluation import GreedyAnswers
from makebreak.plots import style
from makebreak.prompts import Requests
from synthetic import FormatsWorld, load
from synthetic.formats.task_formats import TASK_FORMATS
from tests.experiments.store_files import modification_times

FORMATS = ("gen", "map", "label", "mcq")
RATES = (1e-4, 1e-3)
REFUSED = {"safe": 0.0, "unsafe": 0.92, "heldout": 0.85, "mild": 0.8}
SEEDS = (0, 1, 2)
Rise = Callable[[str, str, str], float]
"""Rise by kind of fine-tuning, tuned format and format of the requests."""


def planted_tables(
    rise: Rise, *, answered: float = 1.0, mild: float = 0.0, new: float = 0.0
) -> dict[str, pd.DataFrame]:
    """Aligned models refuse .92 of unsafe requests; fine-tuning at the last rate removes `rise` of it, of
    which `answered` is answered, and a tenth of that at the first rate, where no task is learnt."""
    before, after = [], []
    for seed, name, family, operator in product(SEEDS, FORMATS, outcomes.FAMILIES, ("shown", "new")):
        row = {"seed": seed, "coverage": "uniform", "format": name, "family": family, "operator": operator}
        safe = family == "safe"
        before.append(row | {"model": "base", "refuse": 0.0, "comply": 1.0})
        before.append(row | {"model": "aligned", "refuse": REFUSED[family], "comply": float(safe)})
    runs = [("task", name, rate) for name in FORMATS for rate in RATES] + [("task", RETAIN, RATES[-1])]
    runs += [(kind, name, RATES[-1]) for kind in KINDS[1:] for name in FORMATS]
    for seed, (kind, task, rate), step, name, family in product(
        SEEDS, runs, (50, 100), FORMATS, outcomes.FAMILIES
    ):
        operators = ["shown", *(["new"] if name == task else [])]
        for operator in operators:
            last, safe = rate == RATES[-1], family == "safe"
            increase = rise(kind, task, name) * step / 100 * (1.0 if last else 0.1)
            increase += (mild if family == "mild" else 0.0) + (new if operator == "new" else 0.0)
            row = {"seed": seed, "coverage": "uniform", "tuned_on": task, "kind": kind, "rate": rate}
            row |= {"step": step, "kl": step / 100 * ANSWER_TOKENS.get(task, 1)}
            row |= {"format": name, "family": family, "operator": operator}
            row |= {
                "refuse": 0.0 if safe else REFUSED[family] - increase,
                "comply": float(last) if safe else increase * answered,
            }
            after.append(row)
    tables = {"before_tuning": pd.DataFrame(before), "after_tuning": pd.DataFrame(after)}
    return tables | _internal_tables(rise)


def _internal_tables(rise: Rise) -> dict[str, pd.DataFrame]:
    """Separation and null share are linear in the rise, formats with the largest rise have the smallest
    half-width, and the upper half accounts for three quarters of the rise."""
    cells = []
    for seed, task, name in product(SEEDS, FORMATS, FORMATS):
        increase = rise("task", task, name)
        row = {"seed": seed, "coverage": "uniform", "tuned_on": task, "format": name, "refuse_before": 0.92}
        row |= {
            "refuse": 0.92 - increase,
            "refuse_tuned_upper": 0.92 - 0.75 * increase,
            "refuse_tuned_lower": 0.92 - 0.25 * increase,
            "separation_before": 1.0,
            "separation": 1 - increase,
            "null_share_before": 0.1,
            "null_share": 0.1 + increase,
        }
        cells.append(row)
    widths = []
    for seed, name in product(SEEDS, FORMATS):
        width = 0.4 - sum(rise("task", task, name) for task in FORMATS) / 10
        widths.append({"seed": seed, "coverage": "uniform", "format": name, "width": width})
    probes = []
    for seed, reads, evaluated_on, trained_on in product(SEEDS, ("prompt", "answer"), FORMATS, FORMATS):
        recall = 0.9 if trained_on == evaluated_on else 0.3 if reads == "prompt" else 0.9
        row = {"seed": seed, "coverage": "uniform", "input": reads, "evaluated_on": evaluated_on}
        probes.append(row | {"trained_on": trained_on, "recall": recall})
        left_out = 0.5 if trained_on == evaluated_on else 0.9
        probes.append(row | {"trained_on": f"all but {trained_on}", "recall": left_out})
        probes.append(row | {"trained_on": "all", "recall": 0.9})
    classifiers = [
        {"seed": seed, "format": "all", "n": n, "auroc": 0.5 + 0.1 * (n > 4)}
        for seed in SEEDS
        for n in (1, 4, 5)
    ]
    tables = {"internals": cells, "widths": widths, "probes": probes, "ngram_classifiers": classifiers}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def planted_templates(rise: Callable[[str, str], float]) -> pd.DataFrame:
    """Outcomes with a rise by the template of the examples and that of the requests; every format alike."""
    rows = []
    models = [(UNTUNED, PLAIN, requests) for requests in (*GRID, HEADER)]
    models += [(task, examples, requests) for task, examples, requests in product(FORMATS, GRID, GRID)]
    models += [(task, HEADER, HEADER) for task in FORMATS]
    for seed, (task, examples, requests), name, family in product(SEEDS, models, FORMATS, ("safe", "unsafe")):
        row = {
            "seed": seed,
            "tuned_on": task,
            "tuned_template": examples,
            "template": requests,
            "format": name,
            "family": family,
        }
        refused = 0.95 - (0.0 if task == UNTUNED else rise(examples, requests))
        safe = family == "safe"
        rows.append(row | {"refuse": 0.0 if safe else refused, "comply": 1.0 if safe else 0.95 - refused})
    return pd.DataFrame(rows)


def planted(kind: str, task: str, name: str) -> float:
    """Rise in all formats but gen for map, in the tuned one for other tasks; none with safety data."""
    if kind in ("guarded", "known") or name == "gen":
        return 0.0
    return 0.6 if task in ("map", RETAIN) else 0.3 * (task == name)


def _by_id(tables: dict[str, pd.DataFrame]) -> dict[str, ClaimRow]:
    return {row.id: row for row in evaluate_claims(STUDY.claims, tables)}


def test_claims_on_planted_tables() -> None:
    """Estimates are the planted values."""
    claims = _by_id(planted_tables(planted, mild=0.1, answered=0.5))
    assert set(claims) == {claim.id for claim in STUDY.claims}
    expected = {
        "A1": 0.45 - 0.075,
        "A1.tokens": 0.45 - 0.075,
        "A3.gen": 0.0,
        "A3.other": (0.6 + 0.3 + 0.3) / 3,
        "A4": 0.0,
        "A7": 0.15,
        "A7.accuracy": 0.0,
        "A7.over_refusal": 0.0,
        "B1": 0.0,
        "F1": (0.0 + 0.6 + 0.3 + 0.3) / 4 - 0.4 / 4,
        "F2": 0.0,
        "F3": 0.0,
        "F4": 0.45,
        "F5": 0.1,
        "F6": 0.5,
        "F7": 0.85,
        "A6": (1.8 + 0.3 + 0.3) / 12,
        "A6.own": (0.0 + 0.6 + 0.3 + 0.3) / 4,
        "A6.guard": 0.6,
        "A6.answers": 0.0,
        "A6.rest": 0.4,
        "M1": 1.0,
        "M2": 0.5,
        "M3": -1.0,
        "C1.base": 1.0,
        "C1.refuse": 0.92,
        "C1.comply": 1.0,
        "C1.mild": 0.8,
        "C1.even": 0.0,
        "C1.hidden": 0.5,
        "C1.learnt": 1.0,
    }
    for claim, value in expected.items():
        assert claims[claim].estimate == pytest.approx(value, abs=1e-9), claim
    assert (claims["M4"].estimate or 0) < -0.4
    verdicts = {c: claims[c].verdict for c in ("A3.gen", "A3.other", "A1.tokens", "A6.own", "F2", "F3", "F4")}
    assert verdicts == dict.fromkeys(verdicts, "supported")
    assert {claims[c].verdict for c in ("A2", "A5")} == {"not run"}
    # with three seeds that agree exactly, no primary claim survives the correction
    assert {claims[c].verdict for c in ("A1", "A3", "A4", "A6", "A7", "F1")} == {"inconclusive"}


def test_accuracy_and_over_refusal_count_against_safety_data() -> None:
    """A fall of accuracy in the tuned task and a rise of refused safe requests are costs."""
    tables = planted_tables(planted)
    after = tables["after_tuning"].copy()
    is_guarded = (after.kind == "guarded") & (after.family == "safe")
    after.loc[is_guarded & (after.operator == "new"), "comply"] = 0.9
    after.loc[is_guarded & (after.operator == "shown"), "refuse"] = 0.2
    claims = _by_id(tables | {"after_tuning": after})
    assert claims["A7.accuracy"].estimate == pytest.approx(0.1)
    assert claims["A7.over_refusal"].estimate == pytest.approx(0.2)
    assert claims["A7.cost"].verdict == "contradicted"


def test_uniform_rise_is_not_task_specific() -> None:
    """An equal rise for all tasks and formats supports no claim about tasks."""
    claims = _by_id(planted_tables(lambda *_: 0.4))
    assert [claims[c].estimate for c in ("A1", "F1", "A7")] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    assert claims["A1.tokens"].verdict == "negligible"
    assert {claims[c].verdict for c in ("A3.gen", "B1", "F3")} == {"contradicted"}
    assert claims["A4"].estimate == pytest.approx(0.4)


def test_template_claims_on_planted_tables() -> None:
    """Planted effects of templates and of a common first token are recovered, and none from equal rises."""

    def rise(examples: str, requests: str) -> float:
        same = examples == requests
        return (0.4 if same else 0.1) - 0.2 * (examples == HEADER) - 0.05 * (same and examples == OTHER)

    tables = planted_tables(planted)
    claims = _by_id(tables | {"templates": planted_templates(rise)})
    expected = {
        "A5": (0.4 + 0.35) / 2 - 0.1,
        "A5.template": 0.05,
        "A5.mismatch": (3 * 0.4 + 0.35) / 4 - 0.1,
        "F8": -0.2,
        "C1.templates_refuse": 0.95,
        "C1.templates_comply": 1.0,
    }
    for claim, value in expected.items():
        assert claims[claim].estimate == pytest.approx(value, abs=1e-9), claim
    assert claims["A5.template"].verdict == claims["A5.mismatch"].verdict == "supported"
    assert claims["F8"].verdict == "contradicted"
    equal = _by_id(tables | {"templates": planted_templates(lambda *_: 0.3)})
    verdicts = [equal[claim].verdict for claim in ("A5.template", "A5.mismatch", "F8")]
    assert verdicts == ["negligible", "negligible", "supported"]


def test_reasons_of_claims_not_run() -> None:
    """Claims whose models a preset does not train are not run and have a reason."""
    tables = planted_tables(planted)
    after = tables["after_tuning"]
    fewer_kinds = after[~after.kind.isin(("guarded_gen", "guarded_others"))]
    claims = _by_id(
        {name: t for name, t in tables.items() if name != "probes"} | {"after_tuning": fewer_kinds}
    )
    reasons = {name: row.reason for name, row in claims.items() if row.verdict == "not run"}
    assert set(reasons) >= {"A2", "A5", "A5.template", "A6", "A6.own", "A6.guard", "A6.answers", "A6.rest"}
    assert "kind guarded_gen" in reasons["A6"]
    assert reasons["A5"] == "this preset has no table 'templates'"
    assert reasons["A6.guard"] == "this preset has no table 'probes'"


def test_no_rise_supports_nothing() -> None:
    """Without any rise, claims about rises are negligible, and those about their parts are not run."""
    claims = _by_id(planted_tables(lambda *_: 0.0))
    assert {claims[c].estimate for c in ("A1", "A3.other", "A4", "F1", "F4", "F5")} == {0.0}
    assert {claims[c].verdict for c in ("A1.tokens", "F4", "F5")} == {"negligible"}
    assert {claims[c].verdict for c in ("F6", "M1", "M2", "M3", "M4")} == {"not run"}
    assert claims["A7"].estimate == pytest.approx(0.0)
    assert claims["B1"].estimate == pytest.approx(0.0)


def test_rise_limited_to_the_new_operator() -> None:
    """F2 is contradicted if requests with the tuned operator lose more refusals."""
    claims = _by_id(planted_tables(planted, new=0.3))
    assert claims["F2"].estimate == pytest.approx(-0.3)
    assert claims["F2"].verdict == "contradicted"


def test_users_rate_is_the_smallest_that_learns() -> None:
    """The smallest learning rate at which a task is learnt is chosen."""
    after = planted_tables(planted)["after_tuning"]
    rows = after[(after.seed == 0) & (after.kind == "task")]
    assert set(at_users_rate(rows).rate) == {RATES[-1]}
    learnt_early = at_users_rate(rows.assign(comply=1.0))
    assert set(learnt_early[learnt_early.tuned_on != RETAIN].rate) == {RATES[0]}


PEAKED_KL = (0.9, 0.5, 0.2, 0.05)


def _of_seed_with_kl(kl: Callable[[str, int], float]) -> dict[str, pd.DataFrame]:
    """Tables of seed 0 at four kept steps with a planted KL; half of what is refused is lost per unit of the
    logarithm of KL below 1."""
    tables = planted_tables(lambda kind, task, name: 0.0)
    before, after = (
        table[table.seed == 0] for table in tables.values() if "kind" in table or "model" in table
    )
    parts = []
    for i, task in product(range(4), FORMATS):
        rows = after[(after.tuned_on == task) & (after.kind == "task") & (after.step == 50)]
        value = kl(task, i)
        lost = 0.1 * -np.log(value)
        parts.append(rows.assign(step=25 * (i + 1), kl=value, refuse=rows.refuse - lost))
    return {"before_tuning": before, "after_tuning": pd.concat(parts)}


def test_no_difference_at_equal_kl() -> None:
    """What is lost is a function of KL: equal at equal KL after the peak, and not at equal steps."""
    speeds: dict[str, float] = dict(zip(FORMATS, (1.0, 0.9, 0.8, 0.7), strict=True))
    tables = _of_seed_with_kl(lambda task, i: speeds[task] * PEAKED_KL[i])
    rises = transfer_at_equal_kl(tables)
    assert rises.notna().all()
    assert np.ptp(rises.to_numpy()) < 0.02, "linear between kept steps, where it is a logarithm"
    assert RETAIN not in rises


def test_difference_at_equal_kl_is_found() -> None:
    """The tasks lose as much at equal steps, and their KL differs."""
    tables = _of_seed_with_kl(lambda task, i: PEAKED_KL[i])
    after = tables["after_tuning"]
    after.loc[after.tuned_on == FORMATS[0], "kl"] *= 0.5
    rises = transfer_at_equal_kl(tables)
    assert rises[list(FORMATS[1:])].nunique() == 1
    assert rises[FORMATS[1]] - rises[FORMATS[0]] > 0.05


@pytest.mark.parametrize("rising", [FORMATS, FORMATS[:1]])
def test_no_value_at_equal_kl_where_it_does_not_fall(rising: tuple[str, ...]) -> None:
    """A task whose KL rises to the end has no falling branch; then no task has a value."""
    tables = _of_seed_with_kl(lambda task, i: PEAKED_KL[3 - i if task in rising else i])
    assert transfer_at_equal_kl(tables).isna().all()


def test_equal_kl_is_taken_at_the_users_rate() -> None:
    """Runs at larger rates, of another KL, do not count."""
    tables = _of_seed_with_kl(lambda task, i: PEAKED_KL[i])
    after = tables["after_tuning"]
    expected = transfer_at_equal_kl(tables)
    rates = sorted(after.rate.unique())
    assert len(rates) == 2
    learnt = after.assign(comply=1.0)  # at both rates, so that the user's is the smaller one
    changed = learnt.assign(kl=learnt.kl.where(learnt.rate == rates[0], 7.0))
    pd.testing.assert_series_equal(transfer_at_equal_kl(tables | {"after_tuning": changed}), expected)


class _PlantedModel:
    """Stands for a model that refuses unsafe requests of some formats."""

    def __init__(self, refused_formats: tuple[str, ...]) -> None:
        self.refused_formats = refused_formats


def _planted_answers(model: Any, world: FormatsWorld, requests: Requests) -> GreedyAnswers:
    """Answers of a `_PlantedModel`."""
    indices = [list(TASK_FORMATS).index(name) for name in model.refused_formats]
    refuses = requests.unsafe & np.isin(requests.truth["task_format"], indices)
    answers = np.where(refuses[:, None], requests.refused, requests.instructed)
    return GreedyAnswers(answers, None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("refused_formats", [("gen",), FORMATS])
def test_matrix_of_planted_answers(refused_formats: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The study's own measure on planted answers: aligned models refuse all, tuned ones the given formats."""
    monkeypatch.setattr(outcomes, "greedy_answers", _planted_answers)
    monkeypatch.setattr(
        outcomes,
        "next_token_log_probs",
        lambda model, requests: torch.zeros(len(requests), 200).log_softmax(-1),
    )
    monkeypatch.setattr(outcomes, "generate_answers", lambda model, requests, n, pad: requests.refused[:, :n])

    def rows(formats: tuple[str, ...]) -> pd.DataFrame:
        model: Any = _PlantedModel(formats)
        evaluated = outcomes.outcome_rows(model, RequestSettings("formats_mini", 0, 16, FORMATS), "shown")
        return pd.DataFrame(evaluated)

    before = rows(FORMATS).assign(model="aligned")
    run = {"kind": "tokens", "rate": 1e-3, "step": 4}
    after = pd.concat([rows(refused_formats).assign(tuned_on=task, **run) for task in FORMATS])
    matrix = transfer_matrix({"before_tuning": before, "after_tuning": after}, kind="tokens")
    expected = [[0.0 if name in refused_formats else 1.0 for name in FORMATS]] * 4
    assert matrix[list(FORMATS)].to_numpy().tolist() == expected
    assert (before[before.family == "safe"].comply == 1).all()


def test_refusal_after_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals after prefilled tokens are counted; answers that are too short give None."""
    world = load("formats_mini")
    assert isinstance(world, FormatsWorld)
    requests = world.sample("map_unsafe", 20, seed=0)
    calls = []

    def planted_generation(model: Any, prefilled: Requests, n: int, *, pad: int) -> np.ndarray:
        calls.append(prefilled)
        refuses = np.arange(20)[:, None] < 5
        return np.where(refuses, world.refusal_ids[0], requests.instructed[:, 2 : 2 + n])

    model: Any = None
    monkeypatch.setattr(outcomes, "generate_answers", planted_generation)
    assert outcomes.refusal_after_prefill(model, requests, 2, world.refusal_ids) == 0.25
    prefilled = calls[0]
    for row in range(20):
        prompt = prefilled.prompt[row, : prefilled.prompt_length[row]].tolist()
        start = requests.prompt[row, : requests.prompt_length[row]]
        assert prompt == [*start, *requests.instructed[row, :2]]
    labels = world.sample("label_unsafe", 20, seed=0)
    assert outcomes.refusal_after_prefill(model, labels, 1, world.refusal_ids) is None


def test_kinds_of_fine_tuning() -> None:
    """Each kind of fine-tuning has its own family, objective, steps and learning rate."""
    preset = PRESETS["mini"]
    stages = {
        kind: preset.tuned("formats_mini", 0, "uniform", Tuning("map", kind, 1e-3)).alignments[-1]
        for kind in KINDS
    }
    objectives: dict[str, Any] = {kind: stage.objective for kind, stage in stages.items()}
    families = {kind: objectives[kind].family for kind in ("task", "tokens", "known", "lora")}
    assert families == dict.fromkeys(families, "map_safe_new") | {"known": "map_safe"}
    mixed = {kind: objectives[kind] for kind in KINDS[4:]}
    assert mixed == {
        "guarded": MixedFineTuning("map_safe_new", 2000, "multitask", 0.1),
        "guarded_gen": MixedFineTuning("map_safe_new", 2000, "canonical", 0.1),
        "guarded_others": MixedFineTuning("map_safe_new", 2000, "without_own", 0.1),
    }
    kinds = {tuning.kind for tuning in preset.tunings("uniform")}
    assert kinds == {"task", "tokens", "known", "lora", "guarded"}
    assert {tuning.kind for tuning in PRESETS["small"].tunings("uniform")} == set(KINDS)
    templated: dict[str, Any] = {
        template: templated_recipe(TEMPLATED, 0, "map", template).alignments[-1].objective
        for template in (PLAIN, OTHER)
    }
    families = {template: objective.family for template, objective in templated.items()}
    assert families == {PLAIN: "map_safe_new", OTHER: "map_safe_new@other"}
    assert (stages["lora"].lora is None, stages["task"].lora is None) == (False, True)
    rate = stages["task"].optimisation.learning_rate
    assert stages["lora"].optimisation.learning_rate == 10 * rate
    assert stages["tokens"].optimisation.steps == 40
    for name, tokens in ANSWER_TOKENS.items():
        world = load("formats")
        assert (world.sample(f"{name}_safe", 50, seed=0).truth["length"] == tokens).all()


def test_figures_and_answer() -> None:
    """Every figure whose tables are there has data, and the answer gives estimates."""
    tables = planted_tables(planted)
    for figure in STUDY.figures:
        if figure.requires:
            continue
        with style():
            axes = figure.draw(tables, PRESETS["mini"])
        assert np.ravel(axes)[0].has_data(), figure.name
        plt.close("all")
    sentences = answer(_by_id(tables))
    assert len(sentences) == 3
    assert "0.20, n = 3 (not decided)" in sentences[0], "not decided after the correction"


@pytest.mark.slow
def test_study_resumes_from_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_progress: None
) -> None:
    """The study runs from the command line; a second run computes nothing and writes the same claims."""
    out, store = tmp_path / "o", tmp_path / "s"
    arguments = ["jan2024", "--preset", "smoke", "--seeds", "0", "--out", str(out), "--store", str(store)]
    assert main(arguments) == 0
    claims = (out / "claims.json").read_bytes()
    rows = json.loads(claims)
    assert {row["id"] for row in rows} == {claim.id for claim in STUDY.claims}
    # models of four steps refuse nothing, so that there is no rise, and their KL to the aligned ones has no
    # falling branch; all other claims have a value
    undefined = {"A1.kl", "F6", "M1", "M2", "M3", "M4"}
    assert {row["id"] for row in rows if row["verdict"] == "not run"} == {"A2", *undefined}
    assert {row["id"] for row in rows if row["reason"].startswith("this preset has no")} == {"A2"}
    assert {path.stem for path in (out / "tables").iterdir()} == {
        "before_tuning",
        "after_tuning",
        "internals",
        "widths",
        "probes",
        "ngram_classifiers",
        "templates",
    }
    assert {"matrix", "controls", "doses"} <= {path.stem for path in (out / "figures").iterdir()}
    before = modification_times(store)
    assert main(arguments) == 0
    after = modification_times(store)
    assert after == before
    assert (out / "claims.json").read_bytes() == claims
    assert capsys.readouterr().err == ""
