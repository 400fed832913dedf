"""Jobs on a language model: inspect, compare, attack, landscape, alignment and fine-tuning."""

from makebreak.lm.attack import AttackData, AttackSettings, AttackSuiteResult, attack_model
from makebreak.lm.comparison import compare_models
from makebreak.lm.fine_tuning import (
    OBJECTIVES,
    Evaluation,
    FineTuneResult,
    FineTuneSettings,
    UserData,
    align,
    find_objective,
    judged_answer_rows,
    tune_as_user,
)
from makebreak.lm.inspection import GenerationSettings, InspectionResult, evenly_spaced, inspect
from makebreak.lm.landscape import (
    LandscapeData,
    LandscapeResult,
    LandscapeSettings,
    is_store_model,
    language_model_landscape,
    world_landscape,
)
from makebreak.lm.training_set import build_training_set

__all__ = [
    "OBJECTIVES",
    "AttackData",
    "AttackSettings",
    "AttackSuiteResult",
    "Evaluation",
    "FineTuneResult",
    "FineTuneSettings",
    "GenerationSettings",
    "InspectionResult",
    "LandscapeData",
    "LandscapeResult",
    "LandscapeSettings",
    "UserData",
    "align",
    "attack_model",
    "build_training_set",
    "compare_models",
    "evenly_spaced",
    "find_objective",
    "inspect",
    "is_store_model",
    "judged_answer_rows",
    "language_model_landscape",
    "tune_as_user",
    "world_landscape",
]
