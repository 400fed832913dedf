"""What do the commands of `makebreak` do, as functions?"""

from makebreak.pages.attack import Attacking, Attacks, attack_model
from makebreak.pages.attack_page import attack_lines, write_attacks
from makebreak.pages.comparison import compare_models
from makebreak.pages.comparison_page import comparison_summary, write_comparison
from makebreak.pages.fine_tuning import (
    OBJECTIVES,
    FineTuneResult,
    FineTuneSettings,
    align,
    judged_answer_rows,
    tune_as_user,
)
from makebreak.pages.fine_tuning_page import fine_tuning_summary, write_fine_tuning
from makebreak.pages.inspection import GenerationSettings, InspectionResult, evenly_spaced, inspect
from makebreak.pages.inspection_page import inspection_summary, write_inspection
from makebreak.pages.landscape import Ground, Walking, of_the_zoo, walk_language_model, walk_world
from makebreak.pages.landscape_page import ground_lines, write_ground
from makebreak.pages.training_set import build_training_set

__all__ = [
    "OBJECTIVES",
    "Attacking",
    "Attacks",
    "FineTuneResult",
    "FineTuneSettings",
    "GenerationSettings",
    "Ground",
    "InspectionResult",
    "Walking",
    "align",
    "attack_lines",
    "attack_model",
    "build_training_set",
    "compare_models",
    "comparison_summary",
    "evenly_spaced",
    "fine_tuning_summary",
    "ground_lines",
    "inspect",
    "inspection_summary",
    "judged_answer_rows",
    "of_the_zoo",
    "tune_as_user",
    "walk_language_model",
    "walk_world",
    "write_attacks",
    "write_comparison",
    "write_fine_tuning",
    "write_ground",
    "write_inspection",
]
