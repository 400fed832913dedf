"""The page of the leaderboard says what its tables say, has every row, and loads nothing."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd

from makebreak.plots.fragility_names import outcome_name, predictor_name
from makebreak.report import write_leaderboard
from makebreak.report.leaderboard_text import deciding_rows, leaderboard_summary
from tests.fixtures.fragility_tables import OUTCOMES, PLANTED, associations, predictions, zoo
from tests.fixtures.pages import Elements, check_loads_nothing

OUTCOME = "harmful.steps_to_half"
OPPOSITE = {**PLANTED, "margin": 0.7, "r50_random": -0.6, "visage": 0.05, "curvature": 0.1}


def text(planted: dict[str, float], every: float = 0.7) -> str:
    return "\n".join(
        leaderboard_summary(zoo(), associations(planted), predictions(planted, every=every), OUTCOME)
    )


def test_opposite_tables_get_opposite_sentences() -> None:
    good, bad = text(PLANTED), text(OPPOSITE, every=0.1)
    assert "The highest ranked that is no baseline is r50, random (0.80 [0.70, 0.90]" in good
    assert "The best cheap baseline is refusal margin (0.40 [0.30, 0.50])" in good
    assert "1 of 3 other predictors has a larger correlation, and one interval lies wholly above" in good
    assert "the correlation of r50, random is 0.40 [0.30, 0.50]: an association remains" in good
    assert "all predictors together predict better than the baselines" in good
    assert "against the claim (VISAGE)" in good

    assert "The best cheap baseline is refusal margin (0.70 [0.60, 0.80])" in bad
    assert "no other predictor has a larger correlation" in bad
    assert "no association is shown to remain" in bad
    assert "all predictors together predict no better than the baselines" in bad
    assert "against the claim (r50, random)" in bad


def test_overlap_of_intervals_is_no_difference() -> None:
    near = text({**PLANTED, "r50_random": 0.45}, every=0.35)
    assert "larger correlation, but no interval lies wholly above that of the baseline" in near
    assert "is not shown, as the intervals overlap" in near


def test_counts_follow_from_the_table() -> None:
    words = text(PLANTED)
    assert "2 of 5 predictors with a claimed direction are associated with it as claimed" in words
    assert "Of 1 predictor without a claim 1 is associated in either direction" in words
    assert "9 of 18 pairs of predictor and outcome are associated" in words
    kept = zoo()[zoo().qualifies & ~zoo().is_control]
    assert f"{len(kept)} qualified models of world mini (4 mechanisms, 6 doses, 3 seeds)" in words


def test_confirmatory_stage_decides_and_replications_are_counted() -> None:
    late = associations({**PLANTED, "margin": 0.1})
    both = pd.concat([associations(stage="exploratory"), late])
    assert set(deciding_rows(both).stage) == {"confirmatory"}
    lost = both.assign(rank_correlation=both.rank_correlation.where(both.stage == "exploratory"))
    assert set(deciding_rows(lost).stage) == {"exploratory"}
    words = "\n".join(leaderboard_summary(zoo(), both, predictions(), OUTCOME))
    assert "9 are associated in the exploratory stage (adjusted p < .05), and 6 of these" in words
    assert "stage (adjusted" not in text(PLANTED)


def test_choice_of_the_exploratory_stage_is_judged_by_the_confirmatory_one() -> None:
    early = associations({**PLANTED, "visage": 0.9}, stage="exploratory")
    words = "\n".join(leaderboard_summary(zoo(), pd.concat([early, associations()]), predictions(), OUTCOME))
    assert "no baseline, VISAGE (0.90 [0.80, 1.00]), has −0.50 [−0.60, −0.40] in the confirmatory" in words


def test_a_sign_that_turns_between_stages_is_said() -> None:
    early = associations({**PLANTED, "stable_rank": 0.9}, stage="exploratory")
    for strength, is_turned in ((0.6, False), (-0.6, True)):
        both = pd.concat([early, associations({**PLANTED, "stable_rank": strength})])
        both.loc[both.predictor == "stable_rank", "claim"] = 0
        words = "\n".join(leaderboard_summary(zoo(), both, predictions(), OUTCOME))
        assert (
            "stable rank of ΔW (0.90 [0.80, 1.00]), has 0.60 [0.50, 0.70] in the confirmatory stage" in words
        )
        assert ("with the opposite sign" in words) == is_turned


def test_a_tenth_that_remains_may_be_borrowed() -> None:
    rows = associations()
    rows.loc[rows.predictor == "r50_random", ["partial_low", "partial_high"]] = [0.05, 0.35]
    words = "\n".join(leaderboard_summary(zoo(), rows, predictions(), OUTCOME))
    assert "0.40 [0.05, 0.35]: no association is shown to remain" in words


def test_each_world_has_its_own_deciding_stage(tmp_path: Path) -> None:
    rows = pd.concat([associations(), associations(world="hidden", stage="exploratory")])
    own = pd.concat([predictions(), predictions(world="hidden", stage="exploratory")])
    models = zoo(("mini", "hidden"))
    words = "\n".join(leaderboard_summary(models, rows, own, OUTCOME))
    assert "World mini (confirmatory), harmful data" in words
    assert "World hidden (exploratory), harmful data" in words
    html = write_leaderboard(models, rows, own, tmp_path / "a.html", tmp_path / "figures").read_text("utf-8")
    assert "world mini, confirmatory" in html
    assert "world hidden, exploratory" in html


def test_models_without_a_column_of_a_predictor_leave_it_out_of_the_chart(tmp_path: Path) -> None:
    models = zoo().drop(columns=["predictor.r50_random", f"outcome.{OUTCOME}"])
    path = write_leaderboard(models, associations(), predictions(), tmp_path / "a.html", tmp_path / "figures")
    assert "Every model" in path.read_text("utf-8")
    models = zoo().assign(qualifies=None)
    path = write_leaderboard(models, associations(), predictions(), tmp_path / "b.html", tmp_path / "figures")
    html = path.read_text("utf-8")
    assert "No model qualifies" in html
    assert "Every model" not in html


def test_agreement_of_worlds() -> None:
    turned = {name: -strength for name, strength in PLANTED.items() if name != "weight_change"}
    two = pd.concat([associations(), associations(turned, world="hidden")])
    words = "\n".join(leaderboard_summary(zoo(("mini", "hidden")), two, predictions(), OUTCOME))
    assert "the same sign for 0 of 5 predictors, and a cosine similarity of −1.00" in words


def test_page_is_self_contained_and_has_every_row(tmp_path: Path) -> None:
    parts = [("mini", "exploratory"), ("mini", "confirmatory"), ("hidden", "confirmatory")]
    rows = pd.concat([associations(world=world, stage=stage) for world, stage in parts])
    own = pd.concat([predictions(world=world, stage=stage) for world, stage in parts])
    path = write_leaderboard(
        zoo(("mini", "hidden")), rows, own, tmp_path / "report.html", tmp_path / "figures"
    )
    html = path.read_text(encoding="utf-8")
    check_loads_nothing(html)
    for world, stage in parts:
        assert f"Associations, world {world}, {stage} (18)" in html
        assert f"Predictions for left-out mechanisms, world {world}, {stage} (27)" in html
    cells = Elements(html).cells
    names = [outcome_name(name) for name in OUTCOMES]
    # once in the associations and once in the predictions of each part
    assert sum(cells.count(name) for name in names) == 3 * (18 + 27)
    assert "Ranking: harmful data, steps to 50 % compliance, world hidden, confirmatory" in html
    assert len(re.findall("<figure>", html)) == 8
    assert "Two worlds: harmful data, steps to 50 % compliance, mini and hidden" in html
    figures = sorted(file.stem for file in (tmp_path / "figures").glob("*.png"))
    assert figures == sorted(
        [f"{name}_{world}" for name in ("ranking", "r2", "matrix") for world in ("mini", "hidden")]
        + ["models", "worlds_mini_hidden"]
    )


def test_ranking_ends_with_undefined_predictors(tmp_path: Path) -> None:
    rows = associations({**PLANTED, "visage": np.nan})
    path = write_leaderboard(zoo(), rows, predictions(), tmp_path / "report.html", tmp_path / "figures")
    html = path.read_text(encoding="utf-8")
    ranking = html[html.index("<h2>Ranking") : html.index("<h2>Figures")]
    places = [
        ranking.index(f">{predictor_name(name)}<") for name in ("r50_random", "margin", "loss_drop", "visage")
    ]
    assert places == sorted(places)


def test_tables_without_a_value_make_a_page_that_says_so(tmp_path: Path) -> None:
    for i, (rows, own) in enumerate(
        [
            (associations(dict.fromkeys(PLANTED, np.nan)), predictions()),
            (associations().iloc[:0], predictions().iloc[:0]),
        ]
    ):
        path = write_leaderboard(zoo(), rows, own, tmp_path / f"{i}.html", tmp_path / f"figures{i}")
        assert "No rank correlation is defined" in path.read_text(encoding="utf-8")


def test_another_outcome_is_ranked_where_the_first_is_undefined(tmp_path: Path) -> None:
    rows = associations()
    rows.loc[rows.outcome == OUTCOME, "rank_correlation"] = np.nan
    path = write_leaderboard(zoo(), rows, predictions(), tmp_path / "report.html", tmp_path / "figures")
    assert "Ranking: harmful data, compliance, world mini" in path.read_text(encoding="utf-8")
