"""What does a model do when asked? Refuse, comply, comply wrongly or break, and how firmly."""

from makebreak.behaviour.answers import Answers, greedy_answers, teacher_force
from makebreak.behaviour.rates import Behaviour, behaviour, kl_to_base, refusal_margins

__all__ = [
    "Answers",
    "Behaviour",
    "behaviour",
    "greedy_answers",
    "kl_to_base",
    "refusal_margins",
    "teacher_force",
]
