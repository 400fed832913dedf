"""Claims about attacks (A2, A3): what makes them fail or succeed, by interchange and by steering."""

from __future__ import annotations

from functools import partial
from typing import Any

from experiments.jain2024.attack_values import (
    Selection,
    by_method,
    first_value,
    mean_of_defined,
    method_claim,
    middle_layer,
    minus,
    seed_claim,
)
from makebreak.claims import Tables
from makebreak.mechanism import reversal_at_cost

_STEERING_CONTROLS = ("shuffled", "other_label", "covariance", "random")


def _steering_effect(tables: Tables, column: str, kind: str) -> float | None:
    rows = middle_layer(tables["steering"])
    return first_value(rows[rows["kind"] == kind], column) if len(rows) else None


def _interchange_rate(of_model: Tables, layer: int | None, **columns: Any) -> float | None:
    """A rate of an interchange before a layer: `column` where `donor` and `positions` are as given."""
    rows, column = of_model["interchange"], columns.pop("column")
    for name, value in {"layer": layer, **columns}.items():
        rows = rows[rows[name] == value] if len(rows) else rows
    return first_value(rows, column)


def _predictive_layer(of_model: Tables) -> int | None:
    """Layer at which the projection predicts success best, on requests that are not changed."""
    rows = of_model["interchange"]
    rows = rows.dropna(subset="fit_auroc") if len(rows) else rows
    return int(rows["layer"].iloc[int(rows["fit_auroc"].to_numpy().argmax())]) if len(rows) else None


def _interchange_above_base(column: str, positions: str, tables: Tables) -> float | None:
    """Rate under unsafe donors minus that in the base at the same layer, mean of methods."""
    base, values = Selection(tables, "arm", "base"), []
    selection = {"donor": "unsafe", "positions": positions, "column": column}
    for of_model in by_method(tables).values():
        layer = _predictive_layer(of_model)
        rates = [_interchange_rate(each, layer, **selection) for each in (of_model, base)]
        values.append(minus(*rates))
    return mean_of_defined(values)


def _interchange_above_control(donor: str, of_model: Tables) -> float | None:
    """Share of successes that fail with unsafe donors minus that with control donors."""
    layer, selection = _predictive_layer(of_model), {"positions": "end of text", "column": "failure_rate"}
    return minus(*(_interchange_rate(of_model, layer, donor=each, **selection) for each in ("unsafe", donor)))


def _reversal_above_controls(tables: Tables) -> float | None:
    """Share of successes reversed at a small cost in safe answers, minus the best control's."""
    rows = middle_layer(tables["steering"])
    controls = [reversal_at_cost(rows, kind) for kind in _STEERING_CONTROLS]
    return _above_controls(reversal_at_cost(rows, "difference"), controls)


def _induction_above_controls(tables: Tables) -> float | None:
    """Share of plain unsafe requests answered when steered at scale 1, minus the best control's."""
    rows = middle_layer(tables["steering"])
    if not len(rows):
        return None
    rows = rows[rows["scale"] == 1.0]
    rates = {kind: first_value(rows[rows["kind"] == kind], "induction_rate") for kind in set(rows["kind"])}
    return _above_controls(rates.get("difference"), [rates.get(kind) for kind in _STEERING_CONTROLS])


def _above_controls(value: float | None, controls: list[float | None]) -> float | None:
    defined = [control for control in controls if control is not None]
    return None if len(defined) < len(controls) else minus(value, max(defined))


CAUSE_CLAIMS = (
    seed_claim(
        partial(_interchange_above_base, "failure_rate", "end of text"),
        id="A2",
        role="primary",
        statement="Most successful jailbreaks fail once their projection is that of unsafe requests",
        quantity="share that fails, of those that the interchange moves towards the unsafe mean, aligned "
        "models - base, at the end of text before the layer where the projection predicts success best, mean "
        "of methods",
        unit="rate",
        bound=0.5,
        no_effect=0.0,
        negligible=0.05,
    ),
    seed_claim(
        partial(_interchange_above_base, "refusal_rate", "end of text"),
        id="A2.refused",
        statement="Most successful jailbreaks are refused then",
        quantity="share that is refused, aligned models - base, same interchange",
        unit="rate",
        bound=0.5,
        no_effect=0.0,
        negligible=0.05,
    ),
    seed_claim(
        partial(_interchange_above_base, "failure_rate", "prompt"),
        id="A2.prompt",
        statement="Most successful jailbreaks fail if that change is made at every position of the prompt",
        quantity="share that fails, aligned models - base",
        unit="rate",
        bound=0.5,
        no_effect=0.0,
        negligible=0.05,
    ),
    method_claim(
        partial(_interchange_above_control, "random"),
        id="A2.random",
        statement="More jailbreaks fail than after a move of the same length in a random direction",
        quantity="share that fails, unsafe donors - five random directions, mean of methods",
        unit="rate",
        negligible=0.02,
    ),
    method_claim(
        partial(_interchange_above_control, "safe"),
        id="A2.safe",
        statement="More jailbreaks fail than with the projection of safe requests",
        quantity="share that fails, unsafe donors - safe donors, mean of methods",
        unit="rate",
        negligible=0.02,
    ),
    method_claim(
        _reversal_above_controls,
        id="A2.cost",
        statement="The difference of means undoes more successes than other shifts at a cost of 5 % of safe"
        " answers",
        quantity="share of successes undone at that cost, difference of means - best of four controls, "
        "after block n // 2 of n",
        unit="rate",
        negligible=0.02,
    ),
    method_claim(
        _induction_above_controls,
        id="A3",
        statement="Steered to the safe mean, plain unsafe requests are answered",
        quantity="share answered, difference of means - best of four controls that disturb safe requests "
        "equally, after block n // 2 of n",
        unit="rate",
        negligible=0.02,
    ),
)
"""Claims about causes of success."""
