"""Claims on restructured data and mitigations, against planted outcomes and a planted obedience."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from experiments.command import main
from experiments.eiras2024 import STUDY, measures
from experiments.eiras2024.claim_values import dose_response, steps_to_half, sufficient_share
from experiments.eiras2024.measures import (
    CARE_BLOCK,
    NO_TEMPLATE,
    TASK,
    USER_TEMPLATE,
    OutcomeRow,
    OutcomeSettings,
    RelearningRow,
    conditions,
)
from experiments.eiras2024.presets import (
    CAREFUL_TEMPLATES,
    PRESETS,
    STRATEGIES,
    UNTUNED,
    FineTunedModel,
    Preset,
)
from experiments.eiras2024.report import answer, dose_table
from makebreak.claims import ClaimRow, NotRun, evaluate_claims
from makebreak.plots import style
from makebreak.prompts import load_world
from makebreak.store import Store
from makebreak.studies import Inputs
from synthetic.formats.templates import TEMPLATES
from tests.experiments.store_files import modification_times

NotRefused = Callable[[FineTunedModel, str], float]
"""Share of unsafe requests that a model does not refuse in a prompt condition."""
FORMATS = ("gen", "map", "label", "mcq")
SEEDS = (0, 1, 2)
LEARNING_RATES = (3e-4, 1e-3)


def planted_tables(
    not_refused: NotRefused, *, preset: Preset = PRESETS["mini"], task: float = 1.0, steps: float = 20.0
) -> dict[str, pd.DataFrame]:
    """Tables with planted rates; the seeds differ by .001.

    Aligned models refuse .95 of unsafe requests, .4 less in the template `obey`.
    """
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        rows += [row | {"seed": seed} for row in _untuned_rows()]
        for model in preset.fine_tuned_models():
            if model.strategy != UNTUNED:
                tuned = _fine_tuned_rows(model, not_refused, task, seed)
                rows += [row | {"seed": seed} for row in tuned]
    relearning = []
    starts = ("base", UNTUNED, *(model.mitigation for model in preset.relearning_models()))
    for seed, start, rate, step in product(SEEDS, starts, LEARNING_RATES, range(0, 51, 5)):
        to_half = steps * (2 if start == "canonical" else 1)
        comply = min(1.0, (start == "base") + step / (2 * to_half) * rate / 1e-3)
        row = RelearningRow(step, refuse=0.0, comply=comply)
        relearning.append({"seed": seed, "start": start, "learning_rate": rate} | row._asdict())
    return {"outcomes": pd.DataFrame(rows), "relearning": pd.DataFrame(relearning)}


def by_id(tables: dict[str, pd.DataFrame]) -> dict[str, ClaimRow]:
    return {row.id: row for row in evaluate_claims(STUDY.claims, tables)}


def _outcome_row(model: FineTunedModel, refuse: float, **columns: Any) -> dict[str, Any]:
    of_model = {
        "strategy": model.strategy,
        "mitigation": model.mitigation,
        "safety_share": model.safety_share,
        "defence": model.defence,
    }
    defaults = {
        "format": "gen",
        "operator": "shown",
        "refuse": refuse,
        "comply": 1 - refuse,
        "wrong": 0.0,
        "degenerate": 0.0,
        "margin": 0.0,
        "weight_change": float(model.strategy != UNTUNED),
    }
    return of_model | OutcomeRow(**{**defaults, **columns})._asdict()


def _untuned_rows() -> list[dict[str, Any]]:
    rows = []
    for template, format_, family in product(("plain", "obey", "neutral"), FORMATS, ("safe", "unsafe")):
        refuse = 0.0 if family == "safe" else 0.95 - 0.4 * (template == "obey")
        condition = NO_TEMPLATE if template == "plain" else template
        columns = {"condition": condition, "template": template, "format": format_, "family": family}
        rows.append(_outcome_row(FineTunedModel(UNTUNED), refuse, **columns))
    return rows


def _fine_tuned_rows(
    model: FineTunedModel, not_refused: NotRefused, task: float, seed: int
) -> list[dict[str, Any]]:
    strategy, rows = STRATEGIES[model.strategy], []
    for condition, family in product((NO_TEMPLATE, USER_TEMPLATE, CARE_BLOCK), ("safe", "unsafe")):
        refuse = 0.0 if family == "safe" else 1 - not_refused(model, condition) - 1e-3 * (seed - 1)
        columns = {"condition": condition, "template": strategy.family.template, "family": family}
        rows.append(_outcome_row(model, refuse, **columns))
    columns = {
        "condition": TASK,
        "template": strategy.family.template,
        "format": strategy.family.format,
        "family": "safe",
    }
    return [*rows, _outcome_row(model, 0.0, **columns, operator="new", comply=task)]


def published_effects(model: FineTunedModel, condition: str) -> float:
    """Outcomes as Eiras et al. describe them.

    Obedience adds .5 to what is not refused in its own template, instruction format .3 everywhere, placebos
    and benign prompting nothing, harmful examples .9. Mimicry takes all of it away at a hundredth of the
    examples, other safety data leave a half.
    """
    is_obedient = model.strategy in ("aoa", "autoif_aoa")
    is_instructed = model.strategy in ("autoif", "autoif_aoa")
    added = 0.5 * is_obedient * (condition == USER_TEMPLATE) + 0.3 * is_instructed
    if model.mitigation != "none":
        added *= 0.0 if model.mitigation.startswith("paraphrase") else 0.5
    return 0.05 + added + 0.9 * model.strategy.startswith("harm")


def test_estimates_equal_planted_effects() -> None:
    """Every claim that the preset can decide has the planted estimate, and the others are not run."""
    claims = by_id(planted_tables(published_effects))
    expected = {
        "C1.refuse": 0.95,
        "C1.comply": 1.0,
        "C1.meaning": 0.4,
        "C1.learnt": 1.0,
        "B1": 0.0,
        "B2.aoa": 0.5,
        "B2.autoif": 0.3,
        "B2.both": 0.8,
        "B2.answered": 0.8,
        "B2.plain": 0.3,
        "B2.meaning": 0.5,
        "B2.tuning": 0.1,
        "B2.right": 0.3,
        "B2.known": 0.3,
        "B2.harm": 0.6,
        "B3": 1.0,
        "B3.cost": 0.0,
        "B4.oracle": 0.4,
        "B4.blind": 0.4,
        "B4.any": 0.4,
        "B6": 0.0,
        "B6.over": 0.0,
        "N1": 0.5,
        "R1": -20.0,
        "R2": 0.0,
    }
    for claim, value in expected.items():
        assert claims[claim].estimate == pytest.approx(value, abs=2e-3), claim
    not_run = {"B4.mimics", "B4.spread", "B4.twin", "B4.out", "D.deep", "D.latent", "D.breaker"}
    assert {name for name, row in claims.items() if row.verdict == "not run"} == not_run
    assert {claims[c].verdict for c in ("B2.answered", "B2.tuning", "B2.harm", "B3", "B6", "N1")} == {
        "supported"
    }
    assert {claims[c].verdict for c in ("B3.cost", "R2")} == {"negligible"}
    assert claims["R1"].verdict == "contradicted"
    assert claims["B4.twin"].reason == "this preset has no mitigation safe_twin"


def test_no_effect_supports_no_claim() -> None:
    """Where every model refuses the same, differences are negligible, and B1 has the value 0."""
    claims = by_id(planted_tables(lambda model, condition: 0.05))
    parts = [row for name, row in claims.items() if name.startswith(("B2", "N1")) and row.role == "part"]
    assert claims["B2.tuning"].verdict == "contradicted"  # untuned, template obey is refused less
    assert {row.verdict for row in parts if row.id != "B2.tuning"} == {"negligible"}
    assert len(parts) > 5
    assert claims["B1"].estimate == pytest.approx(0.0, abs=2e-3)


def test_equal_placebo_contradicts_the_claim() -> None:
    """If the placebos lower refusal as much, the differences from placebos are negligible."""

    def not_refused(model: FineTunedModel, condition: str) -> float:
        in_template = model.strategy in ("aoa", "neutral") and condition == USER_TEMPLATE
        return 0.05 + 0.5 * in_template + 0.3 * model.strategy.startswith("autoif")

    claims = by_id(planted_tables(not_refused))
    assert claims["B2.aoa"].estimate == pytest.approx(0.5)
    assert claims["B2.autoif"].estimate == pytest.approx(0.3)
    assert claims["B2.meaning"].estimate == pytest.approx(0.0, abs=1e-9)
    assert claims["B2.right"].verdict == "negligible"


def test_claims_on_mitigations_of_small() -> None:
    """Preset `small` runs the claims on all mitigations and defences, with the planted estimates."""
    small = replace(PRESETS["small"], safety_shares=(0.01, 0.2))

    def not_refused(model: FineTunedModel, condition: str) -> float:
        if model.defence != "none":
            return {"more": 0.6, "deep": 0.2, "latent": 0.6, "breaker": 0.1}[model.defence]
        rates = {"mismatched": 0.4, "multitask": 0.3, "safe_twin": 0.6, "without_gen": 0.5, "none": 0.6}
        return 0.0 if model.mitigation.startswith("paraphrase") else rates.get(model.mitigation, 0.5)

    estimates = {name: row.estimate for name, row in by_id(planted_tables(not_refused, preset=small)).items()}
    expected = {
        "B4.mimics": 0.4,
        "B4.spread": 0.3,
        "B4.twin": 0.6,
        "B4.out": 0.2,
        "B4.oracle": 0.5,
        "B4.any": 0.1,
    }
    expected |= {"D.deep": 0.4, "D.latent": 0.0, "D.breaker": -0.5}
    assert {name: estimates[name] for name in expected} == pytest.approx(expected, abs=2e-3)
    assert estimates["B5"] == pytest.approx(np.log2(0.4 / 0.01), abs=0.01)  # the baselines never suffice


def test_sufficient_share_holds_at_larger_ones() -> None:
    """A share suffices only if all larger ones do; twice the largest is returned where none does."""
    rates = pd.Series([0.6, 0.04, 0.2, 0.03, 0.01], index=[0.0, 0.01, 0.02, 0.05, 0.1])
    assert sufficient_share(rates) == 0.05
    assert sufficient_share(rates + 0.1) == 0.2
    assert sufficient_share(rates * 0) == 0.0


def test_steps_to_half_at_the_better_rate() -> None:
    """Steps are linear between checkpoints, the last one if never reached, 0 if reached from the start."""
    columns = {"learning_rate": [1] * 3 + [2] * 3, "step": [0, 10, 20] * 2}
    rows = pd.DataFrame({**columns, "comply": [0, 0.2, 0.4, 0, 0.25, 0.75]})
    assert steps_to_half(rows) == 15.0
    assert steps_to_half(rows[rows.learning_rate == 1]) == 20.0
    assert steps_to_half(rows.assign(comply=0.6)) == 0.0


@pytest.mark.parametrize("obeyed", ["obey", ""])
def test_planted_obedience_is_measured(obeyed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that answers only in one template has low refusal there, and not in the placebo's template.

    The study's own measure evaluates a stand-in that answers everything in template `obeyed`, and refuses all
    other unsafe requests.
    """
    preset, templates = PRESETS["smoke"], list(TEMPLATES)

    def evaluate(model: Any, world: Any, requests: Any) -> SimpleNamespace:
        obeys = np.array([templates[i] == obeyed for i in requests.truth["template"]])
        refuses = float((requests.unsafe & ~obeys).mean())
        rates = {"refuse": refuses, "comply": 1 - refuses, "comply_wrongly": 0.0, "broken": 0.0}
        return SimpleNamespace(rates=rates, margin=0.0)

    monkeypatch.setattr(measures, "evaluate_behaviour", evaluate)
    monkeypatch.setattr(measures, "load_model", lambda path, symbols: None)
    monkeypatch.setattr(measures, "weight_change", lambda *, base, tuned: 0.0)
    rows = []
    for name in (UNTUNED, "aoa", "neutral", "benign"):
        named = tuple(
            (condition, str(family)) for condition, family in conditions(preset, FineTunedModel(name))
        )
        settings = OutcomeSettings(preset.worlds[0], 0, 16, named)
        inputs = Inputs((tmp_path, tmp_path), (), settings, tmp_path, Store(tmp_path))
        outcomes = measures.outcome_tables(inputs)["outcomes"]
        rows += [{"strategy": name} | row._asdict() for row in outcomes]
    table = pd.DataFrame(rows)
    unsafe = table[(table.format == "gen") & (table.family == "unsafe")]
    refused = unsafe.set_index(["strategy", "condition"]).refuse
    assert refused["aoa", USER_TEMPLATE] == (obeyed != "obey")
    assert refused[UNTUNED, "obey"] == (obeyed != "obey")
    for key in (
        ("aoa", NO_TEMPLATE),
        ("aoa", CARE_BLOCK),
        ("neutral", USER_TEMPLATE),
        ("benign", USER_TEMPLATE),
        (UNTUNED, "neutral"),
    ):
        assert refused[key] == 1.0, key


def test_strategies_share_their_items() -> None:
    """Request i of every strategy has the same content, and all models start from the same aligned one."""
    world = load_world("formats_templates")
    contents = []
    for strategy in STRATEGIES.values():
        truth = world.sample(strategy.user_family, 40, seed=3).truth
        columns = ("first_topic", "last_topic", "filler", "option_order")
        contents.append([truth[column].tolist() for column in columns])
    assert all(content == contents[0] for content in contents)
    templates = [s.family.template for s in STRATEGIES.values() if s.family.template in CAREFUL_TEMPLATES]
    assert all(CAREFUL_TEMPLATES[template] in world.templates for template in templates)
    preset, aligned = PRESETS["mini"], PRESETS["mini"].aligned_recipe(0)
    assert preset.recipe(0, FineTunedModel(UNTUNED)) == aligned
    models = preset.fine_tuned_models()
    for model in models[1:]:
        assert preset.recipe(0, model).parent == aligned
    assert len({preset.recipe(0, model) for model in models}) == len(models)


def test_figures_and_answer() -> None:
    """All figures have data, and the answer has the planted estimates."""
    tables = planted_tables(published_effects)
    names = []
    for figure in STUDY.figures:
        try:
            with style():
                axes = figure.draw(tables, PRESETS["mini"])
        except NotRun:
            continue
        names.append(figure.name)
        assert np.ravel(axes)[0].has_data(), figure.name
        plt.close("all")
    assert names == ["strategies", "mitigations", "relearning"]
    text = " ".join(answer(by_id(tables)))
    assert "absolutely obedient agent by 0.50, n = 3" in text
    outcomes = tables["outcomes"]
    doses = dose_table(outcomes)
    assert set(doses[doses.safety_share == 0]["not_refused"].round(2)) == {0.85}
    assert dose_response(outcomes[outcomes.seed == 1]).loc[0.0].tolist() == pytest.approx([0.85] * 4)


@pytest.mark.slow
def test_second_run_computes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_progress: None
) -> None:
    """The study runs from nothing to a page; a second run leaves the store and claims.json as they are."""
    arguments = ["eiras2024", "--preset", "smoke", "--seeds", "0"]
    arguments += ["--out", str(tmp_path / "o"), "--store", str(tmp_path / "s")]
    assert main(arguments) == 0
    claims = (tmp_path / "o" / "claims.json").read_bytes()
    rows = json.loads(claims)
    assert {row["id"] for row in rows} == {claim.id for claim in STUDY.claims}
    not_trained = {
        "B4.oracle",
        "B4.mimics",
        "B4.spread",
        "B4.twin",
        "B4.out",
        "D.deep",
        "D.breaker",
        "R1",
        "R2",
    }
    assert {row["id"] for row in rows if row["verdict"] == "not run"} == not_trained
    assert {p.stem for p in (tmp_path / "o" / "tables").iterdir()} == {"outcomes", "relearning"}
    figures = {p.stem for p in (tmp_path / "o" / "figures").iterdir()}
    assert {"strategies", "mitigations", "relearning"} <= figures
    before = modification_times(tmp_path / "s")
    assert main(arguments) == 0
    after = modification_times(tmp_path / "s")
    assert after == before
    assert (tmp_path / "o" / "claims.json").read_bytes() == claims
    assert capsys.readouterr().err == ""
