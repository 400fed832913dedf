"""What does a model do when asked? Refuse, comply, comply wrongly or break, and how firmly."""

from makebreak.behaviour.answers import Answers, generate, greedy_answers, teacher_force
from makebreak.behaviour.decisions import batches, decide, decision_kl, first_tokens, log_odds, prompts
from makebreak.behaviour.rates import Behaviour, behaviour, kl_to_base, refusal_margins
from makebreak.behaviour.reading import LEAST_PREFIX, Read, behind, prefix
from makebreak.behaviour.targets import Aim, Near, aim, at_once, gives, near, outcome_targets
from makebreak.behaviour.texts import (
    ARDITI,
    JUDGES,
    QI,
    Judge,
    agreement,
    answer_texts,
    broken,
    by_phrases,
    judged,
)

__all__ = [
    "ARDITI",
    "JUDGES",
    "LEAST_PREFIX",
    "QI",
    "Aim",
    "Answers",
    "Behaviour",
    "Judge",
    "Near",
    "Read",
    "agreement",
    "aim",
    "answer_texts",
    "at_once",
    "batches",
    "behaviour",
    "behind",
    "broken",
    "by_phrases",
    "decide",
    "decision_kl",
    "first_tokens",
    "generate",
    "gives",
    "greedy_answers",
    "judged",
    "kl_to_base",
    "log_odds",
    "near",
    "outcome_targets",
    "prefix",
    "prompts",
    "refusal_margins",
    "teacher_force",
]
