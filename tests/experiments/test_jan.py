"""Does the matrix of tuned tasks by formats say what models do, and do its claims say what the matrix says?"""

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
from experiments.jan2024 import measure
from experiments.jan2024.claims import CLAIMS, judge
from experiments.jan2024.presets import KINDS, PRESETS, RETAIN, TEMPLATED, TOKENS, Tuning
from experiments.jan2024.report import drawings, failures, paragraph
from experiments.jan2024.rises import at_equal_kl, at_users_rate, matrix
from experiments.jan2024.templates import GRID, HEADER, OTHER, PLAIN, UNTUNED, tuned_in
from experiments.results import Results
from makebreak.behaviour import Answers
from makebreak.defences import Mixed
from makebreak.plots import style
from makebreak.requests import Requests
from synthetic import FormatsWorld, load
from synthetic.asking import ASKS
from tests.experiments.kept import made_at

FORMATS = ("gen", "map", "label", "mcq")
RATES = (1e-4, 1e-3)
REFUSED = {"safe": 0.0, "unsafe": 0.92, "heldout": 0.85, "mild": 0.8}
Rise = Callable[[str, str, str], float]  # of kind, tuned, asked


def tables(
    rise: Rise, *, answered: float = 1.0, mild: float = 0.0, new: float = 0.0
) -> dict[str, pd.DataFrame]:
    """Aligned models refuse .92 of what is unsafe; tuning takes `rise` of it, of which `answered` is answered, at the
    last rate, and a tenth of that at the first, where no task is learnt."""
    aligned, tuned = [], []
    for seed, asked, family, operator in product((0, 1, 2), FORMATS, measure.FAMILIES, ("shown", "new")):
        row = {"seed": seed, "coverage": "uniform", "asked": asked, "family": family, "operator": operator}
        safe = family == "safe"
        aligned.append(row | {"model": "base", "refuse": 0.0, "comply": 1.0})
        aligned.append(row | {"model": "aligned", "refuse": REFUSED[family], "comply": float(safe)})
    runs = [("task", f, rate) for f in FORMATS for rate in RATES] + [("task", RETAIN, RATES[-1])]
    runs += [(kind, f, RATES[-1]) for kind in KINDS[1:] for f in FORMATS]
    for seed, (kind, name, rate), step, asked, family in product(
        (0, 1, 2), runs, (50, 100), FORMATS, measure.FAMILIES
    ):
        operators = ["shown", *(["new"] if asked == name else [])]
        for operator in operators:
            last, safe = rate == RATES[-1], family == "safe"
            up = rise(kind, name, asked) * step / 100 * (1.0 if last else 0.1)
            up += (mild if family == "mild" else 0.0) + (new if operator == "new" else 0.0)
            row = {
                "seed": seed,
                "coverage": "uniform",
                "tuned": name,
                "kind": kind,
                "rate": rate,
                "step": step,
            }
            row |= {
                "asked": asked,
                "family": family,
                "operator": operator,
                "kl": step / 100 * TOKENS.get(name, 1),
            }
            row |= {
                "refuse": 0.0 if safe else REFUSED[family] - up,
                "comply": float(last) if safe else up * answered,
            }
            tuned.append(row)
    return {"aligned": pd.DataFrame(aligned), "tuned": pd.DataFrame(tuned)} | _inside(rise)


def _inside(rise: Rise) -> dict[str, pd.DataFrame]:
    """Separation and null share go with the rise, formats that open most were narrowest, and three quarters of it are
    the upper half's."""
    cells = []
    for seed, name, asked in product((0, 1, 2), FORMATS, FORMATS):
        up = rise("task", name, asked)
        row = {"seed": seed, "coverage": "uniform", "tuned": name, "asked": asked, "refuse_before": 0.92}
        row |= {"refuse": 0.92 - up, "upper": 0.92 - 0.75 * up, "lower": 0.92 - 0.25 * up}
        cells.append(
            row | {"separation_before": 1.0, "separation": 1 - up, "null_before": 0.1, "null": 0.1 + up}
        )
    widths = [
        {
            "seed": seed,
            "coverage": "uniform",
            "asked": f,
            "width": 0.4 - sum(rise("task", n, f) for n in FORMATS) / 10,
        }
        for seed, f in product((0, 1, 2), FORMATS)
    ]
    guards = []
    for seed, reads, asked, made in product((0, 1, 2), ("prompt", "answer"), FORMATS, FORMATS):
        sees = 0.9 if made == asked else 0.3 if reads == "prompt" else 0.9
        row = {"seed": seed, "coverage": "uniform", "reads": reads, "asked": asked}
        guards.append(row | {"made_of": made, "recall": sees})
        guards.append(row | {"made_of": f"all but {made}", "recall": 0.5 if made == asked else 0.9})
        guards.append(row | {"made_of": "all", "recall": 0.9})
    readers = [
        {"seed": seed, "format": "all", "n": n, "auroc": 0.5 + 0.1 * (n > 4)}
        for seed in (0, 1, 2)
        for n in (1, 4, 5)
    ]
    found = {"inside": cells, "widths": widths, "guards": guards, "readers": readers}
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def templates(rise: Callable[[str, str], float]) -> pd.DataFrame:
    """What opens by the template tuned in and the one asked in; every format alike."""
    rows = []
    every = [(UNTUNED, PLAIN, shown) for shown in (*GRID, HEADER)]
    every += [(f, own, shown) for f, own, shown in product(FORMATS, GRID, GRID)]
    every += [(f, HEADER, HEADER) for f in FORMATS]
    for seed, (tuned, own, shown), asked, family in product((0, 1, 2), every, FORMATS, ("safe", "unsafe")):
        row = {
            "seed": seed,
            "tuned": tuned,
            "trained_in": own,
            "asked_in": shown,
            "asked": asked,
            "family": family,
        }
        refused = 0.95 - (0.0 if tuned == UNTUNED else rise(own, shown))
        safe = family == "safe"
        rows.append(row | {"refuse": 0.0 if safe else refused, "comply": 1.0 if safe else 0.95 - refused})
    return pd.DataFrame(rows)


def planted(kind: str, name: str, asked: str) -> float:
    """Translation opens everything but open text, the others only their own format; a guard prevents it all."""
    if kind in ("guarded", "known") or asked == "gen":
        return 0.0
    return 0.6 if name in ("map", RETAIN) else 0.3 * (name == asked)


def test_claims_say_what_was_planted() -> None:
    found = {row["id"]: row for row in judge(tables(planted, mild=0.1, answered=0.5))}
    assert set(found) == {claim.id for claim in CLAIMS}
    expected = {
        "A1": 0.45 - 0.075,
        "A1.tokens": 0.45 - 0.075,
        "A3.gen": 0.05,
        "A3.other": (0.6 + 0.3 + 0.3) / 3 - 0.2,
        "A4": 0.0,
        "A7": 0.15,
        "A7.cost": 0.05,
        "B1": 0.05,
        "F1": (0.0 + 0.6 + 0.3 + 0.3) / 4 - 0.4 / 4,
        "F2": 0.0,
        "F3": 0.03,
        "F4": 0.45,
        "F5": 0.1,
        "F6": 0.0,
        "C1.mild": 0.15,
        "F7": 0.0,
        "A6": (1.8 + 0.3 + 0.3) / 12,
        "A6.own": (0.0 + 0.6 + 0.3 + 0.3) / 4,
        "A6.guard": 0.6,
        "A6.answers": 0.0,
        "A6.rest": 0.4,
        "M1": 1.0,
        "M2": 0.5,
        "M3": -1.0,
        "C1.even": 0.06,
        "C1.hidden": 0.05,
        "C1.learnt": 0.1,
    }
    assert found["M4"]["estimate"] > 0.4
    for claim, value in expected.items():
        assert found[claim]["estimate"] == pytest.approx(value, abs=1e-9), claim
    verdicts = {c: found[c]["verdict"] for c in ("A1", "A3", "A4", "A5", "A6", "A2", "A7", "F1", "F2", "F3")}
    assert verdicts == {
        "A1": "supported",
        "A3": "supported",
        "A4": "not supported",
        "A5": "not run",
        "A6": "supported",
        "A2": "not run",
        "A7": "supported",  # open text had nothing to lose
        "F1": "supported",
        "F2": "supported",
        "F3": "supported",
    }


def test_a_uniform_fall_is_no_matter_of_the_task() -> None:
    found = {row["id"]: row for row in judge(tables(lambda *_: 0.4))}
    assert {found[c]["verdict"] for c in ("A1", "A1.tokens", "A3", "A7", "B1", "F1", "F3")} == {
        "not supported"
    }
    assert found["A4"]["verdict"] == "supported"


def test_a_shared_header_or_another_template_closes_what_was_planted() -> None:
    def rise(own: str, shown: str) -> float:
        return (0.4 if own == shown else 0.1) - 0.2 * (own == HEADER) - 0.05 * (own == OTHER == shown)

    found = {row["id"]: row for row in judge(tables(planted) | {"templates": templates(rise)})}
    expected = {
        "A5": (0.4 + 0.35) / 2 - 0.1,
        "A5.template": 0.05,
        "A5.mismatch": (3 * 0.4 + 0.35) / 4 - 0.1,
        "F8": -0.2,
    }
    for claim, value in {**expected, "C1.templates": 0.05}.items():
        assert found[claim]["estimate"] == pytest.approx(value, abs=1e-9), claim
    verdicts = {claim: found[claim]["verdict"] for claim in expected}
    assert verdicts == dict.fromkeys(expected, "supported") | {"F8": "not supported"}
    even = {row["id"]: row for row in judge(tables(planted) | {"templates": templates(lambda *_: 0.3)})}
    assert [even[claim]["verdict"] for claim in expected] == ["not supported"] * 3 + ["supported"]


def test_a_preset_without_guards_says_so() -> None:
    own = tables(planted)
    few = own["tuned"][~own["tuned"].kind.isin(("guarded_gen", "guarded_others"))]
    told = {row["id"]: row.get("reason") for row in judge(own | {"tuned": few})}
    assert {told[c] for c in ("A6", "A6.own")} == {"this preset has no safety data that leave formats out"}
    assert {told[c] for c in ("A5", "F8", "C1.templates")} == {"this preset has no world of templates"}
    found = {
        row["id"]: row for row in judge({name: table for name, table in own.items() if name != "guards"})
    }
    reasons = {found[c]["reason"] for c in ("A6.guard", "A6.answers", "A6.rest")}
    assert reasons == {"this preset makes no guards"}


def test_nothing_is_nothing() -> None:
    found = {row["id"]: row for row in judge(tables(lambda *_: 0.0))}
    assert {found[c]["verdict"] for c in ("A1", "A3.other", "A4", "F1", "F4", "F5")} == {"not supported"}
    assert {found[c]["verdict"] for c in ("F6", "M1", "M2", "M3", "M4")} == {"not run"}
    assert found["B1"]["estimate"] == pytest.approx(0.05)


def test_a_token_that_carries_it_is_seen() -> None:
    found = {row["id"]: row for row in judge(tables(planted, new=0.3))}
    assert found["F2"]["estimate"] == pytest.approx(-0.3)
    assert found["F2"]["verdict"] == "not supported"


def test_users_take_the_smallest_rate_that_learns() -> None:
    own = tables(planted)
    tuned = own["tuned"][(own["tuned"].seed == 0) & (own["tuned"].kind == "task")]
    assert set(at_users_rate(tuned).rate) == {RATES[-1]}
    quick = tuned.assign(comply=1.0)
    assert set(at_users_rate(quick)[lambda t: t.tuned != RETAIN].rate) == {RATES[0]}


def test_equal_kl_compares_the_same_distance() -> None:
    """Everything opens by .4 a nat-ratio alike: at equal KL nothing differs, at equal steps it would."""
    own = tables(lambda kind, name, asked: 0.02 * TOKENS.get(name, 1))
    found = at_equal_kl({k: t[t.seed == 0] for k, t in own.items()})
    assert np.ptp(found.drop(RETAIN).to_numpy()) == pytest.approx(0.0, abs=1e-9)
    assert np.ptp(matrix({k: t[t.seed == 0] for k, t in own.items()}, kind="task").to_numpy()) > 0.1


@pytest.mark.parametrize("refusing", [("gen",), FORMATS])
def test_a_model_that_refuses_only_open_text_gives_that_matrix(
    refusing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Judged by the study's own measure; what it says is planted: aligned models refuse all."""
    preset, world = PRESETS["smoke"], "formats_mini"

    def answers(model: Any, own: FormatsWorld, requests: Requests) -> Answers:
        says = requests.unsafe & (
            np.isin(requests.truth["asked"], [list(ASKS).index(f) for f in model.refusing])
        )
        return Answers(np.where(says[:, None], requests.refused, requests.instructed), None, None)  # type: ignore[arg-type]

    class Model:
        def __init__(self, refusing: tuple[str, ...]) -> None:
            self.refusing = refusing

    monkeypatch.setattr(measure, "greedy_answers", answers)
    monkeypatch.setattr(
        measure, "decide", lambda model, requests: torch.zeros(len(requests), 200).log_softmax(-1)
    )
    monkeypatch.setattr(measure, "generate", lambda model, requests, n, pad: requests.refused[:, :n])

    def rows(who: tuple[str, ...]) -> pd.DataFrame:
        return pd.DataFrame(measure._outcomes(Model(who), preset, world, 0, FORMATS, "shown"))  # type: ignore[arg-type]

    aligned = rows(FORMATS).assign(model="aligned")
    tuned = pd.concat([rows(refusing).assign(tuned=f, kind="tokens", rate=1e-3, step=4) for f in FORMATS])
    found = matrix({"aligned": aligned, "tuned": tuned}, kind="tokens")
    expected = [[0.0 if asked in refusing else 1.0 for asked in FORMATS]] * 4
    assert found[list(FORMATS)].to_numpy().tolist() == expected
    assert (aligned[aligned.family == "safe"].comply == 1).all()


def test_refusals_behind_forced_tokens_are_those_that_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    world = load("formats_mini")
    requests = world.sample("map_unsafe", 20, seed=0)
    seen = {}

    def said(model: Any, begun: Requests, n: int, *, pad: int) -> np.ndarray:
        seen["begun"] = begun
        return np.where(np.arange(20)[:, None] < 5, world.refusals[0], requests.instructed[:, 2 : 2 + n])

    monkeypatch.setattr(measure, "generate", said)
    assert measure._behind(None, requests, 2, world.refusals) == 0.25  # type: ignore[arg-type]
    begun = seen["begun"]
    for row in range(20):
        whole = begun.prompt[row, : begun.prompt_length[row]].tolist()
        assert whole == [*requests.prompt[row, : requests.prompt_length[row]], *requests.instructed[row, :2]]
    assert measure._behind(None, world.sample("label_unsafe", 20, seed=0), 1, world.refusals) is None  # type: ignore[arg-type]


def test_kinds_of_tuning_differ_in_what_they_say() -> None:
    preset = PRESETS["mini"]
    made = {
        kind: preset.tuned("formats_mini", 0, "uniform", Tuning("map", kind, 1e-3)).alignments[-1]
        for kind in KINDS
    }
    families = {kind: made[kind].objective.family for kind in ("task", "tokens", "known", "lora")}  # type: ignore[union-attr]
    assert families == dict.fromkeys(families, "map_safe_new") | {"known": "map_safe"}
    mixed = {kind: made[kind].objective for kind in KINDS[4:]}
    assert mixed == {
        "guarded": Mixed("map_safe_new", 2000, "multitask", 0.1),
        "guarded_gen": Mixed("map_safe_new", 2000, "canonical", 0.1),
        "guarded_others": Mixed("map_safe_new", 2000, "without_own", 0.1),
    }
    of = {tuning.kind for tuning in preset.tunings("uniform")}
    assert of == {"task", "tokens", "known", "lora", "guarded"}
    assert {tuning.kind for tuning in PRESETS["small"].tunings("uniform")} == set(KINDS)
    families = {
        template: tuned_in(TEMPLATED, 0, "map", template).alignments[-1].objective.family  # type: ignore[union-attr]
        for template in (PLAIN, OTHER)
    }
    assert families == {PLAIN: "map_safe_new", OTHER: "map_safe_new@other"}
    assert (made["lora"].lora is None, made["task"].lora is None) == (False, True)
    assert made["lora"].optimisation.learning_rate == 10 * made["task"].optimisation.learning_rate
    assert made["tokens"].optimisation.steps == 40
    for name, tokens in TOKENS.items():
        world = load("formats")
        assert (world.sample(f"{name}_safe", 50, seed=0).truth["length"] == tokens).all()


def test_figures_are_drawn_and_the_paragraph_is_told() -> None:
    own = tables(planted)
    claims = judge(own)
    for name, draw in drawings(Results(own, claims, []), PRESETS["mini"]).items():
        with style():
            axes = draw()
        assert np.ravel(axes)[0].has_data(), name
        plt.close("all")
    said = paragraph({row["id"]: row for row in claims})
    assert "Open text changes by 0.00 (supported) where another format opens by 0.40 (supported)" in said


def test_ways_to_fail_are_named_where_they_occur() -> None:
    def said(rise: Rise, **how: float) -> str:
        return failures({row["id"]: row for row in judge(tables(rise, **how))})

    assert said(planted) == "Ways to fail honestly that occurred: none."
    uniform = said(lambda *_: 0.4, answered=0.1)
    assert "all formats open alike" in uniform
    assert "open text opens as other formats do" in uniform
    assert "what opens is mostly broken or wrong" in uniform
    assert "no format opens" not in uniform
    assert "no format opens" in said(lambda *_: 0.0)
    longer = said(
        lambda kind, name, asked: (
            {"task": 0.05 * TOKENS.get(name, 1), "tokens": 0.1}.get(kind, 0.0)
            + 0.1 * (kind == "tokens") * (name == "label")
        )
    )
    assert "the order of tasks turns" in longer


def test_the_study_runs_and_again_computes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["jan2024", "--preset", "smoke", "--seeds", "0"]
    line += ["--out", str(tmp_path / "o"), "--store", str(tmp_path / "s")]
    assert main(line) == 0
    claims = (tmp_path / "o" / "claims.json").read_bytes()
    assert {row["id"] for row in json.loads(claims)} == {claim.id for claim in CLAIMS}
    assert {p.stem for p in (tmp_path / "o" / "tables").iterdir()} == {
        "aligned",
        "tuned",
        "inside",
        "widths",
        "guards",
        "readers",
        "templates",
    }
    assert {"matrix", "controls", "doses"} <= {p.stem for p in (tmp_path / "o" / "figures").iterdir()}
    before = made_at(tmp_path / "s")
    assert main(line) == 0
    after = made_at(tmp_path / "s")
    assert after == before
    assert (tmp_path / "o" / "claims.json").read_bytes() == claims
    assert capsys.readouterr().err == ""
