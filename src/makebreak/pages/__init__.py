"""What do `makebreak inspect`, `compare`, `attack` and `landscape` do, as functions?"""

from makebreak.pages.attack import Attacking, Attacks, attack_model
from makebreak.pages.attack_page import attack_lines, write_attacks
from makebreak.pages.comparison import compare_models
from makebreak.pages.comparison_page import verdict_lines, write_comparison
from makebreak.pages.inspection import Inspection, Settings, inspect
from makebreak.pages.inspection_page import summary, write_inspection
from makebreak.pages.landscape import Ground, Walking, of_the_zoo, walk_language_model, walk_world
from makebreak.pages.landscape_page import ground_lines, write_ground

__all__ = [
    "Attacking",
    "Attacks",
    "Ground",
    "Inspection",
    "Settings",
    "Walking",
    "attack_lines",
    "attack_model",
    "compare_models",
    "ground_lines",
    "inspect",
    "of_the_zoo",
    "summary",
    "verdict_lines",
    "walk_language_model",
    "walk_world",
    "write_attacks",
    "write_comparison",
    "write_ground",
    "write_inspection",
]
