"""What do the commands of `makebreak` do, as functions?"""

from makebreak.pages.attack import Attacking, Attacks, attack_model
from makebreak.pages.attack_page import attack_lines, write_attacks
from makebreak.pages.comparison import compare_models
from makebreak.pages.comparison_page import verdict_lines, write_comparison
from makebreak.pages.inspection import Inspection, Settings, drawn, inspect
from makebreak.pages.inspection_page import summary, write_inspection
from makebreak.pages.landscape import Ground, Walking, of_the_zoo, walk_language_model, walk_world
from makebreak.pages.landscape_page import ground_lines, write_ground
from makebreak.pages.teaching import taught
from makebreak.pages.tuned import OBJECTIVES, Teaching, Tuned, align, answers_of, tune_on
from makebreak.pages.tuned_page import tuned_lines, write_tuned

__all__ = [
    "OBJECTIVES",
    "Attacking",
    "Attacks",
    "Ground",
    "Inspection",
    "Settings",
    "Teaching",
    "Tuned",
    "Walking",
    "align",
    "answers_of",
    "attack_lines",
    "attack_model",
    "compare_models",
    "drawn",
    "ground_lines",
    "inspect",
    "of_the_zoo",
    "summary",
    "taught",
    "tune_on",
    "tuned_lines",
    "verdict_lines",
    "walk_language_model",
    "walk_world",
    "write_attacks",
    "write_comparison",
    "write_ground",
    "write_inspection",
    "write_tuned",
]
