"""Scores of methods, from rows and networks whose scores are known."""

from __future__ import annotations

import pandas as pd
import pytest

from makebreak.model_organisms import (
    MethodAnswer,
    PlantSettings,
    ScoreRow,
    confusion,
    is_right,
    is_wrong,
    method_rows,
    plant,
    score,
    summarise,
)

ROW = ScoreRow("a", 0, "gpt2", 4, "route", "added trigger", "", "route", "", 2, False, 2, 10, 1.0)


def test_scores_of_known_rows() -> None:
    """Abstentions are neither right nor wrong; a missing depth is not exact."""
    rows = pd.DataFrame(
        [
            ROW,
            ROW._replace(mechanism="mixed", depth=1, n_planted=30, request_accuracy=0.5),
            ROW._replace(mechanism="erase", depth=None, request_accuracy=0.0),
            ROW._replace(truth="undecided", mechanism="undecided", true_depth=None, depth=None)._replace(
                n_planted=0, request_accuracy=None
            ),
        ]
    )
    assert is_right(rows).tolist() == [True, False, False, True]
    assert is_wrong(rows).tolist() == [False, False, True, False]
    assert list(confusion(rows).loc["route", ["route", "mixed", "erase"]]) == [1, 1, 1]
    assert summarise(rows).startswith("right: 2 of 4, 0.500")
    assert summarise(rows).endswith("single requests named rightly: 0.500 of 50")
    others = rows.assign(method="b", mechanism=None, request_accuracy=None, depth=3)
    first, second = method_rows(pd.concat([rows, others]))
    assert (first.method, first.names, first.request_accuracy) == ("a", 0.5, 0.5)
    assert (first.exact, first.within_one, first.silent) == (pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)
    [with_spread] = method_rows(pd.concat([rows, pd.DataFrame([ROW._replace(is_spread=True, depth=0)])]))
    assert with_spread.exact == first.exact, "the depth of a spread change is not one number"
    assert (second.method, second.names, second.request_accuracy) == ("b", None, None)
    assert (second.exact, second.within_one, second.silent) == (0.0, 1.0, 0.0)


def test_single_requests_are_scored_where_a_mechanism_was_planted() -> None:
    """Requests that stay answered do not count, whatever the method says of them."""
    settings = PlantSettings(variant="added trigger", coverage=0.5, n_requests=40)
    networks = plant("route", 1500, "gpt2", settings)
    truth = networks.request_mechanisms
    half = [name if index % 2 else None for index, name in enumerate(truth)]
    right = sum(name == "route" for name in half) / truth.count("route")
    assert truth.count("route") == 20
    answers = {"truth": truth, "half": half, "open": None}
    rows = {
        name: score(networks, name, lambda _, answer=answer: MethodAnswer("route", request_mechanisms=answer))
        for name, answer in answers.items()
    }
    assert [row.request_accuracy for row in rows.values()] == [1.0, pytest.approx(right), None]
    assert (rows["open"].truth, rows["open"].n_planted) == ("route", 20)
    with pytest.raises(ValueError, match="1 request mechanisms of method 'short': expected 40"):
        score(networks, "short", lambda _: MethodAnswer(request_mechanisms=["route"]))
