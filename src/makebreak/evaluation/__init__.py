"""Evaluation of models: outcomes of answers, log-odds of refusal, target losses, generation, text judges."""

from makebreak.evaluation.agreement import (
    AgreementRow,
    cohen_kappa,
    judge_agreement_rows,
    kappa_interval,
    krippendorff_alpha,
)
from makebreak.evaluation.answer_checkpoint import ANSWERS_FILE, AnswerCheckpoint
from makebreak.evaluation.answers import GreedyAnswers, generate_answers, greedy_answers
from makebreak.evaluation.context import check_context
from makebreak.evaluation.decisions import (
    MAX_BATCH_SIZE,
    batches,
    decision_kl,
    first_tokens,
    is_likeliest,
    likeliest_other,
    log_odds,
    next_token_log_probs,
    prompt_tokens,
    token_sets,
)
from makebreak.evaluation.degeneracy import is_degenerate, repeats_words
from makebreak.evaluation.generation import generate_texts
from makebreak.evaluation.judges import (
    ARDITI_PHRASES,
    JUDGE,
    JUDGES,
    QI_PHRASES,
    Judge,
    classify_answers,
    decide_by,
    deciding_judge,
    phrase_judge,
    planning_judge,
)
from makebreak.evaluation.outcomes import OUTCOMES_REVISION, exact_outcomes, outcome_rate
from makebreak.evaluation.plain_text import TextLossRow, text_losses
from makebreak.evaluation.prefix_runner import PrefixCachedRunner, SteeredAnswers
from makebreak.evaluation.rates import (
    Behaviour,
    evaluate_behaviour,
    first_refused_tokens,
    kl_to_base,
    refusal_margins,
)
from makebreak.evaluation.reasoning import final_answer, is_unfinished
from makebreak.evaluation.refusal_classifier import refusal_probabilities
from makebreak.evaluation.refusal_phrases import begins_with_refusal
from makebreak.evaluation.sampling import Sampling, repeat_requests
from makebreak.evaluation.score_files import request_digest, writable_text
from makebreak.evaluation.shallow import shallow_refusal_share, shallow_refusals
from makebreak.evaluation.stacked import (
    stack_answers,
    stack_behaviours,
    stack_compliance,
    stack_kl_to_base,
    stack_sequences,
)
from makebreak.evaluation.target import (
    AnswerRow,
    ChatTarget,
    Target,
    WorldTarget,
)
from makebreak.evaluation.teacher_forcing import (
    TargetNLL,
    TargetScore,
    exact_match,
    outcome_targets,
    score_targets,
    target_batch_size,
    target_nll,
)
from makebreak.evaluation.token_constraint import RequestFilter, TokenConstraint

__all__ = [
    "ANSWERS_FILE",
    "ARDITI_PHRASES",
    "JUDGE",
    "JUDGES",
    "MAX_BATCH_SIZE",
    "OUTCOMES_REVISION",
    "QI_PHRASES",
    "AgreementRow",
    "AnswerCheckpoint",
    "AnswerRow",
    "Behaviour",
    "ChatTarget",
    "GreedyAnswers",
    "Judge",
    "PrefixCachedRunner",
    "RequestFilter",
    "Sampling",
    "SteeredAnswers",
    "Target",
    "TargetNLL",
    "TargetScore",
    "TextLossRow",
    "TokenConstraint",
    "WorldTarget",
    "batches",
    "begins_with_refusal",
    "check_context",
    "classify_answers",
    "cohen_kappa",
    "decide_by",
    "deciding_judge",
    "decision_kl",
    "evaluate_behaviour",
    "exact_match",
    "exact_outcomes",
    "final_answer",
    "first_refused_tokens",
    "first_tokens",
    "generate_answers",
    "generate_texts",
    "greedy_answers",
    "is_degenerate",
    "is_likeliest",
    "is_unfinished",
    "judge_agreement_rows",
    "kappa_interval",
    "kl_to_base",
    "krippendorff_alpha",
    "likeliest_other",
    "log_odds",
    "next_token_log_probs",
    "outcome_rate",
    "outcome_targets",
    "phrase_judge",
    "planning_judge",
    "prompt_tokens",
    "refusal_margins",
    "refusal_probabilities",
    "repeat_requests",
    "repeats_words",
    "request_digest",
    "score_targets",
    "shallow_refusal_share",
    "shallow_refusals",
    "stack_answers",
    "stack_behaviours",
    "stack_compliance",
    "stack_kl_to_base",
    "stack_sequences",
    "target_batch_size",
    "target_nll",
    "text_losses",
    "token_sets",
    "writable_text",
]
