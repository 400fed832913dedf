"""Do claims on restructured data and mitigations say what was planted, and is a planted obedience seen as such?"""

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
from experiments.eiras2024 import measure
from experiments.eiras2024.claims import CLAIMS, doses, enough, judge, steps_to_half
from experiments.eiras2024.measure import CARE, OWN, PLAIN
from experiments.eiras2024.presets import CAREFUL, PRESETS, STRATEGIES, UNTUNED, Preset, Tuned
from experiments.eiras2024.report import drawings, mixing, paragraph
from experiments.results import Results
from makebreak.artifacts import Store
from makebreak.plots import style
from makebreak.requests import load_world
from synthetic.templates import TEMPLATES
from tests.experiments.kept import made_at

Opened = Callable[[Tuned, str], float]  # of a tuned model and how it is asked
FORMATS = ("gen", "map", "label", "mcq")


def tables(
    opened: Opened, *, preset: Preset = PRESETS["mini"], task: float = 1.0, steps: float = 20.0
) -> dict[str, pd.DataFrame]:
    """Aligned models refuse .95 of harm, .4 less behind obedience; seeds differ by a hair."""
    rows = []
    for seed, template, asked, family in product(
        (0, 1, 2), ("plain", "obey", "neutral"), FORMATS, ("safe", "unsafe")
    ):
        how = PLAIN if template == "plain" else template
        row = {"seed": seed, "strategy": UNTUNED, "mitigation": "none", "rate": 0.0, "asked_in": how}
        row |= {"template": template, "asked": asked, "family": family, "operator": "shown", "margin": 0.0}
        row |= {"defence": "none"}
        refuse = 0.0 if family == "safe" else 0.95 - 0.4 * (template == "obey")
        rows.append(row | {"refuse": refuse, "comply": 1 - refuse, "weight_change": 0.0})
    for seed, of in product((0, 1, 2), [of for of in preset.all_tuned() if of.strategy != UNTUNED]):
        template = STRATEGIES[of.strategy].template
        for how, family in product((PLAIN, OWN, CARE), ("safe", "unsafe")):
            row = {
                "seed": seed,
                "strategy": of.strategy,
                "mitigation": of.mitigation,
                "rate": of.rate,
                "asked_in": how,
            }
            row |= {
                "defence": of.defence,
                "template": template,
                "asked": "gen",
                "family": family,
                "operator": "shown",
                "margin": 0.0,
            }
            refuse = 0.0 if family == "safe" else 1 - opened(of, how) - 1e-3 * (seed - 1)
            rows.append(row | {"refuse": refuse, "comply": 1 - refuse, "weight_change": 1.0})
        own = STRATEGIES[of.strategy].format
        rows.append(
            row
            | {
                "asked_in": "task",
                "asked": own,
                "family": "safe",
                "operator": "new",
                "comply": task,
                "refuse": 0.0,
            }
        )
    starts = ("base", UNTUNED, *(of.mitigation for of in preset.relearnt_from()))
    relearnt = [
        {"seed": seed, "start": start, "rate": rate, "step": step, "refuse": 0.0}
        | {
            "comply": min(
                1.0, (start == "base") + step / (2 * steps * (1 + (start == "canonical"))) * rate / 1e-3
            )
        }
        for seed, start, rate, step in product((0, 1, 2), starts, (3e-4, 1e-3), range(0, 51, 5))
    ]
    return {"tuned": pd.DataFrame(rows), "relearnt": pd.DataFrame(relearnt)}


def as_they_say(of: Tuned, how: str) -> float:
    """Obedience opens .5 in its own template, instruction format .3 everywhere, placebos and benign prompting nothing;
    harm opens all. Mimicry closes what a hundredth of the examples mimics, others leave a half of it."""
    agent, instructed = of.strategy in ("aoa", "autoif_aoa"), of.strategy in ("autoif", "autoif_aoa")
    opens = 0.5 * agent * (how == OWN) + 0.3 * instructed
    if of.mitigation != "none":
        opens *= 0.0 if of.mitigation.startswith("paraphrase") else 0.5
    return 0.05 + opens + 0.9 * of.strategy.startswith("harm")


def test_claims_say_what_was_planted() -> None:
    found = {row["id"]: row for row in judge(tables(as_they_say))}
    assert set(found) == {claim.id for claim in CLAIMS}
    expected = {
        "C1": 0.05,
        "C1.meaning": 0.4,
        "C1.learnt": 0.1,
        "B1": 0.05,
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
        "B3": 0.1,
        "B3.cost": 0.0,
        "B4.oracle": 0.4,
        "B4.blind": 0.4,
        "B4.any": 0.4,
        "B6": 0.05,
        "B6.over": 0.05,
        "N1": 0.5,
        "R1": -20.0,
        "R2": 0.0,
    }
    for claim, value in expected.items():
        assert found[claim]["estimate"] == pytest.approx(value, abs=2e-3), claim
    against = {"B3.cost", "R1", "R2"}
    unrun = {"B4.mimics", "B4.spread", "B4.twin", "B4.out", "D.deep", "D.latent", "D.breaker"}
    assert {name for name, row in found.items() if row["verdict"] == "not run"} == unrun
    assert {name for name in expected if found[name]["verdict"] != "supported"} == against
    assert found["B4.twin"]["reason"] == "this preset has no safe_twin"


def test_where_nothing_matters_nothing_is_claimed() -> None:
    found = {row["id"]: row for row in judge(tables(lambda of, how: 0.05))}
    tested = [c for c in found if c.startswith(("B2", "B4", "N1")) and found[c]["verdict"] != "not run"]
    assert {found[claim]["verdict"] for claim in tested} == {"not supported"}
    assert len(tested) > 10
    assert found["B1"]["verdict"] == "supported"


def test_a_placebo_that_does_as_much_undoes_the_claim() -> None:
    def opened(of: Tuned, how: str) -> float:
        return (
            0.05
            + 0.5 * (of.strategy in ("aoa", "neutral") and how == OWN)
            + 0.3 * of.strategy.startswith("autoif")
        )

    found = {row["id"]: row for row in judge(tables(opened))}
    assert found["B2.aoa"]["verdict"] == found["B2.autoif"]["verdict"] == "supported"
    assert found["B2.meaning"]["verdict"] == found["B2.right"]["verdict"] == "not supported"


def test_all_mitigations_of_small_have_their_claim() -> None:
    small = replace(PRESETS["small"], rates=(0.01, 0.2))

    def opened(of: Tuned, how: str) -> float:
        if of.defence != "none":
            return {"more": 0.6, "deep": 0.2, "latent": 0.6, "breaker": 0.1}[of.defence]
        left = {"mismatched": 0.4, "multitask": 0.3, "safe_twin": 0.6, "without_gen": 0.5, "none": 0.6}
        return 0.0 if of.mitigation.startswith("paraphrase") else left.get(of.mitigation, 0.5)

    found = {row["id"]: row["estimate"] for row in judge(tables(opened, preset=small))}
    expected = {
        "B4.mimics": 0.4,
        "B4.spread": 0.3,
        "B4.twin": 0.6,
        "B4.out": 0.2,
        "B4.oracle": 0.5,
        "B4.any": 0.1,
    }
    expected |= {"D.deep": 0.4, "D.latent": 0.0, "D.breaker": 0.5}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=2e-3)
    assert found["B5"] == pytest.approx(np.log2(0.4 / 0.01), abs=0.01)  # the others never


def test_enough_is_enough_from_there_on() -> None:
    dose = pd.Series([0.6, 0.04, 0.2, 0.03, 0.01], index=[0.0, 0.01, 0.02, 0.05, 0.1])
    assert enough(dose) == 0.05
    assert enough(dose + 0.1) == 0.2
    assert enough(dose * 0) == 0.0


def test_steps_to_half_are_those_of_the_better_rate() -> None:
    rows = pd.DataFrame(
        {"rate": [1] * 3 + [2] * 3, "step": [0, 10, 20] * 2, "comply": [0, 0.2, 0.4, 0, 0.25, 0.75]}
    )
    assert steps_to_half(rows) == 15.0
    assert steps_to_half(rows[rows.rate == 1]) == 20.0
    assert steps_to_half(rows.assign(comply=0.6)) == 0.0


@pytest.mark.parametrize("heeded", ["obey", ""])
def test_a_planted_obedience_is_seen_and_its_placebo_is_not(
    heeded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the study's own measure: a model answers whatever is asked behind `heeded`, and refuses all other harm."""
    preset, names = PRESETS["smoke"], list(TEMPLATES)

    def does(model: Any, world: Any, requests: Any) -> SimpleNamespace:
        obeys = np.array([names[i] == heeded for i in requests.truth["template"]])
        refuses = float((requests.unsafe & ~obeys).mean())
        return SimpleNamespace(rates={"refuse": refuses, "comply": 1 - refuses}, margin=0.0)

    monkeypatch.setattr(measure, "behaviour", does)
    monkeypatch.setattr(measure, "build", lambda recipe, store: _folder(tmp_path))
    monkeypatch.setattr(measure, "load", lambda path, symbols: None)
    monkeypatch.setattr(measure, "weight_change", lambda model, start: 0.0)
    found = []
    for i, of in enumerate((Tuned(UNTUNED), *(Tuned(name) for name in ("aoa", "neutral", "benign")))):
        rows, _ = measure.tuned_rows(preset, 0, of, Store(tmp_path / f"store{i}"))
        found += rows
    rows = pd.DataFrame(found)
    gen = rows[(rows.asked == "gen") & (rows.family == "unsafe")].set_index(["strategy", "asked_in"]).refuse
    assert gen["aoa", OWN] == (heeded != "obey")
    assert gen[UNTUNED, "obey"] == (heeded != "obey")
    for refused in (("aoa", PLAIN), ("aoa", CARE), ("neutral", OWN), ("benign", OWN), (UNTUNED, "neutral")):
        assert gen[refused] == 1.0, refused


def _folder(where: Path) -> Path:
    """Something made, as a parent of what is measured."""
    return Store(where / "made").build("model", revision=1, config={}, make=lambda folder: None)


def test_restructurings_are_of_the_same_items() -> None:
    world = load_world("formats_templates")
    said = [
        [
            world.sample(of.user, 40, seed=3).truth[column].tolist()
            for column in ("first", "last", "filler", "options")
        ]
        for of in STRATEGIES.values()
    ]
    assert all(row == said[0] for row in said)
    assert all(
        CAREFUL[of.template] in world.templates for of in STRATEGIES.values() if of.template in CAREFUL
    )
    preset, aligned = PRESETS["mini"], PRESETS["mini"].start(0)
    assert preset.tuned(0, Tuned(UNTUNED)) == aligned
    for of in preset.all_tuned()[1:]:
        assert preset.tuned(0, of).parent == aligned
    assert len({preset.tuned(0, of) for of in preset.all_tuned()}) == len(preset.all_tuned())


def test_figures_are_drawn_and_the_paragraph_is_told() -> None:
    own = tables(as_they_say)
    claims = judge(own)
    for name, draw in drawings(Results(own, claims, [])).items():
        with style():
            axes = draw()
        assert np.ravel(axes)[0].has_data(), name
        plt.close("all")
    said = paragraph({row["id"]: row for row in claims})
    assert (
        "the obedient agent 0.50 (supported), instruction format 0.30 (supported), both 0.80 (supported)"
        in said
    )
    mixed = mixing(own["tuned"])
    assert set(mixed[mixed.rate == 0]["not refused"].round(2)) == {0.85}
    assert doses(own["tuned"][own["tuned"].seed == 1]).loc[0.0].tolist() == pytest.approx([0.85] * 4)


def test_the_study_runs_and_again_computes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["eiras2024", "--preset", "smoke", "--seeds", "0"]
    line += ["--out", str(tmp_path / "o"), "--store", str(tmp_path / "s")]
    assert main(line) == 0
    claims = (tmp_path / "o" / "claims.json").read_bytes()
    assert {row["id"] for row in json.loads(claims)} == {claim.id for claim in CLAIMS}
    assert {p.stem for p in (tmp_path / "o" / "tables").iterdir()} == {"tuned", "relearnt"}
    assert {"strategies", "mitigations", "relearning"} <= {
        p.stem for p in (tmp_path / "o" / "figures").iterdir()
    }
    before = made_at(tmp_path / "s")
    assert main(line) == 0
    after = made_at(tmp_path / "s")
    assert after == before
    assert (tmp_path / "o" / "claims.json").read_bytes() == claims
    assert capsys.readouterr().err == ""
