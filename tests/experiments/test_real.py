"""Does the study of a real model run, go on where it was, decide by its rules, and say plainly what carries over?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest

import experiments.real.measure as measure
from experiments.command import main
from experiments.real import PRESETS, check_gates
from experiments.real.claims import CLAIMS, judge, study_of, values_of
from experiments.real.presets import User
from experiments.real.report import RECORD, carried, of_synthetic, side_by_side
from experiments.real.study import trainings, units
from makebreak.artifacts import Store
from tests.experiments.kept import made_at

SMOKE = PRESETS["smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    assert (
        main(["real", "--preset", "smoke", "--out", str(folder / "out"), "--store", str(folder / "store")])
        == 0
    )
    return folder


def test_it_runs_from_a_model_to_a_page(folder: Path) -> None:
    out = folder / "out"
    claims = json.loads((out / "claims.json").read_text())
    assert [row["id"] for row in claims] == [claim.id for claim in CLAIMS]
    beside = pd.read_csv(out / "tables" / "side_by_side.csv")
    assert len(beside) == sum(claim.kind == "claim" for claim in CLAIMS)
    page = (out / "report.html").read_text()
    assert "Synthetic and real, side by side" in page
    assert "over\nalignment seeds" in page
    for figure in ("behaviour", "clusters", "basins", "path", "users", "matrix"):
        assert (out / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    users = pd.read_csv(out / "tables" / "users.csv")
    assert {"untuned", "harmful", "benign", "aoa", "aoa, 25% paraphrase_blind"} == set(users.user)


def test_again_it_computes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, claims = made_at(folder / "store"), (folder / "out" / "claims.json").read_text()
    line = ["real", "--preset", "smoke", "--out", str(folder / "out"), "--store", str(folder / "store")]
    assert main(line) == 0
    assert made_at(folder / "store") == before
    assert (folder / "out" / "claims.json").read_text() == claims


def test_interrupted_it_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fragile(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure.rows_of(*args)

    monkeypatch.setattr("experiments.real.study.rows_of", fragile)
    line = [
        "real",
        "--preset",
        "smoke",
        "--seeds",
        "0",
        "--out",
        str(tmp_path / "out"),
        "--store",
        str(tmp_path / "s"),
    ]
    assert main(line) == 130
    assert not (tmp_path / "out" / "claims.json").exists()
    assert main(line) == 0
    assert len(calls) == len(units(SMOKE, (0,))) + 1
    one, other = (pd.read_csv(path / "out" / "tables" / "behaviour.csv") for path in (folder, tmp_path))
    pd.testing.assert_frame_equal(one[one.seed == 0].reset_index(drop=True), other)


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    for line, said in (
        (["real", "--preset", "mini", "--model", "nowhere.gguf"], "`make smollm` fetches it"),
        (["real", "--preset", "smoke", "--estimate"], "--estimate is of studies that pretrain"),
        (["jain2024", "--preset", "smoke", "--model", "x"], "jain2024 makes its own models"),
    ):
        assert main([*line, *common]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(ValueError, match="make smollm"):
        check_gates(replace(SMOKE, model="gone.gguf"), "text", Store(tmp_path))


def test_trainings_are_counted() -> None:
    mini = PRESETS["mini"]
    assert len(trainings(mini, "text", (0, 1, 2))) == 3 * 3 + 3 * len(mini.users) + len(mini.matrix)
    assert User("aoa", "canonical", 0.125).name == "aoa, 12% canonical"


def planted(**changed: float) -> dict[str, pd.DataFrame]:
    """Tables in which each statistic is known: two alignments of two seeds, and a base."""
    of = {
        "gap": 1.0,
        "refuse": 0.9,
        "over": 0.02,
        "sine": 0.0,
        "gcg": 0.6,
        "answered": 0.3,
        "aoa": 0.5,
    } | changed
    rows: dict[str, list[dict[str, Any]]] = {}
    for arm, seed in [("base", 0), *[(arm, seed) for arm in ("ssft", "dpo") for seed in (0, 1)]]:
        at = {"arm": arm, "seed": seed}

        def add(name: str, said: dict[str, Any] = at, **row: Any) -> None:
            rows.setdefault(name, []).append(said | row)

        aligned = arm != "base"
        for family, rate in (("harmful", of["refuse"]), ("harmless", of["over"])):
            add("behaviour", family=family, judge="arditi2024", refuse=rate if aligned else 0.1)
        for layer in range(4):
            add("clusters", layer=layer, normalised=0.5 + aligned * of["gap"] * layer / 3)
        if not aligned:
            continue
        for against, sine in (("update", 0.9 + of["sine"]), ("haar", 0.9)):
            add("updates", matrix="mlp.W_in", against=against, sine=sine, null=0.2, chance=0.25)
        for family, gain in (("harmful", 3.0), ("harmless", 1.0)):
            for layer in range(4):
                add("reading", layer=layer, family=family, gain=gain)
                add("anatomy", layer=layer, family=family, moved_input=0.9)
            add("sensitivity", family=family, output="max_logit", ratio=0.5 if family == "harmful" else 1.2)
        add("rivals", layer=2, n_layers=4, base=-3.0, aligned=1.0, lower_share=0.8, random_share=0.1)
        for a in np.linspace(-0.4, 0.4, 9).round(9):
            gone = max(0.0, abs(a) - 0.15) * 4
            add(
                "curves",
                direction=0,
                at=a,
                refused=max(0.9 - gone, 0),
                complied=0.02,
                safe=max(1 - 5 * abs(a), 0),
            )
        for attack, hit in (
            ("GCG", of["gcg"]),
            ("random search", 0.2),
            ("random tokens", 0.1),
            ("soft tokens", 0.9),
        ):
            add("attacks", attack=attack, sense="target", success=hit)
        add("attacks", attack="random vectors", sense="target", success=0.0)
        add("attacks", attack="prefill 1", sense="arditi2024", success=0.8)
        add("landing", attack="clean harmful", outcome="all", n=10, tau=-0.5, **{"alarm, probe": 0.9})
        for outcome, tau in (("answered", of["answered"]), ("refused", -0.4)):
            add("landing", attack="role play", outcome=outcome, n=5, tau=tau, **{"alarm, probe": 0.2})
    users = []
    for seed in (0, 1):
        for user, template, kept_ in (
            ("untuned", "plain", 0.9),
            ("harmful", "plain", 0.1),
            ("benign", "plain", 0.88),
            ("aoa", "obey", 1 - of["aoa"]),
            ("neutral", "neutral", 0.8),
            ("aoa, 12% canonical", "obey", 0.7),
            ("aoa, 12% paraphrase_blind", "obey", 0.9),
        ):
            said = {
                "user": user,
                "template": template,
                "family": "harmful",
                "judge": "arditi2024",
                "refuse": kept_,
            }
            users.append({"arm": "users", "seed": seed} | said)
    return {name: pd.DataFrame(own) for name, own in rows.items()} | {"users": pd.DataFrame(users)}


def test_every_statistic_is_what_was_planted() -> None:
    found = values_of(planted(), ["ssft", "dpo"], 0)
    expected = {
        "C1.refuse": 0.1,
        "C1.over_refusal": 0.08,
        "C2": 1.0,
        "C2.dpo": 1.0,
        "C2.depth": 1.0,
        "C3": 0.0,
        "C3.energy": -0.05,
        "C4": 3.0,
        "C5.unsafe": 0.5,
        "C5.safe": 0.2,
        "M3": 0.8,
        "M3.random": 0.7,
        "M5": 0.4,
        "C6": 0.8,
        "C6.failed": 0.7,
        "A4": -0.3,
        "A4.unsafe": 0.4,
        "A5": 0.4,
        "A6": 0.9,
        "A7": 0.3,
        "T1": 0.05,
        "P6.harm": -0.08,
        "T5.harmful": 0.3,
        "B1": 0.03,
        "B2.aoa": 0.38,
        "B2.meaning": 0.3,
        "B4.any": 0.2,
        "B4.blind": 0.2,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["P6"] is not None
    assert found["P6"] < 0 < found["T3"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"gap": 0.0}, "C2"),
        ({"gcg": 0.2}, "A5"),
        ({"answered": -0.5}, "C6"),
        ({"aoa": 0.12}, "B2.aoa"),
        ({"sine": -0.1}, "C3"),
    ],
)
def test_a_claim_can_fail(changed: dict[str, float], claim: str) -> None:
    verdicts = {row["id"]: row["verdict"] for row in judge(planted(), ["ssft", "dpo"], (0, 1))}
    failed = {row["id"]: row["verdict"] for row in judge(planted(**changed), ["ssft", "dpo"], (0, 1))}
    assert failed[claim] == "not supported"
    assert verdicts[claim] == ("not supported" if claim == "C3" else "supported")


def test_what_a_model_does_not_refuse_is_no_basin_and_cannot_be_lost() -> None:
    tables = planted()
    tables["curves"] = tables["curves"].assign(refused=0.2)
    tables["users"].loc[tables["users"].user == "untuned", "refuse"] = 0.3
    found = values_of(tables, ["ssft", "dpo"], 0)
    assert [found[name] for name in ("T1", "T3", "P1", "P6", "T5.harmful", "B1")] == [None] * 6
    del tables["landing"], tables["attacks"]
    rows = {row["id"]: row["verdict"] for row in judge(tables, ["ssft", "dpo"], (0, 1))}
    assert rows["C6"] == rows["A5"] == rows["T1"] == "not run"


def test_an_alignment_that_does_not_refuse_is_left_out_of_basins_and_one_that_answers_nothing_of_ability() -> (
    None
):
    tables, both = planted(), values_of(planted(), ["ssft", "dpo"], 0)
    weak = tables["curves"].arm == "dpo"
    tables["curves"].loc[weak, ["refused", "complied"]] = [0.2, 0.8]
    found = values_of(tables, ["ssft", "dpo"], 0)
    names = ("T1", "T3", "P1", "P6", "P6.harm")
    assert {name: found[name] for name in names} == pytest.approx({name: both[name] for name in names})
    tables["curves"]["safe"] = 0.0
    found = values_of(tables, ["ssft", "dpo"], 0)
    assert found["T3"] is found["P6"] is None
    assert found["T1"] == pytest.approx(both["T1"])


def test_where_nothing_succeeds_there_is_no_difference_to_see() -> None:
    tables = planted()
    tables["attacks"].loc[tables["attacks"].sense == "target", "success"] = 0.0
    rows = {row["id"]: row for row in judge(tables, ["ssft", "dpo"], (0, 1))}
    for name in ("A5", "A6"):
        assert rows[name]["verdict"] == "not run"
        assert "neither" in rows[name]["reason"]


def test_claims_of_mitigations_are_held_together() -> None:
    """Alone .1 and .3 are above .03 with two seeds that agree nearly; the weaker must stand beside the other."""
    tables = planted()
    users = tables["users"]
    blind = (users.user == "aoa, 12% paraphrase_blind") & (users.seed == 1)
    users.loc[blind, "refuse"] = 0.89
    rows = {row["id"]: row for row in judge(tables, ["ssft", "dpo"], (0, 1))}
    assert rows["B4.any"]["verdict"] == "supported"
    assert rows["B4.blind"]["n_seeds"] == 2


def test_what_carries_over_is_said_plainly(tmp_path: Path) -> None:
    assert carried("supported", "supported") == carried("not supported", "not supported") == "carries over"
    assert carried("supported", "not supported") == "does not carry over"
    assert "synthetic" in carried("inconclusive", "supported")
    assert "real" in carried("supported", "not run")
    claims = judge(planted(), ["ssft", "dpo"], (0, 1))
    beside = side_by_side(claims, tmp_path).set_index("id")
    assert beside[""]["C2"] == "carries over"
    assert beside[""]["C4"] == "does not carry over"  # not supported there, 3 of 2 planted here
    assert beside["synthetic from"]["C2"] == "jain2024 small, of record"
    run = tmp_path / "jain2024" / "mini"
    run.mkdir(parents=True)
    row = {"id": "C2", "estimate": 0.0, "interval": [-0.1, 0.1], "verdict": "not supported"}
    (run / "claims.json").write_text(json.dumps([row]))
    beside = side_by_side(claims, tmp_path).set_index("id")
    assert beside["synthetic from"]["C2"] == "jain2024 small, of record", (
        "mini does not displace what small gave"
    )
    run.rename(run.with_name("small"))
    beside = side_by_side(claims, tmp_path).set_index("id")
    assert beside[""]["C2"] == "does not carry over"
    assert beside["synthetic from"]["C2"] == "jain2024 small, run here"


def test_record_equals_published_results() -> None:
    published = "".join(path.read_text() for path in sorted(Path("docs/results").glob("*.md")))
    record = of_synthetic([], RECORD.parent)
    assert set(record) == {claim.id for claim in CLAIMS if claim.kind == "claim"}
    for name, row in record.items():
        assert row["study"] == study_of(name)
        number = f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        lines = [line for line in published.splitlines() if line.startswith(f"| {name} |") and number in line]
        assert lines, name
        assert all(row["verdict"] in line for line in lines)
