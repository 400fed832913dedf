"""The commands of `makebreak` as functions: each computes tables, summarises them and writes a page."""

from makebreak.pages.attack import AttackData, AttackSettings, AttackSuiteResult, attack_model
from makebreak.pages.attack_page import attack_summary, write_attacks
from makebreak.pages.comparison import compare_models
from makebreak.pages.comparison_page import comparison_summary, write_comparison
from makebreak.pages.fine_tuning import (
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
from makebreak.pages.fine_tuning_page import fine_tuning_summary, write_fine_tuning
from makebreak.pages.inspection import GenerationSettings, InspectionResult, evenly_spaced, inspect
from makebreak.pages.inspection_page import inspection_summary, write_inspection
from makebreak.pages.landscape import (
    LandscapeData,
    LandscapeResult,
    LandscapeSettings,
    is_store_model,
    language_model_landscape,
    world_landscape,
)
from makebreak.pages.landscape_page import landscape_summary, write_landscape
from makebreak.pages.training_set import build_training_set

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
    "attack_summary",
    "build_training_set",
    "compare_models",
    "comparison_summary",
    "evenly_spaced",
    "find_objective",
    "fine_tuning_summary",
    "inspect",
    "inspection_summary",
    "is_store_model",
    "judged_answer_rows",
    "landscape_summary",
    "language_model_landscape",
    "tune_as_user",
    "world_landscape",
    "write_attacks",
    "write_comparison",
    "write_fine_tuning",
    "write_inspection",
    "write_landscape",
]
