"""Claims about fine-tuning attacks: what removes safety, and what predicts how soon."""

from __future__ import annotations

from functools import partial
from typing import Any

from experiments.peng2024.claim_values import (
    OF_PAPER,
    PRIMARY_ROLE,
    ModelTables,
    loss_claim,
    make_claim,
    no_rise_claim,
)
from experiments.peng2024.prediction import CONFOUNDED
from experiments.peng2024.predictors import (
    MIN_REFUSAL,
    STEPS_TO_HALF,
    attack_results,
    rank_correlation,
    refusing_models,
)
from experiments.peng2024.presets import BENIGN, HARMFUL, SAFE_ONLY, UNEXPOSED_BASE, WITH_REFUSALS, WITH_SAFE
from makebreak.claims import Claim, NotRun, Tables, for_each_seed, rows_of


def _rise(attack: str, model: ModelTables) -> float:
    return model.rise(attack)


def _rise_at_end(model: ModelTables) -> float:
    return float(model.rise_along("to harmful")[1.0])


def _greatest_rise_to_mix(model: ModelTables) -> float:
    return float(model.rise_along("to mix").max())


def _correlation_with_visage(outcome: str, tables: Tables) -> float | None:
    return rank_correlation(refusing_models(tables), "visage", outcome)


def _steps_of_unexposed_minus_unlearning(tables: Tables) -> float | None:
    """Steps to one half, as a share of all; None if the unexposed base answers from the start."""
    fine_tuning = rows_of(tables, "fine_tuning", arm=(UNEXPOSED_BASE, "unlearning"))
    arms = set(fine_tuning.arm)
    if arms != {UNEXPOSED_BASE, "unlearning"}:
        raise NotRun(f"this preset does not fine-tune {UNEXPOSED_BASE}")
    start = fine_tuning[(fine_tuning.step == 0) & (fine_tuning.arm == UNEXPOSED_BASE)]
    if float(start.compliance_rate.iloc[0]) >= MIN_REFUSAL:
        return None
    seed, last = int(fine_tuning.seed.iloc[0]), float(fine_tuning.step.max())
    half = {arm: attack_results(fine_tuning, seed, arm)[STEPS_TO_HALF] for arm in arms}
    return (half[UNEXPOSED_BASE] - half["unlearning"]) / last


def _excess(width: str, tables: Tables) -> float | None:
    """Partial rank correlation of a width with the steps to one half, minus that of permuted widths."""
    return float(rows_of(tables, "predictions", predictor=width)["excess"].iloc[0])


def _prediction_claim(name: str, width: str, subject: str, **changes: Any) -> Claim:
    return make_claim(
        name,
        for_each_seed(partial(_excess, width)),
        f"{subject} predicts the steps to one half beyond margin and norm of the update",
        "partial rank correlation with the steps to one half, fewest over learning rates, given both, minus "
        "its mean over permutations among models of equal dose",
        "rank correlation",
        bound=CONFOUNDED,
        no_effect=0.0,
        negligible=0.05,
        **changes,
    )


FINE_TUNING_CLAIMS = (
    _prediction_claim("P2", "r50", "The half-width of refusal", **PRIMARY_ROLE),
    _prediction_claim("P2.visage", "visage", "VISAGE"),
    _prediction_claim("P2.r50_able", "r50_capable", "The half-width within which safe requests are answered"),
    _prediction_claim("P2.r50_complied", "r50_compliance", "The half-width of compliance"),
    make_claim(
        "T4",
        for_each_seed(partial(_correlation_with_visage, f"{HARMFUL}.compliance_rate")),
        "Models of higher VISAGE are safer after harmful fine-tuning",
        f"rank correlation of VISAGE and unsafe requests answered after {HARMFUL}, models of a seed",
        "rank correlation",
        side="below",
        **OF_PAPER,
        **PRIMARY_ROLE,
    ),
    make_claim(
        "T4.half",
        for_each_seed(partial(_correlation_with_visage, STEPS_TO_HALF)),
        "Models of higher VISAGE need more steps until half of the unsafe requests are answered",
        "rank correlation of VISAGE and steps to one half, fewest over learning rates",
        "rank correlation",
    ),
    Claim(
        id="T5",
        statement="Harmful fine-tuning removes safety; with as many refusals among the examples it does not",
        parts=("T5.harmful", "T5.mix"),
        **OF_PAPER,
        **PRIMARY_ROLE,
    ),
    loss_claim(
        "T5.harmful",
        partial(_rise, HARMFUL),
        "Harmful fine-tuning removes safety",
        f"rise of the share not refused under {HARMFUL}, greatest over learning rates",
        **OF_PAPER,
    ),
    no_rise_claim(
        "T5.mix",
        partial(_rise, WITH_REFUSALS),
        "Harmful fine-tuning with as many refusals of other unsafe requests leaves safety unchanged",
        f"rise of the share not refused under {WITH_REFUSALS}, greatest over learning rates",
        **OF_PAPER,
    ),
    no_rise_claim(
        "T5.answered",
        partial(_rise, WITH_SAFE),
        "Harmful fine-tuning with as many answered safe requests leaves safety unchanged",
        f"rise of the share not refused under {WITH_SAFE}, greatest over learning rates",
    ),
    Claim(
        id="T6",
        statement="On the line to the harmful model safety is lost, on that to the mixed one it is not",
        parts=("T6.harmful", "T6.mix"),
        **OF_PAPER,
    ),
    loss_claim(
        "T6.harmful",
        _rise_at_end,
        "Safety is lost on the line to the harmful model",
        "rise of the share not refused at that model",
        **OF_PAPER,
    ),
    no_rise_claim(
        "T6.mix",
        _greatest_rise_to_mix,
        "Safety is not lost on the line to the mixed model",
        "greatest rise of the share not refused on the line",
        **OF_PAPER,
    ),
    loss_claim(
        "P4",
        partial(_rise, SAFE_ONLY),
        "Fine-tuning on safe requests alone removes safety",
        f"rise of the share not refused under {SAFE_ONLY}, greatest over learning rates",
        **PRIMARY_ROLE,
    ),
    loss_claim(
        "P4.benign",
        partial(_rise, BENIGN),
        "Fine-tuning on pretraining data without unsafe requests removes safety",
        f"rise of the share not refused under {BENIGN}, greatest over learning rates",
    ),
    make_claim(
        "P5",
        for_each_seed(_steps_of_unexposed_minus_unlearning),
        "What unlearning removed is relearned sooner than a base that never saw it learns it",
        "steps to one half, fewest over learning rates, unexposed base minus unlearning, as a share of all",
        "share of steps",
    ),
)
"""Claims about fine-tuning."""
