"""Jobs on a language model: inspect, compare, attack, landscape, alignment and fine-tuning."""

from makebreak.lm.attack import AttackData, AttackSuiteResult, attack_model
from makebreak.lm.comparison import compare_models
from makebreak.lm.fine_tuning import (
    OBJECTIVES,
    Evaluation,
    FineTuneResult,
    UserData,
    align,
    find_objective,
    fine_tune_run,
    held_out_task,
    judged_answer_rows,
    requests_in_format,
    task_row,
    tune_as_user,
    user_objective,
)
from makebreak.lm.inspection import InspectionResult, encode_prompts, evenly_spaced, inspect, separation_rows
from makebreak.lm.landscape import (
    LandscapeData,
    LandscapeResult,
    is_store_model,
    language_model_landscape,
    world_landscape,
)
from makebreak.lm.training import FineTuneRun, fine_tune
from makebreak.lm.training_set import build_training_set
from makebreak.lm.verdicts import JUDGE, BehaviourRow, behaviour_rows

__all__ = [
    "JUDGE",
    "OBJECTIVES",
    "AttackData",
    "AttackSuiteResult",
    "BehaviourRow",
    "Evaluation",
    "FineTuneResult",
    "FineTuneRun",
    "InspectionResult",
    "LandscapeData",
    "LandscapeResult",
    "UserData",
    "align",
    "attack_model",
    "behaviour_rows",
    "build_training_set",
    "compare_models",
    "encode_prompts",
    "evenly_spaced",
    "find_objective",
    "fine_tune",
    "fine_tune_run",
    "held_out_task",
    "inspect",
    "is_store_model",
    "judged_answer_rows",
    "language_model_landscape",
    "requests_in_format",
    "separation_rows",
    "task_row",
    "tune_as_user",
    "user_objective",
    "world_landscape",
]
