"""Claims about attacks (C6, C7, A1): the class-mean projection, and whether it predicts success."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from experiments.jain2024.attack_families import SOFT_PROMPT_SIZES
from experiments.jain2024.attack_values import (
    ALL_KINDS,
    SOFT_PROMPT,
    Selection,
    by_method,
    first_value,
    jailbreak_projection,
    mean_of_defined,
    mean_of_methods,
    mean_projection,
    method_claim,
    minus,
    seed_claim,
    success_difference,
    success_rate,
)
from experiments.jain2024.claim_values import JAIN
from makebreak.claims import Tables


def _method_order(tables: Tables) -> float | None:
    """Success against SSFT minus the largest of the other methods."""
    return _ssft_minus_others({arm: _mean_success(rows) for arm, rows in by_method(tables).items()})


def _projection_above_base(tables: Tables) -> float | None:
    """Normalised τ of all jailbreaks minus that of plain requests, methods minus base."""

    def of_all(of_model: Tables) -> float | None:
        return jailbreak_projection(of_model, ALL_KINDS, "all")

    return minus(mean_of_methods(of_all, tables), of_all(Selection(tables, "arm", "base")))


def _mean_success(tables: Tables) -> float | None:
    """Mean success rate over the kinds of jailbreaks that the world has."""
    rates = [success_rate(tables, kind) for kind in ALL_KINDS]
    return mean_of_defined([rate for rate in rates if rate is not None])


def _ssft_minus_others(success: Mapping[str, float | None]) -> float | None:
    """Success against SSFT minus the largest of the other methods; None where undefined."""
    others = [rate for method, rate in success.items() if method != "ssft" and rate is not None]
    if not others or len(others) < len(success) - 1:
        return None
    return minus(success["ssft"], max(others))


def _kind_order(tables: Tables) -> float | None:
    """Smaller success rate of CO-Text and MisGen minus that of CO-Task."""
    co_text, misgen = success_rate(tables, "CO-Text"), success_rate(tables, "MisGen")
    if co_text is None or misgen is None:
        return None
    return minus(min(co_text, misgen), success_rate(tables, "CO-Task"))


def _success_minus_failure(tables: Tables) -> float | None:
    """Normalised τ of successful minus refused jailbreaks."""
    success = jailbreak_projection(tables, ALL_KINDS, "complied")
    return minus(success, jailbreak_projection(tables, ALL_KINDS, "refused"))


def _smallest_soft_prompt_step(tables: Tables) -> float | None:
    """Smallest increase of normalised τ from one soft prompt to the next longer one."""
    values = [mean_projection(tables, [f"soft {size}"], "all") for size in SOFT_PROMPT_SIZES]
    defined = [value for value in values if value is not None]
    return float(np.diff(defined).min()) if len(defined) == len(values) else None


def _soft_prompt_minus_random(tables: Tables) -> float | None:
    control = mean_projection(tables, [f"random {SOFT_PROMPT}"], "all")
    return minus(mean_projection(tables, [SOFT_PROMPT], "all"), control)


def _prediction_difference(tables: Tables, predictor: str, control: str, column: str) -> float | None:
    """Difference of two predictors' AUROCs of success."""
    aurocs: list[float | None] = []
    for name in (predictor, control):
        rows = tables["prediction"]
        rows = rows[rows["predictor"] == name] if len(rows) else rows
        aurocs.append(first_value(rows, column))
    return minus(*aurocs)


PROJECTION_CLAIMS = (
    method_claim(
        lambda t: jailbreak_projection(t, ALL_KINDS, "complied"),
        id="C6",
        source=JAIN,
        statement="Successful jailbreaks lie nearer the safe mean than plain unsafe requests",
        quantity="normalised τ, last layer, successful jailbreaks - unsafe, mean of methods",
        unit="distance of means",
        negligible=0.05,
    ),
    method_claim(
        lambda t: jailbreak_projection(t, ["CO-Text"], "complied"),
        id="C6.co_text",
        source=JAIN,
        statement="Successful CO-Text jailbreaks lie nearer the safe mean than plain unsafe requests",
        quantity="normalised τ, last layer, successful CO-Text - unsafe, mean of methods",
        unit="distance of means",
        negligible=0.05,
    ),
    method_claim(
        lambda t: jailbreak_projection(t, ["CO-Task"], "complied"),
        id="C6.co_task",
        source=JAIN,
        statement="Successful CO-Task jailbreaks lie nearer the safe mean than plain unsafe requests",
        quantity="normalised τ, last layer, successful CO-Task - unsafe, mean of methods",
        unit="distance of means",
        negligible=0.05,
    ),
    method_claim(
        lambda t: jailbreak_projection(t, ["MisGen"], "complied"),
        id="C6.misgen",
        source=JAIN,
        statement="Successful MisGen jailbreaks lie nearer the safe mean than plain unsafe requests",
        quantity="normalised τ, last layer, successful MisGen - unsafe, mean of methods",
        unit="distance of means",
        negligible=0.05,
    ),
    method_claim(
        _success_minus_failure,
        id="C6.failed",
        statement="Successful jailbreaks lie nearer the safe mean than refused ones",
        quantity="normalised τ, last layer, successful - refused jailbreaks, mean of methods",
        unit="distance of means",
        negligible=0.05,
    ),
    seed_claim(
        _projection_above_base,
        id="C6.base",
        role="primary",
        statement="Alignment moves jailbreaks less far to the unsafe side than plain unsafe requests",
        quantity="normalised τ, last layer, all requests of the kinds CO-Text, CO-Task and MisGen - unsafe, "
        "mean of methods - base, which answers everything; above 0 wherever classes move apart and "
        "jailbreaks are not read as fully unsafe",
        unit="distance of means",
        negligible=0.05,
    ),
    method_claim(
        _kind_order,
        id="C6.order",
        source=JAIN,
        statement="CO-Text and MisGen succeed more often than CO-Task",
        quantity="smaller one of the first two rates - the third, mean of methods",
        unit="rate",
        negligible=0.02,
    ),
    seed_claim(
        _method_order,
        id="C6.method",
        source=JAIN,
        statement="Jailbreaks succeed against SSFT more often than against the others",
        quantity="success rate of SSFT - largest of the others, mean of kinds",
        unit="rate",
        negligible=0.02,
    ),
    method_claim(
        _smallest_soft_prompt_step,
        id="C7",
        source=JAIN,
        statement="A longer soft prompt brings requests nearer the safe mean",
        quantity="smallest step of normalised τ, last layer, from 1 to 10 soft tokens, mean of methods",
        unit="distance of means",
        negligible=0.01,
    ),
    method_claim(
        lambda t: success_difference(t, SOFT_PROMPT, f"soft {SOFT_PROMPT_SIZES[0]}"),
        id="C7.success",
        source=JAIN,
        statement="A longer soft prompt succeeds more often",
        quantity="success rate, 10 soft tokens - 1 soft token, mean of methods",
        unit="rate",
        negligible=0.02,
    ),
    method_claim(
        _soft_prompt_minus_random,
        id="C7.random",
        statement="A soft prompt brings requests nearer the safe mean than random vectors do",
        quantity="normalised τ, last layer, 10 soft tokens - 10 random vectors",
        unit="distance of means",
        negligible=0.05,
    ),
    method_claim(
        lambda t: _prediction_difference(t, "both", "attack", "auroc"),
        id="A1",
        statement="The class-mean projection predicts success beyond the attack's name",
        quantity="AUROC of success, τ and attack - attack alone, held-out texts, mean of methods",
        unit="AUROC",
        negligible=0.01,
    ),
    method_claim(
        lambda t: _prediction_difference(t, "tau", "shuffled", "auroc_within_attack"),
        id="A1.within",
        statement="Within one attack, the class-mean projection predicts success",
        quantity="AUROC of success from τ within attacks - from another request's τ",
        unit="AUROC",
        negligible=0.02,
    ),
)
"""Claims about the projection of attacked requests."""
