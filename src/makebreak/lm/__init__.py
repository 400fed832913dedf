"""Jobs on a language model: inspect, compare, attack, landscape, alignment and fine-tuning."""

from makebreak.evaluation import JUDGE
from makebreak.lm.attack import (
    AttackData,
    AttackSuiteResult,
    attack_model,
    check_sizes_are_used,
    choose_attacks,
)
from makebreak.lm.attack_rates import (
    TARGET_CRITERION,
    TOPIC_CRITERION,
    AttackCostRow,
    OverRefusalRow,
    SuccessRow,
    cost_rows,
    over_refusal_rows,
    success_rows,
)
from makebreak.lm.attacked_answers import N_TOPIC_CONTROLS, NO_ATTACK, AttackedAnswerRow, SearchHistoryRow
from makebreak.lm.comparison import check_weights_differ, compare_models
from makebreak.lm.fine_tuning import (
    Evaluation,
    FineTuneResult,
    UserData,
    align,
    fine_tune_run,
    tune_as_user,
    user_training,
)
from makebreak.lm.inspection import InspectionResult, InspectionSettings, inspect, separation_rows
from makebreak.lm.landscape import (
    LandscapeData,
    chat_landscape_data,
    evaluate_landscape,
    is_store_model,
    world_landscape_data,
)
from makebreak.lm.monitoring import MIN_REFERENCE_REQUESTS
from makebreak.lm.prompts import (
    FAMILIES,
    check_distinct,
    evenly_spaced,
    load_attack_prompts,
    load_examples,
    load_prompts,
    prompts_digest,
)
from makebreak.lm.sampled_answers import SampleRateRow, SampleRow, sample_rate_rows, sampled_answer_rows
from makebreak.lm.tasks import (
    check_user_data,
    held_out_task,
    requests_as_task,
    task_row,
    user_objective,
)
from makebreak.lm.training import FineTuneRun, fine_tune
from makebreak.lm.training_set import build_training_set
from makebreak.lm.utility import UtilityRow, text_loss_rows, utility_rows
from makebreak.lm.verdicts import (
    BehaviourRow,
    behaviour_rows,
    is_compliance,
    is_on_topic,
    is_refusal,
    judged_answer_rows,
)

__all__ = [
    "FAMILIES",
    "JUDGE",
    "MIN_REFERENCE_REQUESTS",
    "NO_ATTACK",
    "N_TOPIC_CONTROLS",
    "TARGET_CRITERION",
    "TOPIC_CRITERION",
    "AttackCostRow",
    "AttackData",
    "AttackSuiteResult",
    "AttackedAnswerRow",
    "BehaviourRow",
    "Evaluation",
    "FineTuneResult",
    "FineTuneRun",
    "InspectionResult",
    "InspectionSettings",
    "LandscapeData",
    "OverRefusalRow",
    "SampleRateRow",
    "SampleRow",
    "SearchHistoryRow",
    "SuccessRow",
    "UserData",
    "UtilityRow",
    "align",
    "attack_model",
    "behaviour_rows",
    "build_training_set",
    "chat_landscape_data",
    "check_distinct",
    "check_sizes_are_used",
    "check_user_data",
    "check_weights_differ",
    "choose_attacks",
    "compare_models",
    "cost_rows",
    "evaluate_landscape",
    "evenly_spaced",
    "fine_tune",
    "fine_tune_run",
    "held_out_task",
    "inspect",
    "is_compliance",
    "is_on_topic",
    "is_refusal",
    "is_store_model",
    "judged_answer_rows",
    "load_attack_prompts",
    "load_examples",
    "load_prompts",
    "over_refusal_rows",
    "prompts_digest",
    "requests_as_task",
    "sample_rate_rows",
    "sampled_answer_rows",
    "separation_rows",
    "success_rows",
    "task_row",
    "text_loss_rows",
    "tune_as_user",
    "user_objective",
    "user_training",
    "utility_rows",
    "world_landscape_data",
]
