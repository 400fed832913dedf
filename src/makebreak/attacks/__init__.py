"""Attacks on the refusal of a model, and analyses of why they succeed."""

from makebreak.attacks.jailbreak_templates import JAILBREAK_TEMPLATES, PLACEBO
from makebreak.attacks.methods import SoftPromptAttack, TokenSearchAttack
from makebreak.attacks.prefill import min_prefill_length, prefill_targets
from makebreak.attacks.projection import (
    MIN_PER_OUTCOME,
    AttackProjection,
    ProjectionRow,
    SuccessPredictionRow,
    project_attacks,
    projection_rows,
    success_prediction_rows,
)
from makebreak.attacks.result import Attack, AttackResult, score_attack
from makebreak.attacks.slots import AdversarialSlots, SlotLocation, fill_slots, insert_slots
from makebreak.attacks.soft_prompt import (
    Penalty,
    SoftPromptResult,
    SoftPromptSettings,
    insert_soft_prompt,
    optimise_soft_prompt,
    random_soft_prompt,
    soft_prompt_embeddings,
)
from makebreak.attacks.steering import SCALES, SteeringData, SteeringRow, reversal_at_cost, steering_rows
from makebreak.attacks.token_search import (
    SearchMethod,
    SearchOptions,
    TokenSearchResult,
    TokenSearchSettings,
    search_tokens,
)

__all__ = [
    "JAILBREAK_TEMPLATES",
    "MIN_PER_OUTCOME",
    "PLACEBO",
    "SCALES",
    "AdversarialSlots",
    "Attack",
    "AttackProjection",
    "AttackResult",
    "Penalty",
    "ProjectionRow",
    "SearchMethod",
    "SearchOptions",
    "SlotLocation",
    "SoftPromptAttack",
    "SoftPromptResult",
    "SoftPromptSettings",
    "SteeringData",
    "SteeringRow",
    "SuccessPredictionRow",
    "TokenSearchAttack",
    "TokenSearchResult",
    "TokenSearchSettings",
    "fill_slots",
    "insert_slots",
    "insert_soft_prompt",
    "min_prefill_length",
    "optimise_soft_prompt",
    "prefill_targets",
    "project_attacks",
    "projection_rows",
    "random_soft_prompt",
    "reversal_at_cost",
    "score_attack",
    "search_tokens",
    "soft_prompt_embeddings",
    "steering_rows",
    "success_prediction_rows",
]
