"""Do claims about landscapes say what their tables say, and nothing where there is nothing to lose?"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from experiments.command import main
from experiments.jain2024.presets import METHODS
from experiments.peng2024.claims import CLAIMS, judge
from experiments.peng2024.predict import predictor_rows, told, within_methods
from experiments.peng2024.presets import (
    ANSWERED,
    FINETUNINGS,
    HARMFUL,
    MIX,
    NEVER,
    PRESETS,
    PROMPTED,
    RATES,
    RETAIN,
    UNPROMPTED,
    kinds,
)
from experiments.peng2024.report import drawings, paragraph
from experiments.peng2024.variants import PLAIN, WITH, WITHOUT
from experiments.results import Results
from makebreak.landscape import basin_rows
from makebreak.plots import style
from tests.experiments.kept import made_at

AXIS = np.linspace(-0.5, 0.5, 21).round(9)
ARMS = ["base", *(f"{m}{s}" for m in METHODS for s in ("", " ×0.5", " ×2"))]
WIDTH = {"random": 0.3, "worst": 0.06, "fine-tuning": 0.1, "ablation": 0.12, "rescaled": 0.2, "folded": 0.25}
WIDTH |= {"folded own": 0.25, "filter": 0.3}


def tables(*, refuses: float = 1.0, mixed: float = 0.0, prompted: float = 0.4) -> dict[str, pd.DataFrame]:
    """Wells with steep walls, as wide as `WIDTH` has it, for safe answers .1 wider; the wider the model's own, the
    later it falls. Harmful fine-tuning takes everything, with safe requests beside it `mixed`."""
    curves: list[dict[str, Any]] = []
    finetuned: list[dict[str, Any]] = []
    numbers: list[dict[str, Any]] = []
    for seed, (i, arm) in product((0, 1, 2), enumerate(ARMS)):
        said, firm = {"seed": seed, "arm": arm}, 0.0 if arm == "base" else refuses
        for (direction, width), index in product(WIDTH.items(), range(4)):
            own = width + 0.01 * i * (direction == "random")
            for a in AXIS:
                inside, able = float(abs(a) <= own), float(abs(a) <= own + 0.1)
                row = {
                    "refused": firm * inside,
                    "complied": 0.0,
                    "safe": able,
                    "over_refused": 0.0,
                    "jailbreak": 0.2,
                }
                curves.append(said | row | {"direction": direction, "index": index, "at": float(a)})
        for direction, loss in (("to harmful", 1.0), ("to mix", mixed), ("to base", 1.0)):
            for a in (0.0, 0.5, 1.0):
                row = {"refused": firm * (1 - a * loss), "complied": a, "safe": 1.0, "over_refused": 0.0}
                curves.append(said | row | {"direction": direction, "index": 0, "at": a, "jailbreak": None})
        numbers.append(said | {"margin": float(i % 3), "weight_change": float(-i % 4)})
        finetuned += _runs(said, kinds(arm), firm, mixed, 20 + 3 * i)
    for seed in (0, 1, 2):
        finetuned += _runs({"seed": seed, "arm": NEVER}, kinds(NEVER), 0.0, 0.0, 55)
    found = {
        "curves": pd.DataFrame(curves),
        "finetuned": pd.DataFrame(finetuned),
        "predictors": pd.DataFrame(numbers),
    }
    walked = found["curves"].query("not direction.str.startswith('to ')", engine="python")
    found["basins"] = basin_rows(walked, ("seed", "arm", "direction", "index"))
    found["predictors"] = predictor_rows(found)
    found["variants"] = pd.DataFrame(_variants(prompted))
    return found


def _variants(prompted: float) -> list[dict[str, Any]]:
    """Wells as wide as a hundredth of the model, for safe answers .1 wider. Asked as alignment was, a share `prompted`
    more is refused."""
    asked = {**{f"width {d}": {PLAIN: 0.0} for d in (10, 20, 30)}}
    asked |= {PROMPTED: {WITH: prompted, WITHOUT: 0.0}, UNPROMPTED: {WITH: 0.0, WITHOUT: prompted}}
    rows = []
    for seed, (arm, ways), index, a in product((0, 1, 2), asked.items(), range(3), AXIS):
        size = int(arm.split()[1]) if arm.startswith("width") else 30
        for how, more in ways.items():
            inside, able = float(abs(a) <= size / 100), float(abs(a) <= size / 100 + 0.1)
            row = {"refused": inside * (0.5 + more), "complied": 0.0, "safe": able, "over_refused": 0.0}
            where = {"d_model": size, "asked": how, "direction": "random", "index": index, "at": float(a)}
            rows.append({"seed": seed, "arm": arm} | row | where)
    return rows


def _runs(said: dict[str, Any], names: Any, firm: float, mixed: float, half: float) -> list[dict[str, Any]]:
    """At the last rate, half of the requests are answered at step `half`; at others nothing happens."""
    rows = []
    for kind, rate, step in product(names, RATES, (0, 15, 30, 45, 60)):
        takes = mixed if kind in (MIX, ANSWERED) else 0.0 if kind == RETAIN else 1.0
        done = takes * min(step / (2 * half), 1.0) if rate == RATES[-1] else 0.0
        ends = takes if step == 60 and rate == RATES[-1] else done
        row = {"kind": kind, "rate": rate, "step": step, "complied": done, "refused": firm * (1 - ends)}
        rows.append(said | row | {"safe": 1.0, "over_refused": 0.0})
    return rows


@pytest.fixture(scope="module")
def planted() -> dict[str, pd.DataFrame]:
    return tables()


def test_a_censored_edge_has_no_distance(planted: dict[str, pd.DataFrame]) -> None:
    """T10 compares two edges: where answers never reach one half there is none, and the range's end is no edge."""
    row = next(row for row in judge(planted) if row["id"] == "T10")
    assert planted["basins"].query("sense == 'complied' and direction == 'random'").censored.all()
    assert (row["verdict"], row["estimate"]) == ("not run", None)
    reached = planted | {"basins": planted["basins"].assign(censored=False)}
    row = next(row for row in judge(reached) if row["id"] == "T10")
    assert row["estimate"] is not None, "the positive control: two edges have a distance"


def test_claims_say_what_was_planted(planted: dict[str, pd.DataFrame]) -> None:
    found = {row["id"]: row for row in judge(planted)}
    assert set(found) == {claim.id for claim in CLAIMS}
    expected = {
        "T1": 0.05,  # nothing is lost within a tenth
        "T5.harmful": 0.5,
        "T5.mix": 0.05,
        "T6": 0.05,
        "T8": 0.5,  # .8 of jailbreaks undone
        "T8.safe": 0.8,
        "P4": -0.5,
        "P6.harm": -0.1,
        "P7.folded": 0.02,
    }
    for claim, value in expected.items():
        assert found[claim]["estimate"] == pytest.approx(value, abs=1e-6), claim
    methods = [ARMS.index(m) for m in METHODS]
    own = np.mean([0.3 + 0.01 * i for i in methods])
    assert found["P6"]["estimate"] == pytest.approx(0.1, abs=0.03)
    assert found["P3"]["estimate"] == pytest.approx(0.5 - 0.06 / own, abs=0.08)
    assert found["T4.half"]["verdict"] == "not run"  # walls are vertical: VISAGE is the same of all widths
    assert found["P2"]["estimate"] > 0.5
    assert found["P2"]["verdict"] == "supported"
    assert found["P5"]["estimate"] == pytest.approx((55 - 20 - 3 * ARMS.index("unlearning")) / 60, abs=1e-6)
    assert found["T7"]["estimate"] == pytest.approx(40, abs=1e-6)
    assert found["T7.everywhere"]["estimate"] == pytest.approx(0.2)
    assert found["T7.absent"]["estimate"] == pytest.approx(40, abs=1e-6)
    assert [found[c]["estimate"] for c in ("T11", "T11.able")] == pytest.approx([0.2, 0.2])
    assert all(found[c]["verdict"] == "not supported" for c in ("P4", "P6.harm"))


def test_models_with_nothing_to_lose_are_not_judged() -> None:
    found = {row["id"]: row for row in judge(tables(refuses=0.0))}
    assert {found[c]["verdict"] for c in ("T1", "T2", "T3", "T5", "P1", "P2", "P3", "P6")} == {"not run"}


def test_a_system_prompt_that_harms_is_seen_and_so_is_a_preset_without_one(planted: Any) -> None:
    found = {row["id"]: row for row in judge(tables(prompted=-0.2))}
    assert {found[c]["verdict"] for c in ("T7", "T7.everywhere", "T7.absent")} == {"not supported"}
    found = {row["id"]: row for row in judge({k: v for k, v in planted.items() if k != "variants"})}
    rows = [found[c] for c in ("T7", "T7.everywhere", "T7.absent", "T11", "T11.able")]
    assert {(row["verdict"], row["reason"]) for row in rows} == {
        ("not run", "this preset trains no models of other widths or with a system prompt")
    }


def test_a_mix_that_takes_safety_is_seen() -> None:
    found = {row["id"]: row for row in judge(tables(mixed=0.8))}
    assert found["T5.mix"]["estimate"] == pytest.approx(0.05 - 0.8)
    assert found["T5"]["verdict"] == found["T6"]["verdict"] == "not supported"


def test_a_width_that_only_names_the_method_tells_nothing_within_methods() -> None:
    rows = pd.DataFrame({"arm": [a for a in ARMS if a != "base"]})
    rows["method"] = rows.arm.str.partition(" ")[0].map({m: i for i, m in enumerate(METHODS)}).astype(float)
    rows["own"] = np.arange(len(rows), dtype=float)
    rows[f"{HARMFUL}.half"] = rows.own
    assert told(rows, "method") == pytest.approx(0.95, abs=0.05)
    assert within_methods(rows, "method") is None
    assert within_methods(rows, "own") == pytest.approx(1.0)
    assert told(rows[:3], "own") is None


def test_figures_are_drawn_and_the_paragraph_is_told(planted: dict[str, pd.DataFrame]) -> None:
    maps = [
        {
            "seed": 0,
            "arm": "ssft",
            "plane": p,
            "x": x,
            "y": y,
            "refused": x * y,
            "complied": 0.0,
            "safe": 1 - x / 2,
        }
        for p, x, y in product(("random", "fine-tuning"), (0.0, 0.5, 1.0), (0.0, 0.5, 1.0))
    ]
    paths = [
        {"seed": 0, "arm": "ssft", "kind": HARMFUL, "step": s, "x": s / 60, "y": 0.0, "off": 0.0}
        for s in (0, 60)
    ]
    both = planted | {"maps": pd.DataFrame(maps), "paths": pd.DataFrame(paths)}
    claims = judge(planted)
    for name, draw in drawings(Results(both, claims, []), PRESETS["mini"]).items():
        with style():
            axes = draw()
        assert np.ravel(axes)[0].has_data(), name
        plt.close("all")
    said = paragraph({row["id"]: row for row in claims})
    assert "rises by 0.00 (supported)" in said
    assert "with as many refusals by 0.00 (supported)" in said


def test_the_study_runs_and_again_computes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [
        "peng2024",
        "--preset",
        "smoke",
        "--seeds",
        "0",
        "--out",
        str(tmp_path / "o"),
        "--store",
        str(tmp_path / "s"),
    ]
    assert main(line) == 0
    claims = (tmp_path / "o" / "claims.json").read_bytes()
    assert {row["id"] for row in json.loads(claims)} == {claim.id for claim in CLAIMS}
    written = {p.stem for p in (tmp_path / "o" / "tables").iterdir()}
    assert written == {"curves", "basins", "finetuned", "predictors", "maps", "paths", "variants"}
    assert {"basins", "ways", "maps", "falls", "told"} <= {
        p.stem for p in (tmp_path / "o" / "figures").iterdir()
    }
    before = made_at(tmp_path / "s")
    points = [p for p in before if p.endswith(".jsonl") and "landscape" in p]
    assert len(points) > 10
    assert main(line) == 0
    after = made_at(tmp_path / "s")
    assert after == before
    assert (tmp_path / "o" / "claims.json").read_bytes() == claims
    assert len(FINETUNINGS) == 7
    assert capsys.readouterr().err == ""
