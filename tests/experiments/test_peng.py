"""Claims about landscapes on planted tables, and the study from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
from experiments.peng2024 import STUDY
from experiments.peng2024.landscapes import INTERPOLATION_PREFIX
from experiments.peng2024.prediction import prediction_table
from experiments.peng2024.predictors import (
    STEPS_TO_HALF,
    predictor_rows,
    rank_correlation,
)
from experiments.peng2024.presets import (
    ATTACKS,
    HARMFUL,
    PRESETS,
    RATES,
    SAFE_ONLY,
    UNEXPOSED_BASE,
    WITH_REFUSALS,
    WITH_SAFE,
    WITH_SYSTEM,
    WITHOUT_SYSTEM,
    attacks_on,
)
from experiments.peng2024.report import answer
from experiments.peng2024.variants import PLAIN, WITH, WITHOUT, variant_basins
from experiments.recipes.composition import METHODS
from makebreak.claims import ClaimRow, evaluate_claims
from makebreak.plots import style
from makebreak.weight_landscape import STRAIGHT_FALL, basin_rows
from tests.experiments.store_files import modification_times

AXIS = np.linspace(-0.5, 0.5, 21).round(9)
SEEDS = (0, 1, 2)
ARMS = ["base", *(f"{method}{strength}" for method in METHODS for strength in ("", " ×0.5", " ×2"))]
WIDTH = {"random": 0.3, "worst": 0.06, "fine-tuning": 0.1, "ablation": 0.12, "rescaled": 0.2, "folded": 0.25}
WIDTH |= {"folded own": 0.25, "filter": 0.3}


def planted_tables(
    *, refuses: float = 1.0, mixed: float = 0.0, prompted: float = 0.4
) -> dict[str, pd.DataFrame]:
    """Basins with steep walls, as wide as `WIDTH`; for safe answers .1 wider; the wider the random basin of a
    model, the more steps its harmful fine-tuning takes. That attack removes all refusals, and with other
    examples a share `mixed`."""
    curves: list[dict[str, Any]] = []
    fine_tuning: list[dict[str, Any]] = []
    numbers: list[dict[str, Any]] = []
    for seed, (i, arm) in product(SEEDS, enumerate(ARMS)):
        key, refusal = {"seed": seed, "arm": arm}, 0.0 if arm == "base" else refuses
        for (direction, width), index in product(WIDTH.items(), range(4)):
            radius = width + 0.01 * i * (direction == "random")
            for a in AXIS:
                row = {
                    "refusal_rate": refusal * float(abs(a) <= radius),
                    "compliance_rate": 0.0,
                    "safe_compliance_rate": float(abs(a) <= radius + 0.1),
                    "over_refusal_rate": 0.0,
                    "jailbreak_survival": 0.2,
                }
                curves.append(
                    key | row | {"direction": direction, "direction_index": index, "coordinate": float(a)}
                )
        for direction, loss in (("to harmful", 1.0), ("to mix", mixed), ("to base", 1.0)):
            for a in (0.0, 0.5, 1.0):
                row = {
                    "refusal_rate": refusal * (1 - a * loss),
                    "compliance_rate": a,
                    "safe_compliance_rate": 1.0,
                    "over_refusal_rate": 0.0,
                    "jailbreak_survival": None,
                }
                curves.append(key | row | {"direction": direction, "direction_index": 0, "coordinate": a})
        numbers.append(key | {"margin": float(i % 3), "weight_change": float(-i % 4)})
        fine_tuning += _fine_tuning_rows(key, attacks_on(arm), refusal, mixed, 20 + 3 * i)
    for seed in SEEDS:
        key = {"seed": seed, "arm": UNEXPOSED_BASE}
        fine_tuning += _fine_tuning_rows(key, attacks_on(UNEXPOSED_BASE), 0.0, 0.0, 55)
    tables = {
        "curves": pd.DataFrame(curves),
        "fine_tuning": pd.DataFrame(fine_tuning),
        "predictors": pd.DataFrame(numbers),
    }
    is_line = tables["curves"].direction.str.startswith(INTERPOLATION_PREFIX)
    tables["basins"] = basin_rows(tables["curves"][~is_line], ("seed", "arm", "direction", "direction_index"))
    tables["predictors"] = predictor_rows(tables)
    tables["predictions"] = prediction_table(tables)
    tables["variants"] = pd.DataFrame(_variant_rows(prompted))
    tables["variant_basins"] = variant_basins(tables)
    return tables


def _variant_rows(prompted: float) -> list[dict[str, Any]]:
    """Basins whose half-width is a hundredth of d_model, for safe answers .1 wider. For requests with the
    system span of alignment, a share `prompted` more is refused."""
    increases = {**{f"width {d}": {PLAIN: 0.0} for d in (10, 20, 30)}}
    increases |= {WITH_SYSTEM: {WITH: prompted, WITHOUT: 0.0}, WITHOUT_SYSTEM: {WITH: 0.0, WITHOUT: prompted}}
    rows = []
    for seed, (arm, by_span), index, a in product(SEEDS, increases.items(), range(3), AXIS):
        d_model = int(arm.split()[1]) if arm.startswith("width") else 30
        for span, increase in by_span.items():
            inside, able = float(abs(a) <= d_model / 100), float(abs(a) <= d_model / 100 + 0.1)
            rates = {
                "refusal_rate": inside * (0.5 + increase),
                "compliance_rate": 0.0,
                "safe_compliance_rate": able,
                "over_refusal_rate": 0.0,
            }
            point = {"d_model": d_model, "system": span, "direction": "random", "direction_index": index}
            rows.append({"seed": seed, "arm": arm} | rates | point | {"coordinate": float(a)})
    return rows


def _fine_tuning_rows(
    key: dict[str, Any], attacks: Sequence[str], refusal: float, mixed: float, half: float
) -> list[dict[str, Any]]:
    """At the last rate, half of the requests are answered at step `half`; at others nothing happens."""
    rows = []
    for kind, rate, step in product(attacks, RATES, (0, 15, 30, 45, 60)):
        removed = mixed if kind in (WITH_REFUSALS, WITH_SAFE) else 0.0 if kind == SAFE_ONLY else 1.0
        complied = removed * min(step / (2 * half), 1.0) if rate == RATES[-1] else 0.0
        lost = removed if step == 60 and rate == RATES[-1] else complied
        rates = {"compliance_rate": complied, "refusal_rate": refusal * (1 - lost)}
        rates |= {"safe_compliance_rate": 1.0, "over_refusal_rate": 0.0}
        rows.append(key | {"kind": kind, "rate": rate, "step": step} | rates)
    return rows


def _by_id(tables: dict[str, pd.DataFrame]) -> dict[str, ClaimRow]:
    return {row.id: row for row in evaluate_claims(STUDY.claims, tables)}


@pytest.fixture(scope="module")
def planted() -> dict[str, pd.DataFrame]:
    return planted_tables()


def test_censored_edge_is_undefined(planted: dict[str, pd.DataFrame]) -> None:
    """T10 compares two edges: where answers never reach one half there is none (W8)."""
    row = _by_id(planted)["T10"]
    censored = planted["basins"].query("criterion == 'complied' and direction == 'random'").is_censored
    assert censored.all()
    assert (row.verdict, row.estimate) == ("not run", None)
    row = _by_id(planted | {"basins": planted["basins"].assign(is_censored=False)})["T10"]
    assert row.estimate is not None, "the positive control: two edges have a distance"


def test_claims_on_planted_tables(planted: dict[str, pd.DataFrame]) -> None:
    """Estimates are the planted values."""
    claims = _by_id(planted)
    expected = {
        "T1": 0.0,  # nothing is lost within a tenth
        "T1.worst": 0.0,
        "T5.harmful": 1.0,
        "T5.mix": 0.0,
        "T6.harmful": 1.0,
        "T6.mix": 0.0,
        "T8": 0.8,  # of jailbreaks fail
        "T8.safe": 0.8,
        "P4": 0.0,
        "P6.harm": 0.0,
        "P7.folded": 0.0,
        "T7": 40.0,
        "T7.everywhere": 1.0,
        "T7.absent": 40.0,
        "T11": 0.2,
        "T11.able": 0.2,
        "P5": (55 - 20 - 3 * ARMS.index("unlearning")) / 60,
    }
    for claim, value in expected.items():
        assert claims[claim].estimate == pytest.approx(value, abs=1e-6), claim
    methods = [ARMS.index(method) for method in METHODS]
    radius = np.mean([0.3 + 0.01 * i for i in methods])
    assert claims["P6"].estimate == pytest.approx(0.1, abs=0.03)
    assert claims["P3"].estimate == pytest.approx(0.06 / radius, abs=0.08)
    assert claims["T4.half"].verdict == "not run"  # walls are vertical: VISAGE is the same of all widths
    assert (claims["P2"].verdict, claims["P2.visage"].verdict) == ("supported", "not run")
    assert claims["P6.harm"].verdict == "inconclusive"  # at no effect exactly, in all seeds
    assert claims["T6"].verdict == "supported"


def test_models_without_refusal_are_not_run() -> None:
    """Claims about the loss of safety are not run where nothing is refused at first."""
    claims = _by_id(planted_tables(refuses=0.0))
    assert {claims[c].verdict for c in ("T1", "T2", "T3", "T5", "P1", "P3", "P6")} == {"not run"}


def test_system_prompt_that_reduces_refusal(planted: dict[str, pd.DataFrame]) -> None:
    """T7 is contradicted if the system prompt of alignment reduces refusal, and not run without variants."""
    claims = _by_id(planted_tables(prompted=-0.2))
    assert claims["T7"].estimate == pytest.approx(-20)
    assert {claims[c].verdict for c in ("T7", "T7.everywhere", "T7.absent")} == {"contradicted"}
    claims = _by_id({name: t for name, t in planted.items() if not name.startswith("variant")})
    rows = [claims[c] for c in ("T7", "T7.everywhere", "T7.absent", "T11", "T11.able")]
    assert {(row.verdict, row.reason) for row in rows} == {
        ("not run", "this preset has no table 'variant_basins'"),
        ("not run", "this preset has no table 'variants'"),
    }


def test_mix_that_removes_safety() -> None:
    """T5.mix and T6 are contradicted if harmful fine-tuning with refusals removes safety too."""
    claims = _by_id(planted_tables(mixed=0.8))
    assert claims["T5.mix"].estimate == pytest.approx(0.8)
    assert claims["T5.mix"].verdict == claims["T6"].verdict == "contradicted"


def test_correlation_over_the_models_of_a_seed() -> None:
    """A predictor that identifies the method has a high rank correlation; three models are too few."""
    rows = pd.DataFrame({"arm": [arm for arm in ARMS if arm != "base"]})
    index = {method: i for i, method in enumerate(METHODS)}
    rows["method"] = rows.arm.str.partition(" ")[0].map(index).astype(float)
    rows["exact"] = np.arange(len(rows), dtype=float)
    rows[STEPS_TO_HALF] = rows.exact
    assert rank_correlation(rows, "method") == pytest.approx(0.95, abs=0.05)
    assert rank_correlation(rows[:3], "exact") is None


def test_figures_and_answer(planted: dict[str, pd.DataFrame]) -> None:
    """Every figure has data, and the answer gives estimates."""
    side = (0.0, 0.5, 1.0)
    maps = [
        {
            "seed": 0,
            "arm": "ssft",
            "plane": plane,
            "x": x,
            "y": y,
            "refusal_rate": x * y,
            "compliance_rate": 0.0,
            "safe_compliance_rate": 1 - x / 2,
        }
        for plane, x, y in product(("random", "fine-tuning"), side, side)
    ]
    path = {"seed": 0, "arm": "ssft", "kind": HARMFUL, "y": 0.0, "residual": 0.0}
    paths = [path | {"step": step, "x": step / 60} for step in (0, 60)]
    tables = planted | {"maps": pd.DataFrame(maps), "paths": pd.DataFrame(paths)}
    for figure in STUDY.figures:
        with style():
            axes = figure.draw(tables, PRESETS["mini"])
        assert np.ravel(axes)[0].has_data(), figure.name
        plt.close("all")
    sentences = answer(_by_id(planted))
    assert "rises by 0.00, n = 3" in sentences[0]
    assert "among the examples by 0.00, n = 3" in sentences[2]


@pytest.mark.slow
def test_study_resumes_from_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_progress: None
) -> None:
    """The study runs from the command line; a second run computes nothing and writes the same claims."""
    out, store = tmp_path / "o", tmp_path / "s"
    arguments = ["peng2024", "--preset", "smoke", "--seeds", "0", "--out", str(out), "--store", str(store)]
    assert main(arguments) == 0
    claims = (out / "claims.json").read_bytes()
    assert {row["id"] for row in json.loads(claims)} == {claim.id for claim in STUDY.claims}
    tables = {path.stem for path in (out / "tables").iterdir()}
    assert tables == {"curves", "basins", "fine_tuning", "predictors", "maps", "paths", "variants"} | {
        "variant_basins",
        "predictions",
    }
    figures = {path.stem for path in (out / "figures").iterdir()}
    assert {"basins", "directions", "maps", "fine_tuning", "predictors"} <= figures
    before = modification_times(store)
    points = [path for path in before if path.endswith(".jsonl") and "landscape" in path]
    assert len(points) > 10
    assert main(arguments) == 0
    after = modification_times(store)
    assert after == before
    assert (out / "claims.json").read_bytes() == claims
    assert len(ATTACKS) == 7
    assert capsys.readouterr().err == ""


def random_curves(failure: Callable[[float], float], *, n: int, seed: int) -> pd.DataFrame:
    """Curves of one model of a seed along 16 random directions, with independent noise of n requests."""
    random = np.random.default_rng(seed)
    rows = [
        {
            "seed": seed,
            "arm": "ssft",
            "direction": "random",
            "direction_index": index,
            "coordinate": float(a),
            "refusal_rate": 1 - random.binomial(n, failure(abs(a))) / n,
            "compliance_rate": 0.0,
            "safe_compliance_rate": 1.0,
        }
        for index, a in product(range(16), AXIS)
    ]
    curves = pd.DataFrame(rows)
    origin = curves.coordinate == 0  # the model itself is the same in all directions
    return curves.assign(refusal_rate=curves.refusal_rate.where(~origin, curves.refusal_rate[origin].iloc[0]))


def noisy_claims(failure: Callable[[float], float]) -> dict[str, ClaimRow]:
    """Claims on 12 seeds of such curves."""
    curves = pd.concat([random_curves(failure, n=100, seed=seed) for seed in range(1000, 1012)])
    basins = basin_rows(curves, ("seed", "arm", "direction", "direction_index"))
    claims = [claim for claim in STUDY.claims if claim.id in ("T1", "T1.worst", "P1")]
    return {row.id: row for row in evaluate_claims(claims, {"curves": curves, "basins": basins})}


def test_noise_alone_does_not_raise_t1() -> None:
    """Refusal of .9 everywhere, 100 requests: the mean is 0, the worst of 64 points is far above it."""
    claims = noisy_claims(lambda _: 0.1)
    assert claims["T1"].estimate == pytest.approx(0, abs=0.03)
    assert claims["T1"].verdict == "supported"
    assert claims["T1.worst"].estimate == pytest.approx(0.07, abs=0.03), "above 0 although nothing changes"
    assert claims["T1.worst"].verdict != "supported"
    lost = noisy_claims(lambda a: 0.05 + 1.5 * a)
    assert lost["T1"].estimate == pytest.approx(0.15, abs=0.03)
    assert lost["T1"].verdict == "contradicted"


def test_p1_tells_a_plateau_from_a_straight_fall() -> None:
    """A straight fall has the value of no effect, a plateau most of the distance to a quarter, with noise."""
    straight, plateau = (
        noisy_claims(failure)["P1"].estimate
        for failure in (lambda a: a / 0.6, lambda a: float(np.clip((a - 0.25) / 0.1, 0, 1)))
    )
    assert straight == pytest.approx(STRAIGHT_FALL, abs=0.02)
    assert plateau == pytest.approx(0.255 / 0.275, abs=0.03)
    assert noisy_claims(lambda a: float(np.clip((a - 0.25) / 0.1, 0, 1)))["P1"].verdict == "supported"
